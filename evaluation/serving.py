"""Serving: which recordings a model can be asked about, and why not others.

What a model takes follows from what its pipeline needs. Trained on frames, it takes videos and folders of frames;
trained on the released flow images, it takes such images. Nothing is converted from one to the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from mernas.components.datasets.clip import Clip, content_hash
from mernas.components.datasets.flow_images import ShippedMap
from mernas.components.datasets.recording import (
    IMAGE_SUFFIXES,
    decode_image,
    images_of,
    missing,
    printable,
    rate_problems,
    read_recording,
)
from mernas.space.errors import DataError, Problem, UnavailableError, raise_all
from mernas.space.genotype import Genotype, Leaf
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import (
    APEX,
    CAPABILITIES,
    FRAME_RATE,
    FRAMES,
    GIVEN_FLOW,
    GIVEN_STRAIN,
    OFFSET,
    ONSET,
    TRUE_FLOW,
)

if TYPE_CHECKING:
    from mernas.evaluation.bundle import Bundle

SIZE_TOLERANCE = 0.1
"""Frames may be smaller than the smallest or larger than the largest of the training data by this share of it."""

RECORDED = frozenset({FRAMES, FRAME_RATE, ONSET, APEX, OFFSET, TRUE_FLOW})
"""What a video or a folder of frames provides; flow that is measured on frames is in pixels and has a known zero.

A video says its frame rate, or the user does; where neither does, that source is refused.
"""

SHIPPED = frozenset({GIVEN_FLOW, GIVEN_STRAIN})
"""What a flow image provides."""


def clips_of(
    bundle: Bundle,
    sources: Sequence[str | Path],
    onset: int | None = None,
    apex: int | None = None,
    fps: float | None = None,
) -> tuple[list[Clip], list[list[str]]]:
    """Return the clips of some sources, in their order, and what was assumed for each.

    Args:
        bundle: The model that shall be asked.
        sources: For a model that was trained on frames: video files and folders of frames, one clip each. For one that
            was trained on released flow images: such images (PNG, 8 bits, u, v and strain in red, green and blue) and
            folders of them, one clip per image, in the natural order of their names.
        onset: Number of the frame in which the movement begins, counted from 0; for a single recording only. By
            default the first frame.
        apex: Number of the frame in which it is strongest; for a single recording only. By default the frame in the
            middle between the onset and the last frame.
        fps: Frames per second of all recordings. It overrules what a video says of itself, which a note then tells. By
            default what each video says; a folder of frames cannot say it.

    Returns:
        The clips, whose keys are the sources as they were given, and the notes on each.

    Raises:
        UnavailableError: If the pipeline needs what no recording has.
        DataError: With every mistake in all sources: see `mernas.components.datasets.recording.read_recording`;
            a kind of source that the model cannot serve; frames whose size lies outside those of the training data by
            more than `SIZE_TOLERANCE` where flow is measured on them; a single frame where two are needed; an onset or
            apex that no single recording is there for; a frame rate that is not known where one is needed, or that is
            no positive finite number.
    """
    needs = needs_of(bundle.genotype)
    raise_all(UnavailableError, _unservable(bundle, needs))
    flow_images = bool(needs & SHIPPED)
    problems: list[Problem | str] = [*_misplaced(sources, onset, apex, flow_images), *_misrated(fps, flow_images)]
    moments = (onset, apex) if len(sources) == 1 else (None, None)
    if fps is not None:
        needs -= {FRAME_RATE}  # all have one then, or it is told once that it is none
    rate = None if rate_problems("", fps) else fps
    clips: list[Clip] = []
    notes: list[list[str]] = []
    for source in sources:
        try:
            found = _shipped(source) if flow_images else [_recorded(source, bundle, needs, *moments, rate)]
        except DataError as error:
            problems += error.problems
        else:
            clips += [clip for clip, _ in found]
            notes += [said for _, said in found]
    raise_all(DataError, problems)
    return clips, notes


def needs_of(genotype: Genotype) -> frozenset[str]:
    """Return the capabilities without which the maps of a pipeline cannot be prepared; training may need more.

    Example:
        >>> import mernas.components
        >>> from mernas.space.presets import load_preset
        >>> sorted(needs_of(load_preset("ststnet").genotype))
        ['given flow', 'given strain']
    """
    needs: set[str] = set()
    for stream in genotype.streams:
        for part in (*stream["preprocessing"], stream["input"]):
            for leaf in part.walk():
                needs |= _needs_of_leaf(leaf)
    return frozenset(needs)


def _needs_of_leaf(leaf: Leaf) -> set[str]:
    declaration = REGISTRY.get(leaf.axis, leaf.name)
    needs = set(declaration.needs)
    for name, value in leaf.values:
        if not isinstance(value, (Leaf, tuple)) and value is not None:
            needs |= declaration.parameters[name].needs.get(value, frozenset())
    return needs


def _unservable(bundle: Bundle, needs: frozenset[str]) -> list[Problem]:
    """Why no source at all can serve a model."""
    subject = "this model"
    given = needs & SHIPPED
    lacking = sorted(needs - (SHIPPED if given else RECORDED))
    if lacking:
        kind = "a flow image" if given else "a video or a folder of frames"
        found = "; ".join(CAPABILITIES[need] for need in lacking)
        remedy = "give such clips in Python, as `Clip`s to `Model.probabilities`, or use a model that needs less"
        return [Problem(subject, f"needs what {kind} lacks", found, remedy)]
    if given and TRUE_FLOW in bundle.facts:
        rule = "was trained on a release's flow in pixels, and images do not hold such flow"
        remedy = "give such clips in Python, as `Clip`s to `Model.probabilities`, or use a model of frames"
        return [Problem(subject, rule, "", remedy)]
    return []


def _misplaced(
    sources: Sequence[str | Path], onset: int | None, apex: int | None, flow_images: bool
) -> list[Problem | str]:
    """What is wrong with the request as a whole."""
    given = [f"{name} {number}" for name, number in (("--onset", onset), ("--apex", apex)) if number is not None]
    if not sources:
        return [Problem("sources", "must be at least one", "none", "give a video or a folder")]
    if given and flow_images:
        rule = "a flow image has neither onset nor apex: it is what lies between them"
        return [Problem(" and ".join(given), rule, "", "leave it out")]
    if given and len(sources) > 1:
        rule, remedy = "frame numbers belong to a single recording", "repeat the command for each recording"
        return [Problem(" and ".join(given), rule, f"{len(sources)} sources", remedy)]
    return []


def _misrated(fps: float | None, flow_images: bool) -> list[Problem]:
    """What is wrong with a frame rate that is given for all sources."""
    if fps is not None and flow_images:
        return [Problem(f"--fps {fps:g}", "a flow image has no frame rate: it is one map", "", "leave it out")]
    return rate_problems("--fps", fps)


def _recorded(
    source: str | Path,
    bundle: Bundle,
    needs: frozenset[str],
    onset: int | None,
    apex: int | None,
    fps: float | None,
) -> tuple[Clip, list[str]]:
    """One video or folder of frames."""
    path, subject = Path(source), f'"{printable(source)}"'
    if missing(source) is None and not path.is_dir() and path.suffix.lower() in IMAGE_SUFFIXES:
        rule = "this model takes videos and folders of frames, and an image is a single frame"
        remedy = "give the video or the folder; a flow image needs a model that was trained on flow images"
        raise DataError(Problem(subject, rule, "", remedy))
    clip, notes = read_recording(source, onset, apex, fps)
    assert clip.frames is not None  # for the type checker; a recording has frames  # noqa: S101
    problems: list[Problem | str] = []
    if {ONSET, APEX} <= needs and clip.onset == clip.apex:
        rule = "this model compares the onset with the apex, and needs two different frames"
        if len(clip.frames) == 1:
            problems.append(Problem(subject, rule, "a single frame", "give the whole clip"))
        else:
            remedy = "name an earlier onset or a later apex"
            problems.append(Problem(subject, rule, f"frame {clip.onset} for both", remedy))
    if FRAME_RATE in needs and clip.fps is None:
        rule = "this model needs to know how many frames per second a recording has"
        found = "a folder, which cannot say so" if path.is_dir() else "a video that does not say so"
        problems.append(Problem(subject, rule, found, "give --fps, in Python fps="))
    elif FRAME_RATE in needs:
        said = f"frame rate: {clip.fps:.10g} per second, as the video says"
        notes.append(f"{said}; give --fps if it was filmed at another")
    if OFFSET in needs:
        notes.append(f"offset: frame {clip.offset}, the last")
    if _measures_flow(bundle.genotype):
        problems += _size_problems(subject, clip.frames[0].shape, bundle)
    raise_all(DataError, problems)
    return clip, notes


def _measures_flow(genotype: Genotype) -> bool:
    """Whether flow is measured on frames, in their pixels, so that it matters how large the face is in them."""
    leaves = (leaf for stream in genotype.streams for leaf in stream["input"].walk())
    return any(leaf.axis == "flow_estimator" and FRAMES in _needs_of_leaf(leaf) for leaf in leaves)


def _size_problems(subject: str, shape: tuple[int, ...], bundle: Bundle) -> list[Problem]:
    """One problem if a side lies outside the training data by more than the tolerance."""
    if bundle.frames is None:
        return []
    (low, usual_height, high), (left, usual_width, right) = bundle.frames.height, bundle.frames.width
    heights, widths = _tolerated(low, high), _tolerated(left, right)
    if heights[0] <= shape[0] <= heights[1] and widths[0] <= shape[1] <= widths[1]:
        return []
    rule = (
        f"frames must be {heights[0]} to {heights[1]} pixels high and {widths[0]} to {widths[1]} wide, as in training "
        f"(usually {usual_height} x {usual_width}), because flow is measured in pixels"
    )
    remedy = "crop the face as in the training data, then scale it to that size"
    return [Problem(subject, rule, f"{shape[0]} x {shape[1]}", remedy)]


def _tolerated(smallest: int, largest: int) -> tuple[int, int]:
    """The least and the greatest number of pixels; rounding spares a bound from lying a hair beside its own number."""
    least, greatest = smallest * (1 - SIZE_TOLERANCE), largest * (1 + SIZE_TOLERANCE)
    return math.ceil(round(least, 6)), math.floor(round(greatest, 6))


def _shipped(source: str | Path) -> list[tuple[Clip, list[str]]]:
    """One flow image, or all in a folder."""
    path, subject = Path(source), f'"{printable(source)}"'
    problem = missing(source)
    if problem is not None:
        raise DataError(problem)
    takes = "this model takes flow images: PNG files of u, v and strain, each stretched to 0..255 by itself"
    if not path.is_dir():
        if path.suffix.lower() != ".png":
            remedy = "that stretching cannot be repeated from a video: use a model that was trained on frames"
            raise DataError(Problem(subject, takes, path.suffix or "another file", remedy))
        return [_flow_image(source, path)]
    files = images_of(path)
    others = [file.name for file in files if file.suffix.lower() != ".png"]
    if not files or others:
        found = printable(", ".join(others[:3])) if others else "a folder without images"
        remedy = "give the folder that holds the images themselves; for videos use a model that was trained on frames"
        raise DataError(Problem(subject, takes, found, remedy))
    made: list[tuple[Clip, list[str]]] = []
    problems: list[Problem | str] = []
    for file in files:
        try:
            made.append(_flow_image(Path(source) / file.name, file))
        except DataError as error:
            problems += error.problems
    raise_all(DataError, problems)
    return made


def _flow_image(source: str | Path, file: Path) -> tuple[Clip, list[str]]:
    problem = missing(source)  # one of a folder may have vanished, or have a name that is not UTF-8
    if problem is not None:
        raise DataError(problem)
    image = decode_image(file, cv2.IMREAD_UNCHANGED)
    subject = f'"{source}"'
    if image.ndim != 3 or image.shape[2] != 3:
        rule, found = "must have 3 channels: u, v and strain", str(image.shape[2] if image.ndim == 3 else 1)
        remedy = "give a flow image as the release has it; for frames use a model that was trained on frames"
        raise DataError(Problem(subject, rule, found, remedy))
    channels = [
        f"{name} from {image[:, :, place].min()} to {image[:, :, place].max()}"
        for place, name in enumerate(("u", "v", "strain"))
        if image[:, :, place].min() > 0 or image[:, :, place].max() < 255
    ]
    notes = []
    if channels:
        found = ", ".join(channels)
        notes = [f"not stretched like a released flow image, whose channels all go from 0 to 255: {found}"]
    clip = Clip(
        key=str(source),
        dataset="recording",
        subject="recording/unknown",
        fingerprint=content_hash([str(image.shape).encode(), image.tobytes()]),
        given={"flow": ShippedMap(image, (0, 1)), "strain": ShippedMap(image, (2,))},
    )
    return clip, notes
