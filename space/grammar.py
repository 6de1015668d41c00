"""The grammar of pipelines: one to four streams, a fusion, tasks, training and losses; or streams and a classifier.

These records hold no behaviour. They are declared like any component, so that the space treats the topology
(survey section 5.2) and a kernel size by the same few lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mernas.space.parameters import bag, chain, conditional, one, optional, subset
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, VECTOR


def _several_streams(values: Mapping[str, Any]) -> bool:
    return len(values["streams"]) > 1


@register("stream", "stream", starts=CLIP, ends=VECTOR)
@dataclass(frozen=True, kw_only=True)
class Stream:
    """An input with its own pre-processing, backbone, readout and, where a sequence is read out, a cascade."""

    input: Any = one("input", flows=True, doc="what the stream looks at")
    backbone: tuple[Any, ...] = chain("block", 0, 12, flows=True, doc="blocks, first to last")
    readout: Any = one("readout", default="average", flows=True, doc="from the last map to a vector or a sequence")
    cascade: Any = optional("cascade", flows=True, doc="from a sequence to a vector")
    preprocessing: tuple[Any, ...] = chain("preprocessing", 0, 4, doc="steps on the frames, first to last")


@register("features", "features", starts=CLIP)
@dataclass(frozen=True, kw_only=True)
class FeatureStream:
    """An input that is handed to a classical classifier as it is."""

    input: Any = one("input", flows=True, doc="what the classifier looks at")
    preprocessing: tuple[Any, ...] = chain("preprocessing", 0, 4, doc="steps on the frames, first to last")


@register("pipeline", "network")
@dataclass(frozen=True, kw_only=True)
class NetworkPipeline:
    """Streams, fused and trained end to end."""

    streams: tuple[Stream, ...] = bag("stream", 1, 4, doc="what is looked at, and by which backbone")
    fusion: Any = conditional("fusion", _several_streams, default="concatenation", doc="how streams become one vector")
    tasks: tuple[Any, ...] = bag("task", 1, 1, doc="what is predicted")
    normalisation: Any = one("normalisation", default="standardise", doc="fitted on the training rows of a job")
    augmentation: tuple[Any, ...] = subset("augmentation", doc="changes of the training maps")
    training: Any = one("training", default="scratch", doc="the training strategy")
    loss: tuple[Any, ...] = bag("loss", 1, 1, doc="what is minimised")
    auxiliary_loss: Any = optional("auxiliary_loss", doc="what is minimised beside it, of the fused vector")
    side_task: Any = optional("side_task", doc="what is predicted beside the emotion, in training only")


@register("pipeline", "classical")
@dataclass(frozen=True, kw_only=True)
class ClassicalPipeline:
    """Streams whose maps are flattened, joined and handed to a classical classifier."""

    streams: tuple[FeatureStream, ...] = bag("features", 1, 4, doc="what is looked at")
    classifier: Any = one("classifier", doc="the classifier")
