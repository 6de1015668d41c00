"""Networks: what arrives where, frame by frame, stream by stream, score by score."""

import numpy as np
import pytest
import torch

from mernas.components.blocks.convolution import Convolution
from mernas.components.topologies.network import build_network, count_parameters
from mernas.components.topologies.stage import FrameWise, build_stage
from mernas.space.genotype import parse_genotype
from mernas.space.taxonomy import APEX, FRAMES, OFFSET, ONSET
from mernas.space.tree import SearchSpace

STREAM = "{input: {apex_frame: {size: 28}}, backbone: [{convolution: {width: 4}}], readout: {average: {grid: 2}}}"
WIDER = "{input: {apex_frame: {size: 28}}, backbone: [{convolution: {width: 8}}], readout: {average: {grid: 2}}}"
REST = "tasks: [{emotion: {head: linear}}]\nloss: cross_entropy\nnormalisation: raw\n"
VIDEO = """
streams:
  - input: {sequence: {frames: 6, size: 28}}
    backbone: [{convolution: {width: 4}}]
    readout: {frames: {grid: 2}}
    cascade: {lstm: {hidden: 8}}
"""


def test_a_block_of_images_does_to_a_video_what_it_does_to_each_of_its_frames() -> None:
    torch.manual_seed(0)
    module, shape = build_stage(Convolution(width=4), (2, 5, 12, 10))
    assert isinstance(module.eval(), FrameWise)
    video = torch.randn(3, 2, 5, 12, 10)
    found = module(video)
    assert found.shape == (3, *shape) == (3, 4, 5, 6, 5)
    for frame in range(5):
        assert torch.allclose(found[:, :, frame], module.image(video[:, :, frame]), atol=1e-6)


def test_score_level_fusion_is_the_mean_of_what_each_head_says_of_its_own_stream() -> None:
    torch.manual_seed(0)
    genotype = parse_genotype(f"streams: [{STREAM}, {WIDER}]\nfusion: {{scores: {{weights: equal}}}}\n{REST}")
    network = build_network(genotype, classes=3).eval()
    maps = [torch.rand(5, 1, 28, 28), torch.rand(5, 1, 28, 28)]
    with torch.inference_mode():
        logits = network(maps).double().numpy()
        vectors = [stream(batch).double().numpy() for stream, batch in zip(network.streams, maps, strict=True)]
    heads = [[part.detach().double().numpy() for part in head.parameters()] for head in network.task.heads]
    said = [vector @ weight.T + bias for vector, (weight, bias) in zip(vectors, heads, strict=True)]
    assert np.allclose(logits, np.mean(said, axis=0), atol=1e-5)
    # By hand: convolutions 4 * 10 and 8 * 10, batch norms 2 * 4 and 2 * 8, heads of 16 and 32 features.
    assert count_parameters(genotype, classes=3) == 40 + 80 + 8 + 16 + 3 * 17 + 3 * 33


def test_a_sequence_reaches_the_head_through_a_cascade_alone() -> None:
    space = SearchSpace(frozenset({FRAMES, ONSET, APEX, OFFSET}))
    assert parse_genotype(VIDEO + REST) in space
    without = parse_genotype(VIDEO.replace("    cascade: {lstm: {hidden: 8}}\n", "") + REST)
    assert any("cascade" in str(problem) for problem in space.problems(without))
    flat = parse_genotype(VIDEO.replace("{frames: {grid: 2}}", "{average: {grid: 2}}") + REST)
    assert any("cascade" in str(problem) for problem in space.problems(flat))


@pytest.mark.parametrize("parts", ["fusion: concatenation", "fusion: {sum: {width: 16}}", "fusion: attention"])
def test_the_fused_vector_has_the_length_that_the_network_says(parts: str) -> None:
    network = build_network(parse_genotype(f"streams: [{STREAM}, {WIDER}]\n{parts}\n{REST}"), classes=3).eval()
    assert network.fused([torch.rand(2, 1, 28, 28)] * 2).shape == (2, network.length)
