"""Quick layers and quickened networks: the mathematics of torch's own layers, held against them in double precision."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mernas.components.topologies.network import Network, build_network, count_parameters
from mernas.evaluation.quick_layers import NormThenPool, QuickBatchNorm2d, QuickDropout, QuickMaxPool2d
from mernas.evaluation.quick_streams import joined_depth
from mernas.evaluation.quickening import QUICK, Quickening
from mernas.evaluation.steady_layers import SteadyAdaptiveAvgPool2d
from mernas.space.genotype import Genotype, instantiate, parse_genotype
from mernas.space.presets import load_preset, preset_names

SHAPES = st.tuples(st.integers(2, 9), st.integers(1, 40), st.integers(4, 13), st.integers(4, 13))


def drawn(shape: tuple[int, ...], seed: int, *, tied: bool = False) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.round() if tied else values


def gradients(module: nn.Module, maps: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The result of a module and the gradients of its input and weights under random slopes, common to all."""
    maps = maps.clone().requires_grad_()
    result = module(maps)
    slopes = drawn(tuple(result.shape), 10_007).to(result.dtype)
    return result.detach(), list(torch.autograd.grad((result * slopes).sum(), [maps, *module.parameters()]))


def far(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-9))


def norm_of(channels: int, seed: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        norm.weight.copy_(drawn((channels,), seed))  # some of them negative
        norm.bias.copy_(drawn((channels,), seed + 1))
    return norm


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 99))
def test_batch_norm_and_its_gradients_are_those_of_double_precision(shape: tuple[int, ...], seed: int) -> None:
    norm, maps = norm_of(shape[1], seed), drawn(shape, seed) * 3 + 2
    exact = copy.deepcopy(norm).double()
    norm.__class__ = QuickBatchNorm2d
    result, slopes = gradients(norm, maps)
    wanted, exact_slopes = gradients(exact, maps.double())
    assert far(result, wanted) < 1e-5
    assert all(far(found, slope) < 1e-4 for found, slope in zip(slopes, exact_slopes, strict=True))
    for name, buffer in exact.named_buffers():
        assert far(norm.get_buffer(name), buffer) < 1e-5


@settings(max_examples=80, deadline=None)
@given(SHAPES, st.sampled_from([(2, 2, 0), (3, 3, 1), (3, 2, 1), (3, 3, 0), (4, 4, 0), (2, 1, 1)]), st.booleans())
def test_maxima_and_their_gradients_are_torchs_to_the_bit_ties_included(
    shape: tuple[int, ...], window: tuple[int, int, int], tied: bool
) -> None:
    maps = drawn(shape, sum(shape), tied=tied)
    result, slopes = gradients(QuickMaxPool2d(*window), maps)
    wanted, exact = gradients(nn.MaxPool2d(*window), maps)
    assert torch.equal(result, wanted)
    if window[1] >= window[0]:
        assert torch.equal(slopes[0], exact[0])
    else:  # slopes of overlapping windows are summed in another order
        assert torch.allclose(slopes[0], exact[0], atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.sampled_from([(2, 2, 0), (3, 3, 1), (3, 2, 1)]), st.integers(0, 99))
def test_norm_then_pool_is_the_norm_and_then_the_pooling(
    shape: tuple[int, ...], window: tuple[int, int, int], seed: int
) -> None:
    norm, maps = norm_of(shape[1], seed), drawn(shape, seed) + 1
    exact = nn.Sequential(copy.deepcopy(norm), nn.MaxPool2d(*window)).double()
    result, slopes = gradients(NormThenPool(norm, nn.MaxPool2d(*window)), maps)
    wanted, exact_slopes = gradients(exact, maps.double())
    assert far(result, wanted) < 1e-5
    assert all(far(found, slope) < 1e-4 for found, slope in zip(slopes, exact_slopes, strict=True))
    assert far(norm.running_var, exact.get_buffer("0.running_var")) < 1e-5  # type: ignore[arg-type]  # it has one


@pytest.mark.parametrize("share", [0.1, 0.5, 1 / 3])
@pytest.mark.parametrize("shape", [(50_001,), (40, 10, 12, 11)])
def test_dropout_keeps_the_right_share_everywhere_and_the_mean(shape: tuple[int, ...], share: float) -> None:
    torch.manual_seed(1)
    values = torch.ones(shape)
    if len(shape) == 4:
        values = values.contiguous(memory_format=torch.channels_last)
    result = QuickDropout(share)(values)
    kept = (result != 0).double()
    deviation = (share * (1 - share) / kept.numel()) ** 0.5
    assert abs(float(kept.mean()) - (1 - share)) < 4 * deviation
    assert float(result.max()) == pytest.approx(1 / (1 - share), rel=1e-4)
    # Neighbours are independent: all four lanes of a random number, and one number and the next.
    flat = kept.flatten() - kept.mean()
    for distance in (1, 2, 3, 4, 5):
        correlation = float((flat[distance:] * flat[:-distance]).mean()) / (share * (1 - share))
        assert abs(correlation) < 5 / kept.numel() ** 0.5
    assert not torch.equal(result, QuickDropout(share)(values))


def test_dropout_passes_gradients_where_it_kept_values() -> None:
    values = torch.ones(1000, requires_grad=True)
    result = QuickDropout(0.25)(values)
    result.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, result.detach())


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm2d(3), nn.MaxPool2d(2)])
def test_evaluation_is_torchs_own_to_the_bit(layer: nn.Module) -> None:
    maps = drawn((2, 3, 8, 8), 0)
    layer.eval()
    wanted = layer(maps)
    layer.__class__ = QUICK[type(layer)]
    assert torch.equal(layer(maps), wanted)


def small_presets() -> list[str]:
    """Those whose gradients take less than a second in double precision."""
    networks = {name: load_preset(name).genotype for name in preset_names() if load_preset(name).genotype.is_network}
    return [name for name, genotype in networks.items() if count_parameters(genotype, 3) < 3_000_000]


@pytest.mark.parametrize("name", small_presets())
def test_a_quickened_preset_has_the_loss_and_the_gradients_of_the_preset(name: str) -> None:
    genotype = load_preset(name).genotype
    # Now and then rounding puts a value on the other side of a ReLU. What is wrong is wrong for all values.
    assert min(worst_gradient(genotype, seed) for seed in range(4)) < 1e-3


def worst_gradient(genotype: Genotype, seed: int) -> float:
    """How far the gradients of a quickened network are off, at most, as a share of their length."""
    network, maps = small(genotype, seed)
    exact = copy.deepcopy(network).double()
    quickening = Quickening(network)
    quickening.on()
    losses = []
    if all(torch.equal(part, maps[0]) for part in maps):
        maps = [maps[0]] * len(maps)  # as the engine gives them to streams of one recipe
    for built, batch in ((exact, [part.double() for part in maps]), (network, maps)):
        loss = nn.functional.cross_entropy(built(batch), torch.arange(len(maps[0])) % 3)
        loss.backward()
        losses.append(loss.item())
    quickening.off()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    pairs = [(weights.grad, true.grad) for weights, true in zip(network.parameters(), exact.parameters(), strict=True)]
    scale = max(float(true.norm()) for _, true in pairs if true is not None)
    return max(
        float((found.double() - true).norm()) / max(float(true.norm()), 1e-2 * scale)
        for found, true in pairs
        if found is not None and true is not None
    )


def small(genotype: Genotype, seed: int = 0) -> tuple[nn.Module, list[Tensor]]:
    """A network without dropout, whose masks would differ, and a batch for it."""
    torch.manual_seed(seed)
    network = build_network(genotype, 3)
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return network, [drawn((4, *instantiate(stream["input"]).shape), seed) for stream in genotype.streams]


def test_a_network_is_itself_again_to_the_bit_of_its_results_and_the_layout_of_its_weights() -> None:
    network, maps = small(load_preset("ststnet").genotype)
    layers = [type(module) for module in network.modules()]
    names = [name for name, _ in network.named_parameters()]
    wanted = network.eval()(maps)
    quickening = Quickening(network)
    for _ in range(2):
        quickening.on()
        assert layers != [type(module) for module in network.modules()]
        quickening.off()
    assert [type(module) for module in network.modules()] == layers
    assert [name for name, _ in network.named_parameters()] == names
    assert all(weights.is_contiguous() for weights in network.parameters())
    assert torch.equal(network.eval()(maps), wanted)


def test_on_an_accelerator_layers_are_replaced_only_where_the_bits_of_their_gradient_would_vary() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(3))
    before = [type(layer) for layer in network]
    quickening = Quickening(network, "cuda")
    quickening.on()
    assert [type(layer) for layer in network] == [*before[:-1], SteadyAdaptiveAvgPool2d]
    quickening.off()
    assert [type(layer) for layer in network] == before


@pytest.mark.parametrize(("size", "grid"), [((9, 9), 5), ((7, 10), (3, 4)), ((5, 8), (5, 3)), ((8, 8), 4)])
def test_steady_pooling_is_torchs_pooling(size: tuple[int, int], grid: int | tuple[int, int]) -> None:
    maps = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    steady, usual = SteadyAdaptiveAvgPool2d(grid), nn.AdaptiveAvgPool2d(grid)
    weights = torch.randn_like(usual(maps))
    assert torch.allclose(steady(maps), usual(maps), atol=1e-12)
    (found,) = torch.autograd.grad((steady(maps) * weights).sum(), maps)
    (wanted,) = torch.autograd.grad((usual(maps) * weights).sum(), maps)
    assert torch.allclose(found, wanted, atol=1e-12)


PROGRAM = """
import resource, torch
from mernas.evaluation.quickening import keep_memory
{call}
for _ in range(5):
    kept = [torch.ones(1 << 20) for _ in range(8)]
    del kept
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    kept = [torch.ones(1 << 20) for _ in range(8)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only the C library of Linux is asked to keep memory")
def test_kept_memory_costs_no_page_faults() -> None:
    # What glibc does by itself depends on how the heap happens to lie; with these it gives back every large block.
    fixed = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    faults = []
    for call in ("", "keep_memory()"):
        command = [sys.executable, "-c", PROGRAM.format(call=call)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **fixed})
        faults.append(int(done.stdout))
    if faults[0] < 1000:
        pytest.skip("this C library is not glibc: it keeps memory by itself")
    assert faults[1] < 200


WIDTHS = """
streams:
  - input: {{optical_flow: {{estimator: given, size: 14}}}}
    backbone: [{{convolution: {{width: 3, {first}}}}}, {{convolution: {{width: 5}}}}]
  - input: {{optical_flow: {{estimator: given, size: 14}}}}
    backbone: [{{convolution: {{width: 6, {second}}}}}]
tasks: [{{emotion: {{head: linear}}}}]
loss: cross_entropy
"""


@pytest.mark.parametrize(
    ("first", "second", "depth"),
    [
        ("pool: max2", "pool: max2", 4),
        ("pool: max2, norm: late", "pool: max2, norm: late", 4),
        ("pool: max2", "pool: max3", 1),  # pooling goes before the ReLU and with the norm, so they part with it
        ("pool: max2, dropout: 0.5", "pool: max2", 4),
        ("kernel: 3", "kernel: 5", 0),
        ("pool: none, norm: none, activation: gelu", "pool: none, norm: none, activation: gelu", 2),
    ],
)
def test_streams_of_one_input_have_the_gradients_and_statistics_of_streams_apart(
    first: str, second: str, depth: int
) -> None:
    genotype = parse_genotype(WIDTHS.format(first=first, second=second))
    assert min(worst_gradient(genotype, seed) for seed in range(4)) < 1e-3
    network, maps = small(genotype)
    apart = copy.deepcopy(network)
    for built, batch in ((network, [maps[0], maps[0]]), (apart, [maps[0], maps[0].clone()])):
        quickening = Quickening(built)
        quickening.on()
        assert joined_depth(cast(Network, built)) == depth
        built(batch)
        quickening.off()
        assert "fused" not in vars(built)
    for (name, buffer), other in zip(network.named_buffers(), apart.buffers(), strict=True):
        assert torch.allclose(buffer, other, atol=1e-6), name


def test_streams_whose_normalisers_differ_stay_apart() -> None:
    network, maps = small(parse_genotype(WIDTHS.format(first="pool: max2", second="pool: max2")))
    streams = cast(Network, network).streams
    with torch.no_grad():
        next(iter(streams[1][0].buffers())).add_(1.0)  # type: ignore[index]  # a stream is an nn.Sequential
    wanted = network([maps[0], maps[0]])
    quickening = Quickening(network)
    quickening.on()
    assert torch.allclose(network([maps[0], maps[0]]), wanted, atol=1e-4)
    quickening.off()
