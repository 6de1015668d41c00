"""Fusions of vectors and of scores against NumPy, with vectors of equal and of unequal lengths."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from mernas.components.topologies.attention import Attention
from mernas.components.topologies.concatenation import Concatenation
from mernas.components.topologies.product import Product
from mernas.components.topologies.scores import Scores
from mernas.components.topologies.sum import Sum
from mernas.space.registry import REGISTRY

FUSIONS = [Concatenation(), Sum(width=6), Product(width=6), Attention(width=6), Scores()]
EQUAL, UNEQUAL = [5, 5, 5], [3, 5, 4]


def built(fusion: Any, features: list[int]) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = fusion.build(features)[0]
    return module.eval()


def vectors_of(features: list[int], rows: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(sum(features))
    return [torch.randn(rows, length, generator=generator) for length in features]


def projected(module: nn.Module, vectors: list[Tensor]) -> list[NDArray[np.float64]]:
    """The vectors, mapped by the linear layers of the fusion where it has some."""
    values = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}
    arrays = [vector.double().numpy() for vector in vectors]
    if "0.layers.0.weight" not in values:
        return arrays
    return [
        array @ values[f"0.layers.{stream}.weight"].T + values[f"0.layers.{stream}.bias"]
        for stream, array in enumerate(arrays)
    ]


@pytest.mark.parametrize("features", [EQUAL, UNEQUAL])
def test_sum_and_product_are_those_of_numpy(features: list[int]) -> None:
    vectors = vectors_of(features)
    for fusion, by_hand in ((Sum(width=6), np.add), (Product(width=6), np.multiply)):
        module = built(fusion, features)
        wanted = by_hand.reduce(projected(module, vectors))
        np.testing.assert_allclose(module(vectors).detach().numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("features", [EQUAL, UNEQUAL])
def test_attention_weighs_each_clip_by_the_softmax_of_linear_scores(features: list[int]) -> None:
    vectors = vectors_of(features)
    module = built(Attention(width=6), features)
    arrays = projected(module, vectors)
    values = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}
    scores = np.exp(
        [array @ values[f"1.scores.{at}.weight"][0] + values[f"1.scores.{at}.bias"] for at, array in enumerate(arrays)]
    )
    weights = scores / scores.sum(axis=0)
    wanted = sum(weight[:, None] * array for weight, array in zip(weights, arrays, strict=True))
    np.testing.assert_allclose(module(vectors).detach().numpy(), wanted, atol=1e-5)


def test_attention_of_one_vector_seen_thrice_is_that_vector() -> None:
    vector = torch.randn(4, 5)
    torch.testing.assert_close(built(Attention(), EQUAL)([vector] * 3), vector)


@given(st.lists(st.integers(1, 20), min_size=2, max_size=4), st.integers(2, 64))
@settings(max_examples=30, deadline=None)
def test_only_unequal_lengths_cost_projections(features: list[int], width: int) -> None:
    equal = len(set(features)) == 1
    layers = 0 if equal else sum(width * (length + 1) for length in features)
    length = features[0] if equal else width
    extra = {Sum: 0, Product: 0, Attention: len(features) * (length + 1)}
    for leaf, own in extra.items():
        with torch.device("meta"):
            module, announced = leaf(width=width).build(features)
            given = module([torch.empty(2, each) for each in features])
        assert sum(value.numel() for value in module.parameters()) == layers + own
        assert announced == length
        assert given.shape == (2, length)


def test_scores_lay_the_vectors_side_by_side_for_losses_of_vectors() -> None:
    vectors = vectors_of(UNEQUAL)
    module, length = Scores().build(UNEQUAL)
    assert length == 12
    np.testing.assert_array_equal(module(vectors).numpy(), np.concatenate([v.numpy() for v in vectors], axis=1))


LOGITS = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("of", ["logits", "probabilities"])
@pytest.mark.parametrize("weights", ["equal", "learned"])
def test_scores_are_the_weighted_means_of_numpy(weights: str, of: str) -> None:
    module = Scores(weights=weights, of=of).build_scores(3, 4).eval()
    shares = np.full(3, 1 / 3)
    if weights == "learned":
        with torch.no_grad():
            module.get_parameter("preference").copy_(torch.tensor([0.5, -1.0, 2.0]))
        shares = np.exp([0.5, -1.0, 2.0]) / np.exp([0.5, -1.0, 2.0]).sum()
    given = module(LOGITS).detach().double().numpy()
    scores = LOGITS.double().numpy()
    if of == "logits":
        np.testing.assert_allclose(given, np.einsum("s,bsk->bk", shares, scores), atol=1e-6)
    else:
        chances = np.exp(scores) / np.exp(scores).sum(axis=2, keepdims=True)
        np.testing.assert_allclose(np.exp(given), np.einsum("s,bsk->bk", shares, chances), atol=1e-6)


def test_learned_weights_begin_equal_and_are_learned() -> None:
    module = Scores(weights="learned").build_scores(3, 4)
    torch.testing.assert_close(module(LOGITS), LOGITS.mean(dim=1))
    nn.functional.cross_entropy(module(LOGITS), torch.tensor([0, 1, 2, 3, 0])).backward()
    gradient = module.get_parameter("preference").grad
    assert gradient is not None
    assert gradient.abs().min() > 0


def test_only_the_fusion_of_scores_works_on_scores() -> None:
    levels = {name: getattr(REGISTRY.get("fusion", name).factory, "level", None) for name in REGISTRY.names("fusion")}
    assert {name for name, level in levels.items() if level == "score"} == {"scores"}
    assert {type(fusion) for fusion in FUSIONS} == {REGISTRY.get("fusion", name).factory for name in levels}


class Positional(nn.Module):
    """A fusion that takes its vectors as separate arguments, as an exported network does."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, *vectors: Tensor) -> Any:
        return self.fusion(list(vectors))


@pytest.mark.parametrize("features", [EQUAL, UNEQUAL])
@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_fusions_treat_rows_alike_copy_export_and_learn(fusion: Any, features: list[int]) -> None:
    module, vectors = built(fusion, features), vectors_of(features, rows=5)
    whole = module(vectors)
    singles = torch.cat([module([vector[row : row + 1] for vector in vectors]) for row in range(5)])
    torch.testing.assert_close(whole, singles, atol=1e-5, rtol=1e-5)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(vectors), whole)
    batch = torch.export.Dim("batch", min=1)
    examples = tuple(vector[:2] for vector in vectors)
    exported = torch.export.export(Positional(module), examples, dynamic_shapes=(tuple({0: batch} for _ in features),))
    for size in (1, 2, 5):
        part = [vector[:size] for vector in vectors]
        torch.testing.assert_close(exported.module()(*part), module(part), atol=1e-4, rtol=1e-4)
    if list(module.parameters()):
        whole.square().sum().backward()
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in module.parameters())


@pytest.mark.parametrize("weights", ["equal", "learned"])
@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_fusion_of_scores_exports_with_any_batch(weights: str, of: str) -> None:
    module = Scores(weights=weights, of=of).build_scores(3, 4).eval()
    batch = torch.export.Dim("batch", min=1)
    loaded = torch.export.export(module, (LOGITS[:2],), dynamic_shapes=({0: batch},)).module()
    for size in (1, 2, 5):
        torch.testing.assert_close(loaded(LOGITS[:size]), module(LOGITS[:size]), atol=1e-5, rtol=1e-5)
