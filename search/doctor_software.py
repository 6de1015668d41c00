"""The software as the doctor sees it: versions, wheels that overwrite each other, Ray, and the components."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

import mernas
from mernas.search.doctor_report import NOTE, OK, PROBLEM, Diagnosis
from mernas.space.errors import MernasError

OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
"""Wheels that all install the same module, cv2: a second one overwrites the files of the first."""


def look_at_versions(found: Diagnosis) -> None:
    """Look at mernas, Python and the libraries that mernas declares."""
    found.facts["mernas"], found.facts["python"] = mernas.__version__, platform.python_version()
    found.facts["system"] = platform.platform()
    found.add(OK, "mernas", f"{mernas.__version__}, Python {platform.python_version()}, {platform.platform()}")
    libraries: dict[str, str | None] = {}
    for requirement in _requirements():
        name = requirement.name
        libraries[name] = version = _version(name)
        remedy = f'pip install "{name}{requirement.specifier}"'
        if version is None:
            found.add(PROBLEM, name, "is not installed", remedy)
        elif not requirement.specifier.contains(version, prereleases=True):
            found.add(PROBLEM, name, f"{version} is installed, mernas needs {requirement.specifier}", remedy)
    found.facts["libraries"] = libraries
    there = ", ".join(f"{name} {version}" for name, version in sorted(libraries.items()) if version is not None)
    found.add(OK, "libraries", there)


def _requirements() -> list[Requirement]:
    """What mernas declares that it needs, extras apart; Ray in any case."""
    try:
        stated = [Requirement(text) for text in metadata.requires("mernas") or ()]
    except (metadata.PackageNotFoundError, InvalidRequirement):
        stated = []
    needed = {one.name: one for one in stated if one.marker is None or one.marker.evaluate({"extra": ""})}
    needed.setdefault("ray", Requirement("ray"))
    return [needed[name] for name in sorted(needed)]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def look_at_opencv(found: Diagnosis) -> None:
    """Look for several wheels of OpenCV."""
    wheels = {name: version for name in OPENCV if (version := _version(name)) is not None}
    found.facts["opencv"] = wheels
    if len(wheels) > 1:
        both = " and ".join(f"{name} {version}" for name, version in wheels.items())
        remedy = f"pip uninstall {' '.join(wheels)}, then pip install opencv-python-headless"
        found.add(PROBLEM, "OpenCV", f"{both} are installed and overwrite each other's files", remedy)


def look_at_ray(found: Diagnosis) -> None:
    """Look whether Ray can be imported; it is not started."""
    try:
        version = str(importlib.import_module("ray").__version__)
    except Exception as error:  # whatever a broken installation raises is what the user must hear
        found.facts["ray"] = {"importable": False, "error": str(error)}
        found.add(PROBLEM, "Ray", f"cannot be imported: {error}", 'pip install "ray[tune]", or use --executor serial')
        return
    found.facts["ray"] = {"importable": True, "version": version}
    found.add(OK, "Ray", f"{version} can be imported (it was not started)")


def look_at_leaves(found: Diagnosis) -> None:
    """Look which components can be made on this machine, and what they need of the data."""
    try:
        importlib.import_module("mernas.components")
    except Exception as error:  # as above
        lacking = f", needs the module {error.name}" if isinstance(error, ImportError) and error.name else ""
        found.add(PROBLEM, "components", f"unavailable{lacking}: {error}", "install what is missing")
        return
    from mernas.space.registry import REGISTRY
    from mernas.space.taxonomy import AXES

    leaves: dict[str, list[dict[str, Any]]] = {}
    for declaration in REGISTRY:
        if AXES[declaration.axis].record:
            continue
        unavailable = _unavailable(declaration.factory)
        needs = sorted(declaration.needs)
        values = {
            f"{name}={choice}": sorted(wanted)
            for name, parameter in declaration.parameters.items()
            for choice, wanted in parameter.needs.items()
        }
        entry = {"name": declaration.name, "usable": not unavailable, "unavailable": unavailable}
        leaves.setdefault(declaration.axis, []).append({**entry, "needs_of_data": needs, "choices_need": values})
        if unavailable:
            found.add(NOTE, declaration.title, f"unavailable: {unavailable}")
    found.facts["leaves"] = leaves
    counts = (f"{axis} {sum(leaf['usable'] for leaf in own)}" for axis, own in leaves.items())
    found.add(OK, "leaves", f"usable on this machine: {', '.join(counts)}")
    needy = []
    for leaf in (leaf for own in leaves.values() for leaf in own):
        for choice, wanted in {"": leaf["needs_of_data"], **leaf["choices_need"]}.items():
            if wanted:
                needy.append(f"{' '.join(filter(None, (leaf['name'], choice)))} ({', '.join(wanted)})")
    found.add(OK, "need of the data", "; ".join(needy))


def _unavailable(factory: Callable[[], Any]) -> str:
    """Why a component cannot be made on this machine, or empty; one with an open slot is made with its contents."""
    try:
        factory()
    except (ImportError, MernasError) as error:
        return str(error)
    except TypeError:
        return ""
    return ""
