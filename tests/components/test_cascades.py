"""Cascades: recurrences, attention and convolutions written out in NumPy, counts by formula, exports with any batch."""

import copy
import io
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from mernas.components.topologies.average import Average
from mernas.components.topologies.frames import Frames
from mernas.components.topologies.gru import GRU
from mernas.components.topologies.lstm import LSTM
from mernas.components.topologies.mean_tokens import MeanTokens
from mernas.components.topologies.patches import Patches
from mernas.components.topologies.tcn import TCN
from mernas.components.topologies.token_attention import TokenAttention
from mernas.components.topologies.transformer import Transformer
from mernas.space.registry import REGISTRY

CASCADES = [
    LSTM(hidden=5),
    LSTM(hidden=5, layers=2, bidirectional=True, read="mean", dropout=0.3),
    GRU(hidden=5),
    GRU(hidden=5, layers=2, bidirectional=True, dropout=0.3),
    Transformer(heads=2, head_width=4),
    Transformer(heads=3, head_width=8, depth=1, read="mean"),
    TCN(width=6),
    TCN(width=7, levels=4, kernel=5, causal=True, read="last", dropout=0.3),
    MeanTokens(),
    TokenAttention(hidden=4),
]
TIMES, FEATURES = 6, 7
SEQUENCES = torch.randn(5, TIMES, FEATURES, generator=torch.Generator().manual_seed(3))


def built(cascade: Any, shape: tuple[int, int] = (TIMES, FEATURES)) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = cascade.build(shape)[0]
    return module.eval()


def numbers(module: nn.Module) -> dict[str, NDArray[np.float64]]:
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(tokens: NDArray[np.float64], values: dict[str, NDArray[np.float64]], suffix: str) -> Any:
    w, v, bias = (
        values[f"cells.weight_ih_{suffix}"],
        values[f"cells.weight_hh_{suffix}"],
        values[f"cells.bias_ih_{suffix}"] + values[f"cells.bias_hh_{suffix}"],
    )
    hidden = memory = np.zeros(v.shape[1])
    outputs = []
    for token in tokens:
        i, f, g, o = np.split(w @ token + v @ hidden + bias, 4)
        memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(memory)
        outputs.append(hidden)
    return np.array(outputs)


def gru_by_hand(tokens: NDArray[np.float64], values: dict[str, NDArray[np.float64]], suffix: str) -> Any:
    w, v = values[f"cells.weight_ih_{suffix}"], values[f"cells.weight_hh_{suffix}"]
    b, c = values[f"cells.bias_ih_{suffix}"], values[f"cells.bias_hh_{suffix}"]
    hidden = np.zeros(v.shape[1])
    outputs = []
    for token in tokens:
        (ir, iz, in_), (hr, hz, hn) = np.split(w @ token + b, 3), np.split(v @ hidden + c, 3)
        update = sigmoid(iz + hz)
        hidden = (1 - update) * np.tanh(in_ + sigmoid(ir + hr) * hn) + update * hidden
        outputs.append(hidden)
    return np.array(outputs)


BY_HAND = {LSTM: lstm_by_hand, GRU: gru_by_hand}


@pytest.mark.parametrize("leaf", [LSTM, GRU])
@pytest.mark.parametrize("read", ["last", "mean"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrence_is_that_of_the_formulas(leaf: Any, read: str, bidirectional: bool) -> None:
    module = built(leaf(hidden=5, layers=2, read=read, bidirectional=bidirectional))
    values, directions = numbers(module), 2 if bidirectional else 1
    wanted = []
    for tokens in SEQUENCES.double().numpy():
        for layer in range(2):
            runs = [BY_HAND[leaf](tokens, values, f"l{layer}")]
            if bidirectional:
                runs.append(BY_HAND[leaf](tokens[::-1], values, f"l{layer}_reverse"))
            ends = np.concatenate([run[-1] for run in runs])
            tokens = np.concatenate([run[:: (1, -1)[way]] for way, run in enumerate(runs)], axis=1)
        wanted.append(ends if read == "last" else tokens.mean(axis=0))
    given = module(SEQUENCES).detach().numpy()
    assert given.shape == (5, 5 * directions)
    np.testing.assert_allclose(given, np.array(wanted), atol=1e-5)


@given(
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([4, 5, 12]), st.integers(1, 2), st.booleans(), st.booleans()
)
@settings(max_examples=25, deadline=None)
def test_counts_of_recurrent_cascades_are_those_of_the_formulas(
    times: int, features: int, hidden: int, layers: int, bidirectional: bool, gated: bool
) -> None:
    directions, gates = 1 + bidirectional, 3 if gated else 4
    inputs = [features, directions * hidden][:layers]
    wanted = sum(directions * gates * hidden * (width + hidden + 2) for width in inputs)
    with torch.device("meta"):
        leaf = (GRU if gated else LSTM)(hidden=hidden, layers=layers, bidirectional=bidirectional)
        module, shape = leaf.build((times, features))
    assert shape == (directions * hidden,)
    assert sum(value.numel() for value in module.parameters()) == wanted


def test_memory_of_a_published_cascade_has_its_85_million_weights() -> None:
    with torch.device("meta"):
        module, shape = LSTM(hidden=3000).build((10, 4096))
    assert shape == (3000,)
    assert round(sum(value.numel() for value in module.parameters()) / 1e6) == 85


def normed(x: NDArray[np.float64], scale: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = x - x.mean(axis=-1, keepdims=True)
    result: NDArray[np.float64] = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * scale + offset
    return result


def transformer_by_hand(
    tokens: NDArray[np.float64], v: dict[str, NDArray[np.float64]], heads: int, depth: int
) -> NDArray[np.float64]:
    """The tokens that leave the last layer norm."""
    x = tokens @ v["project.weight"].T + v["project.bias"]
    if "first" in v:
        x = np.concatenate([v["first"][0], x])
    x = x + v["positions"][0]
    each = x.shape[1] // heads
    for layer in range(depth):
        at = f"layers.{layer}."
        y = normed(x, v[at + "norm1.weight"], v[at + "norm1.bias"])
        q, k, u = np.split(y @ v[at + "self_attn.in_proj_weight"].T + v[at + "self_attn.in_proj_bias"], 3, axis=1)
        mixed = []
        for head in range(heads):
            part = slice(head * each, (head + 1) * each)
            score = np.exp(q[:, part] @ k[:, part].T / math.sqrt(each))
            mixed.append(score / score.sum(axis=1, keepdims=True) @ u[:, part])
        out = np.concatenate(mixed, axis=1)
        x = x + out @ v[at + "self_attn.out_proj.weight"].T + v[at + "self_attn.out_proj.bias"]
        y = normed(x, v[at + "norm2.weight"], v[at + "norm2.bias"])
        y = y @ v[at + "linear1.weight"].T + v[at + "linear1.bias"]
        y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
        x = x + y @ v[at + "linear2.weight"].T + v[at + "linear2.bias"]
    return normed(x, v["norm.weight"], v["norm.bias"])


@pytest.mark.parametrize("read", ["class", "mean"])
@pytest.mark.parametrize("gradients", [True, False])
def test_transformer_is_that_of_the_formulas(read: str, gradients: bool) -> None:
    module = built(Transformer(heads=2, head_width=4, depth=2, expansion=4, read=read, dropout=0.5))
    with torch.no_grad():
        for value in module.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())) * 0.1)
    with torch.set_grad_enabled(gradients):  # without them torch takes another way through its layers
        given = module(SEQUENCES).detach().numpy()
    left = [transformer_by_hand(tokens, numbers(module), heads=2, depth=2) for tokens in SEQUENCES.double().numpy()]
    wanted = np.array([x[0] if read == "class" else x.mean(axis=0) for x in left])
    np.testing.assert_allclose(given, wanted, atol=1e-5)


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 12),
    st.sampled_from([4, 8, 16]),
    st.integers(1, 2),
    st.sampled_from([1, 2, 4]),
    st.sampled_from(["class", "mean"]),
)
@settings(max_examples=10, deadline=None)
def test_every_transformer_can_be_built_and_has_the_count_of_the_formula(
    times: int, features: int, heads: int, head_width: int, depth: int, expansion: int, read: str
) -> None:
    with torch.device("meta"):
        module, shape = Transformer(heads, head_width, depth, expansion, read).build((times, features))
        vectors = module(torch.empty(2, times, features))
    width = heads * head_width
    layer = 4 * width * (width + 1) + 2 * expansion * width**2 + (expansion + 1) * width + 4 * width
    tokens = times + (read == "class")
    wanted = width * (features + 1) + width * tokens + (read == "class") * width + depth * layer + 2 * width
    assert sum(value.numel() for value in module.parameters()) == wanted
    assert shape == (width,)
    assert vectors.shape == (2, width)


def test_layers_of_a_transformer_begin_with_different_weights() -> None:
    module = built(Transformer(depth=2))
    first, second = (module.get_parameter(f"layers.{layer}.linear1.weight") for layer in range(2))
    assert not torch.equal(first, second)


def test_transformer_without_positions_does_not_see_the_order_and_with_them_does() -> None:
    module = built(Transformer(read="mean"))
    turned = SEQUENCES.flip(1)
    assert not torch.allclose(module(SEQUENCES), module(turned), atol=1e-3)
    with torch.no_grad():
        module.get_parameter("positions").zero_()
    torch.testing.assert_close(module(SEQUENCES), module(turned), atol=1e-5, rtol=1e-5)


def test_temporal_convolution_is_that_of_the_formula() -> None:
    module = built(TCN(width=6, levels=2, kernel=3, read="mean"))
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.ndim == 1:
                noise = torch.rand(value.shape, generator=torch.Generator().manual_seed(len(name)))
                value.copy_(noise + 0.5)
    v = numbers(module)

    def convolved(x: NDArray[np.float64], at: str, dilation: int) -> NDArray[np.float64]:
        kernel = v[f"{at}.weight"]
        result = np.zeros((len(x), len(kernel)))
        for time in range(len(x)):
            for tap in range(3):
                place = time + (tap - 1) * dilation
                if 0 <= place < len(x):
                    result[time] += kernel[:, :, tap] @ x[place]
        return result

    def batch_normed(x: NDArray[np.float64], at: str) -> NDArray[np.float64]:
        spread = np.sqrt(v[f"{at}.running_var"] + 1e-5)
        result: NDArray[np.float64] = (x - v[f"{at}.running_mean"]) / spread * v[f"{at}.weight"] + v[f"{at}.bias"]
        return result

    wanted = []
    for tokens in SEQUENCES.double().numpy():
        x = tokens
        for place, dilation in ((1, 1), (2, 2)):
            y = np.maximum(batch_normed(convolved(x, f"{place}.branch.1", dilation), f"{place}.branch.2"), 0)
            y = batch_normed(convolved(y, f"{place}.branch.6", dilation), f"{place}.branch.7")
            if place == 1:
                x = x @ v["1.shortcut.weight"][:, :, 0].T + v["1.shortcut.bias"]
            x = np.maximum(x + y, 0)
        wanted.append(x.mean(axis=0))
    np.testing.assert_allclose(module(SEQUENCES).detach().numpy(), np.array(wanted), atol=1e-5)


def test_causal_convolution_sees_no_later_token() -> None:
    # All but the last module: the sequence before it is read out.
    levels = nn.Sequential(*list(built(TCN(width=6, levels=3, causal=True)).children())[:-1])
    changed = SEQUENCES.clone()
    changed[:, 4] += 1
    before, after = levels(SEQUENCES), levels(changed)
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.allclose(before[:, :, 4:], after[:, :, 4:])


def test_last_token_of_a_causal_convolution_sees_as_far_as_its_kernels_reach() -> None:
    module = built(TCN(width=6, levels=2, kernel=3, causal=True, read="last"), shape=(20, FEATURES))
    sequences = torch.randn(1, 20, FEATURES, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(sequences).sum(), sequences)
    seen = gradient.abs().sum(dim=2)[0] > 0
    reach = 2 * (3 - 1) * (1 + 2)  # two convolutions in each level
    assert seen.tolist() == [time >= 19 - reach for time in range(20)]


def test_mean_of_tokens_is_that_of_numpy() -> None:
    given = built(MeanTokens())(SEQUENCES)
    np.testing.assert_allclose(given.numpy(), SEQUENCES.numpy().mean(axis=1), atol=1e-6)


def test_attention_over_tokens_is_that_of_the_formula() -> None:
    module = built(TokenAttention(hidden=4))
    v = numbers(module)
    wanted = []
    for tokens in SEQUENCES.double().numpy():
        score = np.exp(np.tanh(tokens @ v["score.0.weight"].T + v["score.0.bias"]) @ v["score.2.weight"][0])
        wanted.append((score / score.sum()) @ tokens)
    np.testing.assert_allclose(module(SEQUENCES).detach().numpy(), np.array(wanted), atol=1e-5)


@pytest.mark.parametrize("cascade", CASCADES, ids=str)
def test_announced_shape_is_the_real_one_even_for_a_single_token(cascade: Any) -> None:
    for times in (1, 2, TIMES):
        module, shape = cascade.build((times, FEATURES))
        assert module.eval()(torch.zeros(3, times, FEATURES)).shape == (3, *shape)


@pytest.mark.parametrize("cascade", CASCADES, ids=str)
def test_batch_gives_what_its_sequences_give_one_by_one_again_and_again(cascade: Any) -> None:
    module = built(cascade)
    with torch.inference_mode():
        singles = torch.cat([module(SEQUENCES[row : row + 1]) for row in range(len(SEQUENCES))])
        torch.testing.assert_close(module(SEQUENCES), singles, atol=1e-5, rtol=1e-5)
        assert torch.equal(module(SEQUENCES), module(SEQUENCES))


@pytest.mark.parametrize("cascade", CASCADES, ids=str)
def test_copies_give_the_same_and_gradients_reach_every_parameter(cascade: Any) -> None:
    module = built(cascade)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(SEQUENCES), module(SEQUENCES))
    if not list(module.parameters()):
        return
    module.train()
    (module(SEQUENCES) * torch.randn(module(SEQUENCES).shape)).sum().backward()
    missed = [name for name, value in module.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert not missed


@pytest.mark.parametrize("cascade", [cascade for cascade in CASCADES if getattr(cascade, "dropout", 0) > 0], ids=str)
def test_dropout_acts_in_training_only(cascade: Any) -> None:
    module = built(cascade).train()
    assert not torch.equal(module(SEQUENCES), module(SEQUENCES))


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # torch says so of its own recurrent layers
@pytest.mark.parametrize("cascade", CASCADES, ids=str)
def test_exported_program_takes_batches_of_any_size(cascade: Any) -> None:
    module = built(cascade)
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(module, (SEQUENCES[:2],), dynamic_shapes=({0: batch},))
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for size in (1, 2, 5):
        torch.testing.assert_close(loaded(SEQUENCES[:size]), module(SEQUENCES[:size]), atol=1e-4, rtol=1e-4)
    twin = pickle.loads(pickle.dumps(module))
    assert torch.equal(twin(SEQUENCES), module(SEQUENCES)), "exporting leaves the module as it was"


def test_every_cascade_is_tried_here() -> None:
    assert {type(cascade) for cascade in CASCADES} == {
        REGISTRY.get("cascade", name).factory for name in REGISTRY.names("cascade")
    }


def test_frames_are_averaged_as_single_images_are() -> None:
    videos = torch.randn(2, 3, 4, 10, 15, generator=torch.Generator().manual_seed(1))
    module, shape = Frames(grid=5).build((3, 4, 10, 15))
    assert shape == (4, 75)
    by_hand = videos.numpy().reshape(2, 3, 4, 5, 2, 5, 3).mean(axis=(4, 6))
    np.testing.assert_allclose(module(videos).numpy(), by_hand.transpose(0, 2, 1, 3, 4).reshape(2, 4, 75), atol=1e-6)
    single = Average(grid=5).build((3, 10, 15))[0]
    for time in range(4):
        assert torch.equal(module(videos)[:, time], single(videos[:, :, time]))


def test_patches_are_the_pixels_row_by_row_or_the_cells_of_a_grid() -> None:
    maps = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    pixels, shape = Patches(grid=0).build((3, 4, 6))
    assert shape == (24, 3)
    for row, column in ((0, 0), (1, 2), (3, 5)):
        assert torch.equal(pixels(maps)[:, row * 6 + column], maps[:, :, row, column])
    cells, shape = Patches(grid=2).build((3, 4, 6))
    assert shape == (4, 3)
    by_hand: Tensor = maps[:, :, 2:, :3].mean(dim=(2, 3))
    torch.testing.assert_close(cells(maps)[:, 2], by_hand)
