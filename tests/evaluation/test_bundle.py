"""Bundles: what was written is read, and whatever is damaged, foreign or newer is refused in one message."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mernas.components.datasets.clip import Clip
from mernas.components.topologies.network import build_network
from mernas.evaluation.bundle import Bundle, FrameSizes, RuleEstimate, TrainingData, read_bundle, write_bundle
from mernas.evaluation.model import load_model, network_bytes
from mernas.space.errors import DataError, SpaceError
from mernas.space.genotype import parse_genotype

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden_bundle_1"

SMALL = """
streams: [{input: {optical_flow: {estimator: given, size: 14}}, backbone: [{convolution: {width: 2, kernel: 3}}]}]
tasks: [emotion]
loss: cross_entropy
"""


def fixed_maps(shapes: list[tuple[int, int, int]]) -> list[torch.Tensor]:
    """The same five clips for ever, made of whole numbers."""
    made = []
    for place, shape in enumerate(shapes):
        numbers = (np.arange(5 * np.prod(shape)) * (7 + place)) % 23 - 11
        strength = np.array([-3, -1, 0, 1, 3]).reshape(5, 1, 1, 1)
        made.append(torch.from_numpy(numbers.reshape(5, *shape) / 11 * strength).float())
    return made


def fixed_clip() -> Clip:
    """The same clip for ever: a bright disc that moves three pixels to the right."""
    y, x = np.mgrid[0:48, 0:48]
    frames = np.stack([255 - np.minimum(255, (x - 20 - shift) ** 2 + (y - 24) ** 2) for shift in (0, 3)])
    return Clip("fixed/s/1", "fixed", "fixed/s", "fixed", frames=frames.astype(np.uint8), onset=0, apex=1)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    genotype = parse_genotype(SMALL)
    torch.manual_seed(5)
    network = build_network(genotype, 3).eval()
    made = Bundle(
        genotype=genotype,
        classes=("negative", "positive", "surprise"),
        facts=frozenset({"given flow", "given strain"}),
        parameters=1,
        data=TrainingData("toy", "c0", "l0", 9, 3, "made up"),
        rule="knee",
        estimate=RuleEstimate("nested-loso", 0.5, 0.4, 0.6, 0.55),
        plan="p0",
        seed=7,
        temperature=1.5,
        threshold=0.4,
        coverage=0.8,
        frames=FrameSizes((60, 64, 90), (50, 50, 50)),
        unavailable={"model.onnx": "ONNX: unavailable: needs onnx."},
    )
    files = {
        "model.safetensors": network_bytes(network),
        "genotype.yaml": genotype.to_yaml().encode(),
        "README.md": b"# card\n",
        "environment.txt": b"python 3\n",
    }
    write_bundle(tmp_path / "model", made, files)
    return tmp_path / "model"


def reseal(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and seal it anew, as somebody would who knows how; the seal is computed here by hand."""
    plain = json.loads((folder / "bundle.json").read_text())
    del plain["seal"]
    change(plain)
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    plain["seal"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(plain))


def refusal(folder: Path) -> str:
    """The one message with which a folder is refused."""
    with pytest.raises(DataError) as caught:
        load_model(folder)
    assert len(caught.value.problems) == 1
    return str(caught.value)


def test_a_bundle_of_the_first_format_opens_and_predicts_as_it_did() -> None:
    model = load_model(GOLDEN)
    expected = json.loads((HERE / "golden_bundle_1_expected.json").read_text())
    maps = fixed_maps([component.shape for component in model.bundle.inputs])
    assert np.abs(model.probabilities_of(maps) - expected["maps"]).max() < 1e-6
    # Flow is computed by OpenCV, whose versions differ in the last digits.
    assert np.abs(model.probabilities([fixed_clip()]) - expected["clip"]).max() < 1e-3
    assert np.ptp(np.array(expected["maps"]), axis=0).max() > 0.05  # the clips do not all give the same
    assert model.classes == ("negative", "positive", "surprise")
    assert [recipe.input.name for recipe in model.bundle.recipes] == ["apex_frame", "optical_flow"]
    assert model.bundle.frames == FrameSizes((48, 48, 48), (48, 48, 48))
    assert (model.bundle.rule, model.bundle.data.name, model.bundle.edited) == ("knee", "synthetic", ())


def test_the_golden_bundle_is_small_and_names_no_machine() -> None:
    files = [path for path in GOLDEN.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40_000
    for path in files:
        assert not re.search(rb"(?<![\w.~-])/(?:work|home|root|Users|tmp)/", path.read_bytes()), path.name


def test_what_is_written_is_read(bundle: Path) -> None:
    read = read_bundle(bundle)
    assert read.genotype == parse_genotype(SMALL)
    assert (read.temperature, read.threshold, read.coverage) == (1.5, 0.4, 0.8)
    assert read.data == TrainingData("toy", "c0", "l0", 9, 3, "made up")
    assert read.estimate == RuleEstimate("nested-loso", 0.5, 0.4, 0.6, 0.55)
    assert read.frames == FrameSizes((60, 64, 90), (50, 50, 50))
    assert (read.plan, read.seed, read.rule) == ("p0", 7, "knee")
    assert dict(read.unavailable) == {"model.onnx": "ONNX: unavailable: needs onnx."}
    for name, seal in read.files.items():
        content = (bundle / name).read_bytes()
        assert (seal.sha256, seal.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert {*read.files, "bundle.json", ".gitattributes"} == {path.name for path in bundle.iterdir()}


def test_the_manifest_tells_readers_without_mernas_how_the_maps_are_made(bundle: Path) -> None:
    (stream,) = json.loads((bundle / "bundle.json").read_text())["streams"]
    assert stream["input"][0] == "optical_flow"
    assert stream["input"][2]["estimator"][0] == "given"
    assert (stream["channels"], stream["shape"]) == (["u", "v", "strain"], [3, 14, 14])


@pytest.mark.parametrize("name", ["model.safetensors", "genotype.yaml", "environment.txt"])
def test_one_changed_byte_is_refused_by_the_name_of_its_file(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[-1] ^= 1
    (bundle / name).write_bytes(content)
    message = refusal(bundle)
    assert f"{name}: is not the file that was exported, found another checksum" in message
    assert "export the model again" in message


def test_a_truncated_file_is_refused_with_its_size(bundle: Path) -> None:
    content = (bundle / "model.safetensors").read_bytes()
    (bundle / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert f"found {len(content) // 2} bytes instead of {len(content)}" in refusal(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "model.safetensors").unlink()
    assert "model.safetensors: is missing" in refusal(bundle)


def test_everything_that_is_wrong_with_the_files_is_said_at_once(bundle: Path) -> None:
    (bundle / "environment.txt").unlink()
    (bundle / "genotype.yaml").write_text("loss: focal\n")
    with pytest.raises(DataError) as caught:
        read_bundle(bundle)
    assert len(caught.value.problems) == 2


def test_a_changed_manifest_is_refused(bundle: Path) -> None:
    text = (bundle / "bundle.json").read_text()
    (bundle / "bundle.json").write_text(text.replace('"temperature": 1.5', '"temperature": 1.6'))
    assert "bundle.json was changed after it was written" in refusal(bundle)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": 1}',
        b"[1]",
        b'"x"',
        b'{"format": 1, "genotype": NaN}',
        b'{"format": 1, "genotype": 1e999}',
    ],
)
def test_a_manifest_that_is_none_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "bundle.json").write_bytes(content)
    assert "bundle.json" in refusal(bundle)


def test_an_edited_card_is_no_obstacle_and_is_told(bundle: Path) -> None:
    (bundle / "README.md").write_text("# my own words\n")
    assert load_model(bundle).bundle.edited == ("README.md",)


def test_files_that_a_hub_adds_are_left_alone(bundle: Path) -> None:
    (bundle / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    assert read_bundle(bundle).edited == ()
    written = write_bundle(bundle, read_bundle(bundle), {"README.md": b"# card 2\n"})
    assert (bundle / ".gitattributes").read_text() == "*.safetensors filter=lfs\n"
    assert ".gitattributes" not in written.files


def test_a_copy_under_another_name_opens(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "copy")
    shutil.rmtree(bundle)
    assert load_model(str(tmp_path / "copy")).bundle.folder == tmp_path / "copy"


def test_folders_that_are_no_models_are_refused_with_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "found an empty folder" in refusal(tmp_path / "empty")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    assert "is no model of mernas: it has no bundle.json, found config.json" in refusal(tmp_path / "foreign")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.yaml").write_text("hash: x\n")
    assert f"mernas export {tmp_path / 'run'} --out DIR" in refusal(tmp_path / "run")
    assert "found nothing of that name" in refusal(tmp_path / "nowhere")
    assert "found a file" in refusal(tmp_path / "foreign" / "config.json")


def test_a_newer_format_is_refused_with_the_version_that_reads_it(bundle: Path) -> None:
    reseal(bundle, lambda plain: plain.update(format=2, mernas="9.1.0"))
    message = refusal(bundle)
    assert "found format 2" in message
    assert "Install mernas 9.1.0 or newer" in message


def test_a_component_of_another_version_is_refused_with_both_versions(bundle: Path) -> None:
    def change(plain: dict[str, Any]) -> None:
        plain["genotype"]["complete"][2]["streams"][0][2]["backbone"][0][1] = 2

    reseal(bundle, change)
    message = refusal(bundle)
    assert 'block "convolution": was made with version 2, found version 1 in this installation' in message
    assert "Install mernas" in message


def test_a_component_that_is_unknown_here_is_refused_by_its_name(bundle: Path) -> None:
    def change(plain: dict[str, Any]) -> None:
        plain["genotype"]["complete"][2]["streams"][0][2]["backbone"][0][0] = "somebodys_block"

    reseal(bundle, change)
    assert 'block "somebodys_block": is not known' in refusal(bundle)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("mernas", None, "mernas must be a version"),
        ("engine", True, "engine must be a whole number"),
        ("temperature", 0.0, "temperature must be a number from 0.001 to 1000, found 0.0"),
        ("temperature", 1e-320, "temperature must be"),
        ("temperature", 1e308, "temperature must be"),
        ("temperature", "hot", 'temperature must be .* found "hot"'),
        ("classes", ["one"], "classes must be two or more"),
        ("classes", "abc", "classes must be two or more"),
        ("classes", ["a", "a", "b"], "classes must be two or more"),
        ("classes", ["a", " ", "b"], "classes must be two or more"),
        ("classes", [1, 2, 3], "classes must be two or more"),
        ("facts", "frames", "facts must be names"),
        ("facts", [1], "facts must be names"),
        ("parameters", 5.5, "parameters must be a whole number"),
        ("parameters", -1, "parameters must be a whole number"),
        ("abstention", None, "abstention, threshold must be a number from 0 to 1, found nothing"),
        ("abstention.threshold", 7, "abstention, threshold must be a number from 0 to 1, found 7"),
        ("abstention.coverage", "all", "abstention, coverage must be"),
        ("data", {}, "data, name must be a text, found nothing"),
        ("data.clips", "many", "data, clips must be a whole number"),
        ("data.licence", 7, "data, licence must be a text"),
        ("estimate", None, "estimate, uf1 must be a number from 0 to 1, found nothing"),
        ("estimate.uf1", "high", "estimate, uf1 must be"),
        ("estimate.high", 1.2, "estimate, high must be"),
        ("estimate.protocol", "", "estimate, protocol must be a name"),
        ("frames", {"height": [1]}, "frames must be null, or three sizes"),
        ("frames.width", [60, 50, 70], "frames must be null, or three sizes in order"),
        ("frames.height", [1, 2, 3, 4], "frames must be null, or three sizes"),
        ("frames.height", ["1", "2", "3"], "frames must be null, or three sizes"),
        ("rule", 3, "rule must be a name"),
        ("plan", None, "plan must be a name"),
        ("seed", -1, "seed must be a whole number"),
        ("seed", "7", "seed must be a whole number"),
        ("unavailable", ["a"], "unavailable must be reasons by file name"),
        ("unavailable", {"model.onnx": 1}, "unavailable must be reasons by file name"),
        ("streams", {}, "streams must be a list"),
        ("streams", [], "its streams must be those of its pipeline"),
        ("genotype", None, "genotype must be a pipeline, found null"),
        ("files", {}, "must list"),
        ("files", None, "must list"),
        ("files", {"model.safetensors": 5}, "files, model.safetensors must be a SHA-256 and a size"),
        ("files", {"model.safetensors": {"sha256": "x", "size": 1}}, "must be a SHA-256 and a size"),
    ],
)
def test_a_sealed_manifest_with_nonsense_is_refused_with_what_the_field_must_be(
    bundle: Path, path: str, value: Any, said: str
) -> None:
    def change(plain: dict[str, Any]) -> None:
        *above, last = path.split(".")
        for key in above:
            plain = plain[key]
        plain[last] = value

    reseal(bundle, change)
    with pytest.raises(DataError, match=said):
        load_model(bundle)


def test_every_field_of_a_manifest_is_checked(bundle: Path) -> None:
    plain = json.loads((bundle / "bundle.json").read_text())
    for key in set(plain) - {"format", "seal"}:
        reseal(bundle, lambda now, key=key: now.update({key: -1.5}))  # type: ignore[misc]  # no field holds that
        with pytest.raises(DataError):
            load_model(bundle)
        reseal(bundle, lambda now, key=key: now.update({key: plain[key]}))  # type: ignore[misc]  # and back
    load_model(bundle)


def test_all_fields_that_are_wrong_are_told_at_once(bundle: Path) -> None:
    def change(plain: dict[str, Any]) -> None:
        plain["temperature"], plain["seed"], plain["data"]["clips"] = -1, "x", 0
        plain["genotype"]["hash"] = "x"
        plain["files"]["environment.txt"]["size"] = -1

    reseal(bundle, change)
    with pytest.raises(DataError) as caught:
        read_bundle(bundle)
    assert len(caught.value.problems) == 5


def test_a_manifest_of_more_than_16_mib_is_refused(bundle: Path) -> None:
    with (bundle / "bundle.json").open("a") as file:
        file.write(" " * (16 << 20))  # JSON all the same, and sealed
    assert "bundle.json must have at most 16 MiB" in refusal(bundle)


def test_a_clone_by_git_that_rewrites_line_ends_opens(bundle: Path, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")

    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.autocrlf=true")
        subprocess.run(["git", *who, *words], cwd=bundle, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "model")
    git("clone", "--config", "core.autocrlf=true", ".", str(tmp_path / "clone"))
    assert b"\r\n" not in (tmp_path / "clone" / "genotype.yaml").read_bytes()
    load_model(tmp_path / "clone")


@pytest.mark.parametrize("width", ["wide", -4, 10**15, None])
def test_a_sealed_pipeline_with_nonsense_in_it_is_refused_before_anything_is_allocated(
    bundle: Path, width: Any
) -> None:
    def change(plain: dict[str, Any]) -> None:
        plain["genotype"]["complete"][2]["streams"][0][2]["backbone"][0][2]["width"] = width
        key = json.dumps(plain["genotype"]["complete"], sort_keys=True, separators=(",", ":"))
        plain["genotype"]["hash"] = hashlib.sha256(key.encode()).hexdigest()[:16]

    reseal(bundle, change)
    with pytest.raises((DataError, SpaceError)):
        load_model(bundle)


def test_a_manifest_cannot_lead_outside_its_folder(bundle: Path) -> None:
    (bundle.parent / "secret").write_text("x")
    seal = {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1}
    reseal(bundle, lambda plain: plain["files"].update({"../secret": seal}))
    assert "lists a file outside the folder" in refusal(bundle)


class _Trap:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (pytest.fail, ("a pickle was opened",))


def test_a_pickle_in_place_of_the_weights_is_refused_and_not_opened(bundle: Path) -> None:
    content = pickle.dumps(_Trap())
    (bundle / "model.safetensors").write_bytes(content)
    seal = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    reseal(bundle, lambda plain: plain["files"].update({"model.safetensors": seal}))
    assert "is no safetensors file" in refusal(bundle)


def test_the_weights_of_another_network_are_refused_by_tensor(bundle: Path) -> None:
    other = build_network(parse_genotype(SMALL.replace("width: 2", "width: 3")), 3)
    content = network_bytes(other)
    (bundle / "model.safetensors").write_bytes(content)
    seal = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    reseal(bundle, lambda plain: plain["files"].update({"model.safetensors": seal}))
    with pytest.raises(DataError, match=r"must be float32 \(2, 3, 3, 3\), found float32 \(3, 3, 3, 3\)"):
        load_model(bundle)
