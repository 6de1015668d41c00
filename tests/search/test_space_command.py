"""`mernas space`: everything is shown, within a hundred columns, and mistakes are one message."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mernas.cli import cli
from mernas.search.space_command import describe_space, print_coverage, print_space
from mernas.space.coverage import Coverage, TaxonomyLeaf, TaxonomySection, load_coverage
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import AXES


def space(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["space", *arguments])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A manifest of two tiny clips with onset and apex, and nothing else."""
    folder = tmp_path_factory.mktemp("clips")
    for name in ("a", "b"):
        (folder / name).mkdir()
        for number in range(3):
            cv2.imwrite(str(folder / name / f"{number}.png"), np.full((8, 6), number, np.uint8))
    rows = "path,subject,emotion,onset,apex\na,01,positive,0,2\nb,01,negative,0,1\n"
    (folder / "tiny.csv").write_text(rows)
    return str(folder / "tiny.csv")


def mistakes(result: Result) -> list[str]:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert all(line.startswith("mernas: ") for line in result.stderr.splitlines())
    return result.stderr.splitlines()


def words(text: str) -> str:
    """A printed tree as one line, without its branches and breaks."""
    return " ".join(re.sub("[│├└─]", " ", text).split())


def test_the_tree_shows_every_axis_component_and_hyper_parameter_of_the_registry_in_the_surveys_order() -> None:
    result = space()
    assert result.exit_code == 0, result.output
    shown = words(result.output)
    starts = [shown.index(f"{axis.section} {axis.name}: {axis.title}") for axis in AXES.values()]
    assert starts == sorted(starts)
    parts = dict(zip(AXES, [shown[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)], strict=True))
    for item in REGISTRY:
        text = parts[item.axis]
        assert re.search(rf"(?<!\S){re.escape(item.name)}( \([\d.]+\))?[:,] ", text)
        if not item.missing:
            assert " ".join(item.summary.split()) in text
            assert all(f" {name}: " in text and parameter.doc in text for name, parameter in item.parameters.items())
    assert space("--tree").output == result.output


@pytest.mark.parametrize("arguments", [(), ("--space", "quick"), ("--coverage",)])
def test_nothing_is_wider_than_a_hundred_columns_or_cut_off(arguments: tuple[str, ...]) -> None:
    result = space(*arguments)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 100
    assert "…" not in result.output


def test_what_the_data_lack_is_shown_with_the_reason(clips: str) -> None:
    described = describe_space([clips])
    assert described["facts"] == ["apex", "frames", "onset"]
    parts = described["axes"]["preprocessing"]["components"]
    assert parts["register"]["reason"] == "needs the 68 landmarks of every frame"
    assert parts["tim"]["reason"] == "needs the offset frame of every clip"
    shown = words(space("--data", clips).output)
    assert "register (4.1.1), unavailable: needs the 68 landmarks of every frame" in shown
    assert "for the data tiny" in shown
    absent = [part for axis in described["axes"].values() for part in axis["components"].values() if part["reason"]]
    assert f"{len(absent)} of them unavailable" in shown
    assert shown.count(", unavailable: ") == len(absent)


def test_an_extra_that_is_not_installed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    described = describe_space()
    tvl1 = described["axes"]["flow_estimator"]["components"]["tvl1"]
    tvl1.update(available=False, reason="needs mernas[tvl1]")
    print_space(described)
    assert "tvl1, unavailable: needs mernas[tvl1]" in words(capsys.readouterr().out)


def test_json_is_what_the_tree_is_made_of_and_narrowed_by_the_space_file(clips: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: full\nkeep: {optimizer: [sgd]}\nset: {optimizer.sgd: {momentum: 0.9}}\n")
    result = space("--json", "--data", clips, "--space", str(file))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == describe_space([clips], str(file))
    assert (found["data"], found["space"]) == ("tiny", str(file))
    assert list(found["axes"]["optimizer"]["components"]) == ["sgd"]
    momentum = found["axes"]["optimizer"]["components"]["sgd"]["hyperparameters"]["momentum"]
    assert momentum["domain"] == {"low": 0.9, "high": 0.9, "log": False}
    assert "momentum: 0.9 only" in words(space("--space", str(file)).output)
    assert json.loads(space("--json").stdout)["data"] is None


def test_coverage_prints_every_leaf_with_its_state_and_the_counts_of_every_section() -> None:
    coverage = load_coverage()
    output = space("--coverage").output
    for section in coverage.sections:
        table = output.partition(f"{section.number} {section.title}: ")[2].partition("└")[0]
        shown = {cells[1].strip(): cells[3].strip() for line in table.splitlines() if len(cells := line.split("│")) > 3}
        states = {name: text.partition(":")[0] for name, text in shown.items() if name}
        assert states == {leaf.name: leaf.state for leaf in section.leaves}
        counts = [len([leaf for leaf in section.leaves if leaf.state == state])
                  for state in ("implemented", "unavailable", "not yet")]  # fmt: skip
        row = next(line for line in output.splitlines() if line.startswith(f"│ {section.number} "))
        assert [int(cell) for cell in row.split("│")[3:7]] == [*counts, len(section.leaves)]
    last = next(line for line in output.splitlines() if "in all" in line)
    assert int(last.split("│")[6]) == len(coverage.leaves)
    assert all(name in words(output) for name in coverage.extra)


def test_coverage_as_json_is_the_coverage() -> None:
    result = space("--coverage", "--json")
    assert json.loads(result.stdout) == load_coverage().plain()


def test_coverage_names_what_must_be_installed_and_what_is_not_in_the_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mernas.space.registry._installed", lambda module: module != "skimage")
    leaf = TaxonomyLeaf("4.2.2", "tvl1", "Flow", home=("flow_estimator.tvl1",))
    print_coverage(Coverage((TaxonomySection("4.2.2", "Input", (leaf,)),), {}))
    shown = words(capsys.readouterr().out)
    assert "(here only with mernas[tvl1])" in shown
    assert "Not in this list, as those of third parties: dataset.flow-images, " in shown


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--space", "standrad"), ["standard"]),
        (("--space", "no/such/file.yaml"), ["no such file or shipped space"]),
        (("--data", "synthetics"), ["synthetic"]),
        (("--data", "flow-images"), ["PATH"]),
        (("--data", "no-such-file.csv"), ["no-such-file.csv"]),
        (("--coverage", "--data", "synthetic"), ["--coverage"]),
        (("--coverage", "--space", "quick", "--tree"), ["--tree", "--space"]),
    ],
)
def test_mistakes_are_told_in_one_line_each(arguments: tuple[str, ...], parts: list[str]) -> None:
    told = mistakes(space(*arguments))
    assert len(told) == len(parts)
    assert all(part in line for part, line in zip(parts, told, strict=True))


def test_every_mistake_of_a_space_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("drop: {optimiser: [sgd]}\nset: {block.convolution: {kernels: 3}}\n")
    assert len(mistakes(space("--space", str(tmp_path / "mine.yaml")))) == 2


def test_the_examples_of_the_help_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [line.strip() for line in space("--help").output.partition("Examples:")[2].splitlines()]
    examples = [line for line in shown if line.startswith("mernas ") and "PATH" not in line]
    assert len(examples) >= 3
    monkeypatch.chdir(tmp_path)
    for example in examples:
        done = CliRunner().invoke(cli, shlex.split(example)[1:])
        assert done.exit_code == 0, done.output
    assert not list(tmp_path.iterdir())


def test_its_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nsys.argv = ['mernas', 'space', '--help']\nfrom mernas.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'optuna', 'ray', 'pandas', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--coverage" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_square_brackets_of_a_space_name_are_text(tmp_path: Path) -> None:
    file = tmp_path / "[bold]mine.yaml"
    file.write_text("extends: quick\n")
    assert "[bold]mine.yaml" in words(space("--space", str(file)).output).replace(" ", "")
    found: Any = describe_space(space=str(file))
    assert found["space"].endswith("[bold]mine.yaml")
