"""Every example in a docstring runs, and so do those of the guides in docs/.

Modules are found and imported by NAME. `pytest --doctest-modules` would import the files of the four folders a second
time, under another name, and every component would be registered twice.
"""

import doctest
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mernas.space.genotype import instantiate, parse_genotype
from mernas.space.registry import REGISTRY
from mernas.space.restriction import load_space
from mernas.space.taxonomy import APEX, CAPABILITIES, FRAMES, GIVEN_FLOW, GIVEN_STRAIN, ONSET

DOCS = Path(__file__).resolve().parents[1] / "docs"
SUB_PACKAGES = ("space", "components", "evaluation", "search")


def locations(package: str) -> list[str]:
    """The folders of a package: its `__path__`, had without running its code."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed"
    return list(spec.submodule_search_locations or ())


def walk(package: str, paths: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Name and file of a package and of every module below it."""
    for path in paths:
        yield package, Path(path) / "__init__.py"
        for module in sorted(pkgutil.iter_modules([path]), key=lambda module: module.name):
            if module.ispkg:
                yield from walk(f"{package}.{module.name}", [str(Path(path) / module.name)])
            else:
                yield f"{package}.{module.name}", Path(path) / f"{module.name}.py"


def modules_with_examples() -> list[str]:
    """Names of the modules whose text holds a doctest prompt.

    An editable install hides the four folders from a walk over `mernas.__path__`, so each is walked by itself.
    """
    found = list(walk("mernas", locations("mernas")))
    for name in SUB_PACKAGES:
        found += walk(f"mernas.{name}", locations(f"mernas.{name}"))
    return sorted({name for name, file in found if ">>> " in file.read_text(encoding="utf-8")})


MODULES = modules_with_examples()


def test_examples_are_found_in_every_folder_that_has_modules() -> None:
    for name in SUB_PACKAGES:
        below = [module for module, _ in walk(f"mernas.{name}", locations(f"mernas.{name}"))]
        if len(below) > 1:
            assert any(module.startswith(f"mernas.{name}.") for module in MODULES), f"no example in {name}"


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_module_run(name: str) -> None:
    module = importlib.import_module(name)
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    results = [runner.run(test, out=report.append) for test in doctest.DocTestFinder().find(module, name)]
    assert sum(result.attempted for result in results) > 0, f"{name} holds `>>>`, but in no docstring"
    assert sum(result.failed for result in results) == 0, "".join(report)


def code_blocks(guide: str, language: str) -> list[str]:
    text = (DOCS / guide).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_component_of_the_guide_is_short_registers_builds_and_conforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module("mernas.components")
    code, at_once, one_by_one = code_blocks("adding-a-component.md", "python")
    (genotype_text,) = code_blocks("adding-a-component.md", "yaml")
    assert len(code.splitlines()) < 40
    (tmp_path / "guide_ghost.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("guide_ghost")
    try:
        (stream,) = parse_genotype(genotype_text).streams
        module, shape = instantiate(stream["backbone"][0]).build((1, 28, 20))
        exec(at_once, {})
        guide: dict[str, Any] = {}
        exec(one_by_one, guide)
        (parameters,) = guide["test_ghost_obeys"].pytestmark
        names = [name for name, check in parameters.args[1]]
    finally:
        REGISTRY.remove("block", "ghost")
        monkeypatch.delitem(sys.modules, "guide_ghost")
    assert module(torch.zeros(3, 1, 28, 20)).shape == (3, *shape) == (3, 8, 28, 20)
    assert {"gradients-everywhere", "exported-with-any-batch", "learns"} <= set(names)
    # By hand: 1x1 kernels 4, their batch norm 2 * 4, depthwise 3x3 kernels and biases 4 * (9 + 1).
    assert sum(parameter.numel() for parameter in module.parameters()) == 4 + 8 + 40


def test_pipeline_of_the_readme_lies_in_the_full_space_of_clips_with_frames() -> None:
    importlib.import_module("mernas.components")
    (text,) = code_blocks("../README.md", "yaml")
    assert parse_genotype(text) in load_space("full", frozenset({FRAMES, ONSET, APEX}))


def test_file_of_the_space_guide_narrows_as_the_guide_says(tmp_path: Path) -> None:
    importlib.import_module("mernas.components")
    (text,) = code_blocks("space-files.md", "yaml")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    space = load_space(tmp_path / "mine.yaml", frozenset({GIVEN_FLOW, GIVEN_STRAIN}))
    assert space.names("flow_estimator") == ("given",)
    assert "shift" not in space.names("augmentation")
    flow = REGISTRY.get("input", "optical_flow")
    assert str(space.domain(flow, "size")) in ("one of 28", "a whole number in [28, 28]")
    assert str(space.domain(flow, "centre")) == "one of none, median"
    assert str(space.domain(REGISTRY.get("training", "scratch"), "epochs")) == "a whole number in [10, 20]"
    assert space.domain(REGISTRY.get("stream", "stream"), "backbone").count.high == 2


@pytest.mark.parametrize("file", sorted(DOCS.glob("spaces/*.yaml")), ids=lambda file: file.stem)
def test_ready_made_space_can_be_loaded(file: Path) -> None:
    importlib.import_module("mernas.components")
    assert load_space(file, frozenset(CAPABILITIES)).names("block")
