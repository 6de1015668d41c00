"""The preset `ststnet` against the layers of its release, written out here a second time in plain PyTorch."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mernas.components  # noqa: F401  # registers the leaves
from mernas.components.topologies.network import Network, build_network, count_parameters
from mernas.components.training.constant import Constant
from mernas.components.training.scratch import Scratch
from mernas.space.genotype import Genotype, instantiate, parse_genotype
from mernas.space.presets import load_preset
from mernas.space.restriction import load_space

GIVEN = frozenset({"given flow", "given strain"})


@pytest.fixture(name="genotype")
def ststnet() -> Genotype:
    return load_preset("ststnet").genotype


@pytest.fixture(name="network")
def network_with_random_statistics(genotype: Genotype) -> Network:
    torch.manual_seed(0)
    network = build_network(genotype, classes=3)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "running" in name or value.ndim == 1:
                value.copy_(torch.rand(value.shape) + 0.5)
    return network.eval()


def released(network: Network, maps: Tensor) -> Tensor:
    """What the released layers make of maps (B, 3, 28, 28) with the weights of `network`."""
    pooled = []
    for stream in network.streams:
        (conv,) = (layer for layer in stream.modules() if isinstance(layer, nn.Conv2d))
        (norm,) = (layer for layer in stream.modules() if isinstance(layer, nn.BatchNorm2d))
        assert norm.running_mean is not None
        x = F.relu(F.conv2d(maps, conv.weight, conv.bias, stride=1, padding=2))
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        pooled.append(F.max_pool2d(x, kernel_size=3, stride=3, padding=1))
    joined = F.avg_pool2d(torch.cat(pooled, dim=1), kernel_size=2, stride=2)
    assert joined.shape[1:] == (16, 5, 5)
    return F.linear(joined.flatten(1), network.get_parameter("task.weight"), network.get_parameter("task.bias"))


def test_ststnet_computes_what_the_released_layers_compute(network: Network) -> None:
    maps = torch.rand(6, 3, 28, 28, generator=torch.Generator().manual_seed(1)) * 255
    torch.testing.assert_close(network([maps] * 3), released(network, maps), atol=1e-3, rtol=1e-4)


def test_ststnet_has_streams_of_3_5_and_8_kernels_with_half_of_their_outputs_dropped(network: Network) -> None:
    widths = [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert sorted(widths) == [3, 5, 8]
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.5] * 3


def test_ststnet_has_1683_parameters(genotype: Genotype) -> None:
    convolutions = sum(3 * 3 * 3 * width + width for width in (3, 5, 8))
    norms = sum(2 * width for width in (3, 5, 8))
    head = 5 * 5 * 16 * 3 + 3
    assert count_parameters(genotype, classes=3) == convolutions + norms + head == 1_683


def test_ststnet_without_batch_norm_has_1651_parameters(genotype: Genotype) -> None:
    text = genotype.to_yaml()
    assert text.count("norm: late") == 3
    without = parse_genotype(text.replace("norm: late", "norm: none"))
    assert count_parameters(without, classes=3) == (27 * 16 + 16) + (400 * 3 + 3) == 1_651


def test_ststnet_is_trained_as_in_the_release(genotype: Genotype) -> None:
    training: Scratch = instantiate(genotype["training"])
    (group,) = training.optimizer.build([nn.Parameter(torch.zeros(1))]).param_groups
    assert (training.epochs, training.batch, training.schedule) == (800, 256, Constant())
    assert (group["lr"], group["weight_decay"], group["betas"]) == (5e-5, 0.0, (0.9, 0.999))


def test_ststnet_lies_in_the_full_space_of_the_released_maps(genotype: Genotype) -> None:
    assert load_space("full", GIVEN).problems(genotype) == []


def test_ststnet_says_what_it_is(genotype: Genotype) -> None:
    preset = load_preset("ststnet")
    assert preset.label == "faithful"
    assert preset.published["parameters"] == 1670
    assert "1902.03634" in preset.source
