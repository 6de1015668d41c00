"""Prediction on recordings, as `mernas predict` shows it. Imports neither Ray nor Optuna, so that it starts quickly."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from mernas.components.datasets.recording import printable
from mernas.evaluation.bundle import Bundle
from mernas.evaluation.model import load_model
from mernas.evaluation.whole_file import write_whole
from mernas.search.out_file import REMEDY, check_out_file, unwritable
from mernas.space.errors import PlanError, Problem


@dataclass(frozen=True)
class PredictedClip:
    """What a model says of one clip.

    Attributes:
        source: The recording, as it was given; for a folder of flow images, the image.
        prediction: The class of the largest probability.
        confident: Whether that probability reaches the model's threshold.
        probabilities: By class, in the order of the model's classes; they sum to 1.
        notes: What was assumed, e.g. which frame was taken as the apex.
    """

    source: str
    prediction: str
    confident: bool
    probabilities: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of some recordings.

    Attributes:
        model: The folder of the model.
        bundle: What the model is.
        clips: One entry per clip, in the order of the sources.
    """

    model: str
    bundle: Bundle
    clips: tuple[PredictedClip, ...]

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data for JSON."""
        return {
            "model": self.model,
            "genotype": self.bundle.genotype.hash,
            "classes": list(self.bundle.classes),
            "threshold": self.bundle.threshold,
            "predictions": [{**vars(clip), "notes": list(clip.notes)} for clip in self.clips],
        }

    def json(self) -> str:
        """Return everything as one line of JSON, without a line end."""
        return json.dumps(self.plain(), ensure_ascii=False, allow_nan=False)

    def csv(self) -> str:
        """Return a CSV table, one line per clip; reading a probability gives the same bits. Notes are not in it."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["source", "prediction", "confident", *(f"p_{name}" for name in self.bundle.classes)])
        for clip in self.clips:
            writer.writerow([clip.source, clip.prediction, clip.confident, *map(repr, clip.probabilities.values())])
        return text.getvalue()


def predict_sources(
    model: str | Path,
    sources: Sequence[str | Path],
    onset: int | None = None,
    apex: int | None = None,
    fps: float | None = None,
) -> Predictions:
    """Return what a model says of some recordings.

    Args:
        model: The folder that `mernas export` wrote.
        sources: Videos, folders of frames or flow images; see `mernas.evaluation.serving.clips_of`.
        onset: Number of the onset frame, counted from 0; for a single recording only.
        apex: Number of the apex frame, counted from 0; for a single recording only.
        fps: Frames per second of all recordings; it overrules what a video says of itself.

    Raises:
        MernasError: If the model cannot be opened or cannot serve a source; with every mistake in the sources.
    """
    opened = load_model(model)
    table = opened.predict(*sources, onset=onset, apex=apex, fps=fps)
    probabilities = table[[f"p_{name}" for name in opened.classes]].to_numpy(dtype=np.float64)
    clips = tuple(
        PredictedClip(
            source=str(row["source"]),
            prediction=str(row["prediction"]),
            confident=bool(row["confident"]),
            probabilities=dict(zip(opened.classes, map(float, scores), strict=True)),
            notes=tuple(row["notes"]),
        )
        for row, scores in zip(table.to_dict(orient="records"), probabilities, strict=True)
    )
    return Predictions(printable(model), opened.bundle, clips)


def predict_command(
    model: Path,
    sources: Sequence[str | Path],
    onset: int | None = None,
    apex: int | None = None,
    fps: float | None = None,
    as_csv: bool = False,
    as_json: bool = False,
    out: Path | None = None,
) -> None:
    """Predict and print a table for people; or CSV or JSON, or a file of these, with the notes on standard error.

    Args:
        model: The folder that `mernas export` wrote.
        sources: Videos, folders of frames or flow images.
        onset: Number of the onset frame, counted from 0.
        apex: Number of the apex frame, counted from 0.
        fps: Frames per second; it overrules what a video says of itself.
        as_csv: Print CSV.
        as_json: Print JSON.
        out: Write this file instead of printing: JSON if that is asked for or its name ends in `.json`, else CSV.

    Raises:
        MernasError: For every mistake of the user.
    """
    if as_csv and as_json:
        raise PlanError(Problem("--csv and --json", "exclude each other", "", "give one of them"))
    if out is not None:
        out = check_out_file(out, sources)
    predicted = predict_sources(model, sources, onset, apex, fps)
    for_people = not as_csv and not as_json and out is None
    if for_people:
        _print_table(predicted)
    for line in grouped_notes(predicted.clips):
        click.echo(line, err=not for_people)
    if for_people:
        click.echo("\n".join(_closing_lines(predicted.bundle)))
        return
    in_json = as_json or (not as_csv and out is not None and out.suffix.lower() == ".json")
    text = f"{predicted.json()}\n" if in_json else predicted.csv()
    if out is None:
        click.echo(text, nl=False)
    else:
        _write(out, text)


def grouped_notes(clips: Iterable[PredictedClip]) -> list[str]:
    """Return the notes for people, one line for all clips that share one.

    Example:
        >>> clip = PredictedClip("a.mp4", "surprise", True, {"surprise": 1.0}, ("onset: frame 0, the first",))
        >>> grouped_notes([clip])
        ['a.mp4: onset: frame 0, the first']
    """
    holders: dict[str, list[str]] = {}
    for clip in clips:
        for note in clip.notes:
            holders.setdefault(note, []).append(clip.source)
    return [
        f"{', '.join(sources[:3])}{f' and {len(sources) - 3} more' if len(sources) > 3 else ''}: {note}"
        for note, sources in holders.items()
    ]


def _closing_lines(bundle: Bundle) -> list[str]:
    """How confidence and probabilities are meant."""
    if bundle.threshold > 0:
        confident = (
            f"Confident: the largest probability is at least {bundle.threshold:.3f}, "
            f"as was to be so for {bundle.coverage:.0%} of new clips."
        )
    else:
        confident = "The model has no threshold: every prediction counts as confident."
    score = bundle.estimate
    return [
        confident,
        f"The search with the rule {bundle.rule} attains UF1 {score.uf1:.3f} ({score.low:.3f} to {score.high:.3f}) on "
        "new subjects of its data; the model card says what it is not fit for.",
    ]


def _print_table(predicted: Predictions) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("clip", overflow="fold")
    table.add_column("prediction", no_wrap=True)
    table.add_column("confident")
    for name in predicted.bundle.classes:
        table.add_column(name, justify="right", no_wrap=True)
    for clip in predicted.clips:
        figures = [f"{value:.3f}" for value in clip.probabilities.values()]
        # Text, not str: a path may hold square brackets, which rich would take for a style.
        table.add_row(Text(clip.source), clip.prediction, "yes" if clip.confident else "no", *figures)
    Console(width=None if sys.stdout.isatty() else 132).print(table)


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise unwritable(path, error, REMEDY) from None
