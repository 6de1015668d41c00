"""A registry is filled at its first question: once, whole, and again only if it failed."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
import time
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

from mernas.space.errors import SpaceError, UnknownNameError
from mernas.space.registry import Registry, register


@dataclass(frozen=True)
class Nothing:
    """Nothing."""


def test_importing_the_components_loads_no_torch_and_the_first_question_loads_them_all() -> None:
    code = """
import sys
import mernas.components
from mernas.space.registry import REGISTRY
assert "torch" not in sys.modules
assert "convolution" in REGISTRY.names("block")
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_kind_of_question_fills_a_registry_and_only_the_first_does() -> None:
    for ask in (lambda one: one.names("fusion"), lambda one: one.get("fusion", "mine"), list):
        registry, calls = Registry(), []

        def source(registry: Registry = registry, calls: list[int] = calls) -> None:
            calls.append(1)
            register("fusion", "mine", registry=registry)(Nothing)
            assert registry.names("fusion") == ("mine",)  # a component may ask while it is registered

        registry.fill_from(source)
        ask(registry)
        ask(registry)
        assert calls == [1]


def test_a_source_that_fails_is_asked_again_and_says_the_same() -> None:
    registry = Registry()

    def source() -> None:
        raise OSError("cannot be read")

    registry.fill_from(source)
    for _ in range(2):
        with pytest.raises(OSError, match="cannot be read"):
            registry.names("fusion")


def test_a_source_that_fails_half_way_says_the_same_and_can_be_repaired() -> None:
    registry, repaired = Registry(), []
    register("fusion", "earlier", registry=registry)(Nothing)

    def source() -> None:
        register("fusion", "mine", registry=registry)(Nothing)
        if not repaired:
            raise OSError("cannot be read")

    registry.fill_from(source)
    for _ in range(2):
        with pytest.raises(OSError, match="cannot be read"):
            registry.names("fusion")
    repaired.append("now")
    assert registry.names("fusion") == ("earlier", "mine")
    with pytest.raises(SpaceError, match="is registered already"):
        register("fusion", "mine", registry=registry)(Nothing)


def test_two_of_one_name_are_refused_at_every_question() -> None:
    registry = Registry()

    def source() -> None:
        register("fusion", "mine", registry=registry)(Nothing)
        register("fusion", "mine", registry=registry)(Nothing)

    registry.fill_from(source)
    for _ in range(3):
        with pytest.raises(SpaceError, match="is registered already"):
            registry.names("fusion")


def test_modules_that_were_imported_before_one_failed_keep_what_they_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, shared = Registry(), types.ModuleType("shared_with_modules")
    vars(shared).update(registry=registry, register=register, Nothing=Nothing)
    monkeypatch.setitem(sys.modules, "shared_with_modules", shared)
    text = "from shared_with_modules import *\nregister('fusion', {name!r}, registry=registry)(Nothing)\n"
    (tmp_path / "whole_part.py").write_text(text.format(name="whole"))
    (tmp_path / "broken_part.py").write_text(text.format(name="broken") + "import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)

    def source() -> None:  # what was imported whole is not run again
        for name in ("whole_part", "broken_part"):
            importlib.import_module(name)
            monkeypatch.setitem(sys.modules, name, sys.modules[name])

    registry.fill_from(source)
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
            registry.names("fusion")
    monkeypatch.setitem(sys.modules, "no_such_module_anywhere", types.ModuleType("no_such_module_anywhere"))
    assert registry.names("fusion") == ("broken", "whole")


def test_a_second_thread_waits_until_a_registry_is_whole() -> None:
    registry, begun, found = Registry(), threading.Event(), []

    def source() -> None:
        begun.set()
        time.sleep(0.2)
        register("fusion", "mine", registry=registry)(Nothing)

    def ask() -> None:
        begun.wait()
        found.append(registry.names("fusion"))

    registry.fill_from(source)
    other = threading.Thread(target=ask)
    other.start()
    registry.fill()
    other.join()
    assert found == [("mine",)]


def test_a_registry_without_a_source_answers_what_it_has() -> None:
    with pytest.raises(UnknownNameError):
        Registry().get("fusion", "mine")
