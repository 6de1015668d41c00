"""Checks of what is built: blocks, attentions, readouts, cascades, fusions, heads, normalisers, whole networks."""

from __future__ import annotations

import copy
import pickle
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mernas.components.testing.inputs import RANKS
from mernas.components.testing.module_cases import Case, all_cases, first_cases
from mernas.components.testing.subject import Subject
from mernas.components.testing.verdict import demand, own_chance, telling

TOLERANCE = 1e-5
"""How far a clip in a batch may differ from the clip alone, relative where values exceed 1."""

EXPORTED = 1e-4
"""How far an exported program may differ from its module, likewise."""

TRIES = 8
"""In how many random batches a parameter may lie idle before it is called dead."""


def announced_shapes(subject: Subject) -> None:
    """On the meta device and on a processor it builds, or raises SpaceError; what leaves has the announced shape."""
    maps = subject.declaration.maps
    for case in all_cases(subject):
        with torch.device("meta"):
            unreal, announced = case.make()
        demand(all(length > 0 for length in announced), case.title, "announces a shape that exists", announced)
        if subject.declaration.axis in ("block", "readout", "cascade"):
            kind = maps[next(kind for kind in maps if f" for {kind} " in case.title)]
            demand(len(announced) == RANKS[kind], case.title, f"announces the shape of one {kind}", announced)
        with torch.no_grad():
            ghost = case.run(unreal.eval(), case.inputs(2, device="meta"))
        demand(ghost.shape == (2, *announced), case.title, f"gives (2, *{announced}) on meta", tuple(ghost.shape))
        real = case.built()
        for module in (real, real.eval()):
            with torch.no_grad(), own_chance():
                result = case.run(module, case.inputs(2))
            demand(result.shape == (2, *announced), case.title, f"gives (2, *{announced})", tuple(result.shape))
            demand(result.dtype == torch.float32, case.title, "gives float32", result.dtype)
            demand(bool(torch.isfinite(result).all()), case.title, "gives finite values")
        there, here = _sizes(unreal), _sizes(real)
        demand(there == here, case.title, "has the same parameters on the meta device", set(there) ^ set(here))


def gradients_everywhere(subject: Subject) -> None:
    """A gradient reaches every parameter; none lies idle in all of some random batches."""
    for case in all_cases(subject):
        module = case.built()
        if subject.declaration.axis == "normalisation":
            demand(not list(module.parameters()), case.title, "statistics are buffers, not parameters")
            continue
        idle = {name for name, _ in module.named_parameters()}
        for attempt in range(TRIES):
            module = case.built(attempt)
            with own_chance(attempt):
                result = case.run(module, case.inputs(6, attempt))
                if result.requires_grad:
                    torch.autograd.backward((result * torch.randn(result.shape)).sum())
            named = dict(module.named_parameters())
            unreached = sorted(name for name, weights in named.items() if weights.grad is None)
            demand(not unreached, case.title, "a gradient reaches every parameter", f"none at {', '.join(unreached)}")
            wild = sorted(name for name, weights in named.items() if not bool(torch.isfinite(_slope(weights)).all()))
            demand(not wild, case.title, "every gradient is finite", ", ".join(wild))
            idle -= {name for name, weights in named.items() if bool(_slope(weights).any())}
            if not idle:
                break
        dead = sorted(idle)
        demand(
            not case.ample or not dead,
            case.title,
            "every parameter has a part in the result",
            f"a gradient of 0 at {dead}",
        )


def true_gradients(subject: Subject) -> None:
    """Gradients are those that torch takes without its library for fast layers, which has been wrong before."""
    for case in all_cases(subject):
        # By rounding, now and then, a value is on one side of a ReLU here and on the other there. What is wrong is so
        # for all values.
        for attempt in range(TRIES):
            wrong = _wrong_gradients(case, attempt)
            if not wrong:
                break
        else:
            demand(False, case.title, "gradients are those that torch takes otherwise", f"others at {wrong}")


def _wrong_gradients(case: Case, seed: int) -> str:
    """Names of the tensors whose gradients are not the same with and without the library, with how far they are off."""
    taken: list[list[Tensor]] = []
    for fast in (True, False):
        module, maps = case.built(seed), [part.requires_grad_() for part in case.inputs(6, seed)]
        with own_chance(seed), _layers(fast):
            result = case.run(module, maps)
            drawn = torch.randn(result.shape)
            taken.append(list(torch.autograd.grad((result * drawn).sum(), [*maps, *module.parameters()])))
    names = [*(f"input {place}" for place in range(len(case.shapes))), *(name for name, _ in _sizes(module))]
    scale = max(float(slope.norm()) for slope in taken[1])
    off = {
        name: float((given - wanted).norm()) / max(float(wanted.norm()), 1e-2 * scale, 1e-30)
        for name, given, wanted in zip(names, *taken, strict=True)
    }
    return ", ".join(f"{name} ({share:.0%} off)" for name, share in off.items() if not share <= 1e-2)


def any_order_of_memory(subject: Subject) -> None:
    """Maps and weights that lie channels last in memory give the same result; a `view` of a map would refuse them."""
    for case in all_cases(subject):
        module, maps = case.used(), case.inputs(4)
        if all(part.dim() != 4 for part in maps):
            continue
        with torch.no_grad():
            expected = case.run(module, maps)
            last = [part.contiguous(memory_format=torch.channels_last) if part.dim() == 4 else part for part in maps]
            for weights in module.parameters():
                if weights.dim() == 4:
                    weights.data = weights.data.contiguous(memory_format=torch.channels_last)
            found = case.run(module, last)
        apart = _apart(expected, found)
        demand(apart <= TOLERANCE, case.title, "gives the same for maps that lie channels last", apart)


def same_to_the_bit(subject: Subject) -> None:
    """Equal seeds build equal modules, and in eval mode the same clips give the same bits and leave no trace."""
    for case in all_cases(subject):
        one, other = case.built(3), case.built(3)
        same = _equal(one.state_dict(), other.state_dict())
        demand(same, case.title, "equal seeds of torch's generator build equal modules", "others")
        module, maps = case.used(), case.inputs(4)
        before = copy.deepcopy(module.state_dict())
        with torch.no_grad():
            first, again = case.run(module, maps), case.run(module, maps)
        demand(torch.equal(first, again), case.title, "gives the same bits twice in eval mode", _apart(first, again))
        kept = _equal(before, module.state_dict())
        demand(kept, case.title, "keeps weights and buffers in eval mode", "others afterwards")


def clips_by_themselves(subject: Subject) -> None:
    """In eval mode a clip in a batch is treated like a clip alone."""
    for case in all_cases(subject):
        module, maps = case.used(), case.inputs(5)
        with torch.no_grad():
            together = case.run(module, maps)
            alone = torch.cat([case.run(module, [part[row : row + 1] for part in maps]) for row in range(5)])
        apart = _apart(together, alone)
        rule = f"a batch gives what its clips give one by one, to {TOLERANCE:g}"
        demand(apart <= TOLERANCE, case.title, rule, f"{apart:.2g} apart")


def faithful_copies(subject: Subject) -> None:
    """Pickled, deep-copied, or loaded into a fresh module, it gives the same bits."""
    for case in all_cases(subject):
        module, maps = case.used(), case.inputs(3)
        with torch.no_grad():
            wanted = case.run(module, maps)
            with telling(case.title, "survives pickling"):
                pickled = pickle.loads(pickle.dumps(module))  # noqa: S301  # our own
            with telling(case.title, "survives a deep copy"):
                copied = copy.deepcopy(module)
            fresh = case.built(99, ready=False)
            with telling(case.title, "loads the state of an equal module"):
                fresh.load_state_dict(module.state_dict())
            for how, other in (("pickling", pickled), ("a deep copy", copied), ("its state_dict", fresh.eval())):
                given = case.run(other, maps)
                demand(torch.equal(given, wanted), case.title, f"gives the same after {how}", _apart(given, wanted))


def moved_as_a_whole(subject: Subject) -> None:
    """Moved to another device it works there: no tensor is held outside of parameters and buffers."""
    for case in all_cases(subject):
        module, maps = case.used(), case.inputs(3)
        with torch.no_grad():
            wanted = case.run(module, maps)
            if torch.cuda.is_available():
                with telling(case.title, "works on an accelerator"):
                    moved = copy.deepcopy(module).to("cuda")
                    given = case.run(moved, case.inputs(3, device="cuda")).cpu()
                demand(
                    _apart(given, wanted) < 1e-2, case.title, "gives the same on an accelerator", _apart(given, wanted)
                )
            with telling(case.title, "works on the device that it is moved to (meta)"):
                ghost = case.run(module.to("meta"), case.inputs(3, device="meta"))
        demand(ghost.device.type == "meta", case.title, "what it gives is where it is (meta)", ghost.device)
        demand(ghost.shape == wanted.shape, case.title, f"gives {tuple(wanted.shape)} on meta", tuple(ghost.shape))


def exported_with_any_batch(subject: Subject) -> None:
    """torch.export takes it with a batch of any size, and the program gives the same."""
    for case in first_cases(subject):
        module = _Positional(case.used(), case.listed).eval()
        batch = torch.export.Dim("batch", min=1)
        with warnings.catch_warnings(), telling(case.title, "torch.export takes it with a batch of any size"):
            warnings.simplefilter("ignore")
            shapes = (tuple({0: batch} for _ in case.shapes),)
            program = torch.export.export(module, tuple(case.inputs(2)), dynamic_shapes=shapes).module()
        for size in (1, 2, 7):
            maps = case.inputs(size, seed=size)
            with torch.no_grad(), telling(case.title, f"the exported program takes a batch of {size}"):
                given, wanted = program(*maps), module(*maps)
            apart = _apart(given, wanted)
            rule = f"the exported program gives the same for a batch of {size}, to {EXPORTED:g}"
            demand(apart <= EXPORTED, case.title, rule, f"{apart:.2g} apart")


def input_as_it_was(subject: Subject) -> None:
    """What enters is not written to, in training or evaluation mode."""
    for case in all_cases(subject):
        module = case.built()
        for mode in (True, False):
            maps = case.inputs(4)
            before = [part.clone() for part in maps]
            with torch.no_grad(), own_chance():
                case.run(module.train(mode), maps)
            same = all(torch.equal(now, then) for now, then in zip(maps, before, strict=True))
            demand(same, case.title, "does not write to what enters", f"changed in {'train' if mode else 'eval'} mode")


def global_state_as_it_was(subject: Subject) -> None:
    """In eval mode no global generator is drawn from, and torch's settings stay as they are."""
    for case in all_cases(subject):
        module, maps = case.used(), case.inputs(3)
        before = _world()
        with torch.no_grad():
            case.run(module, maps)
        after = _world()
        changed = [name for name in before if before[name] != after[name]]
        demand(not changed, case.title, "leaves global state alone in eval mode", f"changed: {', '.join(changed)}")


MODULE_CHECKS = (
    announced_shapes,
    any_order_of_memory,
    gradients_everywhere,
    true_gradients,
    same_to_the_bit,
    clips_by_themselves,
    faithful_copies,
    moved_as_a_whole,
    exported_with_any_batch,
    input_as_it_was,
    global_state_as_it_was,
)


@contextmanager
def _layers(fast: bool) -> Iterator[None]:
    """With torch's library for fast layers, or without it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings of other devices, which are not touched
        with torch.backends.mkldnn.flags(enabled=fast):
            yield


class _Positional(nn.Module):
    """A module that takes its tensors one by one."""

    def __init__(self, module: nn.Module, listed: bool) -> None:
        super().__init__()
        self.module = module
        self.listed = listed

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return what the module makes of the tensors."""
        result: Tensor = self.module(list(tensors)) if self.listed else self.module(*tensors)
        return result


def _sizes(module: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(weights.shape)) for name, weights in module.named_parameters()]


def _slope(weights: nn.Parameter) -> Tensor:
    return torch.zeros(1) if weights.grad is None else weights.grad


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _apart(given: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative where values exceed 1; infinite where one is none."""
    if given.shape != wanted.shape:
        return float("inf")
    apart = float((given - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))
    return apart if apart == apart else float("inf")  # NaN is not equal to itself


def _world() -> dict[str, object]:
    """What a module shares with everybody else."""
    kept: Sequence[Any] = np.random.get_state()  # type: ignore[assignment]  # a tuple, as nothing else is asked for
    return {
        "torch's generator": bytes(torch.get_rng_state().tolist()),
        "NumPy's generator": (kept[1].tobytes(), *kept[2:]),
        "Python's generator": random.getstate(),
        "the number of threads": torch.get_num_threads(),
        "the default dtype": torch.get_default_dtype(),
        "whether gradients are kept": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }
