"""The embedded synthetic dataset: made-up faces that show made-up micro-expressions, with their true optical flow."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from mernas.components.datasets.clip import Clip, Dataset, content_hash
from mernas.components.datasets.synthetic_face import Face, draw_face
from mernas.components.datasets.synthetic_frames import SyntheticFrames
from mernas.components.datasets.synthetic_muscles import ACTION_UNITS, Activity, Field, field_of, scaled
from mernas.components.datasets.synthetic_time import draw_head, draw_swing, draw_timeline
from mernas.space.errors import Problem, SpaceError, raise_all
from mernas.space.parameters import KEY, integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import ACTION_UNITS as ACTION_UNIT_LABELS
from mernas.space.taxonomy import APEX, FRAMES, OFFSET, ONSET, TRUE_FLOW

CLASSES = ("negative", "positive", "surprise")


@dataclass(frozen=True)
class Expression:
    """The action units of a class: those that always act, and those that may, with their probabilities."""

    always: tuple[str, ...]
    sometimes: dict[str, float]


EXPRESSIONS: dict[str, Expression] = {
    "negative": Expression(("4",), {"9": 0.5, "15": 0.5}),
    "positive": Expression(("12",), {"6": 0.6, "25": 0.2}),
    "surprise": Expression(("1", "2"), {"25": 0.5, "26": 0.4}),
}
LOW = 0.3
SLOW = 0.3
SHIGH = 0.9
STRAY = 0.5
BLINK = 0.2
RESTING = 1.0


@register("dataset", "synthetic", section="2", source="mernas")
@dataclass(frozen=True)
class Synthetic:
    """Made-up faces that show made-up micro-expressions, with their true optical flow."""

    subjects: int = integer(2, 99, default=18, doc="people")
    clips: int = integer(1, 99, default=9, doc="clips of each person")
    size: int = integer(48, 128, default=64, doc="pixels along each side of a frame")
    fps: int = integer(25, 500, default=100, doc="frames per second")
    intensity: float = real(0.005, 0.04, default=0.02, doc="largest displacement of the face, relative to the size")
    noise: float = real(0.0, 10.0, default=2.0, doc="sensor noise, in grey levels")
    head_motion: float = real(0.0, 0.03, default=0.01, doc="largest shift of the head, relative to the size")
    light_drift: float = real(0.0, 0.2, default=0.03, doc="largest change of brightness within a clip, relative")
    seed: int = integer(0, 2**31 - 1, default=0, doc="another seed makes other people")

    def __post_init__(self) -> None:
        problems = []
        for item in fields(self):
            domain, value = item.metadata[KEY].domain, getattr(self, item.name)
            if value not in domain:
                problems.append(Problem(f'dataset "synthetic", {item.name}', f"must be {domain}", repr(value)))
        raise_all(SpaceError, problems)

    def load(self) -> Dataset:
        clips, rows = [], []
        for subject in range(1, self.subjects + 1):
            face = draw_face(np.random.default_rng((self.seed, subject, 0)))
            expressivity = float(np.random.default_rng((self.seed, subject, 1)).uniform(0.7, 1.0))
            light = np.random.default_rng((self.seed, subject, 2)).uniform(-0.8, 0.8, 2)
            for number, emotion in enumerate(self._emotions(subject), start=1):
                key = f"synthetic/s{subject:02}/c{number:02}"
                frames, units = self._frames(subject, number, face, emotion, expressivity, light)
                fp = _fp(frames)
                t = frames.timeline
                clips.append(Clip(key, "synthetic", f"synthetic/s{subject:02}", fp, frames, fps=float(self.fps),
                    onset=t.onset, apex=t.apex, offset=t.offset))
                rows.append({"emotion": emotion, "action_units": units})
        return Dataset("synthetic", tuple(clips), pd.DataFrame(rows, index=[c.key for c in clips]), CLASSES,
            frozenset({FRAMES, ONSET, APEX, OFFSET, TRUE_FLOW, ACTION_UNIT_LABELS}), "made up by mernas; no person; free to use")

    def _emotions(self, subject):
        g = np.random.default_rng((self.seed, subject, 3))
        deck = [CLASSES[i % 3] for i in range(self.clips)]
        deck = [str(g.choice(CLASSES)) if g.random() < 0.4 else c for c in deck]
        return [deck[i] for i in g.permutation(len(deck))]

    def _frames(self, subject, number, face, emotion, expressivity, light):
        g = np.random.default_rng((self.seed, subject, 4, number))
        strength = 2 * self.intensity * expressivity * g.uniform(LOW, 1.0)
        expr = EXPRESSIONS[emotion]
        lean = 0
        acts = {}
        def act(u, low, high):
            s = g.uniform(low, high)
            weak = s * g.uniform(0.5, 1)
            l, r = (s, weak) if g.random() < .5 else (weak, s)
            acts[u] = Activity(float(l), float(r))
        for u in expr.always: act(u, .7, 1)
        for u, p in expr.sometimes.items():
            if g.random() < p: act(u, .4, 1)
        if g.random() < STRAY:
            others = [u for e in CLASSES if e != emotion for u in EXPRESSIONS[e].always]
            act(str(g.choice([u for u in others if u not in acts])), SLOW, SHIGH)
        if g.random() < BLINK: act("45", .3, .9)
        resting = {u: Activity(*(float(v) for v in g.normal(0, 1, 2)*.5 + g.normal(0,1))) for u in ACTION_UNITS}
        rest = scaled(field_of(face, resting), RESTING * 2 * self.intensity) if RESTING else ()
        fr = SyntheticFrames(face, (self.seed, subject, 5), rest, scaled(field_of(face, acts), strength),
            draw_timeline(g, self.fps), draw_head(g, 2*self.head_motion),
            tuple(float(v) for v in light + g.uniform(-.25,.25,2)),
            (draw_swing(g, self.light_drift), draw_swing(g, self.light_drift)),
            self.noise, (self.seed, subject, 6, number), self.size, float(self.fps))
        return fr, "+".join(sorted(acts, key=int))


def _fp(frames):
    return content_hash([frame.tobytes() for frame in frames])
