"""Preparation: the deterministic work per clip, done once per (clip content, recipe, component versions) and kept.

A recipe is the part of a stream that looks at one clip at a time: its pre-processing steps and its input. Its maps
lie in `CACHE/<recipe>/<collection>.npy`, one row per distinct clip content in the order of the fingerprints, beside the
list of those fingerprints. Nothing in the cache tells a name, a path or a label. A second run computes nothing; a
collection that shares clips with an earlier one computes only what is new. What is finished when somebody stops the
work is a collection too.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import platformdirs
from numpy.typing import NDArray

from mernas.components.contracts import Input, Preprocessing
from mernas.components.datasets.clip import Clip, content_hash
from mernas.evaluation.whole_file import write_whole
from mernas.space.errors import DataError, Problem, raise_all
from mernas.space.genotype import Genotype, Leaf, instantiate

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Recipe:
    """What is done to one clip.

    Attributes:
        input: The input leaf.
        preprocessing: The pre-processing leaves, first to last.
    """

    input: Leaf
    preprocessing: tuple[Leaf, ...] = ()

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits over names, versions and values."""
        return content_hash([leaf.key().encode() for leaf in (*self.preprocessing, self.input)])

    @property
    def title(self) -> str:
        """How progress and messages name it."""
        return " > ".join(leaf.name for leaf in (*self.preprocessing, self.input))


def recipe_of(stream: Leaf) -> Recipe:
    """Return the recipe of a stream."""
    return Recipe(stream["input"], tuple(stream["preprocessing"]))


def recipes_of(genotypes: Iterable[Genotype]) -> tuple[Recipe, ...]:
    """Return the distinct recipes of some genotypes, in the order of their first use."""
    return tuple(dict.fromkeys(recipe_of(stream) for genotype in genotypes for stream in genotype.streams))


def default_cache() -> Path:
    """Return the folder of prepared maps: `$MERNAS_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("MERNAS_CACHE") or platformdirs.user_cache_dir("mernas")) / "prepared"


def prepare(
    clips: Sequence[Clip],
    recipe: Recipe,
    cache: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return the maps of some clips, computing only what no earlier run has computed.

    Args:
        clips: The clips.
        recipe: What is done to each.
        cache: The folder to keep maps in; `default_cache()` if None.
        workers: How many threads compute.
        progress: Called with (done, of how many) as maps are computed; not called if nothing is. Whatever it raises
            ends the work: clips under way are finished, the others are not begun, and what is finished is kept.

    Returns:
        An array (N, C, H, W), in the order of the clips.

    Raises:
        DataError: If a clip cannot be prepared, or its map is not finite; all such clips at once.
    """
    folder = (cache or default_cache()) / recipe.hash
    fingerprints = sorted({clip.fingerprint for clip in clips})
    collection = _collection(fingerprints)
    shape = instantiate(recipe.input).shape
    maps = _stored(folder, collection, shape)
    if maps is None:
        maps = _compute(clips, fingerprints, recipe, folder, workers, progress)
        _store(folder, collection, fingerprints, maps)
        maps = _stored(folder, collection, shape)
        if maps is None:
            raise DataError(Problem(str(folder), "prepared maps cannot be read back", "", "free some disk space"))
    places = {fingerprint: place for place, fingerprint in enumerate(fingerprints)}
    return maps[[places[clip.fingerprint] for clip in clips]]


def _collection(fingerprints: Sequence[str]) -> str:
    """What the maps of some clips are called in the cache."""
    return content_hash([fingerprint.encode() for fingerprint in fingerprints])


def _stored(folder: Path, collection: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """The maps of a collection, mapped from disk, or None if they are absent or not whole."""
    fingerprints = _listed(folder, collection)
    if fingerprints is None:
        return None
    try:
        maps: NDArray[np.float32] = np.load(folder / f"{collection}.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return maps if maps.shape == (len(fingerprints), *shape) and maps.dtype == np.float32 else None


def _listed(folder: Path, collection: str) -> list[str] | None:
    """The fingerprints of a collection, or None if its index is absent, not whole or that of another collection."""
    try:
        found = json.loads((folder / f"{collection}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, list) or not all(isinstance(fingerprint, str) for fingerprint in found):
        return None
    return found if _collection(found) == collection else None


def _compute(
    clips: Sequence[Clip],
    fingerprints: Sequence[str],
    recipe: Recipe,
    folder: Path,
    workers: int,
    progress: Progress | None,
) -> NDArray[np.float32]:
    shape = instantiate(recipe.input).shape
    known = _known_rows(folder, set(fingerprints), shape)
    by_content = {clip.fingerprint: clip for clip in clips}
    missing = {fingerprint: by_content[fingerprint] for fingerprint in fingerprints if fingerprint not in known}

    maps = np.empty((len(fingerprints), *shape), dtype=np.float32)
    places = {fingerprint: place for place, fingerprint in enumerate(fingerprints)}
    for fingerprint, row in known.items():
        maps[places[fingerprint]] = row
    problems: dict[str, Problem] = {}
    finished: list[str] = []
    try:
        with contextlib.closing(_as_made(_preparer(recipe), missing, workers)) as made:
            for done, (fingerprint, result) in enumerate(made, start=1):
                if isinstance(result, Problem):
                    problems[fingerprint] = result
                else:
                    maps[places[fingerprint]] = result
                    finished.append(fingerprint)
                if progress is not None:
                    progress(done, len(missing))
    except BaseException:  # whoever stops it loses nothing that is finished
        if finished:
            finished.sort()
            with contextlib.suppress(DataError):  # a full disk must not hide why the work has ended
                _store(folder, _collection(finished), finished, maps[[places[one] for one in finished]])
        raise
    if problems:
        raise DataError([problems[fingerprint] for fingerprint in missing if fingerprint in problems])
    return maps


def _as_made(
    prepared: Callable[[Clip], NDArray[np.float32] | Problem], clips: Mapping[str, Clip], workers: int
) -> Generator[tuple[str, NDArray[np.float32] | Problem], None, None]:
    """The maps of some clips as they are finished; when it is closed, the clips that are not begun never will be."""
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        try:
            waiting = {pool.submit(prepared, clip): fingerprint for fingerprint, clip in clips.items()}
            for future in as_completed(waiting):
                yield waiting.pop(future), future.result()  # taken out, so that nothing is held twice
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def prepare_now(clips: Sequence[Clip], recipe: Recipe) -> NDArray[np.float32]:
    """Return the maps (N, C, H, W) of some clips without any cache.

    Raises:
        DataError: If a clip lacks what the recipe needs, or its map is not finite; all such clips at once.
    """
    prepared = _preparer(recipe)
    maps = np.empty((len(clips), *instantiate(recipe.input).shape), dtype=np.float32)
    problems: list[Problem | str] = []
    for place, clip in enumerate(clips):
        result = prepared(clip)
        if isinstance(result, Problem):
            problems.append(result)
        else:
            maps[place] = result
    raise_all(DataError, problems)
    return maps


def _preparer(recipe: Recipe) -> Callable[[Clip], NDArray[np.float32] | Problem]:
    """What makes the map of one clip, or says why it cannot."""
    component: Input = instantiate(recipe.input)
    steps: list[Preprocessing] = [instantiate(leaf) for leaf in recipe.preprocessing]

    def prepared(clip: Clip) -> NDArray[np.float32] | Problem:
        try:
            for step in steps:
                clip = step.apply(clip)
            result = np.ascontiguousarray(component.prepare(clip), dtype=np.float32)
        except (ValueError, OSError, IndexError, cv2.error) as error:
            return Problem(clip.key, f"cannot be prepared by {recipe.title}", str(error), "check the clip")
        if result.shape != component.shape or not np.isfinite(result).all():
            rule = f"must give finite maps of shape {component.shape}"
            return Problem(f"{recipe.title} of {clip.key}", rule, str(result.shape))
        return result

    return prepared


def _known_rows(folder: Path, wanted: set[str], shape: tuple[int, ...]) -> dict[str, NDArray[np.float32]]:
    """Rows that earlier collections of the same recipe hold already."""
    rows: dict[str, NDArray[np.float32]] = {}
    for index in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        maps = _stored(folder, index.stem, shape)
        if maps is not None:
            for place, fingerprint in enumerate(_listed(folder, index.stem) or ()):
                if fingerprint in wanted:
                    rows.setdefault(fingerprint, maps[place])
    return rows


def _store(folder: Path, collection: str, fingerprints: Sequence[str], maps: NDArray[np.float32]) -> None:
    """Write maps and index whole or not at all; the index comes last, because it is what makes them known."""
    try:
        write_whole(folder / f"{collection}.npy", lambda file: np.save(file, maps))
        write_whole(folder / f"{collection}.json", lambda file: file.write(json.dumps(list(fingerprints)).encode()))
    except OSError as error:
        remedy = "set MERNAS_CACHE to a folder that can be written"
        raise DataError(Problem(f"cache {folder}", "cannot be written", error.strerror or str(error), remedy)) from None
