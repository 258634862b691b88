"""The examples: what is found in each, and its numbers against the paper's equations by hand."""

import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fxplain
from examples import co_attention, encoder_decoder, windows
from tests.long_run import quickly
from tests.oracle import Oracle, attention_map

FOLDER = Path(__file__).parents[1] / "examples"
Facts = tuple[str, tuple[str, ...], tuple[str, ...], int, int, int]


def facts(graph: fxplain.AttentionGraph) -> list[Facts]:
    return [(n.kind, n.query, n.key, n.heads, n.q_len, n.k_len) for n in graph.nodes]


def check_weights(model: torch.nn.Module, inputs: dict[str, Tensor], want: list[Tensor]) -> None:
    """The weights that every node saw, in program order, are `want`."""
    got = fxplain.attention_weights(model, inputs)
    assert len(got) == len(want)
    for (name, found), weights in zip(got.items(), want, strict=True):
        torch.testing.assert_close(found.reshape(weights.shape), weights.detach(), msg=name)


def maps(weights: list[Tensor], scores: Tensor, target: int) -> Callable[[int, int], np.ndarray]:
    """A-bar of equation 5 by attention and sample."""
    gradients = torch.autograd.grad(scores[:, target].sum(), weights, allow_unused=True)

    def of(attention: int, sample: int) -> np.ndarray:
        A, gradient = weights[attention][sample], gradients[attention]
        gradient = torch.zeros_like(A) if gradient is None else gradient[sample]
        return attention_map(A.detach().double().numpy(), gradient.double().numpy())

    return of


def check_relevance(explanation: fxplain.Explanation, name: str, want: list[np.ndarray]) -> None:
    got = explanation.relevance[name].double().numpy()
    np.testing.assert_allclose(got, np.stack(want), rtol=0, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize(
    "name", quickly(["co_attention", "encoder_decoder", "windows"], ["windows"])
)
def test_it_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "Explanation of" in printed
    assert "AttentionGraph of" in printed
    assert "WARNING" not in printed


def test_co_attention() -> None:
    model, inputs = co_attention.build()
    scores, weights = model(**inputs, need_weights=True)
    explanation = fxplain.explain(model, inputs, target=3)
    text, image = ("question",), ("regions",)
    assert facts(explanation.graph) == [
        ("co", text, image, 4, 7, 6), ("co", image, text, 4, 6, 7),
        ("self", text, text, 4, 7, 7), ("self", image, image, 4, 6, 6),
        ("co", text, image, 4, 7, 6), ("self", text, text, 4, 7, 7),
    ]  # fmt: skip
    assert explanation.readout == ("question[0]",) * 2
    live = weights[:5] + weights[6:7]  # the last layer's image tower is never read
    check_weights(model, inputs, live)
    a_bar = maps(weights, scores, 3)
    oracles = []
    for b in range(2):
        oracle = Oracle({"question": 7, "regions": 6})
        for layer in (0, 4):
            oracle.bi_modal(
                ("question", "regions", a_bar(layer, b)),
                ("regions", "question", a_bar(layer + 1, b)),
            )
            oracle.self_attention("question", a_bar(layer + 2, b))
            oracle.self_attention("regions", a_bar(layer + 3, b))
        oracles.append(oracle.R)
    for name in ("question", "regions"):
        check_relevance(explanation, name, [R["question", name][0] for R in oracles])


def test_encoder_decoder() -> None:
    model, inputs = encoder_decoder.build()
    scores, weights = model(**inputs, need_weights=True)
    explanation = fxplain.explain(model, inputs, target=1)
    source, draft, pool = ("source",), ("draft",), ("head.query",)
    decoder: list[Facts] = [
        ("self", draft, draft, 4, 5, 5), ("encoder-decoder", draft, source, 4, 5, 8),
    ]  # fmt: skip
    assert facts(explanation.graph) == [
        *[("self", source, source, 4, 8, 8)] * 2, *decoder * 2, ("pooling", pool, draft, 1, 1, 5),
    ]  # fmt: skip
    assert explanation.readout == ("head.query[0]",) * 2
    check_weights(model, inputs, weights)
    a_bar = maps(weights, scores, 1)
    rows: dict[str, list[np.ndarray]] = {"source": [], "draft": []}
    for b in range(2):
        oracle = Oracle({"source": 8, "draft": 5, "pool": 1})
        for layer in (0, 1):
            oracle.self_attention("source", a_bar(layer, b))
        for layer in (2, 4):
            oracle.self_attention("draft", a_bar(layer, b))
            oracle.bi_modal(("draft", "source", a_bar(layer + 1, b)))
        oracle.bi_modal(("pool", "draft", a_bar(6, b)))
        for name, found in rows.items():
            found.append(oracle.R["pool", name][0])
    for name, found in rows.items():
        check_relevance(explanation, name, found)
    assert float(explanation.relevance["source"][1, 6:].abs().max()) == 0  # padding


def places(shift: int) -> np.ndarray:
    """(windows, patches of a window): the patch at each place."""
    side, window = windows.SIDE, windows.WINDOW
    grid = np.roll(np.arange(side * side).reshape(side, side), (-shift, -shift), (0, 1))
    found = [
        grid[i : i + window, j : j + window].flatten()
        for i in range(0, side, window)
        for j in range(0, side, window)
    ]
    return np.stack(found)


def test_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = windows.build()
    explanation = fxplain.explain(model, inputs, target=2)
    image = ("image",)
    assert facts(explanation.graph) == [
        *[("self", image, image, 4, 16, 16)] * 2, ("pooling", image, image, 4, 1, 65),
    ]  # fmt: skip
    assert explanation.graph.modalities == {"image": 65}
    assert explanation.special["image"] == {0: "class_token"}
    assert explanation.readout == ("image[0]",) * 2
    found = fxplain.attention_weights(model, inputs)
    weights: list[Tensor] = []

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> Tensor:
        scores = query @ key.mT / query.shape[-1] ** 0.5
        weights.append((scores if attn_mask is None else scores + attn_mask).softmax(-1))
        return weights[-1] @ value

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    scores = model(**inputs)
    for got, want in zip(found.values(), weights, strict=True):
        torch.testing.assert_close(got, want.detach())
    a_bar = maps(weights, scores, 2)
    rows = []
    for b in range(2):
        oracle = Oracle({"image": 64, "class": 1})
        for layer, shift in enumerate((0, windows.WINDOW // 2)):
            full = np.zeros((64, 64))
            for window, tokens in enumerate(places(shift)):
                full[np.ix_(tokens, tokens)] = a_bar(layer, 4 * b + window)
            oracle.self_attention("image", full)
        oracle.bi_modal(("class", "image", a_bar(2, b)[:, 1:]))  # patches never ask with the class
        own = oracle.R["class", "class"] + a_bar(2, b)[:, :1]
        rows.append(np.concatenate([own[0], oracle.R["class", "image"][0]]))
    check_relevance(explanation, "image", rows)
