"""The model card: what a shipped model is, where it comes from, how good its search is, and what it is not fit for.

It is the README.md of a bundle, in the form that the Hugging Face hub reads. Its front matter has no `model-index`:
there a figure would stand as this model's own score, and the estimate belongs to the search and its rule.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mernas.evaluation.bundle import Bundle
from mernas.evaluation.bundle_files import ENVIRONMENT, MANIFEST, ONNX, PIPELINE, PROGRAM
from mernas.evaluation.calibration import TEMPERATURES
from mernas.evaluation.footprint import Footprint, Latency
from mernas.evaluation.programs import BATCHES, input_names
from mernas.search.calibrating import Calibration
from mernas.search.card_scores import FEW, PartScore
from mernas.search.report.words import describe, say
from mernas.space.taxonomy import FRAMES
from mernas.space.yaml_text import dump_yaml

WIDTH = 110
"""Characters in a line of text."""

AT_BOUND = 1e-3
"""A temperature that is so near to a bound, relative to it, has stopped there."""

TAGS = ("micro-expression-recognition", "facial-expression", "neural-architecture-search", "pytorch", "safetensors")


@dataclass(frozen=True, eq=False)
class CardContent:
    """What a card is written from.

    Attributes:
        name: Name of the folder.
        bundle: The manifest.
        footprint: What the model costs.
        counts: Clips of each class in the training data.
        whole: Scores of all clips.
        datasets: Scores per dataset.
        groups: Scores per group, by column of the annotations.
        left_out: How many groups are left out, by column, because they are single persons or would tell of one.
        calibration: Of the rule's outer predictions; None if there are none.
        failed: Subjects without an outer prediction; their clips count as errors.
        differences: By file name, how far the exported programs' logits are from the network's.
        machine: One line on the machine that measured.
        environment: Text of environment.txt.
    """

    name: str
    bundle: Bundle
    footprint: Footprint
    counts: Sequence[int]
    whole: PartScore
    datasets: Sequence[PartScore]
    groups: Mapping[str, Sequence[PartScore]]
    left_out: Mapping[str, int]
    calibration: Calibration | None
    failed: int
    differences: Mapping[str, float]
    machine: str
    environment: str


def write_card(content: CardContent) -> str:
    """Return the text of the card, in Markdown with YAML front matter."""
    sections = (
        _front_matter(content),
        _introduction(content),
        _estimate(content),
        _parts(content),
        _calibration(content),
        _pipeline(content),
        _data(content),
        _use(content),
        _programs(content),
        _footprint(content),
        _limits(content),
        _provenance(content),
    )
    return "\n\n".join(paragraph for section in sections for paragraph in section) + "\n"


def _front_matter(content: CardContent) -> Iterator[str]:
    onnx = ("onnx",) if ONNX in content.bundle.files else ()
    plain = {
        # Weights are derived from the clips, so their terms are those of the data; the hub knows no name for that.
        "license": "other",
        "license_name": "terms-of-the-training-data",
        "library_name": "mernas",
        "tags": [*TAGS, *onnx],
        "metrics": ["f1", "recall", "accuracy"],
    }
    yield f"---\n{dump_yaml(plain)}---"


def _introduction(content: CardContent) -> Iterator[str]:
    bundle = content.bundle
    yield f"# {content.name}"
    yield _text(
        f"A micro-expression recognition model of {bundle.parameters:,} parameters. It tells apart",
        f"{', '.join(bundle.classes)} in a clip of a face that shows a micro-expression, an involuntary movement of",
        "a fraction of a second. It does not find such moments in a longer recording.",
    )
    yield _text(f"In short: {describe(bundle.genotype).short}.")
    yield _text(
        f"It was found and trained by mernas {bundle.mernas}: the pick rule `{bundle.rule}` chose its pipeline by",
        "cross-validation on all subjects, and it was then trained on all of them.",
    )


def _estimate(content: CardContent) -> Iterator[str]:
    estimate, whole, rule = content.bundle.estimate, content.whole, content.bundle.rule
    yield "## How good it is"
    yield _text(
        f"**What this search with the rule `{rule}` attains on new subjects: UF1 {_score(estimate.uf1)}, 95%",
        f"interval {_score(estimate.low)} to {_score(estimate.high)}; UAR {_score(estimate.uar)}.**",
    )
    yield _text(
        "That is the estimate of the *rule*, by nested leave-one-subject-out: the whole search was repeated with",
        "groups of subjects sealed away, the rule was applied in each of these searches, and what it chose was",
        "trained on all subjects but one and tested on that one. It is not the score of this one model: nobody is",
        "left on whom that could be measured, because it was trained on everyone. UF1 is the mean of the classes' F1",
        f"and UAR that of their recall, both from the pooled predictions of {whole.subjects} subjects ({whole.clips}",
        "clips). The interval covers the choice of subjects; it covers neither the training seed nor another kind of",
        "recording.",
    )
    if content.failed:
        yield f"Subjects without a prediction, because their training failed: {content.failed}. Their clips are errors."


def _parts(content: CardContent) -> Iterator[str]:
    classes = content.bundle.classes
    yield "### Per class and dataset"
    yield _table(classes, "part", [content.whole, *(content.datasets if len(content.datasets) > 1 else ())])
    yield "### Per group of people"
    if not content.groups:
        yield _text(
            "The annotations of the training data do not tell people apart by sex, ethnicity or age, so nothing can",
            "be said of how the scores differ between such groups.",
        )
    for column, scores in content.groups.items():
        if scores:
            yield _table(classes, column, scores)
        if content.left_out[column]:
            yield _text(
                f"Groups by {column} that are not shown: {content.left_out[column]}. The figures of a group of one",
                "person are that person's own. Where everyone less the groups shown would be one person, the smallest",
                "other group is not shown either.",
            )
    every = [*content.datasets, *(one for scores in content.groups.values() for one in scores)]
    if any(one.few for one in every):
        yield f"\\* fewer than {FEW} subjects: these figures say little."
    if any(one.absent for one in every):
        yield _text(
            "A class of which a part has no clip is left blank, counts as F1 0 in the UF1 of that part, and leaves",
            "it without an interval.",
        )


def _table(classes: Sequence[str], title: str, scores: Sequence[PartScore]) -> str:
    heads = [title, "subjects", "clips", "UF1", "95% interval", "UAR", "accuracy", *(f"F1 {name}" for name in classes)]
    lines = [heads]
    for one in scores:
        span = "" if math.isnan(one.low) else f"{_score(one.low)} to {_score(one.high)}"
        each = ["" if number in one.absent else _score(value) for number, value in enumerate(one.f1)]
        subjects = f"{one.subjects} \\*" if one.few else str(one.subjects)
        figures = [str(one.clips), _score(one.uf1), span, _score(one.uar), _score(one.accuracy)]
        lines.append([one.part, subjects, *figures, *each])
    return _markdown_table(lines, "|---|" + "---:|" * (len(heads) - 1))


def _calibration(content: CardContent) -> Iterator[str]:
    bundle, found = content.bundle, content.calibration
    yield "## Probabilities and abstention"
    if found is None:
        yield _text(
            "Every outer training failed, so nothing is known of how well the probabilities are calibrated: they are",
            "those of the network, and every prediction is called confident.",
        )
        return
    abstention = next(one for one in found.abstention if one.target == bundle.coverage)
    yield _text(
        f"Logits are divided by a temperature of {bundle.temperature:.3f}, which was fitted inside the search on",
        "clips that the models in question had not seen. On new subjects (the pooled outer predictions of the rule,",
        "tempered study by study in the same way) the expected calibration error is",
        f"{_score(found.error_after)}, {_score(found.error_before)} without temperature; the mean negative log",
        f"likelihood is {found.loss_after:.3f}, {found.loss_before:.3f} without.",
    )
    low, high = TEMPERATURES
    if math.isclose(bundle.temperature, low, rel_tol=AT_BOUND) or math.isclose(
        bundle.temperature, high, rel_tol=AT_BOUND
    ):
        told = (
            "told apart almost without an error, and the probabilities on new subjects may be far too sure"
            if bundle.temperature < 1
            else "told apart no better than by chance, and the probabilities say next to nothing"
        )
        yield _text(
            f"**This temperature lies at a bound of the range in which it is sought, {low:g} to {high:g}:** those",
            f"clips were {told}.",
        )
    yield _text(
        f"A prediction is called confident if its largest probability reaches {bundle.threshold:.3f}. The threshold",
        f"was chosen inside the search to leave {bundle.coverage:.0%} of the clips confident; on new subjects",
        f"thresholds chosen in this way left {abstention.coverage:.0%} confident, with accuracy",
        f"{_score(abstention.accuracy)} and UF1 {_score(abstention.uf1)} on these.",
    )


def _pipeline(content: CardContent) -> Iterator[str]:
    genotype = content.bundle.genotype
    yield "## The pipeline"
    yield "\n".join(f"- **{head}.** {text}" for head, text in describe(genotype).parts)
    yield f"As mernas writes it (`{PIPELINE}`; hash `{genotype.hash}`):"
    yield _block("yaml", genotype.to_yaml())


def _data(content: CardContent) -> Iterator[str]:
    bundle, data = content.bundle, content.bundle.data
    counts = ", ".join(f"{count} {name}" for count, name in zip(content.counts, bundle.classes, strict=True))
    yield "## Data and licence"
    yield _text(
        f"Trained on {data.name}: {data.clips} clips ({counts}) of {data.subjects} subjects. Licence of the data:",
        f"{data.licence}. No clip and no face is part of this folder. Weights are made from the clips: whoever",
        "passes them on must see to it that the licence of the data allows that.",
    )
    if bundle.frames is not None:
        yield _text(
            f"Its frames are {_range(bundle.frames.height)} pixels high and {_range(bundle.frames.width)} wide. Faces",
            "of other sizes, or framed in another way, are not what it has learnt from.",
        )
    yield f"Fingerprints: content `{data.content}`, labels `{data.labels}`."


def _use(content: CardContent) -> Iterator[str]:
    frames = FRAMES in content.bundle.facts
    source, named, options = (
        ("clip.mp4", ", onset=0, apex=12", " --onset 0 --apex 12") if frames else ("clip.png", "", "")
    )
    yield "## Use"
    yield _block(
        "python",
        f'import mernas\n\nmodel = mernas.load("{content.name}")\n'
        f'model.predict("{source}"{named})  # a pandas DataFrame, one row per clip',
    )
    yield _block("", f"mernas predict {content.name} {source}{options}")
    if frames:
        yield _text(
            "It takes a video or a folder of frames, and the numbers, counted from 0, of the frames in which the",
            "movement begins (onset) and is strongest (apex). What is assumed where they are not given is told.",
        )
    else:
        yield _text(
            "It was trained on flow images that a release ships instead of frames, so it takes such images: optical",
            "flow and strain between onset and apex, made as that release made them. It cannot take a video.",
        )
    yield "Loading checks every file but this card, and runs no code that is read."


def _programs(content: CardContent) -> Iterator[str]:
    bundle = content.bundle
    names, scale = input_names(len(bundle.inputs)), repr(bundle.temperature)
    yield "## Without mernas"
    lines = []
    for name in (PROGRAM, ONNX):
        if name in bundle.files:
            batches = ", ".join(map(str, BATCHES))
            most = content.differences[name]
            exactly = f"to {most:.1g}" if most else "exactly"
            said = f"its logits agree with the network's {exactly} (random maps in batches of {batches})"
        else:
            said = bundle.unavailable.get(name, "was not asked for").rstrip(".")
        lines.append(f"- `{name}`: {said}.")
    yield "\n".join(lines)
    yield "Such a program takes one float32 array per stream, with any number of clips first:"
    rows = [["input", "shape", "channels", "what it holds"]]
    for name, component, recipe in zip(names, bundle.inputs, bundle.recipes, strict=True):
        steps = "; ".join(say(leaf).phrase for leaf in (*recipe.preprocessing, recipe.input))
        shape = ", ".join(map(str, component.shape))
        rows.append([f"`{name}`", f"(clips, {shape})", ", ".join(component.channels), steps])
    yield _markdown_table(rows, "|---|---|---|---|")
    yield _text(
        "in the units in which mernas prepares them: `mernas.load(…).prepare(clips)` gives exactly these arrays.",
        "Scaling by the statistics of the training clips is part of the program and must not be done before. It",
        f"gives logits (clips, {len(bundle.classes)}) in the order {', '.join(bundle.classes)}; the probabilities",
        f"are `softmax(logits / {scale})`.",
    )
    if ONNX in bundle.files:
        given = ", ".join(f'"{name}": {name}' for name in names)
        yield _block(
            "python",
            f'import numpy as np, onnxruntime\n\nsession = onnxruntime.InferenceSession("{ONNX}")\n'
            f'(logits,) = session.run(["logits"], {{{given}}})\n'
            f"scores = np.exp((logits - logits.max(axis=1, keepdims=True)) / {scale})\n"
            "probabilities = scores / scores.sum(axis=1, keepdims=True)",
        )


def _footprint(content: CardContent) -> Iterator[str]:
    found = content.footprint
    yield "## What it costs"
    yield f"Measured at export, on one thread of: {content.machine}."
    sizes = [[f"`{name}`", f"{size:,} bytes"] for name, size in found.files.items() if name.startswith("model.")]
    yield _markdown_table(
        [
            ["", ""],
            ["parameters", f"{found.parameters:,}"],
            *sizes,
            ["operations for one clip", f"{found.flops:,}"],
            ["time of the network alone, one clip", _latency(found.network)],
            ["time from a clip in memory to probabilities", _latency(found.whole)],
            ["largest memory of a process that loads it and predicts", _bytes(found.memory)],
            ["the same of a process that only imports PyTorch", _bytes(found.memory_of_torch)],
        ],
        "|---|---:|",
    )
    yield _text(
        "Operations are those of convolutions and matrix products, a multiplication and an addition counted as two;",
        "activations, norms, pooling and the preparation of the maps are not counted. Times are medians and, in",
        f"brackets, 95th percentiles of {found.network.repetitions} repetitions after a warm-up.",
    )


def _limits(content: CardContent) -> Iterator[str]:
    data = content.bundle.data
    yield "## Limits, and uses that it is not fit for"
    yield "\n".join(
        (
            _item(
                f"It has learnt from {data.subjects} people of {data.name}. Scores need not carry over to other",
                "people, cameras, light, cultures or situations, and may be worse for those whom the data do not",
                "show.",
            ),
            _item(
                "What a face shows is not what a person feels, thinks or intends. The classes are labels that coders",
                "or experimenters gave to elicited movements.",
            ),
            _item("It takes every clip for a micro-expression and always answers; low confidence is its only doubt."),
            _item(
                "Space, presets and defaults of the search were designed by people who know the field's benchmarks,",
                "and no cross-validation undoes that.",
            ),
            _item(
                "**Not fit for surveillance, lie detection, hiring**, or any other decision about a person: it is",
                "far too often wrong, it need not err alike for all people, and its classes do not say what such",
                "uses want to know.",
            ),
        )
    )


def _provenance(content: CardContent) -> Iterator[str]:
    bundle = content.bundle
    yield "## Where it comes from"
    yield _text(
        f"Plan `{bundle.plan}`, seed {bundle.seed}, rule `{bundle.rule}`, mernas {bundle.mernas} (engine",
        f"{bundle.engine}). `{MANIFEST}` holds all of this and the checksum of every file, `{ENVIRONMENT}` the",
        "versions:",
    )
    yield _block("", content.environment)


def _range(sizes: tuple[int, int, int]) -> str:
    smallest, median, largest = sizes
    return str(median) if smallest == largest else f"{smallest} to {largest} (median {median})"


def _text(*parts: str) -> str:
    """One paragraph."""
    return textwrap.fill(" ".join(parts), WIDTH, break_long_words=False, break_on_hyphens=False)


def _item(*parts: str) -> str:
    """One entry of a list."""
    return textwrap.fill(
        " ".join(parts),
        WIDTH,
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _markdown_table(rows: Sequence[Sequence[str]], rule: str) -> str:
    """A table whose first row is its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], rule, *lines[1:]])


def _score(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.3f}"


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return "not measured: no clip was at hand"
    return f"{1000 * latency.median:.2f} ms ({1000 * latency.p95:.2f} ms)"


def _bytes(count: int | None) -> str:
    return "this system does not say" if count is None else f"{count / 2**20:,.0f} MiB"
