"""Models: what is loaded is what was trained, alone and in every form in which it is shipped."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mernas.components.datasets.clip import Clip
from mernas.components.datasets.synthetic import Synthetic
from mernas.components.topologies.network import Network, build_network
from mernas.evaluation import programs
from mernas.evaluation.bundle import Bundle, RuleEstimate, TrainingData, write_bundle
from mernas.evaluation.model import Model, load_model, network_bytes
from mernas.evaluation.preparation import prepare
from mernas.evaluation.programs import Program, onnx_program, torch_program
from mernas.space.errors import DataError, UnavailableError
from mernas.space.genotype import Genotype, parse_genotype
from mernas.space.presets import load_preset

# Every block, readout and head, two kinds of input, and maps that differ in shape.
MIXED = """
streams:
  - input: {apex_frame: {size: 14}}
    backbone: [{convolution: {width: 3, norm: late, dropout: 0.2}}, {residual: {width: 4}}]
  - input: {optical_flow: {size: 28, quantities: u+v}}
    backbone: [{residual: {width: 2}}]
    readout: flatten
tasks: [{emotion: {head: {mlp: {hidden: 8}}}}]
loss: cross_entropy
"""


def trained(genotype: Genotype, seed: int = 0) -> Network:
    """A network whose running means and variances are not those of its start."""
    torch.manual_seed(seed)
    network = build_network(genotype, 3).train()
    for _ in range(3):
        network([3 * torch.randn(8, *shape) + 1 for shape in shapes_of(genotype)])
    return network.eval()


def shapes_of(genotype: Genotype) -> list[tuple[int, int, int]]:
    return [component.shape for component in manifest(genotype).inputs]


def manifest(genotype: Genotype) -> Bundle:
    return Bundle(
        genotype=genotype,
        classes=("negative", "positive", "surprise"),
        facts=frozenset(),
        parameters=1,
        data=TrainingData("toy", "c", "l", 9, 3, "made up"),
        rule="best",
        estimate=RuleEstimate("nested-loso", 0.5, 0.4, 0.6, 0.5),
        plan="p",
        seed=0,
        temperature=2.0,
        threshold=0.5,
        coverage=0.8,
    )


def saved(folder: Path, genotype: Genotype, network: nn.Module, **changes: object) -> Model:
    files = {"model.safetensors": network_bytes(network), "genotype.yaml": genotype.to_yaml().encode()}
    write_bundle(folder, replace(manifest(genotype), **changes), files)  # type: ignore[arg-type]  # checked by the tests
    return load_model(folder)


@pytest.fixture(scope="module")
def mixed() -> tuple[Genotype, Network]:
    genotype = parse_genotype(MIXED)
    return genotype, trained(genotype)


def test_weights_and_running_statistics_survive_to_the_bit(mixed: tuple[Genotype, Network], tmp_path: Path) -> None:
    genotype, network = mixed
    loaded = saved(tmp_path, genotype, network).network
    before, after = network.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    means = [name for name in before if name.endswith("running_mean")]
    assert means
    assert all(float(after[name].abs().max()) > 0 for name in means)  # no fresh norm has such means
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_probabilities_are_the_softmax_of_tempered_logits_in_eval_mode(tmp_path: Path) -> None:
    genotype = load_preset("ststnet").genotype
    network = trained(genotype)
    model = saved(tmp_path, genotype, network)
    maps = [torch.randn(7, 3, 28, 28) for _ in range(3)]
    with torch.no_grad():
        logits = network(maps).double().numpy()

    def softmax(values: np.ndarray) -> np.ndarray:
        return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)

    assert np.abs(model.raw_probabilities_of(maps) - softmax(logits)).max() < 1e-9
    assert np.abs(model.probabilities_of(maps) - softmax(logits / 2.0)).max() < 1e-9


def test_equal_weights_give_equal_files(mixed: tuple[Genotype, Network]) -> None:
    genotype, network = mixed
    again = build_network(genotype, 3)
    again.load_state_dict(network.state_dict())
    assert network_bytes(again) == network_bytes(network)
    assert network_bytes(trained(genotype, seed=1)) != network_bytes(network)


def test_maps_are_those_of_the_preparation_cache(mixed: tuple[Genotype, Network], tmp_path: Path) -> None:
    model = saved(tmp_path / "model", *mixed)
    clips = Synthetic(subjects=2, clips=2, size=48).load().clips
    kept = [prepare(clips, recipe, tmp_path / "cache") for recipe in model.bundle.recipes]
    for stream, expected in zip(model.prepare(clips), kept, strict=True):
        assert np.array_equal(stream.numpy(), expected)
    assert model.probabilities(clips).shape == (4, 3)


def test_every_clip_that_cannot_be_prepared_is_named(mixed: tuple[Genotype, Network], tmp_path: Path) -> None:
    model = saved(tmp_path, *mixed)
    bare = [Clip(f"a/b/{number}", "a", "a/b", str(number)) for number in range(2)]
    with pytest.raises(DataError) as caught:
        model.prepare(bare)
    assert [str(problem).partition(":")[0] for problem in caught.value.problems] == ["a/b/0", "a/b/1"]


def test_no_clips_give_no_rows_and_wrong_maps_are_refused(mixed: tuple[Genotype, Network], tmp_path: Path) -> None:
    model = saved(tmp_path, *mixed)
    assert model.probabilities([]).shape == (0, 3)
    with pytest.raises(DataError, match=r"must be of 2 streams, found 1"):
        model.probabilities_of([torch.zeros(1, 1, 14, 14)])
    with pytest.raises(DataError, match=r"maps of stream 1: must be \(n, 2, 28, 28\)"):
        model.probabilities_of([torch.zeros(1, 1, 14, 14), torch.zeros(1, 2, 14, 14)])
    with pytest.raises(DataError, match="with one n for all streams"):
        model.probabilities_of([torch.zeros(1, 1, 14, 14), torch.zeros(2, 2, 28, 28)])


def test_loading_and_predicting_leave_the_process_as_it_was(mixed: tuple[Genotype, Network], tmp_path: Path) -> None:
    torch.manual_seed(11)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    saved(tmp_path, *mixed).probabilities_of([torch.zeros(1, *shape) for shape in shapes_of(mixed[0])])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_loading_needs_neither_ray_nor_optuna(tmp_path: Path) -> None:
    code = "import sys; import mernas.evaluation.model; print([n for n in ('ray', 'optuna') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def flow_model(tmp_path: Path) -> Model:
    genotype = parse_genotype(
        """
        streams:
          - input: {optical_flow: {estimator: given, size: 14}}
            backbone: [{convolution: {width: 2}}]
        tasks: [emotion]
        loss: cross_entropy
        """
    )
    facts = frozenset({"given flow", "given strain"})
    return saved(tmp_path / "model", genotype, trained(genotype), facts=facts)


def test_predict_gives_one_row_per_source_with_the_columns_that_are_promised(flow_model: Model, tmp_path: Path) -> None:
    sources = []
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 256, size=(28, 28, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
        sources.append(tmp_path / f"{number}.png")
    table = flow_model.predict(*sources)
    names = list(flow_model.classes)
    assert list(table.columns) == ["source", "prediction", "confident", *(f"p_{name}" for name in names), "notes"]
    assert list(table["source"]) == [str(source) for source in sources]
    probabilities = table[[f"p_{name}" for name in names]].to_numpy()
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert list(table["prediction"]) == [names[row.argmax()] for row in probabilities]
    # OpenCV writes blue, green, red: strain, v, u.
    image = cv2.imread(str(sources[0]), cv2.IMREAD_UNCHANGED)[:, :, ::-1].astype(np.float32)
    given = {"flow": lambda: image[:, :, :2].transpose(2, 0, 1), "strain": lambda: image[:, :, 2]}
    clip = Clip("x/y/z", "x", "x/y", "f", given=given)
    assert np.abs(flow_model.probabilities([clip]) - probabilities[0]).max() < 1e-6  # one clip alone, or three at once


def test_a_prediction_is_confident_from_the_threshold_on(flow_model: Model, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.arange(28 * 28 * 3).reshape(28, 28, 3).astype(np.uint8))
    top = flow_model.predict(tmp_path / "a.png").filter(like="p_").to_numpy().max()
    for threshold, confident in ((top, True), (np.nextafter(top, 1), False), (0.0, True)):
        model = replace(flow_model, bundle=replace(flow_model.bundle, threshold=float(threshold)))
        assert model.predict(tmp_path / "a.png")["confident"].tolist() == [confident]


def test_a_list_of_paths_and_frames_that_are_no_numbers_are_refused_in_one_message(flow_model: Model) -> None:
    with pytest.raises(DataError) as caught:
        flow_model.predict(["a.mp4"], apex=3.5, onset=True)  # type: ignore[arg-type]  # that is the mistake
    said = [str(problem) for problem in caught.value.problems]
    assert len(said) == 3
    assert "sources: must be paths, found list ['a.mp4']. Give paths one by one" in said[0]
    assert "onset: must be the number of a frame" in said[1]
    assert "apex: must be the number of a frame, counted from 0, found float 3.5" in said[2]


@pytest.mark.parametrize("fps", ["100", True, [25.0]])
def test_a_frame_rate_that_is_no_number_is_refused_with_all_else(flow_model: Model, fps: object) -> None:
    with pytest.raises(DataError) as caught:
        flow_model.predict("a.mp4", apex=3.5, fps=fps)  # type: ignore[arg-type]  # that is the mistake
    said = [str(problem) for problem in caught.value.problems]
    assert len(said) == 2
    kind = f"{type(fps).__name__} {fps!r}"
    assert said[1] == f"fps: must be a number of frames per second, found {kind}. Give a number."


@pytest.mark.parametrize("fps", [100, 29.97, np.float32(25), np.int64(200), 10**400])
def test_every_kind_of_number_can_be_a_frame_rate(flow_model: Model, fps: float) -> None:
    with pytest.raises(DataError, match="a flow image has no frame rate"):
        flow_model.predict("a.png", fps=fps)


def test_the_home_folder_is_meant_by_a_tilde(
    flow_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    cv2.imwrite(str(tmp_path / "a.png"), np.arange(28 * 28 * 3).reshape(28, 28, 3).astype(np.uint8))
    table = flow_model.predict("~/a.png", Path("~/a.png"))
    assert table["source"].tolist() == [str(tmp_path / "a.png")] * 2
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").rename(tmp_path / "~a.png")
    assert flow_model.predict("~a.png")["source"].tolist() == ["~a.png"]  # nobody of that name


def test_a_prediction_that_is_no_number_is_refused(flow_model: Model, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.arange(28 * 28 * 3).reshape(28, 28, 3).astype(np.uint8))
    for parameter in flow_model.network.parameters():
        parameter.fill_(float("nan"))
    with pytest.raises(DataError, match=r"must give probabilities that are numbers, found NaN for .*a\.png"):
        flow_model.predict(tmp_path / "a.png")


# Programs


@pytest.fixture(scope="module")
def exported(mixed: tuple[Genotype, Network]) -> Program:
    return torch_program(mixed[1], shapes_of(mixed[0]))


@pytest.fixture(scope="module")
def onnx_file(mixed: tuple[Genotype, Network]) -> Program:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra `onnx`")
    return onnx_program(mixed[1], shapes_of(mixed[0]))


def batches(genotype: Genotype) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(99)
    return [[torch.randn((n, *shape), generator=generator) for shape in shapes_of(genotype)] for n in (1, 2, 7)]


def test_the_torch_program_gives_the_networks_logits_for_any_batch(
    mixed: tuple[Genotype, Network], exported: Program
) -> None:
    program = torch.export.load(io.BytesIO(exported.content)).module()
    for maps in batches(mixed[0]):
        with torch.no_grad():
            assert torch.allclose(program(*maps), mixed[1](maps), atol=1e-4, rtol=0)
    assert 0 <= exported.difference <= 1e-4


def test_the_onnx_file_gives_the_networks_logits_for_any_batch(
    mixed: tuple[Genotype, Network], onnx_file: Program
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file.content, providers=["CPUExecutionProvider"])
    assert [(item.name, item.shape) for item in session.get_inputs()] == [
        ("maps_0", ["batch", 1, 14, 14]),
        ("maps_1", ["batch", 2, 28, 28]),
    ]
    for maps in batches(mixed[0]):
        (logits,) = session.run(["logits"], {f"maps_{place}": one.numpy() for place, one in enumerate(maps)})
        with torch.no_grad():
            assert np.abs(logits - mixed[1](maps).numpy()).max() < 1e-4
    assert 0 <= onnx_file.difference <= 1e-4


def test_programs_tell_nothing_of_the_machine(exported: Program, onnx_file: Program) -> None:
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        parts = [archive.read(name) for name in archive.namelist()]
    here = [str(Path(programs.__file__).parents[1]).encode(), sys.prefix.encode()]
    assert not [path for path in here for part in (*parts, onnx_file.content) if path in part]


def test_onnx_without_its_extra_is_unavailable_with_the_command_that_helps(
    mixed: tuple[Genotype, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else known(name, *rest))
    with pytest.raises(UnavailableError, match=r"ONNX: unavailable: needs onnx\. .*mernas\[onnx\]"):
        onnx_program(mixed[1], shapes_of(mixed[0]))


class _Branching(nn.Module):
    """Does what no traced program can: it looks at values."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[0].flatten(1) if float(maps[0].sum()) > 0 else -maps[0].flatten(1)


def test_a_network_that_cannot_be_traced_is_unavailable_with_the_reason() -> None:
    with pytest.raises(UnavailableError, match=r"torch\.export: unavailable: torch cannot export this network, found"):
        torch_program(_Branching().eval(), [(1, 2, 2)])


class _Moody(nn.Module):
    """Computes something else when it is traced than when it is run."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[0].flatten(1) + (1.0 if torch.compiler.is_exporting() else 0.0)


def test_a_program_that_computes_something_else_is_refused() -> None:
    with pytest.raises(UnavailableError, match=r"must agree with the network's to 0\.0001, found 0"):
        torch_program(_Moody().eval(), [(1, 2, 2)])


class _Sum(nn.Module):
    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[0].flatten(1)


def test_onnx_runtime_that_cannot_be_used_is_a_reason_and_tells_nothing_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
    shapes = [(1, 2, 2)]

    def old(*_: object, **__: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Unsupported model IR version: 12")

    class Failing(runtime.InferenceSession):  # type: ignore[misc]  # it has no types
        def run(self, *_: object) -> None:
            raise ValueError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "InferenceSession", old)
        with pytest.raises(UnavailableError, match=r"ONNX: unavailable: ONNX Runtime cannot load .* IR version: 12"):
            onnx_program(_Sum(), shapes)
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "InferenceSession", Failing)
        with pytest.raises(UnavailableError, match=r"ONNX Runtime cannot run this network, found out of luck"):
            onnx_program(_Sum(), shapes)
    known = programs.importlib.import_module

    def broken(name: str) -> object:
        if name == "onnxruntime":
            raise ImportError("cannot open /opt/ada/lib python/x/libonnx.so: no such file")
        return known(name)

    monkeypatch.setattr(programs.importlib, "import_module", broken)
    with pytest.raises(UnavailableError, match=r"cannot load this network, found cannot open .*libonnx\.so") as caught:
        onnx_program(_Sum(), shapes)
    assert "ada" not in str(caught.value)


@pytest.mark.parametrize("where", ["load", "save"])
def test_a_program_that_torch_cannot_read_back_is_unavailable(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("PytorchStreamReader failed")

    monkeypatch.setattr(torch.export, where, fail)
    with pytest.raises(UnavailableError, match=r"torch cannot read what it exported, found PytorchStreamReader"):
        torch_program(_Sum(), [(1, 2, 2)])
