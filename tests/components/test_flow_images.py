"""The flow images of MEGC2019: on small PNG files made here, and on the release itself where it is at hand."""

from __future__ import annotations

import pickle
import struct
import zlib
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.flow_images import FlowImages
from mernas.components.inputs.strain import optical_strain
from mernas.space.errors import DataError

RELEASE = Path(__file__).resolve().parents[3] / "shared" / "data" / "megc2019_flow" / "norm_u_v_os"


def png(pixels: NDArray[np.generic]) -> bytes:
    """Encode (H, W) grey or (H, W, C) RGB or RGBA pixels of 8 or 16 bits, by the PNG specification alone."""
    height, width = pixels.shape[:2]
    colour = {1: 0, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def image(seed: int, size: int = 28) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def put(root: Path, place: str, content: bytes) -> None:
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_bytes(content)


def small_release(root: Path) -> Path:
    put(root, "sub01/u_test/0/sub01_EP02_01f .png", png(image(1)))
    put(root, "sub01/u_test/2/sub01_EP03_02 .png", png(image(2)))
    put(root, "s01/u_test/1/s01_s01_po_01 .png", png(image(3)))
    put(root, "006/u_test/0/006_006_1_2 .png", png(image(4)))
    return root


def mistakes(root: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        FlowImages().load(root)
    return [str(problem) for problem in caught.value.problems]


def test_keys_subjects_and_labels_come_from_the_folders(tmp_path: Path) -> None:
    data = FlowImages().load(small_release(tmp_path))
    assert [clip.key for clip in data] == [
        "casme2/sub01/sub01_EP02_01f",
        "casme2/sub01/sub01_EP03_02",
        "samm/006/006_006_1_2",
        "smic/s01/s01_s01_po_01",
    ]
    assert data.subjects == ("casme2/sub01", "samm/006", "smic/s01")
    assert list(data.annotations["emotion"]) == ["negative", "surprise", "negative", "positive"]
    assert list(data.annotations["dataset"]) == ["casme2", "casme2", "samm", "smic"]
    assert data.labels.tolist() == [0, 2, 0, 1]
    assert data.provides == {"given flow", "given strain"}


def test_red_is_u_green_is_v_and_blue_is_strain(tmp_path: Path) -> None:
    clip = FlowImages().load(small_release(tmp_path)).clips[0]
    flow, strain = clip.given["flow"](), clip.given["strain"]()
    assert flow.dtype == strain.dtype == np.float32
    assert flow.shape == (2, 28, 28)
    assert strain.shape == (28, 28)
    assert np.array_equal(np.stack([*flow, strain], axis=2), image(1))


def test_changing_a_map_changes_no_clip(tmp_path: Path) -> None:
    clip = FlowImages().load(small_release(tmp_path)).clips[0]
    clip.given["flow"]()[:] = -1
    clip.given["strain"]()[:] = -1
    assert np.array_equal(clip.given["flow"]()[0], image(1)[:, :, 0])
    assert np.array_equal(clip.given["strain"](), image(1)[:, :, 2])


def test_a_clip_outlives_its_file_and_a_pickle(tmp_path: Path) -> None:
    clip = FlowImages().load(small_release(tmp_path)).clips[0]
    for file in tmp_path.rglob("*.png"):
        file.unlink()
    packed = pickle.dumps(clip)
    assert str(tmp_path).encode() not in packed
    assert np.array_equal(pickle.loads(packed).given["flow"]()[1], image(1)[:, :, 1])


def test_copies_in_u_train_hidden_files_and_loose_files_are_ignored(tmp_path: Path) -> None:
    small_release(tmp_path)
    before = FlowImages().load(tmp_path).fingerprint
    put(tmp_path, "sub01/u_train/1/s01_s01_po_01 .png", png(image(3)))
    put(tmp_path, "sub01/u_test/0/._sub01_EP02_01f .png", b"resource fork")
    put(tmp_path, ".git/config", b"")
    put(tmp_path, "README.md", b"read me")
    assert FlowImages().load(tmp_path).fingerprint == before


def test_the_space_before_png_is_no_part_of_the_name(tmp_path: Path) -> None:
    put(tmp_path, "sub01/u_test/0/a.png", png(image(1)))
    put(tmp_path, "sub01/u_test/0/b .PNG", png(image(2)))
    assert [clip.key for clip in FlowImages().load(tmp_path)] == ["casme2/sub01/a", "casme2/sub01/b"]


def recompressed(pixels: NDArray[np.uint8]) -> bytes:
    """The same pixels in a file of other bytes: a time stamp is inserted before the pixels, as in the release."""
    stamp = b"tIME" + struct.pack(">HBBBBB", 2019, 5, 14, 0, 0, 0)
    chunk = struct.pack(">I", len(stamp) - 4) + stamp + struct.pack(">I", zlib.crc32(stamp))
    content = png(pixels)
    return content[:33] + chunk + content[33:]


def test_fingerprints_follow_the_pixels_not_the_bytes_or_the_label(tmp_path: Path) -> None:
    def loaded(name: str, content: bytes, label: int = 0) -> Dataset:
        put(tmp_path, f"{name}/sub01/u_test/{label}/a.png", content)
        return FlowImages().load(tmp_path / name)

    plain = loaded("plain", png(image(1)))
    changed = image(1)
    changed[5, 5, 0] ^= 1
    assert recompressed(image(1)) != png(image(1))
    assert loaded("stamped", recompressed(image(1))).fingerprint == plain.fingerprint
    assert loaded("other label", png(image(1)), 2).fingerprint == plain.fingerprint
    assert loaded("other label", png(image(1)), 2).label_fingerprint != plain.label_fingerprint
    assert loaded("changed", png(changed)).fingerprint != plain.fingerprint
    assert loaded("reshaped", png(image(1).reshape(14, 56, 3))).fingerprint != plain.fingerprint


def test_any_size_is_taken_if_it_is_one_size(tmp_path: Path) -> None:
    put(tmp_path, "sub01/u_test/0/a.png", png(image(1, 64)))
    assert FlowImages().load(tmp_path).clips[0].given["flow"]().shape == (2, 64, 64)


def test_a_missing_path_says_so(tmp_path: Path) -> None:
    assert "nowhere" in mistakes(tmp_path / "nowhere")[0]
    assert "does not exist" in mistakes(tmp_path / "nowhere")[0]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    put(tmp_path, "archive.zip", b"")
    assert "must be a folder" in mistakes(tmp_path / "archive.zip")[0]


def test_an_empty_folder_says_what_it_should_hold(tmp_path: Path) -> None:
    (problem,) = mistakes(tmp_path)
    assert "<subject>/u_test/<label>" in problem
    assert "empty folder" in problem


def test_the_folder_above_names_the_right_one(tmp_path: Path) -> None:
    small_release(tmp_path / "norm_u_v_os")
    (problem,) = mistakes(tmp_path)
    assert 'Give its folder "norm_u_v_os" instead' in problem


@pytest.mark.parametrize("place", ["sub01", "sub01/u_test"])
def test_the_folder_of_one_subject_is_not_the_dataset(tmp_path: Path, place: str) -> None:
    (problem,) = mistakes(small_release(tmp_path) / place)
    assert "all subjects" in problem


def test_all_mistakes_are_told_at_once_and_name_their_file(tmp_path: Path) -> None:
    small_release(tmp_path)
    put(tmp_path, "sub02/u_test/positive/a.png", png(image(5)))
    put(tmp_path, "sub02/u_test/12/b.png", png(image(5)))
    put(tmp_path, "sub02/u_test/c.png", png(image(5)))
    put(tmp_path, "sub02/u_test/0/d.jpg", b"")
    put(tmp_path, "sub03/u_test/0/empty.png", b"")
    put(tmp_path, "sub03/u_test/0/text.png", b"no image at all")
    put(tmp_path, "sub03/u_test/0/cut.png", png(image(6))[:-300])
    put(tmp_path, "sub03/u_test/0/grey.png", png(image(6)[:, :, 0]))
    put(tmp_path, "sub03/u_test/0/alpha.png", png(np.dstack([image(6), image(7)[:, :, :1]])))
    put(tmp_path, "sub03/u_test/0/deep.png", png(image(6).astype(np.uint16)))
    put(tmp_path, "sub03/u_test/0/large.png", png(image(6, 30)))
    put(tmp_path, "sub03/u_test/0/folder.png/x", b"")
    put(tmp_path, "subject4/u_test/0/e.png", png(image(8)))
    put(tmp_path, "sub05/u_train/0/f.png", png(image(8)))
    (tmp_path / "sub06/u_test/0").mkdir(parents=True)
    put(tmp_path, "sub01/u_test/1/sub01_EP02_01f.png", png(image(1)))
    expected = {
        '"sub02/u_test/positive"': "no label folder",
        '"sub02/u_test/12"': "did you mean",
        '"sub02/u_test/c.png"': "outside the label folders",
        '"sub02/u_test/0/d.jpg"': "must be a PNG",
        '"sub03/u_test/0/empty.png"': "cannot be decoded",
        '"sub03/u_test/0/text.png"': "cannot be decoded",
        '"sub03/u_test/0/cut.png"': "cannot be decoded",
        '"sub03/u_test/0/grey.png"': "3 channels of 8 bits, found 1 of 8",
        '"sub03/u_test/0/alpha.png"': "found 4 of 8",
        '"sub03/u_test/0/deep.png"': "found 3 of 16",
        '"sub03/u_test/0/large.png"': "28 x 28 like most, found 30 x 30",
        '"sub03/u_test/0/folder.png"': "cannot be read",
        '"subject4"': "no known dataset",
        '"sub05"': "must hold images",
        '"sub06"': "must hold images",
        '"sub01/u_test/1/sub01_EP02_01f.png"': 'same clip as "sub01/u_test/0/sub01_EP02_01f .png"',
    }
    problems = mistakes(tmp_path)
    told = {problem.partition(": ")[0]: problem.lower() for problem in problems}
    assert set(told) == set(expected)
    assert len(problems) == len(expected)
    assert {name for name in expected if expected[name].lower() not in told[name]} == set()


@pytest.fixture(scope="module")
def release() -> Dataset:
    if not RELEASE.is_dir():
        pytest.skip("the public flow images are not beside the project (shared/data/megc2019_flow)")
    return FlowImages().load(RELEASE)


def test_the_release_has_the_clips_and_subjects_of_megc2019(release: Dataset) -> None:
    assert (len(release), len(release.subjects)) == (442, 68)
    subjects = [subject.split("/")[0] for subject in release.subjects]
    assert {name: subjects.count(name) for name in subjects} == {"casme2": 24, "samm": 28, "smic": 16}


def test_the_release_has_the_class_counts_of_megc2019(release: Dataset) -> None:
    def counts(dataset: str) -> list[int]:
        own = np.array([clip.dataset == dataset for clip in release])
        return [int(count) for count in np.bincount(release.labels[own])]

    assert release.classes == ("negative", "positive", "surprise")
    assert counts("casme2") == [88, 32, 25]
    assert counts("samm") == [92, 26, 15]
    assert counts("smic") == [70, 51, 43]


def test_strain_recomputed_from_u_and_v_is_most_like_the_third_channel(release: Dataset) -> None:
    best = []
    for clip in release:
        maps = [*clip.given["flow"](), clip.given["strain"]()]
        alike = {
            order: np.corrcoef(optical_strain(np.stack([maps[order[0]], maps[order[1]]])).flat, maps[order[2]].flat)
            for order in permutations(range(3))
        }
        best.append(max(alike, key=lambda order: alike[order][0, 1]))
    assert {order[2] for order in best} == {2}
    assert best.count((0, 1, 2)) > 0.9 * len(best)


def test_every_channel_of_the_release_was_stretched_so_its_zero_is_lost(release: Dataset) -> None:
    for clip in release:
        for plane in (*clip.given["flow"](), clip.given["strain"]()):
            assert (plane.min(), plane.max()) == (0, 255)
    medians = [float(np.median(clip.given["flow"]()[0])) for clip in release]
    assert np.ptp(medians) > 100
