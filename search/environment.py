"""Versions of whatever can change the bits of a result, for environment.txt; and which of them are others here."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from packaging.requirements import Requirement

DEVELOPMENT = ("dev", "test")
"""Extras of those who work on mernas itself: no result is made with what is in them alone."""


def environment(*, machine: bool) -> str:
    """Return versions of Python, the system, mernas and every library that it declares and that is installed.

    Libraries are those of the requirements of the installed mernas, extras included, in the order of their names. None
    is imported.

    Args:
        machine: Whether to tell of the machine as well: which system exactly, and how many cores. What travels to other
            people must not tell whose machine it was.

    Returns:
        Lines of a name and a version.

    Example:
        >>> environment(machine=False).split()[0]
        'python'
    """
    system = platform.platform() if machine else f"{platform.system()} {platform.machine()}"
    lines = [f"python {platform.python_version()}", f"system {system}"]
    if machine:
        lines.append(f"cores {os.cpu_count()}")
    return "".join(f"{line}\n" for line in [*lines, *(f"{name} {version}" for name, version in _libraries())])


def differences(written: str, here: str) -> list[str]:
    """Return what has another version here than in an earlier environment.

    Only what both name is compared: earlier versions of mernas named fewer libraries, and a library that a run did not
    have can have changed nothing in it.

    Args:
        written: Text of environment.txt.
        here: What `environment` says now.

    Example:
        >>> differences("scipy 1.15.0", "scipy 1.16.1")
        ['scipy 1.15.0 (here 1.16.1)']
    """
    before, now = (dict(line.split(" ", 1) for line in text.splitlines() if " " in line) for text in (written, here))
    return [f"{name} {before[name]} (here {found})" for name, found in now.items() if before.get(name, found) != found]


def _libraries() -> list[tuple[str, str]]:
    """Names and versions: mernas, then what it declares and what is installed of that."""
    stated = [Requirement(text) for text in metadata.requires("mernas") or ()]
    extras = ["", *(extra for extra in _extras() if extra not in DEVELOPMENT)]
    wanted = {
        one.name
        for one in stated
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)
    }
    found = [("mernas", metadata.version("mernas"))]
    for name in sorted(wanted - {"mernas"}):  # an extra may hold other extras of mernas
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue  # of an extra that is not installed; `mernas doctor` tells of one that must be there
    return found


def _extras() -> list[str]:
    return metadata.metadata("mernas").get_all("Provides-Extra") or []
