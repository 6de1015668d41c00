"""The axes of the search space in the survey's order, the kinds of data that flow through a pipeline, and capabilities.

The survey is Li, Wei, Liu, Kauttonen, Zhao: "Deep Learning for Micro-Expression Recognition: A Survey", IEEE TAC 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

# Kinds: what a stage hands to the next one.
CLIP = "clip"  # a clip as the dataset has it: frames, or maps that a release ships instead
IMAGE = "image"  # (B, C, H, W)
VECTOR = "vector"  # (B, F)

# Capabilities: what data, or an earlier stage, can give. A clip set has a capability if every clip of it has it.
FRAMES = "frames"
ONSET = "onset"
APEX = "apex"
OFFSET = "offset"
GIVEN_FLOW = "given flow"  # flow maps shipped by the release instead of frames
GIVEN_STRAIN = "given strain"
TRUE_FLOW = "true flow"  # displacement in pixels with its zero and amplitude: magnitude and orientation mean something
ACTION_UNITS = "action units"
MIRRORABLE = "mirrorable maps"  # mirroring left and right, with u negated, gives a map that could have been measured

CAPABILITIES: dict[str, str] = {
    FRAMES: "the frames of the clips",
    ONSET: "the onset frame of every clip",
    APEX: "the apex frame of every clip",
    OFFSET: "the offset frame of every clip",
    GIVEN_FLOW: "flow maps shipped by the release",
    GIVEN_STRAIN: "strain maps shipped by the release",
    TRUE_FLOW: "flow in pixels with a known zero",
    ACTION_UNITS: "action unit annotations",
    MIRRORABLE: "maps whose zero is known (true flow, or flow centred by its median), so that u can be negated",
}


@dataclass(frozen=True)
class Axis:
    """One axis of the space.

    Attributes:
        name: As components declare it.
        section: Section of the survey.
        title: One line for people.
        record: Whether the axis has a single component whose name genotype files leave out.
    """

    name: str
    section: str
    title: str
    record: bool = False


AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis("dataset", "2", "Datasets"),
        Axis("preprocessing", "4.1", "Pre-processing of frames"),
        Axis("augmentation", "4.1.5", "Data augmentation"),
        Axis("normalisation", "4.1", "Normalisation fitted on the training rows"),
        Axis("input", "4.2", "Input modality"),
        Axis("flow_estimator", "4.2.2", "Where optical flow comes from"),
        Axis("block", "5.1", "Network blocks"),
        Axis("stream", "5.2", "One stream: an input with its backbone", record=True),
        Axis("features", "5.2", "One stream of a classical pipeline: an input as it is", record=True),
        Axis("readout", "5.2", "From the last map of a stream to a vector"),
        Axis("fusion", "5.2.2", "Fusion of streams"),
        Axis("head", "5.2", "From the fused vector to class scores"),
        Axis("task", "5.2.4", "What is predicted"),
        Axis("training", "5.3", "Training strategy"),
        Axis("optimizer", "5.3", "Optimiser"),
        Axis("schedule", "5.3", "Learning-rate schedule"),
        Axis("loss", "5.4", "Losses"),
        Axis("classifier", "6", "Classical classifiers, the baselines"),
        Axis("pipeline", "5.2", "A whole pipeline", record=True),
    )
}
