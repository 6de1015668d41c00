"""Landmarks as graphs: the layout against a drawn face, motion against known motion, layers against NumPy."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from mernas.components.blocks.dense import Dense
from mernas.components.blocks.graph_convolution import GraphConvolution
from mernas.components.datasets.clip import Clip
from mernas.components.inputs.face_points import PARTS, STABLE, SUBSETS, face_edges
from mernas.components.inputs.landmark_graph import LandmarkGraph
from mernas.components.topologies.identity import Identity
from mernas.components.topologies.mean_nodes import MeanNodes
from mernas.components.topologies.nodes import Nodes
from mernas.space.errors import DataError, SpaceError
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import APEX, FRAMES, LANDMARKS, OFFSET, ONSET

Points = NDArray[np.float64]

# A face drawn by hand, symmetric about x = 0, y downwards; its outer eye corners are 88 apart.
# fmt: off
FACE: Points = np.array([
    (-70, 0), (-69, 18), (-66, 36), (-61, 53), (-53, 69), (-42, 82), (-28, 92), (-14, 98), (0, 100),
    (14, 98), (28, 92), (42, 82), (53, 69), (61, 53), (66, 36), (69, 18), (70, 0),
    (-57, -22), (-49, -29), (-38, -31), (-27, -29), (-16, -24), (16, -24), (27, -29), (38, -31), (49, -29), (57, -22),
    (0, -8), (0, 4), (0, 16), (0, 28), (-13, 36), (-7, 39), (0, 41), (7, 39), (13, 36),
    (-44, -5), (-37, -10), (-29, -10), (-21, -4), (-29, -1), (-37, -1),
    (21, -4), (29, -10), (37, -10), (44, -5), (37, -1), (29, -1),
    (-27, 60), (-17, 55), (-7, 52), (0, 54), (7, 52), (17, 55), (27, 60), (17, 68), (8, 72), (0, 73), (-8, 72),
    (-17, 68), (-23, 60), (-7, 59), (0, 60), (7, 59), (23, 60), (7, 63), (0, 64), (-7, 63),
], dtype=np.float64)
# fmt: on


def clip(*frames: Points, **contents: Any) -> Clip:
    """Onset, apex and offset are the first three frames."""
    numbers = dict(zip(("onset", "apex", "offset"), range(len(frames)), strict=False))
    landmarks = [frame.astype(np.float32) for frame in frames]
    return Clip("set/person/clip", "set", "set/person", "print", **{"landmarks": landmarks, **numbers, **contents})


def expression(seed: int, amount: float = 3.0) -> Points:
    """Displacements of all points but the stable ones."""
    moved = np.random.default_rng(seed).normal(scale=amount, size=(68, 2))
    moved[list(STABLE)] = 0
    return moved


def turned(points: Points, angle: float, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Points:
    matrix = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.asarray(points @ matrix.T + shift)


# The layout


def test_the_parts_are_the_68_points_in_order() -> None:
    assert [point for points in PARTS.values() for point in points] == list(range(68))
    assert {name: len(points) for name, points in PARTS.items()} == {
        "jaw": 17, "right brow": 5, "left brow": 5, "nose bridge": 4, "nostrils": 5, "right eye": 6, "left eye": 6,
        "outer lips": 12, "inner lips": 8,
    }  # fmt: skip


@pytest.mark.parametrize("count", SUBSETS)
def test_a_subset_has_as_many_different_points_as_it_says(count: int) -> None:
    assert len(SUBSETS[count]) == len(set(SUBSETS[count])) == count
    assert list(SUBSETS[count]) == sorted(SUBSETS[count])


@pytest.mark.parametrize("count", SUBSETS)
def test_edges_are_the_same_in_a_mirror(count: int) -> None:
    points = FACE[list(SUBSETS[count])].tolist()
    image = [points.index([-x, y]) for x, y in points]
    assert {tuple(sorted((image[one], image[other]))) for one, other in face_edges(count)} == set(face_edges(count))


@pytest.mark.parametrize(("count", "edges"), [(68, 79), (51, 60), (49, 54), (30, 33)])
def test_edges_are_as_many_as_counted_by_hand(count: int, edges: int) -> None:
    # 68: chains 16+4+4+3+4, rings 6+6+12+8, 16 between parts. 51: less 16 and 3 of the jaw. 49: less the 3 edges at
    # each inner corner of the mouth. 30: brows 4+4+1, lips 12+8+4.
    assert len(face_edges(count)) == len(set(face_edges(count))) == edges
    assert all(0 <= one < other < count for one, other in face_edges(count))


def test_edges_are_short_on_a_face() -> None:
    lengths = [np.linalg.norm(FACE[one] - FACE[other]) for one, other in face_edges(68)]
    assert max(lengths) < 88 / 2.5  # the longest edge is a small part of the distance between the eyes
    assert np.median(lengths) < 88 / 6


def adjacency(count: int) -> Points:
    matrix = np.zeros((count, count))
    for one, other in face_edges(count):
        matrix[one, other] = matrix[other, one] = 1
    return matrix


@pytest.mark.parametrize(("count", "pieces"), [(68, 1), (51, 1), (49, 1), (30, 2)])
def test_a_face_hangs_together_and_brows_and_mouth_are_two_pieces(count: int, pieces: int) -> None:
    laplacian = np.diag(adjacency(count).sum(axis=1)) - adjacency(count)
    assert int((np.linalg.eigvalsh(laplacian) < 1e-9).sum()) == pieces


# Input


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    angle=st.floats(-0.5, 0.5),
    scale=st.floats(0.8, 1.25),
    shift=st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
    tilt=st.floats(-0.5, 0.5),
)
def test_a_known_expression_is_found_whatever_the_head_does(
    seed: int, angle: float, scale: float, shift: tuple[float, float], tilt: float
) -> None:
    onset, moved = turned(FACE, tilt) + 200, expression(seed)
    shown = clip(onset, turned(onset + moved, angle, scale, shift))
    found = LandmarkGraph(points=68, position=False).prepare(shown)
    assert np.allclose(found, moved / 88, atol=1e-4)


def test_a_shift_of_the_head_is_removed_by_shift_and_kept_by_none() -> None:
    shown = clip(FACE, FACE + expression(1) + np.array([3, -5]))
    by_shift = LandmarkGraph(points=68, position=False, align="shift").prepare(shown)
    by_none = LandmarkGraph(points=68, position=False, align="none").prepare(shown)
    assert np.allclose(by_shift, expression(1) / 88, atol=1e-6)
    assert np.allclose(by_none, (expression(1) + np.array([3, -5])) / 88, atol=1e-6)


def test_a_turn_of_the_head_is_not_removed_by_shift() -> None:
    found = LandmarkGraph(points=68, position=False, align="shift").prepare(clip(FACE, turned(FACE, 0.1)))
    centre = FACE[list(STABLE)].mean(axis=0)
    assert np.allclose(found, (turned(FACE - centre, 0.1) - (FACE - centre)) / 88, atol=1e-6)


def test_the_head_is_the_least_squares_similarity_of_the_stable_points() -> None:
    apex = turned(FACE, 0.05, 1.03, (4, -2)) + np.random.default_rng(3).normal(scale=0.7, size=(68, 2))
    # (x, y) -> (a x - b y + c, b x + a y + d): linear in a, b, c, d.
    rows, wanted = [], []
    for point in (27, 28, 29, 30, 36, 39, 42, 45):
        x, y = apex[point]
        rows += [(x, -y, 1, 0), (y, x, 0, 1)]
        wanted += list(FACE[point])
    a, b, c, d = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0]
    expected = np.stack([a * apex[:, 0] - b * apex[:, 1] + c, b * apex[:, 0] + a * apex[:, 1] + d], axis=1) - FACE
    assert np.allclose(LandmarkGraph(points=68, position=False).prepare(clip(FACE, apex)), expected / 88, atol=1e-5)


def test_offset_comes_after_apex_and_position_last() -> None:
    graph = LandmarkGraph(points=68, moments="apex+offset", align="none")
    found = graph.prepare(clip(FACE + 50, FACE + 50 + expression(1), FACE + 50 + expression(2)))
    assert graph.channels == ("apex dx", "apex dy", "offset dx", "offset dy", "x", "y")
    assert np.allclose(found[:, :2], expression(1) / 88, atol=1e-6)
    assert np.allclose(found[:, 2:4], expression(2) / 88, atol=1e-6)
    assert np.allclose(found[:, 4:], (FACE - (0, -5)) / 88, atol=1e-6)
    assert np.allclose(found[[36, 45], 4:], [(-0.5, 0), (0.5, 0)], atol=1e-6)


@pytest.mark.parametrize("align", ["none", "shift", "similarity"])
def test_the_size_and_place_of_the_face_in_the_picture_do_not_matter(align: str) -> None:
    graph, apex = LandmarkGraph(align=align), turned(FACE, 0.1, 1.1, (5, 3)) + expression(4)
    far = graph.prepare(clip(FACE, apex))
    near = graph.prepare(clip(4 * FACE + (300, 250), 4 * apex + (300, 250)))
    assert np.allclose(near, far, atol=1e-5)


@pytest.mark.parametrize("position", [True, False])
@pytest.mark.parametrize("moments", ["apex", "apex+offset"])
@pytest.mark.parametrize("count", SUBSETS)
def test_the_nodes_are_those_of_the_subset(count: int, moments: str, position: bool) -> None:
    shown = clip(FACE, FACE + expression(1), FACE + expression(2))
    graph = LandmarkGraph(points=count, moments=moments, position=position)
    found = graph.prepare(shown)
    assert found.shape == graph.shape == (count, len(graph.channels))
    assert found.dtype == np.float32
    assert found.flags["C_CONTIGUOUS"]
    every = LandmarkGraph(points=68, moments=moments, position=position).prepare(shown)
    assert np.array_equal(found, every[list(SUBSETS[count])])


BROKEN = FACE.copy()
BROKEN[5, 0] = np.nan
CYCLOPS = FACE.copy()
CYCLOPS[45] = CYCLOPS[36]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"landmarks": None}, "no landmarks"),
        ({"apex": None}, "apex frame, found frame None of 2"),
        ({"onset": 2}, "onset frame, found frame 2 of 2"),
        ({"landmarks": [FACE, FACE[:51]]}, r"apex: .*\(51, 2\)"),
        ({"landmarks": [FACE, BROKEN]}, "no numbers"),
        ({"landmarks": [CYCLOPS, FACE]}, "onset: the eyes must be apart"),
    ],
)
def test_what_is_no_face_is_refused_by_name(contents: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LandmarkGraph().prepare(clip(FACE, FACE, **contents))


def test_the_offset_is_needed_where_it_is_looked_at_and_nowhere_else() -> None:
    declaration = REGISTRY.get("input", "landmark_graph")
    assert declaration.needs == {LANDMARKS, ONSET, APEX}
    assert declaration.parameters["moments"].needs == {"apex+offset": {OFFSET}}
    assert LandmarkGraph().provides(frozenset({FRAMES, LANDMARKS})) == set()
    with pytest.raises(DataError, match="offset frame"):
        LandmarkGraph(moments="apex+offset").prepare(clip(FACE, FACE))


# Blocks


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with all weights and running statistics random, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.is_floating_point() and name != "matrix":
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1 - (0.6 if tensor.ndim > 1 else 0.0))
    return module.eval()


def weight(module: nn.Module, name: str) -> Points:
    return module.get_parameter(name).detach().double().numpy()


def batch_normed(values: Points, module: nn.Module, name: str) -> Points:
    """Batch normalisation of features in the last place, in evaluation mode."""
    mean, variance = (module.get_buffer(f"{name}.running_{kind}").double().numpy() for kind in ("mean", "var"))
    scaled = (values - mean) / np.sqrt(variance + 1e-5)
    return np.asarray(scaled * weight(module, f"{name}.weight") + weight(module, f"{name}.bias"))


def activated(values: Points, name: str) -> Points:
    if name == "gelu":
        return np.asarray(values * 0.5 * (1 + np.vectorize(math.erf)(values / 2**0.5)))
    return np.tanh(values) if name == "tanh" else np.maximum(values, 0)


def graphs(nodes: int, features: int, clips: int = 3) -> torch.Tensor:
    return torch.randn(clips, nodes, features, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("adjacency_choice", ["face", "learned"])
@pytest.mark.parametrize("width", [4, 7])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("norm", "activation"), [("batch", "relu"), ("none", "gelu")])
@pytest.mark.parametrize("count", [51, 30])
def test_graph_convolution_is_the_formula_of_kipf_and_welling(
    count: int, norm: str, activation: str, residual: bool, width: int, adjacency_choice: str
) -> None:
    block = GraphConvolution(
        width=width, adjacency=adjacency_choice, norm=norm, activation=activation, residual=residual
    )
    module, shape = block.build((count, 4))
    given_graphs = graphs(count, 4)
    found = randomised(module)(given_graphs).detach().numpy()

    with_self = adjacency(count) + np.eye(count)
    root = np.diag(with_self.sum(axis=1) ** -0.5)
    h = given_graphs.double().numpy()
    expected = root @ with_self @ root @ h @ weight(module, "linear.weight").T + weight(module, "linear.bias")
    if norm == "batch":
        expected = batch_normed(expected, module, "norm")
    if residual:
        expected = expected + (h if width == 4 else h @ weight(module, "shortcut.weight").T)
    assert shape == found.shape[1:] == (count, width)
    np.testing.assert_allclose(found, activated(expected, activation), atol=1e-5)


@pytest.mark.parametrize("count", [52, 3])
def test_anatomical_edges_of_unknown_landmarks_are_refused_and_learned_ones_start_without_neighbours(
    count: int,
) -> None:
    with pytest.raises(SpaceError, match=f"{count} nodes"):
        GraphConvolution().build((count, 4))
    module, _ = GraphConvolution(adjacency="learned", norm="none").build((count, 4))
    given_graphs = graphs(count, 4)
    expected = given_graphs.double().numpy() @ weight(module, "linear.weight").T + weight(module, "linear.bias")
    np.testing.assert_allclose(module(given_graphs).detach().numpy(), np.maximum(expected, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (GraphConvolution(width=32), 4 * 32 + 32 + 2 * 32),
        (GraphConvolution(width=32, norm="none"), 4 * 32 + 32),
        (GraphConvolution(width=32, residual=True), 4 * 32 + 32 + 2 * 32 + 4 * 32),
        (GraphConvolution(width=4, residual=True), 4 * 4 + 4 + 2 * 4),
        (GraphConvolution(width=32, adjacency="learned"), 4 * 32 + 32 + 2 * 32 + 51 * 51),
    ],
)
def test_graph_convolution_has_the_parameters_of_its_formula(block: GraphConvolution, expected: int) -> None:
    assert sum(parameter.numel() for parameter in block.build((51, 4))[0].parameters()) == expected


def test_a_learned_adjacency_learns_and_an_anatomical_one_does_not() -> None:
    for choice, learns in (("learned", True), ("face", False)):
        module, _ = GraphConvolution(adjacency=choice).build((49, 4))
        module(graphs(49, 4)).square().sum().backward()
        gradient = dict(module.named_parameters()).get("matrix")
        assert (gradient is not None and gradient.grad is not None and bool(gradient.grad.abs().max() > 0)) == learns
        assert "matrix" in module.state_dict()


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_dense_is_a_linear_map_its_norm_and_its_activation(norm: str, activation: str) -> None:
    module, shape = Dense(width=6, norm=norm, activation=activation).build((11,))
    vectors = graphs(5, 11)[0]
    found = randomised(module)(vectors).detach().numpy()
    expected = vectors.double().numpy() @ weight(module, "0.weight").T + weight(module, "0.bias")
    if norm == "batch":
        expected = batch_normed(expected, module, "1")
    if norm == "layer":
        centred = expected - expected.mean(axis=1, keepdims=True)
        expected = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        expected = expected * weight(module, "1.weight") + weight(module, "1.bias")
    assert shape == (6,)
    np.testing.assert_allclose(found, activated(expected, activation), atol=1e-5)


# Readouts


def test_mean_nodes_gives_the_mean_and_then_the_largest_value() -> None:
    given_graphs = graphs(51, 4)
    values = given_graphs.numpy()
    mean, shape = MeanNodes().build((51, 4))
    both, longer = MeanNodes(statistics="mean+max").build((51, 4))
    assert (shape, longer) == ((4,), (8,))
    np.testing.assert_allclose(mean(given_graphs).numpy(), values.mean(axis=1), atol=1e-6)
    expected = np.concatenate([values.mean(axis=1), values.max(axis=1)], axis=1)
    np.testing.assert_allclose(both(given_graphs).numpy(), expected, atol=1e-6)


def test_mean_nodes_does_not_care_for_the_order_of_nodes_and_nodes_keeps_it() -> None:
    given_graphs = graphs(51, 4)
    both, _ = MeanNodes(statistics="mean+max").build((51, 4))
    torch.testing.assert_close(both(given_graphs.flip(1)), both(given_graphs))
    tokens, shape = Nodes().build((51, 4))
    assert shape == (51, 4)
    assert torch.equal(tokens(given_graphs), given_graphs)


def test_identity_hands_on_the_vector() -> None:
    module, shape = Identity().build((8,))
    vectors = graphs(2, 8)[:, 0]
    assert shape == (8,)
    assert torch.equal(module(vectors), vectors)


# What holds for every module

MODULES = [
    (GraphConvolution(width=8, dropout=0.3, residual=True), (51, 4)),
    (GraphConvolution(width=8, adjacency="learned", activation="gelu"), (30, 6)),
    (Dense(width=8, dropout=0.3), (20,)),
    (Dense(width=8, norm="layer", activation="tanh"), (20,)),
    (MeanNodes(statistics="mean+max"), (51, 4)),
    (Nodes(), (51, 4)),
    (Identity(), (20,)),
]


@pytest.mark.parametrize(("component", "shape"), MODULES)
def test_a_batch_is_treated_like_its_clips_and_by_a_pickled_copy_too(component: Any, shape: tuple[int, ...]) -> None:
    module, left = component.build(shape)
    randomised(module)
    batch = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))
    together = module(batch)
    assert together.shape == (5, *left)
    torch.testing.assert_close(torch.cat([module(one[None]) for one in batch]), together)
    assert torch.equal(pickle.loads(pickle.dumps(module))(batch), together)


@pytest.mark.parametrize(("component", "shape"), MODULES)
def test_modules_are_built_without_memory_and_exported_for_any_batch(component: Any, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        module, left = component.build(shape)
        assert module(torch.empty(2, *shape)).shape == (2, *left)
    module, _ = component.build(shape)
    randomised(module)
    dynamic = ({0: torch.export.Dim("batch", min=1, max=512)},)
    exported = torch.export.export(module, (torch.zeros(3, *shape),), dynamic_shapes=dynamic).module()
    batch = torch.randn(7, *shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(exported(batch), module(batch))


@pytest.mark.parametrize("component", [GraphConvolution(width=64, dropout=0.5), Dense(width=64, dropout=0.5)])
def test_dropout_silences_values_in_training_only(component: Any) -> None:
    shape = (51, 4) if isinstance(component, GraphConvolution) else (20,)
    module, _ = component.build(shape)
    nn.init.constant_((module.norm if isinstance(component, GraphConvolution) else module[1]).bias, 100.0)
    batch = torch.randn(40, *shape, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    assert float((module.train()(batch) == 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert bool((module.eval()(batch) > 0).all())
