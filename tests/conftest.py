"""Small data made in the tests: toy clips that ship flow maps, with as much signal as a test wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mernas.components  # noqa: F401  # registers every component
from mernas.components.datasets.clip import Clip, Dataset, content_hash
from mernas.space.taxonomy import GIVEN_FLOW, GIVEN_STRAIN

TOY_SPACE = """
extends: full
keep:
  preprocessing: none
  augmentation: [flip, shift]
  input: [apex_frame, optical_flow]
  flow_estimator: [farneback, given]
  block: [convolution, residual]
  attention: none
  readout: [average]
  cascade: none
  fusion: [concatenation]
  head: [linear, mlp]
  side_task: none
  training: [scratch]
  schedule: [constant, cosine]
  sampler: none
  averaging: none
  mixing: none
  loss: [cross_entropy]
  auxiliary_loss: none
set:
  input.optical_flow: {quantities: [u+v, u+v+strain, strain], size: 14}
  training.scratch: {epochs: {low: 1, high: 2}, batch: 16}
  pipeline.network: {streams: {low: 1, high: 2}}
  stream.stream: {backbone: 1}
  block.convolution:
    width: {low: 2, high: 8}
    kernel: 3
    norm: [batch, none, late]
    pool: [none, max2, max3, average2]
    padding: [same, full]
  block.residual: {width: {low: 2, high: 8}}
  readout.average: {grid: {low: 1, high: 2}}
"""

REAL_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "megc2019_flow" / "norm_u_v_os"


LONGEST = (
    "search/test_cluster.py",
    "search/test_executors.py",
    "components/test_conformance.py",
    "search/test_virtual_trainer.py",
    "search/test_sealed_group.py",
    "search/test_full_disk.py",
    "search/test_halving.py",
    "space/test_genotype_properties.py",
    "search/test_time_and_asynchrony.py",
    "search/test_resume.py",
    "test_cli.py",
    "test_help_examples.py",
    "search/test_samplers.py",
    "search/test_racing.py",
    "search/test_honesty.py",
)
"""Files that take half a minute and more. They go first, so that no process is left alone with one of them."""


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist, where it is used, hand out files in the order that is made here."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the cache of the user who runs it."""
    monkeypatch.setenv("MERNAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def make_toy(
    subjects: int = 6, clips: int = 6, signal: float = 2.0, seed: int = 0, labels: np.ndarray | None = None
) -> Dataset:
    """Clips of two made-up datasets; each of three classes moves another corner of a 14 x 14 map."""
    generator = np.random.default_rng(seed)
    classes = ("negative", "positive", "surprise")
    rows = []
    made = sorted(
        f"toy{subject % 2}/subject{subject:02d}/clip{clip:02d}" for subject in range(subjects) for clip in range(clips)
    )
    if labels is None:
        labels = np.array([(place + place // clips) % 3 for place in range(len(made))])
    result = []
    for key, label in zip(made, labels, strict=True):
        maps = generator.normal(size=(3, 14, 14)).astype(np.float32)
        top, left = [(0, 0), (0, 7), (7, 3)][int(label)]
        maps[:, top : top + 7, left : left + 7] += signal
        result.append(make_clip(key, maps))
        rows.append(classes[int(label)])
    return Dataset(
        name="toy",
        clips=tuple(result),
        annotations=pd.DataFrame({"emotion": rows}, index=pd.Index(made, name="clip")),
        classes=classes,
        provides=frozenset({GIVEN_FLOW, GIVEN_STRAIN}),
        licence="made up in a test",
    )


def make_clip(key: str, maps: np.ndarray) -> Clip:
    """A clip that ships the given u, v and strain."""
    dataset, subject, _ = key.split("/")
    flow, strain = maps[:2].copy(), maps[2].copy()
    return Clip(
        key=key,
        dataset=dataset,
        subject=f"{dataset}/{subject}",
        fingerprint=content_hash([maps.tobytes()]),
        given={"flow": lambda: flow, "strain": lambda: strain},
    )


@pytest.fixture(scope="session")
def toy() -> Callable[..., Dataset]:
    return make_toy


@pytest.fixture(scope="session")
def toy_clip() -> Callable[[str, np.ndarray], Clip]:
    return make_clip


@pytest.fixture(scope="session")
def toy_space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "toy.yaml"
    path.write_text(TOY_SPACE)
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip("needs the released flow images beside the project")
    return REAL_DATA
