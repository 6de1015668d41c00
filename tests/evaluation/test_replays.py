"""Replays: on a processor work is just done; on a GPU it is captured, and what cannot be is done all the same."""

from __future__ import annotations

import pytest
import torch

from mernas.evaluation.replays import Replays

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def drawn(device: str, replays: Replays, state: torch.Tensor, times: int) -> list[list[float]]:
    """What some work draws, time after time."""
    values = torch.zeros(3, device=device)
    replays.draw_from(state)
    found = []
    for _ in range(times):
        replays.do("draw", lambda: values.copy_(torch.rand(3, device=device)))
        found.append(values.tolist())
    return found


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_work_draws_from_its_own_generator_and_leaves_that_of_the_process_alone(device: str) -> None:
    state = torch.Generator(device).manual_seed(7).get_state()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    found = drawn(device, Replays(device, set()), state, 4)
    assert torch.equal(torch.get_rng_state(), before)
    generator = torch.Generator(device)
    generator.set_state(state)
    assert found == [torch.rand(3, generator=generator, device=device).tolist() for _ in range(4)]


def test_a_processor_captures_nothing_and_says_so() -> None:
    replays = Replays("cpu", {"add"})
    total = torch.zeros(())
    for _ in range(3):
        replays.do("add", lambda: total.add_(1))
    assert float(total) == 3
    assert replays.why_not == "a processor replays nothing"


@needs_gpu
def test_what_cannot_be_captured_is_done_every_time_and_draws_the_same() -> None:
    state = torch.Generator("cuda").manual_seed(7).get_state()
    wanted = drawn("cuda", Replays("cuda", set()), state, 4)
    values = torch.zeros(3, device="cuda")
    replays = Replays("cuda", set())
    replays.draw_from(state)
    found = []
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(4):
            replays.do("draw", lambda: values.copy_(torch.rand(3, device="cuda") + 0 * float(values.sum())))
            found.append(values.tolist())
    assert found == wanted
    assert replays.why_not
