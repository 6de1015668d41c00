"""Deliberately broken components: the conformance suite must catch each, by the check that is meant for it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mernas.components.classifiers.majority import Majority
from mernas.components.contracts import TRAINING_ROWS, NotFiniteError
from mernas.components.inputs.apex_frame import ApexFrame
from mernas.components.inputs.farneback import Farneback
from mernas.components.losses.cross_entropy import CrossEntropy
from mernas.components.preprocessing.standardise import Standardise
from mernas.components.testing import check_component, checks_for, sample_components
from mernas.components.testing.sampling import sample_leaves
from mernas.space.errors import DataError, SpaceError, UnavailableError, UnknownNameError
from mernas.space.parameters import Real, Slot, integer, real
from mernas.space.registry import REGISTRY, Declaration, Registry, register
from mernas.space.taxonomy import ACTION_UNITS, APEX, CLIP, FRAMES, IMAGE, ONSET, SEQUENCE, TRUE_FLOW, VECTOR

PLANTED = Registry()
FAULTS: list[Any] = []


def planted(axis: str, *caught_by: str, **declared: Any) -> Callable[[type], type]:
    """Registers a broken component and the checks that must catch it; one without any is sound."""

    def plant(factory: type) -> type:
        if factory.__doc__ is None or factory.__doc__.startswith(f"{factory.__name__}("):
            factory.__doc__ = "A component that was made for this test."
        name = factory.__name__.lower()
        FAULTS.extend(pytest.param(axis, name, check, id=f"{axis}.{name}-{check}") for check in caught_by)
        return register(axis, name, registry=PLANTED, **declared)(dataclass(frozen=True)(factory))

    return plant


def broken_block(*caught_by: str) -> Callable[[type[nn.Module]], type]:
    """Plants a block of images of equal shape whose module is the decorated one."""

    def plant(module: type[nn.Module]) -> type:
        def build(self: Any, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
            return module(shape), shape  # type: ignore[call-arg]

        made = type(module.__name__, (), {"build": build, "__module__": __name__, "__annotations__": {}})
        module.__name__ = module.__qualname__ = f"{module.__name__}Module"
        globals()[module.__name__] = module  # where pickle looks for it
        return planted("block", *caught_by, maps={IMAGE: IMAGE})(made)

    return plant


@planted("block", maps={IMAGE: IMAGE})
class Sound:
    """A convolution, as it should be."""

    width: int = integer(2, 8, default=4, doc="output channels")

    def build(self, shape):
        return nn.Conv2d(shape[0], self.width, 3, padding=1), (self.width, *shape[1:])


# What is said of shapes without being built


@planted("block", "shapes-foretold", maps={IMAGE: IMAGE})
class ForetellsWrongly:
    def shape_after(self, shape):
        return shape

    def build(self, shape):
        return nn.Conv2d(shape[0], 4, 1), (4, *shape[1:])


@planted("block", "shapes-foretold", maps={IMAGE: IMAGE})
class ForetellsNoRefusal:
    kernel: int = integer(1, 3, default=2, doc="side of the window", sizes=True)

    def shape_after(self, shape):
        return shape[0], *(side // self.kernel for side in shape[1:])

    def build(self, shape):
        if min(shape[1:]) < self.kernel:
            raise SpaceError("too small")
        return nn.MaxPool2d(self.kernel), self.shape_after(shape)


@planted("block", "shapes-foretold", maps={IMAGE: IMAGE})
class UndeclaredSay:
    kernel: int = integer(1, 3, default=2, doc="side of the window")

    def shape_after(self, shape):
        if min(shape[1:]) < self.kernel:
            raise SpaceError("too small")
        return shape[0], *(side // self.kernel for side in shape[1:])

    def build(self, shape):
        return nn.MaxPool2d(self.kernel), self.shape_after(shape)


@planted("block", "shapes-foretold", maps={IMAGE: IMAGE})
class DeclaredAndSilent:
    kernel: int = integer(1, 3, default=2, doc="side of the window", sizes=True)

    def build(self, shape):
        return nn.Conv2d(shape[0], 4, 1), (4, *shape[1:])


@planted("fusion", "shapes-foretold")
class ForetellsAnotherLength:
    def length_after(self, features):
        return max(features)

    def build(self, features):
        return _Join(), sum(features)


@planted("head", "shapes-foretold")
class AdmitsWhatItRefuses:
    def admit(self, features):
        return

    def build(self, features, classes):
        if features % 8:
            raise SpaceError("not a multiple of 8")
        return nn.Linear(features, classes)


class _Join(nn.Module):
    def forward(self, vectors):
        return torch.cat(vectors, dim=1)


# Modules


@planted("block", "announced-shapes", maps={IMAGE: IMAGE})
class WrongShape:
    def build(self, shape):
        return nn.Conv2d(shape[0], 4, 3), (4, *shape[1:])


@planted("block", "announced-shapes", maps={IMAGE: VECTOR})
class WrongKind:
    def build(self, shape):
        return nn.Identity(), shape


@planted("block", "announced-shapes", maps={IMAGE: IMAGE})
class WrongError:
    def build(self, shape):
        raise ValueError("too small")


@planted("block", "announced-shapes", maps={IMAGE: IMAGE})
class Never:
    def build(self, shape):
        raise SpaceError("never")


@broken_block("announced-shapes")
class ReadsValues(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.start = self.scale.detach().item()

    def forward(self, maps):
        return maps * self.scale


@broken_block("announced-shapes")
class OtherOnMeta(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1 if torch.empty(0).device.type == "meta" else (2, 1, 1, 1)))

    def forward(self, maps):
        return maps * self.scale[:1]


@broken_block("announced-shapes")
class NotANumber(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, maps):
        return maps.log()


@broken_block("gradients-everywhere")
class DeadParameter(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.used = nn.Parameter(torch.ones(1))
        self.forgotten = nn.Parameter(torch.ones(1))

    def forward(self, maps):
        return maps * self.used


@broken_block("gradients-everywhere")
class TimesNothing(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.used = nn.Parameter(torch.ones(1))
        self.silenced = nn.Parameter(torch.ones(1))

    def forward(self, maps):
        return maps * self.used + 0 * self.silenced


class TwiceTheSlope(torch.autograd.Function):
    @staticmethod
    def forward(context, maps):
        return maps.clone()

    @staticmethod
    def backward(context, slope):
        return 2 * slope if torch.backends.mkldnn.enabled else slope


@broken_block("true-gradients")
class WrongLibrary(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, maps):
        return TwiceTheSlope.apply(maps)


@broken_block("clips-by-themselves")
class OverTheBatch(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, maps):
        return maps - maps.mean(dim=0, keepdim=True)


@broken_block("faithful-copies")
class Unpicklable(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.act = lambda maps: maps.relu()

    def forward(self, maps):
        return self.act(maps)


@broken_block("faithful-copies", "moved-as-a-whole")
class HiddenWeights(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.hidden = [torch.randn(shape[0], 1, 1)]

    def forward(self, maps):
        return maps * self.hidden[0]


@broken_block("moved-as-a-whole")
class StaysBehind(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, maps):
        return maps + torch.ones(3, 1, 1, device="cpu")[:1]


@broken_block("input-as-it-was")
class WritesItsInput(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, maps):
        return F.relu_(maps)


@broken_block("input-as-it-was")
class WritesInTraining(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, maps):
        return maps.mul_(2) if self.training else maps * 2


@broken_block("same-to-the-bit", "global-state-as-it-was")
class AlwaysDrops(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, maps):
        return F.dropout(maps, 0.5, training=True)


@broken_block("global-state-as-it-was")
class DrawsForNothing(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, maps):
        np.random.random()
        return maps + 0 * torch.rand(1, device=maps.device)


@broken_block("same-to-the-bit")
class LearnsInEval(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, maps):
        self.mean.add_(maps.mean())
        return maps * 1


@broken_block("same-to-the-bit")
class OwnChance(nn.Module):
    def __init__(self, shape):
        super().__init__()
        start = torch.empty(1) if torch.empty(0).is_meta else torch.tensor([np.random.random()], dtype=torch.float32)
        self.scale = nn.Parameter(start)

    def forward(self, maps):
        return maps * self.scale


@broken_block("exported-with-any-batch")
class BranchesOnValues(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, maps):
        return maps * 2 if not maps.is_meta and maps.sum() > 0 else maps * 3


@broken_block("exported-with-any-batch")
class BurntInBatch(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, maps):
        return maps * float(min(len(maps), 2) > 0) if len(maps) != 2 else maps + 1


@planted("readout", "announced-shapes", maps={IMAGE: SEQUENCE})
class TokensLast:
    def build(self, shape):
        return nn.Flatten(2), (shape[1] * shape[2], shape[0])


@planted("cascade", "clips-by-themselves", maps={SEQUENCE: VECTOR})
class FirstOfTheBatch:
    def build(self, shape):
        return FirstClip(), (shape[1],)


class FirstClip(nn.Module):
    def forward(self, sequences):
        return sequences.mean(dim=1) + sequences[:1].mean()


@planted("attention", "announced-shapes")
class Squeezes:
    def build(self, channels):
        return nn.AdaptiveAvgPool2d(1)


@planted("fusion", "announced-shapes")
class WrongLength:
    def build(self, features):
        return Joined(), max(features)


class Joined(nn.Module):
    def forward(self, vectors):
        return torch.cat(vectors, dim=1)


@planted("head", "gradients-everywhere")
class Detached:
    def build(self, features, classes):
        return nn.Sequential(nn.Linear(features, 4), Cut(), nn.Linear(4, classes))


class Cut(nn.Module):
    def forward(self, vectors):
        return vectors.detach()


@planted("normalisation", "gradients-everywhere")
class LearntStatistics:
    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, shape):
        return nn.LayerNorm(shape[-1])

    def fit(self, module, rows, stream):
        pass


@planted("normalisation", "faithful-copies")
class RememberedOutside:
    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, shape):
        return Centred()

    def fit(self, module, rows, stream):
        module.mean = float(rows.maps(stream).mean())


class Centred(nn.Module):
    mean = 0.0

    def forward(self, maps):
        return maps - self.mean


@planted("normalisation", "announced-shapes")
class ReadsBeyond:
    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, shape):
        return Standardise().build(shape)

    def fit(self, module, rows, stream):
        rows.take(range(len(rows.labels) + 1))


# Declarations


@planted("schedule", "documented")
class Silent:
    """."""

    def factor(self, step, steps):
        return 1.0


@planted("schedule", "documented", section="appendix")
class Nowhere:
    def factor(self, step, steps):
        return 1.0


@planted("schedule", "documented")
class Undocumented:
    power: float = real(0.1, 1.0, default=1.0)

    def factor(self, step, steps):
        return 1.0


@planted("schedule", "well-declared")
class ExtraField:
    hidden: float = 0.5

    def factor(self, step, steps):
        return self.hidden


@planted("schedule", "well-declared")
class CannotDoIt:
    def share(self, step, steps):
        return 1.0


@planted("readout", "well-declared", maps={IMAGE: IMAGE})
class ReadsToAnImage:
    def build(self, shape):
        return nn.Identity(), shape


@planted("loss", "well-declared")
class WideScope(CrossEntropy):
    fit_scope: ClassVar[str] = "all rows"


@planted("schedule", "is-a-value")
class ChangesItsValue:
    power: float = real(0.1, 4.0, default=1.0, doc="a power")

    def __post_init__(self):
        object.__setattr__(self, "power", 2.0)

    def factor(self, step, steps):
        return 1.0


@register("schedule", "thawed", registry=PLANTED)
@dataclass
class Thawed:
    """Not frozen."""

    def factor(self, step, steps):
        return 1.0


FAULTS.append(pytest.param("schedule", "thawed", "well-declared", id="schedule.thawed-well-declared"))


# Clips


@planted("input", needs={FRAMES, APEX}, maps={CLIP: IMAGE})
class SoundInput(ApexFrame):
    """The apex frame."""


@planted("input", "honest-needs", needs={FRAMES}, maps={CLIP: IMAGE})
class UndeclaredNeed(ApexFrame):
    pass


@planted("input", "honest-needs", needs={FRAMES, APEX, ONSET}, maps={CLIP: IMAGE})
class NeedlessNeed(ApexFrame):
    pass


@planted("input", "honest-needs", needs={FRAMES, APEX}, maps={CLIP: IMAGE})
class StrangeError(ApexFrame):
    def prepare(self, clip):
        assert clip.frames[clip.apex] is not None
        return ApexFrame().prepare(clip)


@planted("input", "announced-maps", needs={FRAMES, APEX}, maps={CLIP: IMAGE})
class DoublePrecision(ApexFrame):
    def prepare(self, clip):
        return ApexFrame(size=self.size).prepare(clip).astype(np.float64)


@planted("input", "announced-maps", needs={FRAMES, APEX}, maps={CLIP: IMAGE})
class ManyNames(ApexFrame):
    channels: ClassVar[Any] = ("gray", "gray too")


@planted("input", "announced-maps", needs={FRAMES, APEX}, maps={CLIP: IMAGE})
class GreyOnly(ApexFrame):
    def prepare(self, clip):
        return cv2.resize(clip.frames[clip.apex], (self.size, self.size))[None].astype(np.float32) / 255


@planted("input", "announced-maps", needs={FRAMES, APEX}, maps={CLIP: IMAGE})
class TooBright(ApexFrame):
    def prepare(self, clip):
        return 255 * ApexFrame(size=self.size).prepare(clip)


@planted("input", "clip-as-it-was", needs={FRAMES, APEX}, maps={CLIP: IMAGE})
class WritesFrames(ApexFrame):
    def prepare(self, clip):
        if clip.frames is not None and clip.apex is not None:
            clip.frames[clip.apex][:4] = 0
        return ApexFrame(size=self.size).prepare(clip)


@planted("input", "repeatable", needs={FRAMES, APEX}, maps={CLIP: IMAGE})
class Trembles(ApexFrame):
    def prepare(self, clip):
        map_ = ApexFrame(size=self.size).prepare(clip)
        return (map_ + 0.01 * np.random.random(map_.shape)).astype(np.float32)


LAST: list[float] = [0.0]


@planted("input", "repeatable", needs={FRAMES, APEX}, maps={CLIP: IMAGE})
class Remembers(ApexFrame):
    def prepare(self, clip):
        map_ = ApexFrame(size=self.size).prepare(clip)
        mean, LAST[0] = LAST[0], float(map_.mean())
        return map_ - np.float32(mean)


@planted("preprocessing", "announced-clip", needs={FRAMES}, maps={CLIP: CLIP})
class LosesLandmarks:
    def apply(self, clip):
        if clip.frames is None:
            raise DataError("no frames")
        return replace(clip, landmarks=None)


@planted("preprocessing", "announced-clip", needs={FRAMES}, maps={CLIP: CLIP})
class LeavesMomentsBehind:
    def apply(self, clip):
        if clip.frames is None:
            raise DataError("no frames")
        return replace(clip, frames=clip.frames[:3], landmarks=None if clip.landmarks is None else clip.landmarks[:3])


@planted("flow_estimator", "announced-flow", needs={FRAMES, ONSET, APEX}, provides={TRUE_FLOW})
class Swapped(Farneback):
    def flow(self, clip):
        return Farneback().flow(clip)[::-1].copy()


@planted("flow_estimator", "announced-flow", needs={FRAMES, ONSET, APEX}, provides={TRUE_FLOW})
class Backwards(Farneback):
    def flow(self, clip):
        return -Farneback().flow(clip)


# Losses


@planted("loss", "only-training-rows")
class LooksFurther(CrossEntropy):
    def build(self, rows):
        rows.take([len(rows.labels)])
        return CrossEntropy().build(rows)


@planted("loss", "only-training-rows", "inputs-as-they-were")
class RelabelsRows(CrossEntropy):
    def build(self, rows):
        module = CrossEntropy().build(rows)
        rows.labels.add_(1).remainder_(3)
        return Relabelling(module, rows)


class Relabelling(nn.Module):
    def __init__(self, module, rows):
        super().__init__()
        self.module, self.rows = module, rows

    def forward(self, logits, targets):
        self.rows.labels.add_(1).remainder_(3)
        return self.module(logits, targets)


@planted("loss", "finite-values")
class AbsentClass(CrossEntropy):
    def build(self, rows):
        counts = torch.bincount(rows.labels, minlength=rows.classes)
        return Priors(len(rows.labels) / counts)


class Priors(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, logits, targets):
        return F.cross_entropy(logits, targets, weight=self.weights) + 0 * self.weights.sum()


@planted("loss", "finite-values")
class OnePerRow(CrossEntropy):
    def build(self, rows):
        return nn.CrossEntropyLoss(reduction="none")


@planted("loss", "right-classes-win")
class Inverted(CrossEntropy):
    def build(self, rows):
        return Negative()


class Negative(nn.Module):
    def forward(self, logits, targets):
        return F.cross_entropy(-logits, targets)


@planted("loss", "moved-with-its-figures")
class WeightsAside(CrossEntropy):
    def build(self, rows):
        return Aside(torch.ones(rows.classes))


class Aside(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.weights = [weights]

    def forward(self, logits, targets):
        return F.cross_entropy(logits, targets, weight=self.weights[0])


@planted("loss", "inputs-as-they-were")
class Sharpens(CrossEntropy):
    def build(self, rows):
        return Sharpened()


class Sharpened(nn.Module):
    def forward(self, logits, targets):
        logits.data.mul_(2)
        return F.cross_entropy(logits, targets)


@planted("auxiliary_loss", "descent")
class WrongSlope:
    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, rows, features):
        return Uphill()


class Uphill(nn.Module):
    def forward(self, vectors, targets):
        length = vectors.square().sum()
        return 2 * length.detach() - length  # its value falls where its slope says that it rises


@planted("side_task", "only-training-rows", needs={ACTION_UNITS})
class GuessesUnits:
    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, rows, features):
        return nn.Bilinear(features, 1, 1)


# Batches and rates


def halves(maps, generator):
    return [batch * torch.rand(len(batch), generator=generator).view(-1, *[1] * (batch.dim() - 1)) for batch in maps]


@planted("augmentation")
class SoundAugmentation:
    def apply(self, maps, channels, generator):
        return halves(maps, generator)


@planted("augmentation", "chance-of-the-generator")
class GlobalChance:
    def apply(self, maps, channels, generator):
        return halves(maps, None)


@planted("augmentation", "chance-of-the-generator")
class NoChance:
    def apply(self, maps, channels, generator):
        return [batch.flip(0) for batch in maps]


@planted("augmentation", "shapes-as-they-were")
class WritesMaps:
    def apply(self, maps, channels, generator):
        return [batch.mul_(0.5) for batch in maps]


@planted("augmentation", "shapes-as-they-were")
class PixelsUnasked:
    def apply(self, maps, channels, generator):
        return [batch.flip(-1, -3) for batch in maps]


@planted("mixing", "honest-shares")
class WrongShare:
    def mix(self, maps, generator):
        other = torch.randperm(len(maps[0]), generator=generator)
        return [0.7 * batch + 0.3 * batch[other] for batch in maps], other, 0.3


@planted("sampler", "batches-of-rows")
class SingleRows:
    def batches(self, labels, size, generator):
        return list(torch.randperm(len(labels), generator=generator).split(size))


@planted("sampler", "batches-of-rows")
class Forgets:
    def batches(self, labels, size, generator):
        return [torch.randint(0, max(len(labels) - 1, 1), (size,), generator=generator)]


@planted("sampler", "order-of-the-generator")
class GlobalOrder:
    def batches(self, labels, size, generator):
        return [torch.randint(0, len(labels), (size,))]


@planted("schedule", "shares-in-range")
class Rises:
    def factor(self, step, steps):
        return 1 + step / steps


@planted("schedule", "shares-in-range")
class DividesByNothing:
    def factor(self, step, steps):
        return 1 - step / (steps - 1)


@planted("optimizer", "descending")
class Climbs:
    def build(self, parameters):
        return torch.optim.SGD(parameters, lr=0.1, maximize=True)


@planted("optimizer", "descending")
class LeavesOneOut:
    def build(self, parameters):
        return torch.optim.SGD(list(parameters)[:1], lr=0.1)


@planted("averaging", "between-what-was")
class WritesEarly:
    def build(self, network, steps):
        return Eager(network)


class Eager:
    def __init__(self, network):
        self.network = network

    @torch.no_grad()
    def update(self, step):
        for weights in self.network.parameters():
            weights.mul_(0.5)

    def finish(self):
        pass


# What is fitted


@planted("classifier", "honest-scores")
class NotShares(Majority):
    def fit(self, rows, seed):
        fitted = Majority().fit(rows, seed)
        return dataclasses.replace(fitted, scores=2 * fitted.scores)


@planted("classifier", "honest-scores")
class SeenClassesOnly(Majority):
    def fit(self, rows, seed):
        fitted = Majority().fit(rows, seed)
        return dataclasses.replace(fitted, scores=fitted.scores[fitted.scores > 0])


@planted("classifier", "repeated-scores")
class GlobalScores(Majority):
    def fit(self, rows, seed):
        fitted = Majority().fit(rows, seed)
        return dataclasses.replace(fitted, scores=np.random.dirichlet(np.ones(rows.classes)))


@planted("classifier", "legal-family")
class StrangeFamily(Majority):
    family: ClassVar[dict[str, tuple[float, ...]]] = {"C": (100.0,)}

    C: float = real(0.1, 10.0, default=1.0, doc="a cost")


class Steps:
    """A strategy of two epochs, to be broken."""

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def fit(self, network, rows, objectives, augmentation, generator, on_epoch=None):
        objective = objectives(rows)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for epoch in (1, 2):
            network.train()
            batch = torch.randperm(len(rows.labels), generator=generator)[: self.size(rows)]
            value = objective.value(objective.outputs(network, rows.take(batch)), batch)
            if not torch.isfinite(value):
                raise NotFiniteError("no number")
            value.backward()
            optimizer.step()
            if on_epoch is not None and self.tells:
                on_epoch(epoch)
        network.eval()

    tells: ClassVar[bool] = True

    def size(self, rows):
        return max(2, len(rows.labels) // 2)


@planted("training")
class SoundTraining(Steps):
    pass


@planted("training", "told-epochs")
class TellsNothing(Steps):
    tells: ClassVar[bool] = False


@planted("training", "repeated-training")
class IgnoresTheGenerator(Steps):
    def fit(self, network, rows, objectives, augmentation, generator, on_epoch=None):
        super().fit(network, rows, objectives, augmentation, torch.Generator().manual_seed(0), on_epoch)


@planted("training", "rows-of-all-kinds")
class OneRowMore(Steps):
    def fit(self, network, rows, objectives, augmentation, generator, on_epoch=None):
        rows.take(torch.arange(len(rows.labels) + 1))
        super().fit(network, rows, objectives, augmentation, generator, on_epoch)


@planted("training", "refused-training")
class Swallows(Steps):
    def fit(self, network, rows, objectives, augmentation, generator, on_epoch=None):
        try:
            super().fit(network, rows, objectives, augmentation, generator, on_epoch)
        except NotFiniteError:
            network.eval()


@pytest.mark.parametrize(("axis", "name", "check"), FAULTS)
def test_fault_is_caught_by_the_check_that_is_meant_for_it(axis: str, name: str, check: str) -> None:
    run = dict(checks_for(PLANTED.get(axis, name), PLANTED))[check]
    with pytest.raises(AssertionError) as caught:
        run()
    assert f'{axis} "{name}"' in str(caught.value)


SOUND = [
    ("block", "sound"),
    ("input", "soundinput"),
    ("augmentation", "soundaugmentation"),
    ("training", "soundtraining"),
]


@pytest.mark.parametrize(("axis", "name"), SOUND)
def test_sound_component_passes(axis: str, name: str) -> None:
    check_component(axis, name, PLANTED)


def test_a_failing_check_names_component_values_rule_and_what_was_found() -> None:
    with pytest.raises(AssertionError) as caught:
        check_component("schedule", "rises", PLANTED)
    assert str(caught.value) == 'schedule "rises", Rises(), 2 steps: the share lies in [0, 1]; found [1.0, 1.5]'


# Learning: pipelines are made of what is registered for all


class Forgetful(nn.Module):
    def forward(self, maps):
        return maps * 0


@dataclass(frozen=True)
class Forget:
    """Forgets everything."""

    def build(self, shape):
        return Forgetful(), shape


@dataclass(frozen=True)
class Blank(ApexFrame):
    """Shows nothing."""

    def prepare(self, clip):
        return 0 * ApexFrame(size=self.size).prepare(clip)


@dataclass(frozen=True)
class Contrary(CrossEntropy):
    """Teaches the other class."""

    def build(self, rows):
        return Negative()


@pytest.mark.parametrize(
    ("axis", "factory", "maps"),
    [("block", Forget, {IMAGE: IMAGE}), ("input", Blank, {CLIP: IMAGE}), ("loss", Contrary, {})],
)
def test_what_keeps_a_pipeline_from_learning_is_caught(axis: str, factory: type, maps: dict[str, str]) -> None:
    register(axis, "keeps_from_learning", maps=maps)(factory)
    try:
        declaration = REGISTRY.get(axis, "keeps_from_learning")
        with pytest.raises(AssertionError, match=f'{axis} "keeps_from_learning".* to over 95%; found'):
            dict(checks_for(declaration))["learns"]()
        assert "learns" not in dict(checks_for(declaration, without={"learns"}))
    finally:
        REGISTRY.remove(axis, "keeps_from_learning")


# Settings


@pytest.mark.parametrize(
    "declaration", [pytest.param(item, id=item.title) for item in REGISTRY if item.axis != "dataset"]
)
def test_settings_are_legal_distinct_and_drawn_anew_by_the_seed_alone(declaration: Declaration) -> None:
    leaves = sample_leaves(declaration, 3, 4)
    assert len(set(leaves)) == len(leaves)
    assert leaves == sample_leaves(declaration, 3, 4)
    for leaf in leaves:
        for part in leaf.walk():
            for name, parameter in REGISTRY.get(part.axis, part.name).parameters.items():
                if not isinstance(parameter.domain, Slot):
                    assert part[name] in parameter.domain
                elif parameter.domain.shape == "one" and parameter.when is None:
                    assert part[name].axis == parameter.domain.axis
    if any(isinstance(parameter.domain, Real) for parameter in declaration.parameters.values()):
        assert leaves != sample_leaves(declaration, 4, 4)


def test_the_default_setting_comes_first_and_slots_are_filled() -> None:
    first, *drawn = sample_components(REGISTRY.get("input", "optical_flow"), seed=0, count=12)
    assert repr(first.estimator) == repr(Farneback())
    assert {type(component.estimator).__name__ for component in drawn} >= {"Farneback", "GivenFlow"}
    assert sample_components(REGISTRY.get("schedule", "constant"), seed=0, count=3) == [
        REGISTRY.get("schedule", "constant").factory()
    ]


def test_numbers_and_chains_are_kept_small() -> None:
    for stream in sample_components(REGISTRY.get("stream", "stream"), seed=1, count=20):
        assert len(stream.backbone) <= 3
        assert max(stream.input.shape) <= 68 or len(stream.input.shape) == 1
    epochs = [item.epochs for item in sample_components(REGISTRY.get("training", "scratch"), seed=1, count=20)]
    assert max(epochs) <= 64


def test_what_is_not_installed_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(REGISTRY.get("flow_estimator", "farneback"), requires={"no_such_module": "no-such-package"})
    assert [name for name, _ in checks_for(absent)] == ["documented", "well-declared"]
    with pytest.raises(UnavailableError, match="no-such-package, which is not installed"):
        sample_components(absent, seed=0, count=1)


def test_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="convolution"):
        check_component("block", "convolutoin")


def test_every_axis_has_checks_of_its_own() -> None:
    for declaration in REGISTRY:
        if declaration.axis != "dataset" and declaration.name not in ("features", "classical"):
            names = [name for name, _ in checks_for(declaration)]
            assert len(names) == len(set(names)) > 3 + (declaration.name not in ("majority",)), declaration.title
