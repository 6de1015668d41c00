"""The axes of the search space in the survey's order, the kinds of data that flow through a pipeline, and capabilities.

The survey is Li, Wei, Liu, Kauttonen, Zhao: "Deep Learning for Micro-Expression Recognition: A Survey", IEEE TAC 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

# Kinds: what a stage hands to the next one.
CLIP = "clip"  # a clip as the dataset has it: frames, or maps that a release ships instead
IMAGE = "image"  # (B, C, H, W)
VIDEO = "video"  # (B, C, T, H, W)
GRAPH = "graph"  # (B, N, F): N nodes in a fixed order, with F features each
SEQUENCE = "sequence"  # (B, T, F): T tokens (frames, patches, nodes) of F features each
VECTOR = "vector"  # (B, F)

# Capabilities: what data, or an earlier stage, can give. A clip set has a capability if every clip of it has it.
FRAMES = "frames"
ONSET = "onset"
APEX = "apex"
OFFSET = "offset"
FRAME_RATE = "frame rate"
GIVEN_FLOW = "given flow"  # flow maps shipped by the release instead of frames
GIVEN_STRAIN = "given strain"
TRUE_FLOW = "true flow"  # displacement in pixels with its zero and amplitude: magnitude and orientation mean something
ACTION_UNITS = "action units"
LANDMARKS = "landmarks"
SOURCE = "source domain"
MIRRORABLE = "mirrorable maps"  # mirroring left and right, with u negated, gives a map that could have been measured
PIXELS = "pixels"  # maps with a height and a width
TURNABLE = "turnable maps"  # grey maps, or true flow: a rotation, with (u, v) turned along, gives a possible map
BRIGHTNESS = "brightness"  # every channel is a grey value in [0, 1], or a difference of such
CAPSULES = "capsules"  # the vector is a row of capsules of eight numbers each
BALANCED_BATCHES = "balanced batches"  # every batch has at least two clips of each of several classes

CAPABILITIES: dict[str, str] = {
    FRAMES: "the frames of the clips",
    ONSET: "the onset frame of every clip",
    APEX: "the apex frame of every clip",
    OFFSET: "the offset frame of every clip",
    FRAME_RATE: "the frames per second of every clip",
    GIVEN_FLOW: "flow maps shipped by the release",
    GIVEN_STRAIN: "strain maps shipped by the release",
    TRUE_FLOW: "flow in pixels with a known zero",
    ACTION_UNITS: "action unit annotations",
    LANDMARKS: "the 68 landmarks of every frame",
    SOURCE: "macro-expressions of other people to learn from first",
    MIRRORABLE: "maps whose zero is known (true flow, or flow centred by its median), so that u can be negated",
    PIXELS: "maps with a height and a width in every stream",
    TURNABLE: "grey maps, or flow in pixels with both u and v, in every stream",
    BRIGHTNESS: "maps of grey values in every stream",
    CAPSULES: "a readout of capsules in every stream",
    BALANCED_BATCHES: "a sampler that puts several clips of each class into a batch",
}

FLOWING = frozenset({"input", "block", "readout", "cascade"})
"""The axes through which the map of a stream flows: their components turn one kind into another."""

SIZED = frozenset({"block", "readout", "cascade", "fusion", "task", "head"})
"""The axes whose components are built for the shapes that arrive."""

FROM_WITHIN = frozenset({MIRRORABLE, PIXELS, TURNABLE, BRIGHTNESS, CAPSULES, BALANCED_BATCHES})
"""What no data have: an earlier part of the pipeline provides it."""


@dataclass(frozen=True)
class Axis:
    """One axis of the space.

    Attributes:
        name: As components declare it.
        section: Section of the survey.
        title: One line for people.
        record: Whether the axis has a single component whose name genotype files leave out.
        empty: Whether a pipeline can do without any component of it, so that a space may leave none.
    """

    name: str
    section: str
    title: str
    record: bool = False
    empty: bool = False


AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis("dataset", "2", "Datasets"),
        Axis("preprocessing", "4.1", "Pre-processing of frames", empty=True),
        Axis("augmentation", "4.1.5", "Data augmentation", empty=True),
        Axis("normalisation", "4.1", "Normalisation fitted on the training rows"),
        Axis("input", "4.2", "Input modality"),
        Axis("flow_estimator", "4.2.2", "Where optical flow comes from"),
        Axis("block", "5.1", "Network blocks"),
        Axis("attention", "5.1", "Attention inside a block", empty=True),
        Axis("stream", "5.2", "One stream: an input with its backbone", record=True),
        Axis("features", "5.2", "One stream of a classical pipeline: an input as it is", record=True),
        Axis("readout", "5.2", "From the last map of a stream to a vector or a sequence"),
        Axis("cascade", "5.2.3", "From a sequence to a vector: what follows a network in a cascade", empty=True),
        Axis("fusion", "5.2.2", "Fusion of streams"),
        Axis("head", "5.2", "From the fused vector to class scores"),
        Axis("task", "5.2.4", "What is predicted"),
        Axis("side_task", "5.2.4", "What is predicted beside it, in training only", empty=True),
        Axis("training", "5.3", "Training strategy"),
        Axis("optimizer", "5.3", "Optimiser"),
        Axis("schedule", "5.3", "Learning-rate schedule"),
        Axis("sampler", "5.3", "Which rows make a batch", empty=True),
        Axis("averaging", "5.3", "Averages of the weights", empty=True),
        Axis("mixing", "4.1.5", "Mixtures of clips and their labels", empty=True),
        Axis("loss", "5.4", "Losses of the class scores"),
        Axis("auxiliary_loss", "5.4", "Losses of the fused vector, added to it", empty=True),
        Axis("classifier", "6", "Classical classifiers, the baselines"),
        Axis("pipeline", "5.2", "A whole pipeline", record=True),
    )
}
