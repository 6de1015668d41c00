"""Checks of what works on batches and rates: augmentations, mixing, samplers, schedules, optimisers, averaging."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mernas.components.testing.subject import Subject
from mernas.components.testing.verdict import demand, own_chance, telling
from mernas.space.taxonomy import BALANCED_BATCHES, BRIGHTNESS, MIRRORABLE, PIXELS, TURNABLE

GREY: tuple[tuple[str, ...], ...] = (("gray",), ("gray", "difference"))
MOVING: tuple[tuple[str, ...], ...] = (("u", "v"), ("u", "v", "strain"))
PLAIN: tuple[tuple[str, ...], ...] = (("a", "b"), ("bi_woof",))

LABELS: dict[str, tuple[int, ...]] = {
    "ordinary rows": (0,) * 14 + (1,) * 9 + (3,) * 4,
    "one row of each class": (0, 1, 2),
    "a class of a single row": (0,) * 16 + (1,),
    "a single class": (2,) * 9,
    "two rows": (0, 1),
    "a single row": (1,),
}
"""Class numbers of training rows that occur; class 2 is absent in the first."""


def shapes_as_they_were(subject: Subject) -> None:
    """As many maps of the same shapes and type leave as enter, finite, and those that enter are not written to."""
    for title, component in subject.settings():
        for kind, maps, channels in _batches(subject):
            before = [batch.clone() for batch in maps]
            changed = _changed(subject, component, maps, channels, 0, title, kind)
            same = all(torch.equal(now, then) for now, then in zip(maps, before, strict=True))
            demand(same, f"{title}, {kind}", "the maps that are given are left as they are", "changed maps")
            shapes = [(tuple(batch.shape), batch.dtype) for batch in changed]
            wanted = [(tuple(batch.shape), batch.dtype) for batch in maps]
            demand(shapes == wanted, f"{title}, {kind}", "maps keep their shapes and types", shapes)
            finite = all(bool(torch.isfinite(batch).all()) for batch in changed)
            demand(finite, f"{title}, {kind}", "maps stay finite", "values that are no numbers")


def chance_of_the_generator(subject: Subject) -> None:
    """Chance comes from the generator alone: equal seeds give equal bits, others do not, and no other one is drawn."""
    for place, (title, component) in enumerate(subject.settings()):
        for kind, maps, channels in _batches(subject):
            state = torch.get_rng_state()
            drawn = [_changed(subject, component, maps, channels, seed, title, kind) for seed in (0, 0, 1, 2, 3)]
            untouched = torch.equal(torch.get_rng_state(), state)
            demand(untouched, f"{title}, {kind}", "torch's global generator is not drawn from", "another state")
            demand(_alike(drawn[0], drawn[1]), f"{title}, {kind}", "equal seeds give equal maps", "others")
            varied = not all(_alike(drawn[0], other) for other in drawn[2:])
            demand(place > 0 or varied, f"{title}, {kind}", "other seeds give other maps", "the same for four seeds")
            with own_chance(1):
                again = _changed(subject, component, maps, channels, 0, title, kind)
            same = _alike(drawn[0], again)
            demand(same, f"{title}, {kind}", "the global generator does not matter", "other maps")


def honest_shares(subject: Subject) -> None:
    """The partners are a permutation of the rows, and the share says how much of a row is left in it."""
    for title, component in subject.settings():
        for kind, maps, _ in _batches(subject):
            generator = torch.Generator().manual_seed(4)
            values = torch.arange(1.0, 1 + len(maps[0]))
            flat = [values.reshape(-1, *[1] * (batch.dim() - 1)).expand_as(batch).contiguous() for batch in maps]
            mixed, other, share = component.mix(flat, generator)
            fits = sorted(other.tolist()) == list(range(len(values)))
            demand(fits, f"{title}, {kind}", "the partners are a permutation of the rows", other.tolist())
            demand(0 <= share <= 1, f"{title}, {kind}", "the share lies in [0, 1]", share)
            left = torch.stack([batch.flatten(1).mean(dim=1) for batch in mixed]).mean(dim=0)
            wanted = share * values + (1 - share) * values[other]
            apart = float((left - wanted).abs().max())
            demand(
                apart < 1e-3, f"{title}, {kind}", "the share is that of the row in the mixed one", f"{apart:.2g} apart"
            )


def batches_of_rows(subject: Subject) -> None:
    """Batches are row numbers, at least two in each, about as many as wanted, and every row comes up in time."""
    for title, component in subject.settings():
        for name, numbers in LABELS.items():
            labels = torch.tensor(numbers)
            seen: set[int] = set()
            for size in (8, 16):
                where = f"{title}, {name}, batches of {size}"
                generator = torch.Generator().manual_seed(size)
                for _ in range(40):
                    batches = component.batches(labels, size, generator)
                    demand(len(batches) > 0, where, "an epoch has batches", "none")
                    for batch in batches:
                        whole = batch.dtype == torch.int64 and batch.dim() == 1
                        demand(whole, where, "a batch is row numbers (B,) int64", f"{batch.dtype} {batch.dim()}")
                        fits = bool((batch >= 0).all()) and bool((batch < len(labels)).all())
                        demand(fits, where, f"only the {len(labels)} training rows are drawn", batch.tolist())
                        demand(2 <= len(batch) <= size + 1, where, f"a batch has 2 to {size + 1} rows", len(batch))
                        if BALANCED_BATCHES in subject.declaration.provides and len(set(numbers)) > 1:
                            counts = torch.bincount(labels[batch])
                            several = counts[counts > 0]
                            balanced = len(several) > 1 and int(several.min()) > 1
                            demand(balanced, where, "a batch has two clips of each of two classes", counts.tolist())
                        seen.update(batch.tolist())
            missing = sorted(set(range(len(labels))) - seen)
            demand(not missing, f"{title}, {name}", "every row comes up within 80 epochs", f"never: {missing}")
            demand(torch.equal(labels, torch.tensor(numbers)), title, "the labels are left as they are", "others")


def order_of_the_generator(subject: Subject) -> None:
    """Which rows are drawn comes from the generator alone."""
    labels = torch.tensor(LABELS["ordinary rows"])
    for title, component in subject.settings():

        def drawn(seed: int, component: Any = component) -> list[list[int]]:
            generator = torch.Generator().manual_seed(seed)
            return [batch.tolist() for batch in component.batches(labels, 8, generator)]

        state = torch.get_rng_state()
        first, again, other = drawn(0), drawn(0), drawn(1)
        untouched = torch.equal(torch.get_rng_state(), state)
        demand(untouched, title, "torch's global generator is not drawn from", "another state")
        demand(first == again, title, "equal seeds draw equal batches", "others")
        demand(first != other, title, "other seeds draw other batches", "the same")


def shares_in_range(subject: Subject) -> None:
    """The share of the learning rate lies in [0, 1] at every step, and is not 0 throughout."""
    for title, component in subject.settings():
        for steps in (1, 2, 3, 10, 101):
            shares = [component.factor(step, steps) for step in range(steps)]
            fits = all(isinstance(share, (int, float)) and 0 <= share <= 1 for share in shares)
            demand(fits, f"{title}, {steps} steps", "the share lies in [0, 1]", shares)
            demand(max(shares) > 0, f"{title}, {steps} steps", "the share is not 0 throughout", shares)
            again = [component.factor(step, steps) for step in range(steps)]
            demand(again == shares, f"{title}, {steps} steps", "a step has the same share each time", again)


def descending(subject: Subject) -> None:
    """It has a learning rate, moves the parameters that it is given, and brings a bowl's bottom nearer."""
    for place, (title, component) in enumerate(subject.settings()):
        weights = [nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.tensor([[0.5]]))]
        idle = nn.Parameter(torch.ones(1))
        optimizer = component.build(weights)
        fits = isinstance(optimizer, torch.optim.Optimizer)
        demand(fits, title, "builds a torch optimiser", type(optimizer).__name__)
        held = {id(item) for group in optimizer.param_groups for item in group["params"]}
        demand(held == {id(item) for item in weights}, title, "holds the parameters that it is given", len(held))
        rates = [group.get("lr", -1.0) for group in optimizer.param_groups]
        demand(min(rates) > 0, title, "every group has a learning rate", rates)
        state = torch.get_rng_state()
        heights = []
        for _ in range(60):
            optimizer.zero_grad(set_to_none=True)
            height = sum((item.square().sum() for item in weights), torch.zeros(())) / 2
            heights.append(float(height.detach()))
            torch.autograd.backward(height)
            optimizer.step()
        demand(torch.equal(torch.get_rng_state(), state), title, "draws no random numbers", "another state")
        demand(math.isfinite(heights[-1]), title, "stays finite in a bowl", heights[-1])
        lower = heights[-1] < heights[0]
        demand(place > 0 or lower, title, "comes nearer to a bowl's bottom", f"{heights[0]:.3g} to {heights[-1]:.3g}")
        demand(float(idle.detach()) == 1, title, "leaves other parameters alone", idle)


def between_what_was(subject: Subject) -> None:
    """The average lies between the weights that were, and takes their place only at the end."""
    for title, component in subject.settings():
        for steps in (1, 2, 9):
            with own_chance():
                norm, still = nn.BatchNorm1d(4), nn.Linear(2, 2)
                network = nn.Sequential(nn.Linear(3, 4), norm, nn.Linear(4, 2), still)
            kept = [tensor.clone() for tensor in still.state_dict().values()]
            where = f"{title}, {steps} steps"
            state = torch.get_rng_state()
            average = component.build(network, steps)
            seen: list[list[Tensor]] = []
            generator = torch.Generator().manual_seed(steps)
            for step in range(steps):
                with torch.no_grad():
                    for weights in network[:3].parameters():
                        weights.copy_(torch.randn(weights.shape, generator=generator))
                    norm.get_buffer("num_batches_tracked").add_(1)
                before = [tensor.clone() for tensor in network.state_dict().values()]
                average.update(step)
                now = list(network.state_dict().values())
                same = all(torch.equal(one, other) for one, other in zip(now, before, strict=True))
                demand(same, where, "the weights are left alone until the end", "others")
                seen.append(before)
            average.finish()
            for place, (name, tensor) in enumerate(network.state_dict().items()):
                every = torch.stack([tensors[place] for tensors in seen])
                slack = 1e-5 if tensor.is_floating_point() else 0
                inside = bool((tensor >= every.amin(dim=0) - slack).all() & (tensor <= every.amax(dim=0) + slack).all())
                demand(inside, f"{where}, {name}", "the average lies between the weights that were", tensor.tolist())
            same = all(torch.equal(one, other) for one, other in zip(still.state_dict().values(), kept, strict=True))
            demand(same, where, "what does not change stays what it is, to the bit", "others")
            demand(torch.equal(torch.get_rng_state(), state), where, "draws no random numbers", "another state")


BATCH_CHECKS: dict[str, tuple[Callable[[Subject], None], ...]] = {
    "augmentation": (shapes_as_they_were, chance_of_the_generator),
    "mixing": (shapes_as_they_were, chance_of_the_generator, honest_shares),
    "sampler": (batches_of_rows, order_of_the_generator),
    "schedule": (shares_in_range,),
    "optimizer": (descending,),
    "averaging": (between_what_was,),
}


def _batches(subject: Subject) -> list[tuple[str, list[Tensor], tuple[tuple[str, ...], ...]]]:
    """Batches of two streams that the needs of a component allow for, with the channel names of the streams."""
    generator = torch.Generator().manual_seed(0)
    needs = subject.declaration.needs
    named = GREY if BRIGHTNESS in needs else MOVING

    def drawn(*shapes: Sequence[int]) -> list[Tensor]:
        return [torch.rand(tuple(shape), generator=generator) for shape in shapes]

    first, second = (len(names) for names in named)
    made = [
        ("images", drawn((8, first, 12, 10), (8, second, 9, 9)), named),
        ("videos", drawn((8, first, 5, 8, 8), (8, second, 3, 7, 9)), named),
        ("an image and a video", drawn((8, first, 8, 8), (8, second, 3, 7, 9)), named),
        ("two clips", drawn((2, first, 12, 10), (2, second, 9, 9)), named),
    ]
    if not needs & {PIXELS, MIRRORABLE, TURNABLE, BRIGHTNESS}:
        made.append(("graphs and vectors", drawn((8, 5, 2), (8, 7)), PLAIN))
    return made


def _changed(
    subject: Subject,
    component: Any,
    maps: list[Tensor],
    channels: tuple[tuple[str, ...], ...],
    seed: int,
    title: str,
    kind: str,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    with telling(f"{title}, {kind}", "takes the maps that its needs allow for"):
        if subject.declaration.axis == "mixing":
            return list(component.mix(list(maps), generator)[0])
        return list(component.apply(list(maps), channels, generator))


def _alike(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))
