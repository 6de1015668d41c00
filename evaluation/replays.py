"""Work that is done again and again on the same memory: on an accelerator it is captured once and then replayed.

To start one small kernel takes a processor longer than an accelerator needs for it. A captured sequence of hundreds is
started at once. It is the same kernels on the same memory, so that the result is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Replays:
    """Several pieces of work of one lane, by name; never two of them at the same time.

    Each is done as it is the first time, when torch makes itself ready, captured the second time, and replayed from
    then on. Where one cannot be captured, because it asks the accelerator for a number in between, all are done as they
    are from then on, which takes longer and gives the same.

    Args:
        device: `cpu`, where nothing is captured, or `cuda`.
        warm: The names of work that another lane has done before, so that it is captured at once; it is added to.

    Attributes:
        why_not: Why nothing is captured; empty if all is.

    Example:
        >>> total, replays = torch.zeros(()), Replays("cpu", set())
        >>> for _ in range(3):
        ...     replays.do("add", lambda: total.add_(1))
        >>> float(total)
        3.0
    """

    def __init__(self, device: str, warm: set[str]) -> None:
        self._device, self._warm = device, warm
        self._noise = torch.Generator(device)
        self._pool = None if device == "cpu" else torch.cuda.graph_pool_handle()
        self._graphs: dict[str, torch.cuda.CUDAGraph] = {}
        self.why_not = "a processor replays nothing" if device == "cpu" else ""

    def draw_from(self, state: Tensor) -> None:
        """Let all work draw its random numbers from the state of a generator, and go on from there."""
        self._noise.set_state(state)

    def do(self, name: str, work: Callable[[], object]) -> None:
        """Do some work, or what it was when it was captured.

        Args:
            name: The same for the same work.
            work: Reads and writes tensors that stay where they are.
        """
        if name not in self._graphs and name in self._warm and not self.why_not:
            self._capture(name, work)
        if name in self._graphs:
            self._graphs[name].replay()
            return
        with _drawing_from(self._noise):
            work()
        self._warm.add(name)

    def _capture(self, name: str, work: Callable[[], object]) -> None:
        before = self._noise.get_state()
        graph = torch.cuda.CUDAGraph()
        with _drawing_from(self._noise):  # a graph draws from what was the default generator at its capture
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            except Exception as error:  # modules are anyone's, and so is what they raise when they cannot be captured
                self.why_not = _named(error)
            try:
                graph.capture_end()
            except RuntimeError as error:  # so does a capture end that went wrong
                self.why_not = self.why_not or _named(error)
        if not self.why_not:
            self._graphs[name] = graph
            return
        torch.cuda.current_stream().synchronize()  # what was captured before may still run
        self._graphs.clear()
        # The generator still believes that it is being captured.
        self._noise = torch.Generator(self._device)
        self._noise.set_state(before)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@contextmanager
def _drawing_from(noise: torch.Generator) -> Iterator[None]:
    """Make a generator the one that torch draws from by default on its device, and let it go on from there."""
    if noise.device.type == "cpu":
        before = torch.get_rng_state()
        torch.set_rng_state(noise.get_state())
        try:
            yield
        finally:
            noise.set_state(torch.get_rng_state())
            torch.set_rng_state(before)
        return
    default = torch.cuda.default_generators[torch.cuda.current_device()]
    own = default.graphsafe_get_state()
    default.graphsafe_set_state(noise)
    try:
        yield
    finally:
        default.graphsafe_set_state(own)
