"""What a component of each axis must be able to do, as protocols: nothing needs to be inherited.

Shapes are those of one clip, without the batch: an image is `(C, H, W)`, a video `(C, T, H, W)`, a graph of N nodes
`(N, F)`, a sequence of T tokens `(T, F)`, a vector `(F,)`. Tensors have the batch first.
A builder that cannot build for a shape (28 pixels and too many poolings) raises `SpaceError`; the search takes that as
"infeasible" before anything is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mernas.components.datasets.clip import Clip
from mernas.space.errors import MernasError

Shape = tuple[int, ...]

TRAINING_ROWS = "training rows"
"""The only fit scope that the engine allows: a fitted step sees the rows that its job trains on, never more."""


class NotFiniteError(MernasError, ArithmeticError):
    """A loss or a score that is not a number; the job fails by the name `not-finite`."""


class Input(Protocol):
    """Axis `input`: makes one map of one clip, deterministically (survey 4.2).

    What it makes is an image, a video, a graph or a vector, as its `maps` declare.
    """

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of an image or video, e.g. `("u", "v", "strain")` or `("gray",)`.

        For a graph, of the features of a node; for a vector, a single name for all. Grey values are called `gray` or
        `gray …`, horizontal flow `u`, vertical flow `v`: augmentations go by these names.
        """

    @property
    def shape(self) -> Shape:
        """Shape of every map: (C, H, W), (C, T, H, W), (N, F) or (F,)."""

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return the capabilities that the maps have, given those of the data."""

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the map of a clip, of this `shape`."""


class Preprocessing(Protocol):
    """Axis `preprocessing`: a clip to a clip, deterministically (survey 4.1)."""

    def apply(self, clip: Clip) -> Clip:
        """Return the changed clip; the given one is left as it is."""


class FlowEstimator(Protocol):
    """Axis `flow_estimator`: displacement from the onset to the apex of a clip (survey 4.2.2).

    Attributes:
        zero_is_known: Whether zero means "nothing moved"; it does not where a release stretched its maps.
    """

    zero_is_known: ClassVar[bool]

    def flow(self, clip: Clip) -> NDArray[np.float32]:
        """Return (u, v) as an array (2, H, W): pixels to the right and downwards, or the release's own scale."""

    def strain(self, clip: Clip, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the optical strain (H, W): computed from the flow, or as the release ships it."""


class Block(Protocol):
    """Axis `block`: map to map (survey 5.1).

    It may also have what `Foretelling` has, and so may a readout and a cascade.

    A block of images that also says `maps={VIDEO: VIDEO}` and has a class attribute `frame_wise = True` is applied to
    each frame of a video with the same weights: its `build` then is given the shape (C, H, W) of a frame.
    """

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for an input of `shape`, and the shape that leaves it."""


class Foretelling(Protocol):
    """What says without being built what it does to shapes, so that a space proposes it only where there is room.

    Whether it can be built depends on no hyper-parameters but those that declare `sizes=True`. A fusion has instead
    `length_after(features)`, the length of the vector that it gives; a head `admit(features)`, which returns nothing.
    """

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape that `build` says leaves it; raise the `SpaceError` that it raises."""


class Attention(Protocol):
    """Axis `attention`: weighs the maps of a block (survey 5.1)."""

    def build(self, channels: int) -> nn.Module:
        """Return a module from maps (B, channels, H, W) or (B, channels, T, H, W) to maps of the same shape."""


class Readout(Protocol):
    """Axis `readout`: the last map of a stream to a vector or to a sequence."""

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for an input of `shape`, and the shape (F,) or (T, F) that leaves it."""


class Cascade(Protocol):
    """Axis `cascade`: a sequence to a vector (survey 5.2.3)."""

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for a sequence of shape (T, F), and the shape (F',) that leaves it."""


class Fusion(Protocol):
    """Axis `fusion`: the vectors of several streams to one (survey 5.2.2)."""

    def build(self, features: Sequence[int]) -> tuple[nn.Module, int]:
        """Return a module that takes a list of tensors (B, features[i]), and the length of the vector it gives."""


class ScoreFusion(Protocol):
    """A fusion of the class scores of the streams, each of which then has a head of its own; it says `level = "score"`.

    Attributes:
        level: `score`; a fusion without this attribute fuses features.
    """

    level: ClassVar[str]

    def build_scores(self, streams: int, classes: int) -> nn.Module:
        """Return a module from logits (B, streams, classes) to logits (B, classes)."""


class Head(Protocol):
    """Axis `head`: a vector to class scores."""

    def build(self, features: int, classes: int) -> nn.Module:
        """Return a module from (B, features) to logits (B, classes)."""


class Task(Protocol):
    """Axis `task`: what is predicted, and by which head (survey 5.2.4)."""

    def build(self, features: int, classes: int) -> nn.Module:
        """Return a module from (B, features) to logits (B, classes)."""


class TrainingRows(Protocol):
    """What a fitted step and a strategy are handed: the training rows of one job, and nothing else.

    Rows are counted from 0 within the job; nothing here tells which clips they are.
    """

    @property
    def labels(self) -> Tensor:
        """Class numbers (n,), int64."""

    @property
    def units(self) -> Tensor | None:
        """Action units (n, U) float32: 1 shown, 0 not shown, NaN not annotated; None where the data have none."""

    @property
    def source(self) -> TrainingRows | None:
        """Rows of the source domain, of other people than any here; None where there is none."""

    @property
    def classes(self) -> int:
        """How many classes there are, whether or not all occur here."""

    @property
    def streams(self) -> int:
        """How many streams the pipeline has."""

    def channels(self, stream: int) -> tuple[str, ...]:
        """Return the channel names of a stream."""

    def maps(self, stream: int) -> Tensor:
        """Return all training maps of a stream, (n, *shape of its input) float32; do not change it in place."""

    def take(self, rows: Tensor | Sequence[int]) -> list[Tensor]:
        """Return, for every stream, the maps of some of the rows; asking for another row is refused."""


class Normalisation(Protocol):
    """Axis `normalisation`: a step fitted on the training rows that becomes the first module of each stream."""

    fit_scope: ClassVar[str]

    def build(self, shape: Shape) -> nn.Module:
        """Return the unfitted module for maps of `shape`: its statistics are buffers, not parameters."""

    def fit(self, module: nn.Module, rows: TrainingRows, stream: int) -> None:
        """Set the statistics of the module of one stream."""


class Augmentation(Protocol):
    """Axis `augmentation`: changes a batch of training maps, all streams of a clip alike (survey 4.1.5).

    Maps are images (B, C, H, W) or videos (B, C, T, H, W), whose frames are changed alike, unless the component says by
    its needs (`PIXELS`, `MIRRORABLE`, …) that it must not be offered where a stream has other maps.
    """

    def apply(
        self, maps: list[Tensor], channels: Sequence[tuple[str, ...]], generator: torch.Generator
    ) -> list[Tensor]:
        """Return changed maps, as many and of the same shapes; the given ones are left as they are."""


class Optimizer(Protocol):
    """Axis `optimizer` (survey 5.3)."""

    def build(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Return a torch optimiser over the parameters."""


class Schedule(Protocol):
    """Axis `schedule`: the learning rate as a share of its start."""

    def factor(self, step: int, steps: int) -> float:
        """Return the share at `step` (from 0) of `steps` optimiser steps, in [0, 1]."""


class Loss(Protocol):
    """Axis `loss` (survey 5.4); whatever it needs of the class counts it takes from the training rows."""

    fit_scope: ClassVar[str]

    def build(self, rows: TrainingRows) -> nn.Module:
        """Return a module from (logits (B, K), targets (B,)) to a scalar."""


class AuxiliaryLoss(Protocol):
    """Axis `auxiliary_loss`: of the fused vector, before the head (survey 5.4); it holds its own weight."""

    fit_scope: ClassVar[str]

    def build(self, rows: TrainingRows, features: int) -> nn.Module:
        """Return a module from (vectors (B, features), targets (B,)) to a scalar, multiplied by the weight.

        Its parameters (class centres, say) are trained with those of the network and count nowhere.
        """


class SideTask(Protocol):
    """Axis `side_task`: what is predicted beside the emotion, in training only (survey 5.2.4)."""

    fit_scope: ClassVar[str]

    def build(self, rows: TrainingRows, features: int) -> nn.Module:
        """Return a module from (vectors (B, features), row numbers (B,)) to a scalar, multiplied by its weight.

        Row numbers are those within the training rows of the job, whose annotations the module keeps.
        """


class Objective(Protocol):
    """What a strategy minimises: the loss of the class scores and whatever is added to it."""

    def outputs(self, network: nn.Module, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (B, classes) and the fused vectors (B, F)."""

    def value(self, outputs: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
        """Return the loss, a scalar, if the outputs belong to these training rows (B,)."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what is trained beside the network: class centres, heads of side tasks."""


Objectives = Callable[[TrainingRows], Objective]
"""Makes the objective of some training rows: of the job's own, or of the source domain."""


class Sampler(Protocol):
    """Axis `sampler`: which training rows make a batch (survey 5.3); by default every row once, shuffled."""

    def batches(self, labels: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
        """Return the batches of one epoch: row numbers, each at least two, about `size` in a batch.

        Args:
            labels: Class numbers (n,) of the training rows, on the generator's device.
            size: The wanted size of a batch.
            generator: Draws the rows.
        """


class Averaging(Protocol):
    """Axis `averaging`: an average of the weights along the training, which takes their place at its end."""

    def build(self, network: nn.Module, steps: int) -> WeightAverage:
        """Return what collects the weights of the network over `steps` optimiser steps."""


class WeightAverage(Protocol):
    """An average of weights that is being collected."""

    def update(self, step: int) -> None:
        """Take the weights after optimiser step `step` (from 0)."""

    def finish(self) -> None:
        """Put the average into the network; called once, after the last step."""


class Mixing(Protocol):
    """Axis `mixing`: clips of a batch mixed with other clips of it, and their losses alike (survey 4.1.5)."""

    def mix(self, maps: list[Tensor], generator: torch.Generator) -> tuple[list[Tensor], Tensor, float]:
        """Return mixed maps, which row was mixed into which (a permutation (B,)), and the share of the row itself."""


class Strategy(Protocol):
    """Axis `training`: how a network is trained on the rows of one job (survey 5.3)."""

    fit_scope: ClassVar[str]

    def fit(
        self,
        network: nn.Module,
        rows: TrainingRows,
        objectives: Objectives,
        augmentation: Sequence[Augmentation],
        generator: torch.Generator,
        on_epoch: Callable[[int], None] | None = None,
    ) -> None:
        """Train the network in place; call `on_epoch(n)` after epoch n, counted from 1.

        Raises:
            NotFiniteError: If the loss is no longer a number.
        """


class Predictor(Protocol):
    """What a fitted classifier is."""

    def predict(self, maps: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return scores (B, K) that are not negative and sum to 1 in each row, from maps (B, C, H, W)."""


class Classifier(Protocol):
    """Axis `classifier`: a classical method on flattened maps, for the baselines (survey 6).

    Attributes:
        fit_scope: As for every fitted step.
        family: The grid that a nested search goes through in full: values of hyper-parameters by name.
        baseline: Whether every search is set beside it; yes for a class that does not say.
    """

    fit_scope: ClassVar[str]
    family: ClassVar[Mapping[str, tuple[bool | int | float | str, ...]]]

    def fit(self, rows: TrainingRows, seed: int) -> Predictor:
        """Fit on the training rows."""
