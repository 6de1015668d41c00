"""Footprint: what a model costs where it is used, measured on this machine and never typed in.

Everything runs on one thread. Memory is that of fresh processes, because the one that measures has loaded much else.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mernas.components.datasets.clip import Clip
from mernas.evaluation.fitting import numeric_state
from mernas.evaluation.model import Model, load_model
from mernas.space.errors import Problem, RunError

WARM_UP = 10
REPETITIONS = 100
PATIENCE = 300.0
"""Seconds that a fresh process may take."""


@dataclass(frozen=True)
class Latency:
    """How long something takes, in seconds.

    Attributes:
        median: Half of the repetitions took no longer.
        p95: 95% of them took no longer.
        repetitions: How many there were, after a warm-up.
    """

    median: float
    p95: float
    repetitions: int


@dataclass(frozen=True)
class Footprint:
    """What a model costs.

    Attributes:
        parameters: Everything needed at inference, norms included; no buffers.
        files: Bytes of every file of the bundle, by name.
        flops: Floating-point operations of convolutions and matrix products for one clip, a multiplication and an
            addition counted as two; activations, norms, pooling and preparation are not counted.
        network: From prepared maps of one clip to logits, on one thread.
        whole: From a clip in memory to probabilities, preparation included; None where no clip was at hand.
        memory: Largest resident set of a fresh process that loads the bundle and predicts, in bytes; None where the
            system does not say.
        memory_of_torch: The same of a process that only imports torch.
    """

    parameters: int
    files: Mapping[str, int]
    flops: int
    network: Latency
    whole: Latency | None
    memory: int | None
    memory_of_torch: int | None


@dataclass(frozen=True, eq=False)
class FreshProcess:
    """What a process that had nothing but the bundle and some maps found.

    Attributes:
        probabilities: Calibrated (n, K).
        memory: Its largest resident set in bytes, or None.
    """

    probabilities: NDArray[np.float64]
    memory: int | None


def count_flops(network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the operations of one clip; see `Footprint.flops`.

    Args:
        network: From a list of maps to logits, in eval mode.
        shapes: (C, H, W) of the maps of every stream.

    Example:
        >>> class First(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.convolution = nn.Conv2d(3, 8, kernel_size=5, padding=2)
        ...     def forward(self, maps):
        ...         return self.convolution(maps[0])
        >>> count_flops(First(), [(3, 28, 28)]) == 2 * (3 * 5 * 5) * 8 * 28 * 28
        True
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network([torch.zeros(1, *shape) for shape in shapes])
    return int(counter.get_total_flops())


def time_calls(call: Callable[[], Any], repetitions: int = REPETITIONS, warm_up: int = WARM_UP) -> Latency:
    """Return how long a call takes, on one thread.

    Args:
        call: What is timed.
        repetitions: How often, at least 1.
        warm_up: How often it is called before.

    Example:
        >>> time_calls(lambda: time.sleep(0.01), repetitions=3, warm_up=0).median >= 0.01
        True
    """
    with numeric_state(0, "cpu"), torch.inference_mode():
        for _ in range(warm_up):
            call()
        seconds = []
        for _ in range(repetitions):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
    median, p95 = np.percentile(seconds, [50, 95])
    return Latency(float(median), float(p95), repetitions)


def predict_in_fresh_process(folder: Path, maps: Sequence[Tensor]) -> FreshProcess:
    """Load a bundle in a process of its own and predict prepared maps there.

    Args:
        folder: The bundle.
        maps: (n, C, H, W) for every stream.

    Raises:
        RunError: If that process fails, with what it said last.
    """
    with tempfile.TemporaryDirectory(prefix="mernas-") as place:
        given, found = Path(place, "maps.safetensors"), Path(place, "found.json")
        # Streams may share their maps, and safetensors takes no tensor twice.
        named = {f"{number:04}": stream.contiguous().clone() for number, stream in enumerate(maps)}
        try:
            given.write_bytes(safetensors.torch.save(named))
        except OSError as error:
            rule, remedy = "cannot be given its maps", "free some disk space, or let TMPDIR name another folder"
            raise RunError(Problem("fresh process", rule, error.strerror or str(error), remedy)) from None
        _run_python("from mernas.evaluation.footprint import answer; answer()", str(folder), str(given), str(found))
        plain = json.loads(found.read_text(encoding="utf-8"))
    return FreshProcess(np.array(plain["probabilities"], dtype=np.float64), plain["memory"])


def answer() -> None:
    """Do what `predict_in_fresh_process` asks; its arguments are those of the process."""
    folder, given, found = map(Path, sys.argv[1:])
    named = safetensors.torch.load_file(given)
    probabilities = load_model(folder).probabilities_of([named[name] for name in sorted(named)])
    plain = {"probabilities": probabilities.tolist(), "memory": peak_memory()}
    found.write_text(json.dumps(plain), encoding="utf-8")


def measure(
    model: Model,
    clips: Sequence[Clip] = (),
    fresh: FreshProcess | None = None,
    repetitions: int = REPETITIONS,
) -> Footprint:
    """Return the footprint of a model on this machine.

    Args:
        model: A model that was read from a bundle.
        clips: Some clips of the data, of which the first is timed from clip to probabilities; may be empty.
        fresh: What a fresh process found; without it, one is started on a map of zeros.
        repetitions: How often latencies are measured.
    """
    shapes = [component.shape for component in model.bundle.inputs]
    maps = [torch.zeros(1, *shape) for shape in shapes] if not clips else model.prepare(clips[:1])
    folder = model.bundle.folder
    if fresh is None and folder is not None:
        fresh = predict_in_fresh_process(folder, maps)
    return Footprint(
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        files={name: entry.size for name, entry in model.bundle.files.items()},
        flops=count_flops(model.network, shapes),
        network=time_calls(lambda: model.network(maps), repetitions),
        whole=time_calls(lambda: model.probabilities(clips[:1]), repetitions) if clips else None,
        memory=None if fresh is None else fresh.memory,
        memory_of_torch=memory_of_torch(),
    )


def peak_memory() -> int | None:
    """Return the largest resident set of this process so far, in bytes, or None where the system does not say.

    Example:
        >>> peak = peak_memory()
        >>> peak is None or peak > 1_000_000
        True
    """
    import sys
    from pathlib import Path

    try:
        # Not getrusage where this can be had: on Linux its figure survives exec, so that a child starts with that of
        # its parent.
        status = Path("/proc/self/status")
        if status.exists():
            lines = status.read_text(encoding="ascii").splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
        import resource  # which Windows does not have

        unit = {"darwin": 1}.get(sys.platform, 1024)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    except (ImportError, OSError, StopIteration):
        return None


def memory_of_torch() -> int | None:
    """Return the largest resident set, in bytes, of a fresh process that imports torch and nothing else of ours."""
    said = _run_python(f"import json\nimport torch\n{inspect.getsource(peak_memory)}\nprint(json.dumps(peak_memory()))")
    found = json.loads(said.splitlines()[-1])
    return None if found is None else int(found)


def _run_python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter on one thread and return what it printed.

    It imports nothing from the folder in which the user happens to be (`-P`), and Ctrl-C in the user's terminal reaches
    this process alone, which decides what becomes of it.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", code, *arguments]
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows alone has it
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and code
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
            start_new_session=True,  # Windows ignores that, and has the flags instead
            creationflags=flags,
        )
    except subprocess.TimeoutExpired:
        raise RunError(Problem("fresh process", f"must end within {PATIENCE:g} s", "", "try again")) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RunError(Problem("fresh process", "failed", last, "see `mernas doctor`"))
    return done.stdout
