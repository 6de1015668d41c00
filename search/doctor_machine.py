"""The machine as the doctor sees it: cores, devices, memory, disk and the cache of prepared maps."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mernas.search.byte_sizes import size_text
from mernas.search.doctor_report import NOTE, OK, PROBLEM, Diagnosis

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Ray keeps its objects; only its size is looked at
STORE_SHARE = 0.3
"""Which part of the memory Ray's object store takes by default."""
GIB = 1024**3
LITTLE_MEMORY, LITTLE_DISK = 2 * GIB, 1 * GIB
TOO_LITTLE_MEMORY, TOO_LITTLE_DISK = GIB // 2, GIB // 10


def look_at_cores(found: Diagnosis) -> None:
    """Look at the cores that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit()
    found.facts["cores"] = {"of_the_machine": os.cpu_count(), "usable": usable, "container_limit": limit}
    text = f"{usable} of {os.cpu_count()} can be used by this process"
    if limit is not None and limit < usable:
        found.add(NOTE, "cores", f"{text}, its container allows the time of {limit:g}", "use --workers accordingly")
    else:
        found.add(OK, "cores", text)


def cpu_limit(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return how many cores' time the control groups of this process allow, or None for no limit.

    Args:
        cgroups: Where control groups are mounted, version 1 or 2.
        own: The file that says which this process is in.
    """
    limits: list[float] = []
    for line in _text(own).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":  # version 2: one tree for all controllers, "QUOTA PERIOD" or "max PERIOD"
            root, read = cgroups, _quota
        elif "cpu" in controllers.split(","):
            root, read = cgroups / "cpu", _old_quota
        else:
            continue
        place = root / path.strip("/")
        for folder in (place, *place.parents):  # a limit of any group above holds as well
            limit = read(folder)
            if limit is not None:
                limits.append(limit)
            if folder == root:
                break
    return min(limits, default=None)


def _quota(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _old_quota(folder: Path) -> float | None:
    quota, period = (_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def look_at_devices(found: Diagnosis) -> None:
    """Look at PyTorch's threads and CUDA devices."""
    try:
        torch: Any = importlib.import_module("torch")
    except Exception as error:  # as above
        found.add(PROBLEM, "PyTorch", f"cannot be imported: {error}", "install torch again, see pytorch.org")
        return
    threads = {"torch": torch.get_num_threads(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")}
    found.facts["threads"] = threads
    stated = threads["OMP_NUM_THREADS"] or "not set"
    found.add(OK, "threads", f"torch would use {threads['torch']}, OMP_NUM_THREADS is {stated}; a job uses 1")
    devices = []
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(number)
            devices.append({"name": device.name, "memory": device.total_memory})
    for number, device in enumerate(devices):
        found.add(OK, f"cuda:{number}", f"{device['name']}, {size_text(device['memory'])}")
    found.facts["cuda"] = {"devices": devices, "built_for": torch.version.cuda}
    if not devices:
        built = torch.version.cuda
        reason = f"PyTorch {torch.__version__} is built without CUDA"
        reason = reason if built is None else f"PyTorch is built for CUDA {built}, but no driver or device answers"
        found.facts["cuda"]["why_none"] = reason
        found.add(NOTE, "CUDA", f"no CUDA device: {reason}", "use --device cpu")


def look_at_memory(found: Diagnosis) -> None:
    """Look at the memory."""
    from mernas.evaluation.limits import free_memory

    total, available = _total_memory(), free_memory()
    found.facts["memory"] = {"total": total, "available": available}
    if total is None or available is None:
        found.add(NOTE, "memory", "this system does not say how much there is")
        return
    verdict = _verdict(available, LITTLE_MEMORY, TOO_LITTLE_MEMORY)
    remedy = "" if verdict == OK else "end other programs, or use fewer --workers"
    found.add(verdict, "memory", f"{size_text(available)} of {size_text(total)} available", remedy)


def _total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def look_at_shared_memory(found: Diagnosis) -> None:
    """Look at the room for Ray's object store."""
    if not SHARED_MEMORY.is_dir():
        found.facts["shared_memory"] = None
        return
    usage = shutil.disk_usage(SHARED_MEMORY)
    found.facts["shared_memory"] = {"total": usage.total, "free": usage.free}
    text = f"{size_text(usage.free)} of {size_text(usage.total)} free in {SHARED_MEMORY}"
    if usage.free < STORE_SHARE * (_total_memory() or 0):
        remedy = "in a container, start it with a larger --shm-size"
        found.add(NOTE, "shared memory", f"{text}: Ray may keep its objects on disk, which is slower", remedy)
    else:
        found.add(OK, "shared memory", text)


def look_at_disk(found: Diagnosis) -> None:
    """Look at the current folder."""
    found.facts["disk"] = {}
    try:
        here = Path.cwd()
    except OSError:
        found.add(PROBLEM, "current folder", "does not exist any more", "change to another folder")
        return
    found.facts["disk"]["current"] = _folder(found, "current folder", here, "change to another folder")


def look_at_cache(found: Diagnosis) -> None:
    """Look at the cache of prepared maps."""
    try:
        from mernas.evaluation.preparation import default_cache
    except ImportError:
        return  # the lines on libraries say why
    folder = default_cache()
    found.facts["disk"]["cache"] = _folder(found, "cache", folder, "set MERNAS_CACHE to another folder")
    sizes = []
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # another process may just have moved it
                sizes.append((Path(place) / name).stat().st_size)
    found.facts["disk"]["cache"] |= {"files": len(sizes), "bytes": sum(sizes)}
    found.add(OK, "prepared maps", f"{size_text(sum(sizes))} in {len(sizes)} files")


def _folder(found: Diagnosis, subject: str, folder: Path, remedy: str) -> dict[str, Any]:
    """Tell the free space of a folder and whether it, or the nearest one above that exists, can be written."""
    there = folder.absolute()
    while not there.is_dir() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    try:
        with tempfile.TemporaryFile(dir=there):
            writable = True
    except OSError:
        writable = False
    if not writable:
        found.add(PROBLEM, subject, f"{folder} cannot be written", remedy)
    else:
        verdict = _verdict(free, LITTLE_DISK, TOO_LITTLE_DISK)
        remedy = "" if verdict == OK else "free some disk space"
        found.add(verdict, subject, f"{folder} can be written, {size_text(free)} free", remedy)
    return {"folder": str(folder), "free": free, "writable": writable}


def _verdict(amount: int, little: int, too_little: int) -> str:
    return PROBLEM if amount < too_little else NOTE if amount < little else OK
