"""Dataset `flow-images`: the flow and strain images of the MEGC2019 composite, as released with STSTNet (section 2)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip, Dataset, content_hash
from mernas.space.errors import DataError, Problem, nearest, raise_all
from mernas.space.registry import register
from mernas.space.taxonomy import GIVEN_FLOW, GIVEN_STRAIN

CLASSES = ("negative", "positive", "surprise")
"""The classes in the order of their folders `0`, `1` and `2`."""

LICENCE = (
    "flow images released with the code of STSTNet (github.com/christy1206/STSTNet), derived from SMIC, CASME II and "
    "SAMM, whose licences apply"
)
PREFIXES = {r"sub[0-9]+": "casme2", r"s[0-9]+": "smic", r"[0-9]+": "samm"}
FOLDERS = "subject folders are called subNN (CASME II), sNN (SMIC) or NNN (SAMM)"


@dataclass(frozen=True)
class ShippedMap:
    """Some channels of a decoded image, as a map that is read when called.

    Attributes:
        image: (H, W, 3) u, v and strain as the release has them.
        channels: One channel for a map (H, W), several for (C, H, W).

    Example:
        >>> ShippedMap(np.zeros((28, 28, 3), np.uint8), (0, 1))().shape
        (2, 28, 28)
    """

    image: NDArray[np.uint8]
    channels: tuple[int, ...]

    def __call__(self) -> NDArray[np.float32]:
        """Return a new array of the release's values, 0 to 255."""
        maps = np.ascontiguousarray(self.image[:, :, self.channels].transpose(2, 0, 1), dtype=np.float32)
        return maps[0] if len(self.channels) == 1 else maps


@register("dataset", "flow-images", section="2", source="Liong et al., STSTNet, FG 2019, released with the code")
@dataclass(frozen=True)
class FlowImages:
    """Optical flow and strain between onset and apex as images: u, v and strain in red, green and blue.

    The folders are `<subject>/u_test/<label>/<clip>.png` with label 0 (negative), 1 (positive) or 2 (surprise) and,
    in the release, a space before `.png`. Its `u_train` folders repeat every clip once per other subject and are
    ignored, as are hidden files.

    The images are not true flow: each channel of each image was stretched to 0..255 by itself. The amplitude is lost,
    and so is the zero: no grey value stands for "nothing moved", and it differs from image to image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     image = Path(folder, "sub01", "u_test", "2", "sub01_EP02_01f .png")
        ...     image.parent.mkdir(parents=True)
        ...     _ = cv2.imwrite(str(image), np.zeros((28, 28, 3), np.uint8))
        ...     data = FlowImages().load(Path(folder))
        >>> data.clips[0].key, data.annotations["emotion"].iloc[0]
        ('casme2/sub01/sub01_EP02_01f', 'surprise')
    """

    def load(self, path: Path) -> Dataset:
        """Return the clips below `path`, decoded into memory.

        Args:
            path: The folder that holds the subject folders, `norm_u_v_os` in the release.

        Raises:
            DataError: With every mistake: the path is no such folder; a folder that is no subject or no label, a
                subject without images, an image that cannot be read or differs from the others in size, channels or
                depth, a file that is no PNG image, a clip that occurs twice.
        """
        root = Path(path)
        problems: list[Problem | str] = []
        files: dict[str, tuple[Path, int]] = {}
        images: dict[str, NDArray[np.uint8]] = {}
        for folder in _subject_folders(root):
            _list_subject(root, folder, files, problems)
        for key, (file, _) in files.items():
            image = _decode(root, file, problems)
            if image is not None:
                images[key] = image
        if images:
            usual, _ = Counter(image.shape for image in images.values()).most_common(1)[0]
            rule = f"images must be of one size, {usual[1]} x {usual[0]} like most"
            remedy = "resize nothing by hand: restore the released image"
            problems += [
                Problem(_name(root, files[key][0]), rule, f"{image.shape[1]} x {image.shape[0]}", remedy)
                for key, image in images.items()
                if image.shape != usual
            ]
        raise_all(DataError, problems)
        keys = sorted(images)
        return Dataset(
            name="flow-images",
            clips=tuple(_clip(key, images[key]) for key in keys),
            annotations=pd.DataFrame(
                {"emotion": [CLASSES[files[key][1]] for key in keys], "dataset": [key.split("/")[0] for key in keys]},
                index=pd.Index(keys, name="clip"),
            ),
            classes=CLASSES,
            provides=frozenset({GIVEN_FLOW, GIVEN_STRAIN}),
            licence=LICENCE,
        )


def _clip(key: str, image: NDArray[np.uint8]) -> Clip:
    dataset, subject, _ = key.split("/")
    return Clip(
        key=key,
        dataset=dataset,
        subject=f"{dataset}/{subject}",
        fingerprint=content_hash([str(image.shape).encode(), image.tobytes()]),
        given={"flow": ShippedMap(image, (0, 1)), "strain": ShippedMap(image, (2,))},
    )


def _name(root: Path, file: Path) -> str:
    """How messages name a file: relative to the root, quoted because of the spaces."""
    return f'"{file.relative_to(root).as_posix()}"'


def _listed(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden files."""
    try:
        return sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError as error:
        rule = "cannot be listed"
        raise DataError(Problem(f'"{folder}"', rule, error.strerror or str(error), "check permissions")) from error


def _subject_folders(root: Path) -> list[Path]:
    """Every folder below the root, if at least one of them is that of a subject."""
    subject = f'"{root}"'
    try:
        root.stat()
    except OSError as error:
        rule = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be read"
        found = "" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise DataError(Problem(subject, rule, found, "check the path")) from error
    if not root.is_dir():
        raise DataError(Problem(subject, "must be a folder", "a file", "give the folder that holds the subjects"))
    folders = [child for child in _listed(root) if child.is_dir()]
    if any((folder / "u_test").is_dir() for folder in folders):
        return folders
    remedy = FOLDERS
    if root.name == "u_test" or (root / "u_test").is_dir():
        remedy = "give the folder that holds all subjects, not that of one"
    for folder in folders:
        if folder.name == "norm_u_v_os":
            remedy = f'give its folder "{folder.name}" instead'
    found = ", ".join(child.name for child in _listed(root)[:5]) or "an empty folder"
    raise DataError(Problem(subject, "must hold folders <subject>/u_test/<label>", found, remedy))


def _list_subject(root: Path, folder: Path, files: dict[str, tuple[Path, int]], problems: list[Problem | str]) -> None:
    """Add the images of one subject to `files`: by clip key, where each lies and its class number."""
    before = len(files), len(problems)
    dataset = next((name for pattern, name in PREFIXES.items() if re.fullmatch(pattern, folder.name)), None)
    if dataset is None:
        rule = "is the folder of no known dataset"
        problems.append(Problem(_name(root, folder), rule, "", f"{FOLDERS}; move or rename it"))
        return
    tests = folder / "u_test"
    for label in _listed(tests) if tests.is_dir() else []:
        if not label.is_dir():
            rule = "lies outside the label folders"
            problems.append(Problem(_name(root, label), rule, "", "move it into 0, 1 or 2"))
        elif label.name not in ("0", "1", "2"):
            rule = "is no label folder (0 negative, 1 positive, 2 surprise)"
            problems.append(Problem(_name(root, label), rule, "", nearest(label.name, ("0", "1", "2"))))
        else:
            for file in _listed(label):
                key = f"{dataset}/{folder.name}/{file.stem.strip()}"
                if file.suffix.lower() != ".png":
                    problems.append(Problem(_name(root, file), "must be a PNG image", "", "remove it"))
                elif key in files:
                    rule = f"is the same clip as {_name(root, files[key][0])}"
                    problems.append(Problem(_name(root, file), rule, "", "keep the one with the right label"))
                else:
                    files[key] = (file, int(label.name))
    if before == (len(files), len(problems)):
        remedy = "copy the images of this subject again or remove its folder"
        problems.append(Problem(_name(root, folder), "must hold images in u_test/<label>", "none", remedy))


def _decode(root: Path, file: Path, problems: list[Problem | str]) -> NDArray[np.uint8] | None:
    """Return an image as (H, W, 3) u, v, strain, or None and one more problem."""
    try:
        content = np.frombuffer(file.read_bytes(), dtype=np.uint8)
    except OSError as error:
        problems.append(Problem(_name(root, file), "cannot be read", error.strerror or str(error), "check permissions"))
        return None
    # cv2.imread would fail on names that its C library cannot spell, hence bytes.
    image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if image is None:
        rule = "cannot be decoded as an image"
        problems.append(Problem(_name(root, file), rule, f"{content.size} bytes", "copy or download it again"))
        return None
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        count = image.shape[2] if image.ndim == 3 else 1
        rule, found = "must have 3 channels of 8 bits", f"{count} of {8 * image.itemsize}"
        problems.append(Problem(_name(root, file), rule, found, "restore the released image"))
        return None
    return np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8)  # OpenCV gives strain, v, u
