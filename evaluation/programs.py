"""Programs: a trained network as a torch.export program and as an ONNX file, for use without mernas.

Both take the prepared maps of every stream, (B, C, H, W) float32 with any number B of clips, and give logits (B, K).
The normalisation that was fitted on the training clips is part of them; the temperature is not.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mernas.space.errors import Problem, UnavailableError

TOLERANCE = 1e-4
BATCHES = (1, 2, 7)
"""Agreement is tried on batches of these sizes, so that a size that was burnt in shows."""

ONNX_NEEDS = ("onnx", "onnxscript", "onnxruntime")

CANNOT_EXPORT = "torch cannot export this network"

FOLDERS = re.compile(r"""(?<![\w.])(?:[A-Za-z]:)?[\\/](?:[^\s'"()\\/:]+[\\/])+""")
"""The folders of an absolute path: manifest and card quote reasons, and tell nothing of the machine."""


@dataclass(frozen=True)
class Program:
    """A network in a form that runs without mernas.

    Attributes:
        content: The file.
        difference: Largest difference of its logits from the network's on random maps, relative where they exceed 1.
    """

    content: bytes
    difference: float


class PositionalNetwork(nn.Module):
    """A network that takes the maps of its streams as separate arguments instead of a list.

    Args:
        network: From a list of maps to logits.

    Example:
        >>> class Sum(nn.Module):
        ...     def forward(self, maps):
        ...         return maps[0] + maps[1]
        >>> PositionalNetwork(Sum())(torch.ones(2), torch.ones(2))
        tensor([2., 2.])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *maps: Tensor) -> Tensor:
        """Return logits (B, K) of maps (B, C, H, W), one argument per stream."""
        logits: Tensor = self.network(list(maps))
        return logits


def input_names(streams: int) -> list[str]:
    """Return the names of the inputs of an ONNX file.

    Example:
        >>> input_names(2)
        ['maps_0', 'maps_1']
    """
    return [f"maps_{number}" for number in range(streams)]


def torch_program(network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> Program:
    """Return a network as a torch.export program, the content of a `.pt2` file.

    Args:
        network: Trained, in eval mode.
        shapes: (C, H, W) of the maps of every stream.

    Raises:
        UnavailableError: If torch cannot export it, or what it exports computes something else.
    """
    with _quiet():
        exported = _exported(network, shapes)
        file = io.BytesIO()
        with _reason("torch.export", "torch cannot read what it exported"):
            torch.export.save(exported, file)
            file.seek(0)
            loaded = torch.export.load(file).module()

    def run(maps: list[Tensor]) -> Tensor:
        with _reason("torch.export", "torch cannot run what it exported"):
            logits: Tensor = loaded(*maps)
            return logits

    return Program(file.getvalue(), _agreement("model.pt2", run, network, shapes))


def onnx_program(network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> Program:
    """Return a network as the content of an ONNX file; arguments as for `torch_program`.

    Raises:
        UnavailableError: If the extra `onnx` is not installed or broken, if torch cannot export the network, or if ONNX
            Runtime refuses it or computes something else.
    """
    missing = [name for name in ONNX_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        rule = f"unavailable: needs {', '.join(missing)}"
        raise UnavailableError(Problem("ONNX", rule, "", 'install mernas[onnx]: pip install "mernas[onnx]"'))
    with _quiet():
        exported = _exported(network, shapes)
        with _reason("ONNX", CANNOT_EXPORT):
            program = torch.onnx.export(
                exported,
                _examples(shapes),
                dynamo=True,
                input_names=input_names(len(shapes)),
                output_names=["logits"],
                dynamic_shapes=_dynamic(shapes),
                verbose=False,
            )
    if program is None:
        raise UnavailableError(Problem("ONNX", "unavailable: torch returned no program"))
    with _reason("ONNX", CANNOT_EXPORT):
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # they hold paths of this machine
        content: bytes = program.model_proto.SerializeToString()
    with _reason("ONNX", "ONNX Runtime cannot load this network"):
        # By name, because the extra need not be installed where mernas is checked.
        runtime: Any = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(maps: list[Tensor]) -> Tensor:
        with _reason("ONNX", "ONNX Runtime cannot run this network"):
            named = {item.name: stream.numpy() for item, stream in zip(session.get_inputs(), maps, strict=True)}
            return torch.from_numpy(session.run(["logits"], named)[0])

    return Program(content, _agreement("ONNX", run, network, shapes))


def _examples(shapes: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(2, *shape) for shape in shapes)


def _dynamic(shapes: Sequence[tuple[int, ...]]) -> Any:
    batch = torch.export.Dim("batch", min=1)
    return (tuple({0: batch} for _ in shapes),)


def _exported(network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> torch.export.ExportedProgram:
    module = PositionalNetwork(network).eval()
    with _reason("torch.export", CANNOT_EXPORT):
        exported = torch.export.export(module, _examples(shapes), dynamic_shapes=_dynamic(shapes))
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # it holds paths of this machine
    exported.example_inputs = None  # zeros, and larger than small networks
    return exported


@contextmanager
def _reason(subject: str, rule: str) -> Iterator[None]:
    """Whatever a library raises is the reason why a file cannot be had, and no reason to lose the model."""
    try:
        yield
    except UnavailableError:
        raise
    except Exception as error:  # torch, onnx and ONNX Runtime raise many kinds, and wrap what an operator raises
        text = FOLDERS.sub("", " ".join(str(error).split()))[:200] or type(error).__name__
        raise UnavailableError(Problem(subject, f"unavailable: {rule}", text)) from None


def _agreement(
    name: str, run: Callable[[list[Tensor]], Tensor], network: nn.Module, shapes: Sequence[tuple[int, ...]]
) -> float:
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    with torch.inference_mode():
        for batch in BATCHES:
            maps = [torch.randn((batch, *shape), generator=generator) for shape in shapes]
            wanted, given = network(maps), run(maps)
            scale = max(1.0, float(wanted.abs().max()))
            worst = max(worst, float((given - wanted).abs().max()) / scale)
    if not worst <= TOLERANCE:  # also refuses NaN
        rule = f"unavailable: its logits must agree with the network's to {TOLERANCE:g}"
        raise UnavailableError(Problem(name, rule, f"{worst:.2g}"))
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the exporters say about libraries that nothing here uses."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
