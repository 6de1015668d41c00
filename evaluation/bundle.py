"""Bundles: a trained model as a folder that can be copied, published and opened again years later.

`bundle.json` is the manifest: what the model is, where it comes from, and size and SHA-256 of every other file. Reading
is safe: the manifest is JSON, the weights are safetensors, the network is built from registered components, and
nothing that is read can run code. A folder that is foreign, damaged, incomplete or newer than this mernas is refused
in one message.

`README.md` is the one file that may be edited, because a hub's website invites to it; `Bundle.edited` says so.
`.gitattributes` keeps Git from changing line ends, and is not sealed, because hubs keep rules of their own in it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import mernas.components  # noqa: F401  # registers every component
from mernas.components.contracts import Input
from mernas.evaluation.bundle_fields import field_problems, is_digest, is_whole, shown
from mernas.evaluation.bundle_files import ATTRIBUTES, BYTES_ARE_BYTES, CARD, MANIFEST, PIPELINE, WEIGHTS
from mernas.evaluation.jobs import ENGINE_VERSION
from mernas.evaluation.preparation import Recipe, recipe_of
from mernas.evaluation.whole_file import write_whole
from mernas.space.errors import DataError, MernasError, Problem, raise_all
from mernas.space.genotype import Genotype, from_complete, instantiate

BUNDLE_FORMAT = 1

LARGEST = 16 << 20
"""Bytes; a larger manifest is not read. Those that mernas writes have some thousand."""

VERSION = metadata.version("mernas")

REWRITTEN = "copy or export the model again"


@dataclass(frozen=True)
class FrameSizes:
    """Sizes of the frames that a model was trained on, in pixels.

    Attributes:
        height: Smallest, median and largest.
        width: Smallest, median and largest.
    """

    height: tuple[int, int, int]
    width: tuple[int, int, int]


@dataclass(frozen=True)
class TrainingData:
    """What a model was trained on.

    Attributes:
        name: As reports call it.
        content: Fingerprint of the clips.
        labels: Fingerprint of which clip bears which label.
        clips, subjects: How many.
        licence: Where the data come from and under which terms.
    """

    name: str
    content: str
    labels: str
    clips: int
    subjects: int
    licence: str


@dataclass(frozen=True)
class RuleEstimate:
    """What the search with its rule attains on new subjects; it is no score of the one model that is shipped.

    Attributes:
        protocol: How it was made, `nested-loso`.
        uf1: Macro F1 of the pooled outer predictions.
        low, high: Its 95% interval over subjects.
        uar: Macro recall of the same predictions.
    """

    protocol: str
    uf1: float
    low: float
    high: float
    uar: float


@dataclass(frozen=True)
class Seal:
    """What a file must be.

    Attributes:
        sha256: Hexadecimal digits.
        size: Bytes.
    """

    sha256: str
    size: int


@dataclass(frozen=True, eq=False)
class Bundle:
    """The manifest of a model.

    Attributes:
        genotype: The pipeline.
        classes: Class names in the order of their numbers.
        facts: What every clip of the training data had (`mernas.space.taxonomy`).
        parameters: How many the network has.
        data: What it was trained on.
        rule: The pick rule that chose it.
        estimate: What that rule attains on new subjects.
        plan: Hash of the search's plan.
        seed: The run's seed.
        temperature: Divides the logits; fitted on predictions of models that had not seen the clips.
        threshold: Below this largest probability the model is not confident.
        coverage: The share of new clips that the threshold was chosen to leave confident.
        frames: Frame sizes in the training data, or None where it ships maps instead.
        unavailable: Why a file that could be here is not, by file name.
        mernas, engine: Versions that made it.
        files: Seal of every other file.
        folder: Where it was read; None before it is written.
        edited: Files that were edited since, which only the model card may be.
    """

    genotype: Genotype
    classes: tuple[str, ...]
    facts: frozenset[str]
    parameters: int
    data: TrainingData
    rule: str
    estimate: RuleEstimate
    plan: str
    seed: int
    temperature: float = 1.0
    threshold: float = 0.0
    coverage: float = 1.0
    frames: FrameSizes | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)
    mernas: str = VERSION
    engine: int = ENGINE_VERSION
    files: Mapping[str, Seal] = field(default_factory=dict)
    folder: Path | None = None
    edited: tuple[str, ...] = ()

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """How the clips become maps, one recipe per stream of the network."""
        return tuple(recipe_of(stream) for stream in self.genotype.streams)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The input component of every stream: channel names and shapes (C, H, W) of the maps."""
        return tuple(instantiate(stream["input"]) for stream in self.genotype.streams)

    def to_plain(self) -> dict[str, Any]:
        """Return the plain data of bundle.json, with the seal over all of it."""
        frames = self.frames
        content: dict[str, Any] = {
            "format": BUNDLE_FORMAT,
            "mernas": self.mernas,
            "engine": self.engine,
            "genotype": {"hash": self.genotype.hash, "complete": self.genotype.complete()},
            "streams": [
                {
                    "recipe": recipe.hash,
                    "input": recipe.input.complete(),
                    "preprocessing": [leaf.complete() for leaf in recipe.preprocessing],
                    "channels": list(component.channels),
                    "shape": list(component.shape),
                }
                for recipe, component in zip(self.recipes, self.inputs, strict=True)
            ],
            "classes": list(self.classes),
            "facts": sorted(self.facts),
            "parameters": self.parameters,
            "temperature": self.temperature,
            "abstention": {"threshold": self.threshold, "coverage": self.coverage},
            "frames": None if frames is None else {"height": list(frames.height), "width": list(frames.width)},
            "data": vars(self.data),
            "rule": self.rule,
            "estimate": vars(self.estimate),
            "plan": self.plan,
            "seed": self.seed,
            "unavailable": dict(sorted(self.unavailable.items())),
            "files": {name: vars(seal) for name, seal in sorted(self.files.items())},
        }
        return {**content, "seal": _seal_of(content)}


def write_bundle(folder: Path, bundle: Bundle, files: Mapping[str, bytes]) -> Bundle:
    """Write the files of a bundle and, last, its manifest.

    Args:
        folder: Where to; made if need be. Files of a bundle that it holds already are kept and stay in the manifest.
        bundle: The manifest.
        files: Contents by file name; model.safetensors and genotype.yaml must be among these or there already.

    Returns:
        The manifest as it was written, with the seals of all files.

    Raises:
        OSError: If a file cannot be written.
    """
    if not (folder / ATTRIBUTES).exists():
        write_whole(folder / ATTRIBUTES, lambda file: file.write(BYTES_ARE_BYTES))
    seals = {**bundle.files, **{name: seal(content) for name, content in files.items()}}
    for name, content in files.items():
        write_whole(folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]  # the default binds the loop's value, and mypy cannot infer its type
    written = replace(bundle, files=dict(sorted(seals.items())), folder=folder)
    text = json.dumps(written.to_plain(), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / MANIFEST, lambda file: file.write(f"{text}\n".encode()))
    return written


def read_bundle(folder: Path | str) -> Bundle:
    """Return the manifest of a bundle whose files are all there and as they were written.

    Args:
        folder: The folder that `mernas export` wrote, or a copy of it; other files in it are left alone.

    Raises:
        DataError: If it is no bundle, one of a newer format, or not as it was written; with everything that is wrong.

    Example:
        >>> read_bundle("no-such-folder")
        Traceback (most recent call last):
        mernas.space.errors.DataError: model no-such-folder: must be a folder that `mernas export` wrote, found \
nothing of that name. Check the path.
    """
    folder = Path(folder).expanduser()
    subject = f"model {folder}"
    plain = _manifest(folder)
    try:
        seals, problems = _seals(plain.get("files"), subject)
        edited = _check_files(folder, seals, problems)
        problems += field_problems(plain, subject, MANIFEST, REWRITTEN)
        genotype = _genotype(plain, subject, problems)
        raise_all(DataError, problems)
        assert genotype is not None  # for the type checker; without one there is a problem  # noqa: S101
        bundle = replace(_parsed(plain, genotype), files=seals, folder=folder, edited=edited)
        if json.loads(json.dumps(bundle.to_plain()["streams"])) != plain["streams"]:
            rule = "its streams must be those of its pipeline"
            raise DataError(Problem(subject, rule, "", f"install mernas {bundle.mernas}"))
        return bundle
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        if isinstance(error, MernasError):
            raise
        found = f"{type(error).__name__}: {error}"
        raise DataError(Problem(subject, f"{MANIFEST} must be as mernas writes it", found, REWRITTEN)) from None


def seal(content: bytes) -> Seal:
    """Return the seal of a file's content.

    Example:
        >>> seal(b"abc").sha256[:8], seal(b"abc").size
        ('ba7816bf', 3)
    """
    return Seal(hashlib.sha256(content).hexdigest(), len(content))


def _seal_of(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _manifest(folder: Path) -> dict[str, Any]:
    """The plain data of a manifest that this mernas can read and that nobody has changed."""
    subject = f"model {folder}"
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing of that name"
        raise DataError(Problem(subject, "must be a folder that `mernas export` wrote", found, "check the path"))
    try:
        with (folder / MANIFEST).open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            rule = f"{MANIFEST} must have at most {LARGEST >> 20} MiB"
            raise DataError(Problem(subject, rule, "more", "give a folder that `mernas export` wrote"))
        plain = json.loads(content.decode(), parse_constant=_no_number)
    except FileNotFoundError:
        run = (folder / "plan.yaml").exists()
        remedy = f"export a model from it: mernas export {folder} --out DIR" if run else "check the path"
        holds = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "an empty folder"
        found = "a run directory" if run else holds
        raise DataError(Problem(subject, f"is no model of mernas: it has no {MANIFEST}", found, remedy)) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(Problem(subject, f"{MANIFEST} cannot be read", reason, "check permissions")) from None
    except (ValueError, RecursionError) as error:  # no JSON, or no UTF-8
        if isinstance(error, MernasError):
            raise
        raise DataError(Problem(subject, f"{MANIFEST} is damaged", "no JSON", REWRITTEN)) from None
    number = plain.get("format") if isinstance(plain, dict) else None
    if not isinstance(number, int) or not is_whole(number, 1) or "genotype" not in plain:
        rule = f"{MANIFEST} was not written by mernas"
        raise DataError(Problem(subject, rule, "", "give a folder that `mernas export` wrote"))
    if number > BUNDLE_FORMAT:
        rule = f"must be of a format that mernas {VERSION} can read, up to {BUNDLE_FORMAT}"
        remedy = f"install mernas {plain.get('mernas', '')} or newer".replace("  ", " ")
        raise DataError(Problem(subject, rule, f"format {number}", remedy))
    try:
        intact = plain.pop("seal", None) == _seal_of(plain)
    except (ValueError, RecursionError):  # what no manifest holds: infinite numbers, nests without end
        intact = False
    if not intact:
        raise DataError(Problem(subject, f"{MANIFEST} was changed after it was written", "", REWRITTEN))
    return dict(plain)


def _no_number(name: str) -> None:
    """Refuse NaN and the infinities, which JSON does not have and Python reads."""
    raise ValueError(name)


def _seals(files: Any, subject: str) -> tuple[dict[str, Seal], list[Problem | str]]:
    """The seals that a manifest states, and what is wrong with these."""
    seals: dict[str, Seal] = {}
    problems: list[Problem | str] = []
    for name, entry in (files if isinstance(files, dict) else {}).items():
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
            problems.append(Problem(subject, f"{MANIFEST} lists a file outside the folder", repr(name)))
        elif not isinstance(entry, dict) or not is_digest(entry.get("sha256")) or not is_whole(entry.get("size")):
            rule = f"{MANIFEST}, files, {name} must be a SHA-256 and a size"
            problems.append(Problem(subject, rule, shown(entry), REWRITTEN))
        else:
            seals[name] = Seal(entry["sha256"], entry["size"])
    problems += [
        Problem(subject, f"{MANIFEST} must list {name}", "", REWRITTEN)
        for name in (WEIGHTS, PIPELINE)
        if not isinstance(files, dict) or name not in files
    ]
    return seals, problems


def _check_files(folder: Path, seals: Mapping[str, Seal], problems: list[Problem | str]) -> tuple[str, ...]:
    """See that every file is there and as it was written; return those that were edited and may be."""
    edited = []
    for name, expected in seals.items():
        subject = f"model {folder}, {name}"
        try:
            size = (folder / name).stat().st_size
            same = size == expected.size and _sha256(folder / name) == expected.sha256
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            rule, found = ("is missing", "") if missing else ("cannot be read", error.strerror or str(error))
            problems.append(Problem(subject, rule, found, REWRITTEN))
            continue
        if not same and name == CARD:
            edited.append(name)
        elif not same:
            found = f"{size} bytes instead of {expected.size}" if size != expected.size else "another checksum"
            problems.append(Problem(subject, "is not the file that was exported", found, REWRITTEN))
    return tuple(edited)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _genotype(plain: Mapping[str, Any], subject: str, problems: list[Problem | str]) -> Genotype | None:
    """The pipeline that a manifest states; what is wrong with it is added to the problems."""
    stated = plain["genotype"]
    if not isinstance(stated, dict) or "complete" not in stated:
        problems.append(Problem(subject, f"{MANIFEST}, genotype must be a pipeline", shown(stated), REWRITTEN))
        return None
    try:
        genotype = from_complete(stated["complete"])
    except MernasError as error:  # a component that is unknown here, or of another version
        remedy = f"install mernas {plain.get('mernas')} and the packages whose components it names"
        problems += [
            Problem(subject, "needs components as they were", str(problem), remedy) for problem in error.problems
        ]
        return None
    if genotype.hash != stated.get("hash"):
        rule = "its pipeline must have the hash that the manifest states"
        problems.append(Problem(subject, rule, genotype.hash, f"install mernas {plain.get('mernas')}"))
    elif not genotype.is_network:
        problems.append(Problem(subject, "its pipeline must be a network", genotype.root.name, REWRITTEN))
    return genotype


def _parsed(plain: Mapping[str, Any], genotype: Genotype) -> Bundle:
    """The manifest of plain data in which `field_problems` has found nothing."""
    sizes, data, estimate = plain["frames"], plain["data"], plain["estimate"]
    return Bundle(
        genotype=genotype,
        classes=tuple(plain["classes"]),
        facts=frozenset(plain["facts"]),
        parameters=plain["parameters"],
        data=TrainingData(**{name: data[name] for name in TrainingData.__dataclass_fields__}),
        rule=plain["rule"],
        estimate=RuleEstimate(**{name: estimate[name] for name in RuleEstimate.__dataclass_fields__}),
        plan=plain["plan"],
        seed=plain["seed"],
        temperature=float(plain["temperature"]),
        threshold=float(plain["abstention"]["threshold"]),
        coverage=float(plain["abstention"]["coverage"]),
        frames=None if sizes is None else FrameSizes(_three(sizes["height"]), _three(sizes["width"])),
        unavailable=dict(plain["unavailable"]),
        mernas=plain["mernas"],
        engine=plain["engine"],
    )


def _three(values: list[int]) -> tuple[int, int, int]:
    smallest, median, largest = values
    return smallest, median, largest
