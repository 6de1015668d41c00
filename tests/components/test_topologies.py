"""Readouts, fusion, heads and whole networks: shapes, counts written out by hand, and what must not change."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

import mernas.components  # noqa: F401  # registers the leaves
from mernas.components.topologies.average import Average
from mernas.components.topologies.concatenation import Concatenation
from mernas.components.topologies.flatten import Flatten
from mernas.components.topologies.frames import Frames
from mernas.components.topologies.mlp import MLP
from mernas.components.topologies.network import Network, build_network, count_parameters
from mernas.components.topologies.part_pool import PartPool
from mernas.components.topologies.patches import Patches
from mernas.space.errors import SpaceError
from mernas.space.genotype import Genotype, parse_genotype
from mernas.space.restriction import load_space
from mernas.space.suggestion import RandomTrial

FRAMES = frozenset({"frames", "onset", "apex", "offset", "true flow", "action units"})
GIVEN = frozenset({"given flow", "given strain"})

SINGLE = """
streams:
- input: {apex_frame: {size: 28}}
  backbone: [{convolution: {width: 4}}, {residual: {width: 8, stride: 2}}]
  readout: {average: {grid: 3}}
tasks: [{emotion: {head: {mlp: {hidden: 16, dropout: 0.2}}}}]
loss: cross_entropy
"""
DOUBLE = """
streams:
- input: {apex_frame: {size: 14}}
  backbone: [{residual: {width: 4, stride: 1, dropout: 0.1}}]
- input: {optical_flow: {quantities: u+v, size: 28}}
  backbone: [{convolution: {width: 6, norm: none, activation: gelu}}]
  readout: flatten
tasks: [{emotion: {head: linear}}]
loss: cross_entropy
"""


def maps_of(network: Network, batch: int, seed: int = 0) -> list[Tensor]:
    """Random maps for SINGLE or DOUBLE; streams are in canonical order, so their sizes are read from the network."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {1: [(1, 28)], 2: [(1, 14), (2, 28)]}[len(network.streams)]
    if len(sizes) == 2 and network.streams[0].get_submodule("1").get_parameter("0.weight").shape[1] == 2:
        sizes = sizes[::-1]
    return [torch.randn(batch, channels, side, side, generator=generator) for channels, side in sizes]


def built(text: str, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build_network(parse_genotype(text), classes=3)


def test_average_is_the_mean_over_each_cell() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 4, 10, 15))
    module, shape = Average(grid=5).build((4, 10, 15))
    by_hand = maps.reshape(2, 4, 5, 2, 5, 3).mean(axis=(3, 5)).reshape(2, -1)
    assert shape == (100,)
    np.testing.assert_allclose(module(torch.from_numpy(maps)).numpy(), by_hand, atol=1e-12)


def test_average_refuses_a_grid_finer_than_the_map() -> None:
    with pytest.raises(SpaceError, match="found 4x9"):
        Average(grid=5).build((4, 4, 9))


@pytest.mark.parametrize("readout", [Frames(grid=5), Patches(grid=5)])
def test_readouts_of_sequences_refuse_a_grid_finer_than_the_map(readout: Frames | Patches) -> None:
    shape = (4, 3, 4, 9) if isinstance(readout, Frames) else (4, 4, 9)
    with pytest.raises(SpaceError, match=r"grid of 5 .* found 4x9"):
        readout.build(shape)


def test_average_of_a_video_is_the_mean_over_time_and_each_cell() -> None:
    videos = np.random.default_rng(0).normal(size=(2, 4, 3, 10, 15))
    module, shape = Average(grid=5).build((4, 3, 10, 15))
    by_hand = videos.reshape(2, 4, 3, 5, 2, 5, 3).mean(axis=(2, 4, 6)).reshape(2, -1)
    assert shape == (100,)
    np.testing.assert_allclose(module(torch.from_numpy(videos)).numpy(), by_hand, atol=1e-12)


def test_average_of_an_image_is_the_same_to_the_last_bit_as_that_of_torch() -> None:
    maps = torch.randn(3, 4, 10, 14, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.adaptive_avg_pool2d(maps, 3).flatten(1)
    assert torch.equal(Average(grid=3).build((4, 10, 14))[0](maps), wanted)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (6, 7)])
def test_flatten_keeps_every_value_of_videos_and_graphs(shape: tuple[int, ...]) -> None:
    module, announced = Flatten().build(shape)
    maps = np.random.default_rng(0).normal(size=(3, *shape))
    assert announced == (int(np.prod(shape)),)
    np.testing.assert_array_equal(module(torch.from_numpy(maps)).numpy(), maps.reshape(3, -1))


def test_parts_of_seven_rows_are_the_upper_three_and_the_lower_four() -> None:
    module, shape = PartPool(parts=2, width=4, dropout=0.5).build((6, 7, 5))
    maps = torch.randn(2, 6, 7, 5, generator=torch.Generator().manual_seed(0))
    wanted = []
    for part, rows in enumerate((slice(0, 3), slice(3, 7))):
        layer = [module.get_parameter(f"layers.{part}.{name}").detach().numpy() for name in ("weight", "bias")]
        wanted.append(np.tanh(maps[:, :, rows].numpy().mean(axis=(2, 3)) @ layer[0].T + layer[1]))
    assert shape == (8,)
    np.testing.assert_allclose(module.eval()(maps).detach().numpy(), np.concatenate(wanted, axis=1), atol=1e-5)


def test_more_parts_than_rows_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"3 parts need .* found 2"):
        PartPool(parts=3).build((6, 2, 9))


def test_flatten_keeps_every_value() -> None:
    module, shape = Flatten().build((2, 3, 4))
    assert shape == (24,)
    assert module(torch.arange(48.0).view(2, 2, 3, 4)).tolist() == np.arange(48.0).reshape(2, 24).tolist()


def test_concatenation_is_that_of_numpy() -> None:
    vectors = [torch.randn(5, length) for length in (2, 3, 4)]
    module, length = Concatenation().build([2, 3, 4])
    assert length == 9
    np.testing.assert_array_equal(module(vectors).numpy(), np.concatenate([v.numpy() for v in vectors], axis=1))


def test_mlp_is_two_matrix_products_with_a_relu_between() -> None:
    head = MLP(hidden=8, dropout=0.5).build(5, 3).eval()
    (w, b), (v, c) = (
        (head[place].get_parameter("weight").detach().numpy(), head[place].get_parameter("bias").detach().numpy())
        for place in (0, -1)
    )
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    by_hand = np.maximum(x @ w.T + b, 0) @ v.T + c
    np.testing.assert_allclose(head(torch.from_numpy(x)).detach().numpy(), by_hand, atol=1e-5)


def test_count_of_a_single_stream_is_the_written_out_one() -> None:
    convolution = 1 * 4 * 9 + 4 + 2 * 4
    residual = 4 * 8 * 9 + 2 * 8 + 8 * 8 * 9 + 2 * 8 + 4 * 8 + 2 * 8
    head = (8 * 3 * 3) * 16 + 16 + 16 * 3 + 3
    assert count_parameters(parse_genotype(SINGLE), classes=3) == convolution + residual + head


def test_count_of_two_streams_is_the_written_out_one() -> None:
    residual = 1 * 4 * 9 + 2 * 4 + 4 * 4 * 9 + 2 * 4 + 1 * 4 + 2 * 4
    convolution = 2 * 6 * 9 + 6
    head = (4 * 3 * 3 + 6 * 14 * 14) * 5 + 5
    assert count_parameters(parse_genotype(DOUBLE), classes=5) == residual + convolution + head


@pytest.mark.parametrize("text", [SINGLE, DOUBLE])
def test_count_without_memory_is_that_of_the_real_network(text: str) -> None:
    real = sum(parameter.numel() for parameter in built(text).parameters())
    assert count_parameters(parse_genotype(text), classes=3) == real


def test_counting_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    count_parameters(parse_genotype(DOUBLE), classes=3)
    assert torch.equal(before, torch.get_rng_state())


def test_maps_that_become_too_small_are_refused_before_training() -> None:
    shrinking = "{convolution: {width: 4, pool: max3}}"
    text = SINGLE.replace(
        "[{convolution: {width: 4}}, {residual: {width: 8, stride: 2}}]", f"[{', '.join([shrinking] * 4)}]"
    )
    with pytest.raises(SpaceError, match=r"pool max3: its pooling needs .* found 2x2"):
        count_parameters(parse_genotype(text), classes=3)


def test_classical_pipeline_is_no_network() -> None:
    text = "{streams: [{input: {apex_frame: {size: 28}}}], classifier: majority}"
    with pytest.raises(SpaceError, match="must be a network"):
        build_network(parse_genotype(text), classes=3)


@pytest.mark.parametrize("text", [SINGLE, DOUBLE])
def test_genotype_that_went_through_yaml_builds_the_same_network(text: str) -> None:
    genotype = parse_genotype(text)
    networks = []
    for one in (genotype, parse_genotype(genotype.to_yaml())):
        torch.manual_seed(5)
        networks.append(build_network(one, classes=3).state_dict())
    assert list(networks[0]) == list(networks[1])
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


@pytest.mark.parametrize("text", [SINGLE, DOUBLE])
def test_batch_gives_what_its_clips_give_one_by_one(text: str) -> None:
    network = built(text).eval()
    maps = maps_of(network, batch=6)
    singles = torch.cat([network([batch[row : row + 1] for batch in maps]) for row in range(6)])
    torch.testing.assert_close(network(maps), singles, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("text", [SINGLE, DOUBLE])
def test_evaluation_mode_repeats_itself_and_training_mode_does_not(text: str) -> None:
    network = built(text)
    maps = maps_of(network, batch=6)
    assert not torch.equal(network(maps), network(maps)), "dropout is active in training"
    network.eval()
    assert torch.equal(network(maps), network(maps))


@pytest.mark.parametrize("text", [SINGLE, DOUBLE])
def test_gradients_reach_every_parameter(text: str) -> None:
    network = built(text)
    (network(maps_of(network, batch=16)) ** 2).sum().backward()
    silent = [name for name, value in network.named_parameters() if value.grad is None or not bool(value.grad.any())]
    assert silent == []


def test_every_stream_changes_the_scores() -> None:
    network = built(DOUBLE).eval()
    maps = maps_of(network, batch=2)
    for stream in range(2):
        changed = [batch + 1 if number == stream else batch for number, batch in enumerate(maps)]
        assert not torch.allclose(network(maps), network(changed))


def drawn(name: str, facts: frozenset[str], number: int) -> list[Genotype]:
    space = load_space(name, facts)
    return [space.suggest(RandomTrial(seed)) for seed in range(number)]


def test_quick_space_fills_the_three_smallest_intervals_of_parameters() -> None:
    counts = [count_parameters(genotype, classes=3) for genotype in drawn("quick", FRAMES, 100)]
    for low, high in pairwise((0, 2_000, 10_000, 50_000)):
        assert sum(low < count <= high for count in counts) >= 15
