"""Presets against published counts, counts by hand, and released layers written out in plain PyTorch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mernas.components  # noqa: F401  # registers the leaves
from mernas.components.topologies.network import Network, build_network, count_parameters
from mernas.space.genotype import instantiate
from mernas.space.presets import load_preset, preset_names

RECURRENT = (64 * 64 + 64) + 2 * 64 + (9 * 64 * 64 + 64) + 2 * 64  # 1x1 and 3x3 convolution of 64 channels, with norms
RCN_STEM = (25 * 3 * 64 + 64) + 2 * 64
RCN_HEAD = 49 * 64 * 3 + 3


def vgg(channels: int, widths: tuple[int, ...]) -> int:
    """3x3 convolutions with biases and batch norm."""
    return sum(9 * a * b + 3 * b for a, b in zip((channels, *widths), widths, strict=False))


def resnet(widths: tuple[int, ...]) -> int:
    """Two blocks of each width, without biases; the first of a new width has a 1x1 shortcut."""
    total, entering = 0, widths[0]
    for width in widths:
        total += 9 * entering * width + 3 * 9 * width * width + 8 * width
        total += 0 if entering == width else entering * width + 2 * width
        entering = width
    return total


def inception(entering: int, width: int) -> int:
    return 4 * (entering * width + width) + (9 * width * width + width) + (25 * width * width + width)


BY_HAND = {
    "capsulenet": (49 * 64 + 2 * 64) + resnet((64, 128, 256)) + 2 * (81 * 256 * 256 + 256) + 1152 * 3 * 16 * 8,
    "dssn": 2 * (121 * 96 + 96 + 25 * 96 * 256 + 256) + 13 * 13 * 256 * 3 + 3,
    "dual_inception": 2 * (inception(1, 6) + inception(24, 16)) + (6272 * 1024 + 1024) + (1024 * 3 + 3),
    "elrcn_se": vgg(4, (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512))
    + 4 * 3000 * (512 + 3000 + 2)
    + (3000 * 128 + 128)
    + (128 * 3 + 3),
    "micro_exp_stcnn": (9 * 15 * 32 + 32) + (20 * 20 * 32 * 128 + 128) + (128 * 3 + 3),
    "off_apexnet": 2 * (25 * 6 + 6 + 25 * 6 * 16 + 16) + (1568 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 3 + 3),
    "rcn_a": RCN_STEM + RECURRENT + RCN_HEAD,
    "rcn_s": RCN_STEM + RECURRENT + RCN_HEAD,
    "rcn_w": (27 * 64 + 64) + 2 * 64 + RECURRENT + RCN_HEAD,
    "sssnet": (25 * 3 * 32 + 3 * 32) + (9 * 32 * 64 + 3 * 64) + (81 * 64 * 256 + 256) + (256 * 3 + 3),
    "strcn_g": (9 * 2 * 128 + 3 * 128) + 3 * ((128 * 128 + 3 * 128) + 2 * (9 * 128 * 128 + 3 * 128)) + (128 * 3 + 3),
    "ststnet": (27 * 16 + 16) + 2 * 16 + (400 * 3 + 3),
}

# Published counts: the field, what the preset has more than it, and to how many digits it is published.
PUBLISHED = {
    "capsulenet": ("parameters_of_release", -2 * 49 * 64, 0),  # two more channels of colour
    # One channel for three, one group for two, and no border of zeros around 13x13.
    "dssn": ("parameters_of_release", 2 * (-2 * 121 * 96 + 25 * 48 * 256) - (15**2 - 13**2) * 256 * 3, 0),
    "dual_inception": ("parameters_of_reimplementation", 0, 4),
    "micro_exp_stcnn": ("parameters_of_release", 0, 0),
    "off_apexnet": ("parameters_of_reimplementation", 0, 4),
    "rcn_a": ("parameters_of_release", 0, 0),
    "rcn_s": ("parameters_of_release", -(9 * 64 * 64 + 64 + 2 * 64), 0),  # a convolution that is never applied
    "rcn_w": ("parameters_of_release", 0, 0),
    "sssnet": ("parameters_of_release", 0, 0),
    "strcn_g": ("parameters_of_release", 0, 4),
    "ststnet": ("parameters_of_release", 0, 0),
}


def test_every_network_is_counted_here() -> None:
    networks = {name for name in preset_names() if load_preset(name).genotype.is_network}
    assert networks == set(BY_HAND)
    assert networks - set(PUBLISHED) == {"elrcn_se"}  # most of which is left out, as its notes say


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_a_preset_has_as_many_parameters_as_its_layers_have_by_hand(name: str) -> None:
    assert count_parameters(load_preset(name).genotype, classes=3) == BY_HAND[name]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_preset_differs_from_its_published_count_by_what_its_notes_say(name: str) -> None:
    preset = load_preset(name)
    field, difference, digits = PUBLISHED[name]
    found = count_parameters(preset.genotype, classes=3)
    assert round(found - difference, -digits) == preset.published[field]
    if name in ("capsulenet", "rcn_s"):
        assert f"{-difference:,} parameters" in " ".join(preset.notes.split())


def test_off_apexnet_is_a_tenth_of_a_million_smaller_than_its_authors_state() -> None:
    preset = load_preset("off_apexnet")
    assert preset.published["parameters"] - count_parameters(preset.genotype, classes=3) == 105_525
    assert "larger by about 0.1M" in " ".join(preset.notes.split())


def test_the_network_of_elrcn_is_a_quarter_of_the_published_one() -> None:
    trunk = vgg(4, (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)) - 2 * 4224  # VGG-16 has no norms
    layers = (25088 * 4096 + 4096) + (4096 * 4096 + 4096)
    lstm = 4 * 3000 * (4096 + 3000 + 1)  # Keras has one bias where PyTorch has two
    published = trunk + layers + lstm + (3000 * 128 + 128) + (128 * 5 + 5)
    assert round(published, -6) == pytest.approx(load_preset("elrcn_se").published["parameters"], rel=0.01)
    assert BY_HAND["elrcn_se"] / published == pytest.approx(0.25, abs=0.005)


def test_sssnet_of_the_release_is_the_same_at_its_own_five_classes() -> None:
    assert count_parameters(load_preset("sssnet").genotype, classes=5) == 1_349_251 + 2 * 257


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_what_it_is_and_how_its_figures_were_chosen(name: str) -> None:
    preset = load_preset(name)
    assert preset.label in ("faithful", "approximation")
    assert 2010 < preset.year < 2026
    assert preset.title
    assert preset.source
    assert preset.notes.strip()
    assert preset.published["chosen_on_test_subjects"] in ("yes", "no", "unknown")
    assert preset.published["protocol"]
    figures = [preset.published[figure] for figure in ("uf1", "uar") if figure in preset.published]
    assert len(figures) in (0, 2)
    assert all(0.3 < figure < 1 for figure in figures)


# Released layers, written out in the order in which the release holds them


class Recurrent(nn.Module):
    """The recurrent block of the RCN release: one 3x3 convolution, applied twice, or thrice on all that came before."""

    def __init__(self, *, dense: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.after = nn.Sequential(nn.MaxPool2d(2), nn.Dropout())
        self.dense = dense

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.second(x + a)
        if not self.dense:
            return self.after(self.second(x + b))
        c = self.second(x + a + b)
        return self.after(self.second(x + a + b + c))


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, width, 3, stride=3, padding=gap, dilation=gap), nn.ReLU(), nn.BatchNorm2d(width))
            for width, gap in ((32, 1), (16, 2), (16, 3))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([stream(x) for stream in self.streams], dim=1)


def rcn_stem() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 64, 5), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout())


def rcn_end() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(64 * 49, 3)]


RELEASED: dict[str, Callable[[], nn.Module]] = {
    "rcn_s": lambda: nn.Sequential(rcn_stem(), Recurrent(dense=True), *rcn_end()),
    "rcn_w": lambda: nn.Sequential(Wide(), Recurrent(dense=False), *rcn_end()),
    "sssnet": lambda: nn.Sequential(
        *(nn.Conv2d(3, 32, 5), nn.ReLU(), nn.MaxPool2d(3, 3), nn.BatchNorm2d(32), nn.Dropout2d(0.5)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2, 2), nn.BatchNorm2d(64), nn.Dropout2d(0.5)),
        *(nn.Flatten(), nn.Linear(81 * 64, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 3)),
    ),
    "micro_exp_stcnn": lambda: nn.Sequential(
        *(nn.Conv3d(1, 32, (15, 3, 3)), nn.ReLU(), nn.MaxPool3d(3), nn.Dropout(0.5)),
        *(nn.Flatten(), nn.Linear(32 * 400, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 3)),
    ),
}


def weights_of(module: nn.Module) -> list[Tensor]:
    """Weights and running statistics in the order of the layers; those of a normaliser of the maps are left out."""
    named = module.state_dict().items()
    return [value for name, value in named if not name.endswith((".mean", ".spread", "num_batches_tracked"))]


def test_every_faithful_preset_is_compared_with_its_release() -> None:
    faithful = {name for name in preset_names() if load_preset(name).label == "faithful"}
    assert faithful == {*RELEASED, "ststnet"}  # which has a file of its own


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_a_faithful_preset_computes_what_the_released_layers_compute(name: str) -> None:
    torch.manual_seed(0)
    genotype = load_preset(name).genotype
    network, released = build_network(genotype, classes=3), RELEASED[name]()
    maps = torch.randn(3, *instantiate(genotype.streams[0]["input"]).shape)
    network.train()([maps])  # moves the running statistics
    mine, theirs = weights_of(network), weights_of(released)
    assert [tuple(value.shape) for value in mine] == [tuple(value.shape) for value in theirs]
    with torch.no_grad():
        for here, there in zip(mine, theirs, strict=True):
            there.copy_(here)
        torch.testing.assert_close(network.eval()([maps]), released.eval()(maps), atol=1e-4, rtol=1e-4)


def test_every_released_network_has_the_dropouts_of_its_preset() -> None:
    for name, build in RELEASED.items():
        if name != "rcn_w":  # which drops in each branch before they are joined, and so as often
            kinds = (nn.Dropout, nn.Dropout2d)
            of = [
                [(type(layer), layer.p) for layer in module.modules() if isinstance(layer, kinds)]
                for module in (build(), build_network(load_preset(name).genotype, classes=3))
            ]
            assert of[0] == of[1]


# Training


@pytest.mark.parametrize(
    "name", ["dual_inception", "micro_exp_stcnn", "off_apexnet", "rcn_a", "rcn_s", "rcn_w", "sssnet", "ststnet"]
)
def test_a_step_of_a_small_preset_reaches_every_weight(name: str) -> None:
    torch.manual_seed(0)
    genotype = load_preset(name).genotype
    network: Network = build_network(genotype, classes=3).train()
    maps = [torch.rand(2, *instantiate(stream["input"]).shape) for stream in genotype.streams]
    nn.functional.cross_entropy(network(maps), torch.tensor([0, 2])).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert all(bool(torch.isfinite(weight.grad).all()) for weight in network.parameters() if weight.grad is not None)


@pytest.mark.parametrize("name", ["capsulenet", "dssn", "elrcn_se", "strcn_g"])
def test_a_step_of_a_large_preset_has_a_gradient_for_every_weight(name: str) -> None:
    genotype = load_preset(name).genotype
    with torch.device("meta"):
        network = build_network(genotype, classes=3).train()
        maps = [torch.rand(2, *instantiate(stream["input"]).shape) for stream in genotype.streams]
        network(maps).sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_dssn_drops_half_of_the_products_of_its_streams() -> None:
    streams = load_preset("dssn").genotype.streams
    kept = [1 - stream["backbone"][-1]["dropout"] for stream in streams]
    assert kept[0] * kept[1] == pytest.approx(0.5, abs=1e-3)


def test_the_learning_rate_of_the_rcns_is_halved_every_ten_epochs() -> None:
    for name in ("rcn_a", "rcn_s", "rcn_w"):
        training = instantiate(load_preset(name).genotype["training"])
        rates = [training.schedule.factor(epoch, training.epochs) for epoch in range(training.epochs)]
        assert rates == [0.5 ** (epoch // 10) for epoch in range(60)]
        assert sum(rates) / sum(0.5 ** (epoch // 10) for epoch in range(100)) == pytest.approx(0.985, abs=1e-3)


def test_the_learning_rate_of_capsulenet_falls_by_a_tenth_each_epoch_on_average() -> None:
    training = instantiate(load_preset("capsulenet").genotype["training"])
    rates = [training.schedule.factor(epoch, training.epochs) for epoch in range(training.epochs)]
    assert rates == pytest.approx([0.9 ** (epoch - epoch % 5) for epoch in range(30)], rel=0.01)
