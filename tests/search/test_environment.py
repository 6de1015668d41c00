"""environment.txt: every library that can change a bit is in it, and who resumes a run hears which of them changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from mernas.components.datasets.clip import Dataset
from mernas.search import environment as module
from mernas.search.environment import DEVELOPMENT, differences, environment
from mernas.search.reporter import Silent
from mernas.search.run import SearchResult, run_search

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pyproject.toml declares, though an editable mernas may have been installed before that was changed."""
    texts = list(PROJECT["dependencies"])
    for extra, own in PROJECT["optional-dependencies"].items():
        texts += [f'{text}; extra == "{extra}"' for text in own]
    monkeypatch.setattr(module.metadata, "requires", lambda _: texts)
    monkeypatch.setattr(module, "_extras", lambda: list(PROJECT["optional-dependencies"]))


class Listening(Silent):
    """A reporter who keeps what was said."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)


def lines(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.splitlines())


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize("machine", [True, False])
def test_every_library_of_a_computation_is_named_with_the_version_that_it_says_itself(machine: bool) -> None:
    import kornia
    import numpy
    import scipy
    import skimage
    import sklearn
    import torch

    found = lines(environment(machine=machine))
    for name, library in {
        "kornia": kornia,
        "numpy": numpy,
        "scipy": scipy,
        "scikit-image": skimage,
        "scikit-learn": sklearn,
        "torch": torch,
    }.items():
        assert found[name] == library.__version__
    assert found["mernas"] == metadata.version("mernas")


@pytest.mark.usefixtures("declared")
def test_libraries_are_those_of_pyproject_and_of_its_extras_in_order_and_no_tools() -> None:
    extras = {name: own for name, own in PROJECT["optional-dependencies"].items() if name not in DEVELOPMENT}
    assert set(DEVELOPMENT) < set(PROJECT["optional-dependencies"])
    stated = [*PROJECT["dependencies"], *(text for own in extras.values() for text in own)]
    names = ["mernas", *sorted(Requirement(text).name for text in stated)]
    assert list(lines(environment(machine=True))) == ["python", "system", "cores", *names]
    assert "pytest" not in names


def test_what_is_not_installed_or_not_for_this_machine_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = [
        "numpy>=1",
        "scipy>=1; python_version < '3'",
        "no-such-library>=1; extra == 'more'",
        "torch>=2; extra == 'more'",
        "pytest; extra == 'dev'",
    ]
    monkeypatch.setattr(module.metadata, "requires", lambda _: stated)
    monkeypatch.setattr(module, "_extras", lambda: ["dev", "more"])
    assert list(lines(environment(machine=False))) == ["python", "system", "mernas", "numpy", "torch"]


def test_a_model_that_travels_does_not_tell_of_which_machine_it_is() -> None:
    import platform

    text = environment(machine=False)
    assert "cores" not in text
    assert platform.release() not in text


def test_what_is_declared_is_read_from_the_installation() -> None:
    stated = {Requirement(text).name for text in metadata.requires("mernas") or ()}
    assert {"numpy", "optuna", "torch"} <= stated
    found = set(lines(environment(machine=True)))
    assert {"numpy", "optuna", "torch"} <= found <= stated | {"python", "system", "cores", "mernas"}


def test_nothing_is_imported_to_say_the_versions() -> None:
    code = (
        "import sys; from mernas.search.environment import environment; environment(machine=True);"
        "print([name for name in ('torch', 'scipy', 'kornia', 'pandas', 'numpy', 'ray', 'cv2') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_differences_are_of_what_both_name() -> None:
    old = "python 3.11.1\nnumpy 2.0\nscipy 1.1\ngone 1\n"
    new = "python 3.11.1\nkornia 0.8\nnumpy 2.0\nscipy 1.2\n"
    assert differences(old, new) == ["scipy 1.1 (here 1.2)"]
    assert differences(old, old) == []


def test_who_resumes_a_run_hears_which_versions_changed_and_nothing_of_a_shorter_list(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    path = folder / "environment.txt"
    whole = path.read_text(encoding="utf-8")

    def heard(text: str) -> list[str]:
        path.write_text(text, encoding="utf-8")
        listening = Listening()
        run_search(toy(), space=toy_space, out=folder, reporter=listening, **small)
        return listening.heard

    torch = metadata.version("torch")
    old = ("python", "system", "cores", "mernas", "numpy")  # as runs had it that were made before
    shorter = "".join(f"{line}\n" for line in whole.splitlines() if line.split()[0] in old)
    assert heard(whole) == []
    assert heard(shorter) == []
    (said,) = heard(whole.replace(f"torch {torch}", "torch 0.1"))
    assert f"torch 0.1 (here {torch})" in said
    assert "bits of its results may differ" in said
    assert "numpy" not in said
