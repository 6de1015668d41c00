"""Components of third parties: found by their entry point, told by name when they are broken."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mernas.components import ENTRY_POINTS, load_third_parties
from mernas.space.errors import UnavailableError
from mernas.space.genotype import parse_genotype
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import APEX, FRAMES, ONSET
from mernas.space.tree import SearchSpace

HALVED = '''
from dataclasses import dataclass
from torch import nn
from mernas.space.registry import register
from mernas.space.taxonomy import IMAGE


@register("block", "halved", maps={IMAGE: IMAGE})
@dataclass(frozen=True)
class Halved:
    """Every second pixel."""

    def build(self, shape):
        return nn.AvgPool2d(1, 2), (shape[0], (shape[1] + 1) // 2, (shape[2] + 1) // 2)
'''
PIPELINE = """
streams: [{input: {apex_frame: {size: 28}}, backbone: [halved]}]
tasks: [{emotion: {head: linear}}]
loss: cross_entropy
"""


def install(folder: Path, name: str, module: str, code: str) -> None:
    """Lay a package as pip leaves it: a module, and the metadata that names it."""
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nmine = {module}\n", encoding="utf-8")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(REGISTRY.names("block"))
    yield tmp_path
    for name in set(REGISTRY.names("block")) - before:
        REGISTRY.remove("block", name)
    for module in ("third_party_blocks", "third_party_broken"):
        sys.modules.pop(module, None)
    importlib.invalidate_caches()


def test_an_installed_package_adds_its_block_to_the_space(packages: Path) -> None:
    install(packages, "lab-blocks", "third_party_blocks", HALVED)
    assert "mine" in load_third_parties()
    space = SearchSpace(frozenset({FRAMES, ONSET, APEX}))
    assert "halved" in space.names("block")
    assert parse_genotype(PIPELINE) in space


def test_a_broken_package_is_told_by_its_name_and_stops_everything(packages: Path) -> None:
    install(packages, "lab-broken", "third_party_broken", "raise RuntimeError('no licence file')")
    with pytest.raises(UnavailableError) as caught:
        load_third_parties()
    (problem,) = caught.value.problems
    assert "lab-broken" in str(problem)
    assert "no licence file" in str(problem)
