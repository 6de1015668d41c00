"""The doctor: what a user needs to know about this machine when something does not work. It changes nothing."""

from __future__ import annotations

from mernas.search.doctor_machine import (
    look_at_cache,
    look_at_cores,
    look_at_devices,
    look_at_disk,
    look_at_memory,
    look_at_shared_memory,
)
from mernas.search.doctor_report import Diagnosis
from mernas.search.doctor_software import look_at_leaves, look_at_opencv, look_at_ray, look_at_versions

LOOKS = (
    look_at_versions,
    look_at_opencv,
    look_at_ray,
    look_at_cores,
    look_at_devices,
    look_at_memory,
    look_at_shared_memory,
    look_at_disk,
    look_at_cache,
    look_at_leaves,
)


def examine() -> Diagnosis:
    """Look at this machine: libraries, processors, memory, disk and components. Takes a few seconds, starts nothing.

    Example:
        >>> {"mernas", "cores", "memory", "leaves"} <= examine().facts.keys()
        True
    """
    found = Diagnosis()
    for look in LOOKS:
        look(found)
    return found
