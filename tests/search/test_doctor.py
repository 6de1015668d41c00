"""The doctor against independent sources, and every problem that it can find, made on purpose."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import mernas
from mernas.cli import cli
from mernas.search import doctor, doctor_machine, doctor_software
from mernas.search.doctor import examine
from mernas.search.doctor_machine import cpu_limit
from mernas.search.doctor_report import NOTE, OK, PROBLEM, Diagnosis
from mernas.space.errors import Problem, UnavailableError
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import AXES


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    return examine()


def verdicts(diagnosis: Diagnosis, subject: str) -> list[tuple[str, str]]:
    return [(line.verdict, line.text) for line in diagnosis.lines if line.subject == subject]


def test_versions_are_those_that_the_libraries_state_of_themselves(found: Diagnosis) -> None:
    libraries = found.facts["libraries"]
    assert found.facts["mernas"] == mernas.__version__
    assert (libraries["numpy"], libraries["torch"]) == (np.__version__, torch.__version__)
    assert libraries["ray"] == metadata.version("ray")
    assert not {"pytest", "ruff", "mypy"} & libraries.keys()  # those of extras


def test_cores_are_those_of_the_affinity(found: Diagnosis) -> None:
    assert found.facts["cores"]["usable"] == len(os.sched_getaffinity(0))
    allowed = sorted(os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(0, allowed[:1])
        narrow = Diagnosis()
        doctor_machine.look_at_cores(narrow)
    finally:
        os.sched_setaffinity(0, allowed)
    assert narrow.facts["cores"]["usable"] == 1


def test_disk_and_memory_are_what_the_system_says(found: Diagnosis) -> None:
    here = found.facts["disk"]["current"]
    assert here["folder"] == str(Path.cwd())
    assert here["free"] == pytest.approx(shutil.disk_usage(".").free, rel=0.05)
    if Path("/dev/shm").is_dir():
        assert found.facts["shared_memory"]["total"] == shutil.disk_usage("/dev/shm").total
    lines = Path("/proc/meminfo").read_text().splitlines()
    stated = {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":") for line in lines)}
    assert found.facts["memory"]["total"] == stated["MemTotal"]
    assert 0 < found.facts["memory"]["available"] <= stated["MemTotal"]


def test_the_size_of_the_cache_is_that_of_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MERNAS_CACHE", str(tmp_path))
    (tmp_path / "prepared" / "aa").mkdir(parents=True)
    (tmp_path / "prepared" / "aa" / "x.npy").write_bytes(bytes(1000))
    (tmp_path / "prepared" / "y.json").write_bytes(bytes(24))
    cache = Diagnosis({"disk": {}})
    doctor_machine.look_at_cache(cache)
    assert (cache.facts["disk"]["cache"]["files"], cache.facts["disk"]["cache"]["bytes"]) == (2, 1024)
    assert verdicts(cache, "prepared maps") == [(OK, "1.0 KiB in 2 files")]


def test_a_cache_that_does_not_exist_yet_is_no_problem_and_is_not_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MERNAS_CACHE", str(tmp_path / "new"))
    cache = Diagnosis({"disk": {}})
    doctor_machine.look_at_cache(cache)
    assert cache.healthy
    assert not (tmp_path / "new").exists()


def test_threads_are_those_of_torch_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        diagnosis = Diagnosis()
        doctor_machine.look_at_devices(diagnosis)
    finally:
        torch.set_num_threads(before)
    assert diagnosis.facts["threads"] == {"torch": 1, "OMP_NUM_THREADS": "7"}


def test_cuda_devices_are_those_of_torch_and_their_absence_has_a_reason(
    found: Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(found.facts["cuda"]["devices"]) == torch.cuda.device_count()
    if not torch.cuda.is_available():
        ((verdict, text),) = verdicts(found, "CUDA")
        assert verdict == NOTE
        assert text.startswith("no CUDA device: ")

    class Device:
        name, total_memory = "a device", 80 * 1024**3

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Device)
    two = Diagnosis()
    doctor_machine.look_at_devices(two)
    assert verdicts(two, "cuda:1") == [(OK, "a device, 80.0 GiB")]


def test_every_leaf_of_the_registry_is_told_with_what_it_needs_of_the_data(found: Diagnosis) -> None:
    leaves = {(axis, leaf["name"]): leaf for axis, own in found.facts["leaves"].items() for leaf in own}
    assert leaves.keys() == {(one.axis, one.name) for one in REGISTRY if not AXES[one.axis].record}
    assert all(leaf["usable"] for leaf in leaves.values())
    assert leaves["flow_estimator", "farneback"]["needs_of_data"] == ["apex", "frames", "onset"]
    ((_, text),) = verdicts(found, "need of the data")
    assert "farneback (apex, frames, onset)" in text


def test_a_leaf_that_cannot_be_made_here_is_listed_with_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise UnavailableError(Problem("optical flow", "needs the Python module cv9"))

    factory = REGISTRY.get("flow_estimator", "farneback").factory
    monkeypatch.setattr(factory, "__init__", lambda self: refuse(self))
    diagnosis = Diagnosis()
    doctor_software.look_at_leaves(diagnosis)
    assert verdicts(diagnosis, 'flow_estimator "farneback"') == [
        (NOTE, "unavailable: optical flow: needs the Python module cv9.")
    ]
    (leaf,) = [leaf for leaf in diagnosis.facts["leaves"]["flow_estimator"] if leaf["name"] == "farneback"]
    assert not leaf["usable"]


def fake_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Make some libraries appear to be installed in a version, or not at all."""
    stated = {name.replace("_", "-"): version for name, version in versions.items()}
    original = metadata.version

    def version(name: str) -> str:
        if name in stated:
            if stated[name] is None:
                raise metadata.PackageNotFoundError(name)
            return str(stated[name])
        return original(name)

    monkeypatch.setattr(metadata, "version", version)


def test_two_wheels_of_opencv_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_versions(monkeypatch, opencv_python="4.11.0", opencv_python_headless="5.0.0")
    diagnosis = examine()
    assert not diagnosis.healthy
    ((verdict, text),) = verdicts(diagnosis, "OpenCV")
    assert verdict == PROBLEM
    assert "opencv-python 4.11.0 and opencv-python-headless 5.0.0" in text


def test_missing_and_unsuitable_libraries_are_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_versions(monkeypatch, pandas=None, numpy="1.0")
    diagnosis = Diagnosis()
    doctor_software.look_at_versions(diagnosis)
    assert verdicts(diagnosis, "pandas") == [(PROBLEM, "is not installed")]
    ((verdict, text),) = verdicts(diagnosis, "numpy")
    assert verdict == PROBLEM
    assert "1.0 is installed, mernas needs " in text


def test_a_ray_that_cannot_be_imported_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.import_module

    def broken(name: str, *rest: Any) -> Any:
        if name == "ray":
            raise ImportError("no _raylet")
        return original(name, *rest)

    monkeypatch.setattr(importlib, "import_module", broken)
    diagnosis = Diagnosis()
    doctor_software.look_at_ray(diagnosis)
    assert verdicts(diagnosis, "Ray") == [(PROBLEM, "cannot be imported: no _raylet")]
    assert diagnosis.facts["ray"]["importable"] is False


def test_ray_is_not_started(found: Diagnosis) -> None:
    import ray

    assert found.facts["ray"] == {"importable": True, "version": ray.__version__}
    assert not ray.is_initialized()


def test_a_folder_that_cannot_be_written_and_a_full_disk_are_problems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full, refused = Diagnosis(), Diagnosis()
    with monkeypatch.context() as changed:
        changed.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]  # the tuple that it returns
        doctor_machine._folder(full, "cache", tmp_path, "")
    assert [line.verdict for line in full.lines] == [PROBLEM]

    def no_file(*_: Any, **__: Any) -> Iterator[None]:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(doctor_machine.tempfile, "TemporaryFile", no_file)
    doctor_machine._folder(refused, "cache", tmp_path, "set MERNAS_CACHE to another folder")
    assert [(line.verdict, line.remedy) for line in refused.lines] == [(PROBLEM, "set MERNAS_CACHE to another folder")]


def test_little_shared_memory_is_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor_machine, "_total_memory", lambda: 100 * shutil.disk_usage(tmp_path).free)
    monkeypatch.setattr(doctor_machine, "SHARED_MEMORY", tmp_path)
    diagnosis = Diagnosis()
    doctor_machine.look_at_shared_memory(diagnosis)
    assert [line.verdict for line in diagnosis.lines] == [NOTE]
    assert "--shm-size" in diagnosis.lines[0].remedy


def test_limits_of_control_groups_are_read_in_both_versions(tmp_path: Path) -> None:
    new = tmp_path / "new"
    (new / "a" / "b").mkdir(parents=True)
    (new / "a" / "cpu.max").write_text("150000 100000\n")
    (new / "a" / "b" / "cpu.max").write_text("max 100000\n")
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    assert cpu_limit(new, own) == 1.5
    old = tmp_path / "old" / "cpu" / "job"
    old.mkdir(parents=True)
    for name, value in (("quota", "50000"), ("period", "100000")):
        (old / f"cpu.cfs_{name}_us").write_text(value)
    own.write_text("3:cpuset:/\n2:cpu,cpuacct:/job\n0::/\n")
    assert cpu_limit(tmp_path / "old", own) == 0.5
    (old / "cpu.cfs_quota_us").write_text("-1")
    assert cpu_limit(tmp_path / "old", own) is None
    assert cpu_limit(tmp_path / "nothing", tmp_path / "none") is None


def test_the_command_prints_lines_with_verdicts_and_exits_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = Diagnosis({"mernas": "1"})
    healthy.add(OK, "cores", "4")
    monkeypatch.setattr(doctor, "examine", lambda: healthy)
    good = CliRunner().invoke(cli, ["doctor"])
    assert (good.exit_code, good.output) == (0, "ok       cores  4\nNo problem found.\n")
    healthy.add(PROBLEM, "Ray", "is broken", "mend it")
    bad = CliRunner().invoke(cli, ["doctor"])
    assert bad.exit_code == 1
    assert bad.output.splitlines()[1:] == ["problem  Ray    is broken. Mend it.", "1 problem found."]
    told = CliRunner().invoke(cli, ["doctor", "--json"])
    assert told.exit_code == 1
    body = json.loads(told.stdout)
    assert (body["mernas"], body["healthy"], len(body["lines"])) == ("1", False, 2)


def test_the_whole_diagnosis_is_json(found: Diagnosis) -> None:
    body = json.loads(json.dumps(found.plain()))
    assert body["healthy"] == all(line["verdict"] != "problem" for line in body["lines"])
    assert {"libraries", "cores", "cuda", "threads", "memory", "shared_memory", "disk", "ray", "leaves"} <= body.keys()


def test_help_has_an_example() -> None:
    assert "Examples:" in CliRunner().invoke(cli, ["doctor", "--help"]).output
