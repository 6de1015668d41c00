"""The program of all folds of a pipeline: a network and what steps it, in which one fold takes the place of another.

What differs from fold to fold are numbers: weights, running statistics, class weights, labels. They are copied into
tensors that stay where they are, so that what the program does can be captured once and replayed for every fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.components.contracts import Augmentation
from mernas.components.topologies.network import Network
from mernas.components.training.epochs import Course
from mernas.evaluation.flat_optimizers import flat_optimizer
from mernas.evaluation.fold_rows import FoldRows, HeldOut
from mernas.evaluation.one_fold import Fold, check_alike, check_same, kept_beside_numbers
from mernas.evaluation.quick_streams import SideBySide, joined_depth
from mernas.evaluation.quickening import Quickening
from mernas.evaluation.replays import Replays

PREDICTED_AT_ONCE = 512
"""So many maps are predicted at once."""
BORDER = 256
"""At a multiple of so many bytes every parameter begins, as if it were allocated by itself: kernels rely on that."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What the folds of a pipeline have in common.

    Attributes:
        rows: The training rows of all of them.
        held_out: The rows that they predict.
        course: How they train.
        augmentation: Applied to every batch, in this order.
        classes: How many classes there are.
        device: `cpu` or `cuda`.
    """

    rows: FoldRows
    held_out: HeldOut
    course: Course
    augmentation: Sequence[Augmentation]
    classes: int
    device: str

    @property
    def changes_maps(self) -> bool:
        """Whether batches are changed before they are trained on."""
        return bool(self.augmentation) or self.course.mixing is not None


@dataclass(frozen=True, eq=False)
class Start:
    """A fold as it begins.

    Attributes:
        number: Which of the folds it is.
        fold: Its network and objective, on its device.
        labels: The labels of its training rows (n,), on the processor.
        batches: What its batches and augmentation are drawn from.
        noise: What its dropout is drawn from, on its device.
        watched: Whether its held-out rows are predicted after every epoch.
    """

    number: int
    fold: Fold
    labels: Tensor
    batches: torch.Generator
    noise: torch.Generator
    watched: bool


class FoldProgram:
    """Trains the fold that was loaded last.

    Args:
        setting: What the folds have in common.
        start: Any fold; its network becomes the program.
        warm: Work that was done on this device before and is captured at once; it is added to.

    Raises:
        ValueError: If a fold of this pipeline is more than numbers.

    Attributes:
        probabilities: (M, K) of the held-out rows, as of the last look.
        classes: Class numbers (M,) int8, likewise.
        finite: Whether every number of the network was finite, ().
    """

    def __init__(self, setting: Setting, start: Start, warm: set[str]) -> None:
        check_alike([start.fold])
        self._first = kept_beside_numbers(start.fold)
        self._setting, self._fold = setting, start.fold
        self._parameters = list(start.fold.parameters())
        self._weights, _ = _in_one_vector(self._parameters)
        self._slopes, self._parts = _in_one_vector([torch.zeros_like(parameter) for parameter in self._parameters])
        self._optimizer = flat_optimizer(setting.course.optimizer, self._weights)
        self._figures = torch.zeros_like(self._optimizer.figures([1.0])[0], device=setting.device)
        self._total = torch.zeros((), dtype=self._weights.dtype, device=setting.device)
        self._held = setting.held_out.places(start.number).clone()
        shape = (len(self._held), setting.classes)
        self.probabilities = torch.zeros(shape, dtype=torch.float64, device=setting.device)
        self.classes = torch.zeros(len(self._held), dtype=torch.int8, device=setting.device)
        self.finite = torch.zeros((), dtype=torch.bool, device=setting.device)
        self._batches: dict[int, _Batch] = {}
        self._replays = Replays(setting.device, warm)
        self._quickening: Quickening | None = None
        if setting.device != "cpu":  # on a processor quickening would lay the weights elsewhere than in the vector
            self._quickening = Quickening(start.fold.network, setting.device)
            if depth := joined_depth(start.fold.network):
                start.fold.network.__dict__["fused"] = SideBySide(start.fold.network, depth)

    @property
    def network(self) -> Network:
        """The network that is trained."""
        return self._fold.network

    @property
    def why_not(self) -> str:
        """Why what it does is not captured; empty if it is."""
        return self._replays.why_not

    def load(self, start: Start) -> None:
        """Put the numbers of a fold in place of those that are there, and begin anew.

        Raises:
            ValueError: If the fold differs from the first one in more than numbers.
        """
        if start.fold is not self._fold:
            check_same(self._first, start.fold)
        with torch.no_grad():
            for own, given in zip(_numbers(self._fold), _numbers(start.fold), strict=True):
                if own is not given:
                    own.copy_(given)
        self._held.copy_(self._setting.held_out.places(start.number))
        self._replays.draw_from(start.noise.get_state())
        self._optimizer.forget()
        self._total.zero_()

    def figures(self, factors: Sequence[float]) -> Tensor:
        """Return what each step needs, on the device; see `mernas.evaluation.flat_optimizers`."""
        return self._optimizer.figures(factors).to(self._setting.device)

    def learn(self, places: Tensor, figures: Tensor, batches: torch.Generator) -> None:
        """Take one training step.

        Args:
            places: Where the rows of the batch lie, (B,).
            figures: The step's row.
            batches: What augmentation is drawn from.
        """
        size = len(places)
        batch = self._batches.setdefault(size, _Batch(torch.empty_like(places)))
        batch.places.copy_(places)
        self._figures.copy_(figures)
        if self._setting.changes_maps:  # draws on the processor, and so is no part of what is captured
            maps = self._setting.rows.chosen(places)
            for change in self._setting.augmentation:
                maps = change.apply(maps, self._setting.rows.channels, batches)
            if self._setting.course.mixing is not None:
                maps, other, share = self._setting.course.mixing.mix(maps, batches)
                batch.mix(other, share)
            batch.keep(maps)
        self._replays.do(f"step of {size}", lambda: self._step(batch))

    def epoch_loss(self) -> Tensor:
        """Return the sum of the losses since it was last asked for, ()."""
        total = self._total.clone()
        self._total.zero_()
        return total

    def look(self) -> None:
        """Predict the held-out rows, and see whether the network is finite."""
        self._replays.do("look", self._look)

    def _step(self, batch: _Batch) -> None:
        maps = batch.maps if self._setting.changes_maps else self._setting.rows.chosen(batch.places)
        self._fold.train()
        with nullcontext() if self._quickening is None else self._quickening:
            loss = self._loss(maps, batch)
            slopes = torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
        torch._foreach_copy_(self._parts, list(slopes))
        self._optimizer.step(self._slopes, self._figures)
        self._total += loss.detach()

    def _loss(self, maps: list[Tensor], batch: _Batch) -> Tensor:
        objective = self._fold.objective
        outputs = objective.outputs(self._fold.network, maps)
        loss = objective.value(outputs, batch.places)
        if batch.other is None or batch.share is None:
            return loss
        return batch.share * loss + (1 - batch.share) * objective.value(outputs, batch.places[batch.other])

    def _look(self) -> None:
        self._fold.eval()
        held_out = self._setting.held_out
        with torch.no_grad():
            logits = [self._fold(held_out.chosen(places)) for places in torch.split(self._held, PREDICTED_AT_ONCE)]
            self.probabilities.copy_(torch.softmax(torch.cat(logits).double(), dim=1))
            self.classes.copy_(self.probabilities.argmax(dim=1))
            numbers = [self._weights, *self._fold.network.buffers()]
            # Anything that is not finite is not a number any more when multiplied by zero.
            self.finite.copy_(torch.stack([(number * 0.0).sum() == 0 for number in numbers]).all())


class _Batch:
    """What a step of so many rows reads, in memory that stays where it is.

    Attributes:
        places: Where its rows lie, (B,).
        maps: Changed maps for every stream, (B, ...).
        other: Which row was mixed into which, (B,), or None.
        share: The share of the row itself, (), or None.
    """

    def __init__(self, places: Tensor) -> None:
        self.places = places
        self.maps: list[Tensor] = []
        self.other: Tensor | None = None
        self.share: Tensor | None = None

    def keep(self, maps: Sequence[Tensor]) -> None:
        self.maps = self.maps or [torch.empty_like(stream) for stream in maps]
        for own, stream in zip(self.maps, maps, strict=True):
            own.copy_(stream)

    def mix(self, other: Tensor, share: float) -> None:
        if self.other is None or self.share is None:
            self.other = torch.empty_like(other)
            self.share = torch.zeros((), device=other.device)
        self.other.copy_(other)
        self.share.fill_(share)


def _in_one_vector(tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Lay tensors one after another in a vector (P,), each at a border of memory; they become parts of it.

    Returns:
        The vector, with zeros between the tensors, and its parts, shaped as the tensors are.
    """
    border = BORDER // tensors[0].element_size()
    starts, length = [], 0
    for tensor in tensors:
        starts.append(length)
        length += -(-tensor.numel() // border) * border
    vector = tensors[0].new_zeros(length)
    parts: list[Tensor] = []
    with torch.no_grad():
        for start, tensor in zip(starts, tensors, strict=True):
            part = vector[start : start + tensor.numel()].view(tensor.shape)
            part.copy_(tensor)
            tensor.data = part
            parts.append(part)
    return vector, parts


def _numbers(fold: Fold) -> list[Tensor]:
    return [*fold.parameters(), *fold.buffers()]
