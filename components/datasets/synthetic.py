"""The embedded dataset: faces of made-up people with made-up micro-expressions, whose true optical flow is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from mernas.components.datasets.clip import Clip, Dataset, content_hash
from mernas.components.datasets.synthetic_expressions import CLASSES, deal_emotions, draw_activities, draw_resting
from mernas.components.datasets.synthetic_face import Face, draw_face
from mernas.components.datasets.synthetic_frames import SyntheticFrames
from mernas.components.datasets.synthetic_landmarks import SyntheticLandmarks
from mernas.components.datasets.synthetic_muscles import field_of, scaled
from mernas.components.datasets.synthetic_series import MACRO, Series, micro
from mernas.components.datasets.synthetic_time import Head, Timeline, draw_head, draw_swing
from mernas.space.errors import Problem, SpaceError, raise_all
from mernas.space.parameters import KEY, integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import ACTION_UNITS, APEX, FRAME_RATE, FRAMES, LANDMARKS, OFFSET, ONSET, SOURCE, TRUE_FLOW

# Each random stream is seeded by (seed, subject, its number, ...): nobody depends on how many others there are. Macro-
# expressions have the next five numbers.
PERSON, SKIN, DEAL, CLIP, NOISE = range(5)


@register("dataset", "synthetic", section="2", source="mernas")
@dataclass(frozen=True)
class Synthetic:
    """Made-up faces with made-up micro-expressions of three classes, whose true optical flow is known.

    The classes (negative, positive, surprise) differ in which action units move, not in what the face looks like:
    people differ far more in shape, skin, light and resting expression than a micro-expression changes. Half of the
    clips also show an action unit of another class. `clip.frames` is a `SyntheticFrames`; its `true_flow(a, b)` is the
    flow between any two frames, and `clip.landmarks` is as exact. The annotations hold the class (`emotion`) and the
    `action_units`, e.g. "1+2+25". As source there are macro-expressions of other people: the same classes, displayed
    about four times as strongly for 1/2 to 4 s, at 25 frames per second.

    Raises:
        SpaceError: If a value lies outside its range.

    Example:
        >>> data = Synthetic(subjects=2, clips=3).load()
        >>> clip = data.clips[0]
        >>> clip.key, clip.frames[clip.apex].shape, clip.frames.true_flow(clip.onset, clip.apex).shape
        ('synthetic/s01/c01', (64, 64), (2, 64, 64))
    """

    subjects: int = integer(1, 99, default=18, doc="how many people")
    clips: int = integer(1, 99, default=9, doc="clips of each person")
    size: int = integer(48, 128, default=64, doc="pixels along each side of a frame")
    fps: int = integer(25, 500, default=100, doc="frames per second")
    intensity: float = real(0.002, 0.04, default=0.012, doc="largest displacement of the skin, relative to the size")
    head_motion: float = real(0.0, 0.03, default=0.012, doc="largest shift of the head, relative to the size")
    light_drift: float = real(0.0, 0.2, default=0.03, doc="largest change of the light, relative to its brightness")
    noise: float = real(0.0, 10.0, default=3.0, doc="noise of the sensor, in grey levels")
    seed: int = integer(0, 2**31 - 1, default=0, doc="another seed makes other people")
    macro_subjects: int = integer(0, 99, default=12, doc="how many other people show macro-expressions; 0 is no source")
    macro_clips: int = integer(1, 99, default=6, doc="macro-expressions of each of them")

    def __post_init__(self) -> None:
        problems = []
        for item in fields(self):
            domain, value = item.metadata[KEY].domain, getattr(self, item.name)
            if value not in domain:
                problems.append(Problem(f'dataset "synthetic", {item.name}', f"must be {domain}", repr(value)))
        raise_all(SpaceError, problems)

    def load(self) -> Dataset:
        """Return the dataset. Nothing is read; its frames are rendered once here, for the fingerprints of the clips.

        Those of the macro-expressions, which have many more frames, are fingerprinted by the numbers that they are
        rendered from, and by two frames that show how.
        """
        source = None
        if self.macro_subjects:
            sample = _rendered(self._record(MACRO, 1, 1, CLASSES[0])[0], moments_only=True)
            source = self._made(
                MACRO, self.macro_subjects, self.macro_clips, lambda frames: content_hash([*sample, _numbers(frames)])
            )
        series = micro(self.intensity, self.fps)
        return self._made(series, self.subjects, self.clips, lambda frames: content_hash(_rendered(frames)), source)

    def _made(
        self,
        series: Series,
        subjects: int,
        clips: int,
        fingerprint: Callable[[SyntheticFrames], str],
        source: Dataset | None = None,
    ) -> Dataset:
        made: list[Clip] = []
        annotations: list[dict[str, str]] = []
        for subject in range(1, subjects + 1):
            emotions = deal_emotions(self._generator(subject, series.first_stream + DEAL), clips)
            for number, emotion in enumerate(emotions, start=1):
                frames, units = self._record(series, subject, number, emotion)
                made.append(_clip(series, subject, number, frames, fingerprint(frames)))
                annotations.append({"emotion": emotion, "action_units": units})
        provides = {FRAMES, FRAME_RATE, ONSET, APEX, OFFSET, TRUE_FLOW, ACTION_UNITS, LANDMARKS}
        return Dataset(
            name=series.dataset,
            clips=tuple(made),
            annotations=pd.DataFrame(annotations, index=pd.Index([clip.key for clip in made], name="clip")),
            classes=CLASSES,
            provides=frozenset(provides | (set() if source is None else {SOURCE})),
            licence="made up by mernas: shows no person and is free for any use",
            source=source,
        )

    def _generator(self, subject: int, *stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, subject, *stream))

    def _record(self, series: Series, subject: int, number: int, emotion: str) -> tuple[SyntheticFrames, str]:
        """Return the frames of one clip and its action units as text."""
        person = self._generator(subject, series.first_stream + PERSON)
        face = draw_face(person)
        expressivity = person.uniform(0.7, 1.0)
        light = person.uniform(-0.8, 0.8, size=2)

        take = self._generator(subject, series.first_stream + CLIP, number)
        activities = draw_activities(take, emotion)
        # The frame is two face units wide. At rest a face is as far from neutral as a micro-expression would take it.
        resting = draw_resting(take, face, 2 * self.intensity)
        head = draw_head(take, 2 * self.head_motion)
        strength = 2 * series.intensity * expressivity * take.uniform(series.weakest, 1.0) / head.pose.zoom
        light_x, light_y = (light + take.uniform(-0.25, 0.25, size=2)).tolist()
        frames = SyntheticFrames(
            face=face,
            skin_seed=(self.seed, subject, series.first_stream + SKIN),
            resting=resting,
            expression=scaled(field_of(face, activities), strength),
            timeline=series.draw_timeline(take, series.fps),
            head=head,
            light=(light_x, light_y),
            drift=(draw_swing(take, self.light_drift), draw_swing(take, self.light_drift)),
            noise=self.noise,
            noise_seed=(self.seed, subject, series.first_stream + NOISE, number),
            size=self.size,
            fps=float(series.fps),
        )
        return frames, "+".join(sorted(activities, key=int))


def _clip(series: Series, subject: int, number: int, frames: SyntheticFrames, fingerprint: str) -> Clip:
    name = f"{series.dataset}/{series.letter}{subject:02}"
    return Clip(
        key=f"{name}/c{number:02}",
        dataset=series.dataset,
        subject=name,
        fingerprint=fingerprint,
        frames=frames,
        fps=frames.fps,
        onset=frames.timeline.onset,
        apex=frames.timeline.apex,
        offset=frames.timeline.offset,
        landmarks=SyntheticLandmarks(frames),
    )


def _rendered(frames: SyntheticFrames, moments_only: bool = False) -> list[bytes]:
    """All frames, or those at the onset and at the apex."""
    shown = [frames.timeline.onset, frames.timeline.apex] if moments_only else range(len(frames))
    return [frames[frame].tobytes() for frame in shown]


def _numbers(frames: SyntheticFrames) -> bytes:
    """What a clip is rendered from, to as many digits as every processor computes alike."""

    def told(value: Any) -> str:
        if isinstance(value, (Face, Timeline, Head)):
            value = tuple(vars(value).values())
        return f"({','.join(map(told, value))})" if isinstance(value, tuple) else f"{value:.9g}"

    return told(tuple(vars(frames).values())).encode()
