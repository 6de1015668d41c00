"""The embedded dataset: faces of made-up people with made-up micro-expressions, whose true optical flow is known."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from mernas.components.datasets.clip import Clip, Dataset, content_hash
from mernas.components.datasets.synthetic_expressions import CLASSES, deal_emotions, draw_activities, draw_resting
from mernas.components.datasets.synthetic_face import draw_face
from mernas.components.datasets.synthetic_frames import SyntheticFrames
from mernas.components.datasets.synthetic_muscles import field_of, scaled
from mernas.components.datasets.synthetic_time import draw_head, draw_swing, draw_timeline
from mernas.space.errors import Problem, SpaceError, raise_all
from mernas.space.parameters import KEY, integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import ACTION_UNITS, APEX, FRAMES, OFFSET, ONSET, TRUE_FLOW

# Each random stream is seeded by (seed, subject, its number, ...): nobody depends on how many others there are.
PERSON, SKIN, DEAL, CLIP, NOISE = range(5)


@register("dataset", "synthetic", section="2", source="mernas")
@dataclass(frozen=True)
class Synthetic:
    """Made-up faces with made-up micro-expressions of three classes, whose true optical flow is known.

    The classes (negative, positive, surprise) differ in which action units move, not in what the face looks like:
    people differ far more in shape, skin, light and resting expression than a micro-expression changes. Half of the
    clips also show an action unit of another class. `clip.frames` is a `SyntheticFrames`; its `true_flow(a, b)` is the
    flow between any two frames. The annotations hold the class (`emotion`) and the `action_units`, e.g. "1+2+25".

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

    def __post_init__(self) -> None:
        problems = []
        for item in fields(self):
            domain, value = item.metadata[KEY].domain, getattr(self, item.name)
            if value not in domain:
                problems.append(Problem(f'dataset "synthetic", {item.name}', f"must be {domain}", repr(value)))
        raise_all(SpaceError, problems)

    def load(self) -> Dataset:
        """Return the dataset. Nothing is read; its frames are rendered once here, for the fingerprints of the clips."""
        clips: list[Clip] = []
        annotations: list[dict[str, str]] = []
        for subject in range(1, self.subjects + 1):
            emotions = deal_emotions(self._generator(subject, DEAL), self.clips)
            for number, emotion in enumerate(emotions, start=1):
                frames, units = self._record(subject, number, emotion)
                clips.append(_clip(f"synthetic/s{subject:02}", number, frames))
                annotations.append({"emotion": emotion, "action_units": units})
        return Dataset(
            name="synthetic",
            clips=tuple(clips),
            annotations=pd.DataFrame(annotations, index=pd.Index([clip.key for clip in clips], name="clip")),
            classes=CLASSES,
            provides=frozenset({FRAMES, ONSET, APEX, OFFSET, TRUE_FLOW, ACTION_UNITS}),
            licence="made up by mernas: shows no person and is free for any use",
        )

    def _generator(self, subject: int, *stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, subject, *stream))

    def _record(self, subject: int, number: int, emotion: str) -> tuple[SyntheticFrames, str]:
        """Return the frames of one clip and its action units as text."""
        person = self._generator(subject, PERSON)
        face = draw_face(person)
        expressivity = person.uniform(0.7, 1.0)
        light = person.uniform(-0.8, 0.8, size=2)

        take = self._generator(subject, CLIP, number)
        activities = draw_activities(take, emotion)
        largest = 2 * self.intensity  # the frame is two face units wide
        resting = draw_resting(take, face, largest)
        head = draw_head(take, 2 * self.head_motion)
        strength = largest * expressivity * take.uniform(0.25, 1.0) / head.pose.zoom
        light_x, light_y = (light + take.uniform(-0.25, 0.25, size=2)).tolist()
        frames = SyntheticFrames(
            face=face,
            skin_seed=(self.seed, subject, SKIN),
            resting=resting,
            expression=scaled(field_of(face, activities), strength),
            timeline=draw_timeline(take, self.fps),
            head=head,
            light=(light_x, light_y),
            drift=(draw_swing(take, self.light_drift), draw_swing(take, self.light_drift)),
            noise=self.noise,
            noise_seed=(self.seed, subject, NOISE, number),
            size=self.size,
            fps=float(self.fps),
        )
        return frames, "+".join(sorted(activities, key=int))


def _clip(subject: str, number: int, frames: SyntheticFrames) -> Clip:
    return Clip(
        key=f"{subject}/c{number:02}",
        dataset="synthetic",
        subject=subject,
        fingerprint=_fingerprint(frames),
        frames=frames,
        fps=frames.fps,
        onset=frames.timeline.onset,
        apex=frames.timeline.apex,
        offset=frames.timeline.offset,
    )


def _fingerprint(frames: SyntheticFrames) -> str:
    return content_hash([frames[frame].tobytes() for frame in range(len(frames))])
