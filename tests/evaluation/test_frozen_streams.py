"""Streams that a strategy freezes, in the quick form that the engine gives to a network while it trains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mernas.components.topologies.network import Network
from mernas.evaluation.custody import TrainingView
from mernas.evaluation.fitting import assemble, numeric_state, predict
from mernas.space.genotype import Genotype, parse_genotype

PIPELINE = """
streams:
  - {{input: {{optical_flow: {{estimator: given, size: 14}}}}, backbone: [{{convolution: {{width: 4, dropout: 0.3}}}}]}}
  - {{input: {{optical_flow: {{estimator: given, size: 14}}}}, backbone: [{{convolution: {{width: 6, dropout: 0.3}}}}]}}
fusion: concatenation
tasks: [{{emotion: {{head: linear}}}}]
normalisation: standardise
loss: cross_entropy
training: {{finetune: {{source_epochs: 2, epochs: {epochs}, batch: 8, frozen: streams}}}}
"""


def view_of(genotype: Genotype) -> TrainingView:
    def rows(count: int, seed: int) -> tuple[list[Tensor], Tensor]:
        labels = torch.arange(count) % 3
        maps = torch.randn((count, 3, 14, 14), generator=torch.Generator().manual_seed(seed))
        maps[torch.arange(count), labels] += 1.0
        return [maps, maps], labels

    channels = [("u", "v", "strain")] * 2
    maps, labels = rows(30, 1)
    source = TrainingView(maps=maps, labels=labels, classes=3, channels=channels, units=None)
    maps, labels = rows(24, 2)
    return TrainingView(maps=maps, labels=labels, classes=3, channels=channels, units=None, source=source)


def trained(epochs: int, *, watched: bool) -> Network:
    """A network of two streams whose first layers are done side by side while both are trained."""
    genotype = parse_genotype(PIPELINE.format(epochs=epochs))
    view = view_of(genotype)
    with numeric_state(0, "cpu"):
        network, train = assemble(genotype, view, 0)
        assert isinstance(network, Network)
        held_out = [view.maps(0), view.maps(1)]

        def watch(epoch: int) -> None:  # as the engine does it
            network.eval()
            predict(network, held_out)
            network.train()

        train(watch if watched else None)
    return network


@pytest.mark.parametrize("watched", [False, True])
def test_further_epochs_of_the_second_stage_change_nothing_in_frozen_streams(watched: bool) -> None:
    short, long = trained(1, watched=False), trained(4, watched=watched)
    assert any(isinstance(module, nn.BatchNorm2d) for module in long.streams.modules())
    for name, value in short.streams.state_dict().items():
        assert torch.equal(value, long.streams.state_dict()[name]), name
    changed = zip(short.task.parameters(), long.task.parameters(), strict=True)
    assert all(not torch.equal(before, after) for before, after in changed)
