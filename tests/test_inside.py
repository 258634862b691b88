"""Explanations taken apart: heads and layers, which add up to the whole."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.errors import InputError, MethodError, ModalityError
from fxplain.inside import HeadRelevance, flow_edges
from tests.long_run import quickly
from tests.small_models import BY_NAME, TextClassifier, architecture

IDS = torch.tensor([[3, 7, 7, 11, 2], [9, 1, 4, 4, 5]])


def explained(name: str, **options: object) -> fxplain.Explanation:
    case = BY_NAME[name]
    model, inputs = architecture(name, case.implementations[0], torch.float64)
    return fxplain.explain(model, inputs, target=case.target, output=case.output, **options)


def sums(e: fxplain.Explanation) -> Tensor:
    return torch.stack([values.sum(1) for values in e.relevance.values()], 1)


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    torch.manual_seed(0)
    return TextClassifier(depth=2).double().eval()


@pytest.fixture(scope="module")
def found(classifier: nn.Module) -> HeadRelevance:
    return fxplain.explain(classifier, {"input_ids": IDS}, target=1).heads()


QUICK = ("gpt2", "lxmert", "swin", "t5")
EVERY = quickly(BY_NAME, QUICK)


@pytest.mark.parametrize("name", EVERY)
def test_heads_add_up_on_every_kind_of_architecture(name: str) -> None:
    e = explained(name)
    found = e.heads()
    assert [node.name for node in found.nodes] == [node.name for node in e.graph.nodes]
    for node in found.nodes:
        assert found.relevance[node.name].shape == (e.batch_size, node.heads, len(e.modalities))
    torch.testing.assert_close(found.total, sums(e), rtol=1e-9, atol=1e-12)
    assert (found.through_node >= found.by_node - 1e-12).all()


@pytest.mark.parametrize(
    "options",
    [
        {"normalize": False},
        {"self_in_bimodal": False},
        {"signed": True},
        {"start_layer": 1},
        {"gradients": "corrected", "attention": "constant"},
        {"method": "weighted_accumulation"},
    ],
    ids=str,
)
def test_heads_add_up_with_every_option(options: dict) -> None:
    e = explained("lxmert", **options)
    torch.testing.assert_close(e.heads().total, sums(e), rtol=1e-9, atol=1e-12)


def maps_by_hand(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """max(0, dy/dA * A) of every layer, (batch, heads, queries, keys), by autograd."""
    recorded, softmax = [], Tensor.softmax

    def recording(self: Tensor, dim: int) -> Tensor:
        recorded.append(softmax(self, dim))
        recorded[-1].retain_grad()
        return recorded[-1]

    for module in model.modules():
        if hasattr(module, "fused"):
            monkeypatch.setattr(module, "fused", False)
    monkeypatch.setattr(Tensor, "softmax", recording)
    model(IDS)[:, 1].sum().backward()
    model.zero_grad(set_to_none=True)
    return [(A.grad * A).clamp(min=0).detach() for A in recorded]


def test_a_head_has_the_shapley_value_of_its_map(
    classifier: nn.Module, found: HeadRelevance, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = maps_by_hand(classifier, monkeypatch)
    layers, heads = len(maps), maps[0].shape[1]
    players = list(itertools.product(range(layers), range(heads)))

    def worth(coalition: set[tuple[int, int]]) -> Tensor:
        """The sum of the first token's row where only some heads speak (equation 6)."""
        R = torch.eye(IDS.shape[1]).double().expand(len(IDS), -1, -1)
        for layer, A in enumerate(maps):
            kept = [h for h in range(heads) if (layer, h) in coalition]
            R = R + A[:, kept].sum(1) / heads @ R
        return R[:, 0].sum(-1)

    everyone = set(players)
    for layer, head in players:
        others = [player for player in players if player != (layer, head)]
        value = torch.zeros(len(IDS)).double()
        for size in range(len(players)):
            weight = math.factorial(size) * math.factorial(len(others) - size)
            for chosen in itertools.combinations(others, size):
                gain = worth({*chosen, (layer, head)}) - worth(set(chosen))
                value += weight / math.factorial(len(players)) * gain
        name = found.nodes[layer].name
        torch.testing.assert_close(found.relevance[name][:, head, 0], value)
        lost = worth(everyone) - worth(everyone - {(layer, head)})
        torch.testing.assert_close(found.through[name][:, head, 0], lost)


def test_heads_by_modality_and_rank(found: HeadRelevance) -> None:
    top = found.top(3, sample=1)
    assert [head.relevance for head in top] == sorted((h.relevance for h in top), reverse=True)
    assert sum(head.share for head in found.top(99)) == pytest.approx(1)
    assert found.matrix().shape == (2, 2)
    assert found.top(1, modality="input_ids") == found.top(1)
    with pytest.raises(ModalityError, match="no modality 'pixels'"):
        found.top(1, modality="pixels")
    with pytest.raises(Exception, match="sample"):
        found.top(1, sample=5)


def test_layers_are_heads_by_depth() -> None:
    e = explained("t5")
    layers = e.layers()
    assert list(layers.depth) == sorted(layers.depth)
    cross = [d for d, node in zip(layers.depth, layers.nodes, strict=True) if "EncDec" in node.name]
    encoder = [d for d, n in zip(layers.depth, layers.nodes, strict=True) if "encoder" in n.name]
    assert min(cross) > max(encoder)
    torch.testing.assert_close(layers.total, sums(e), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layers.share.sum(1), torch.ones(e.batch_size).double())
    assert sum(row["share"] for row in layers.table(0)) == pytest.approx(1)


def test_paths_are_the_best_of_all_and_add_up(
    classifier: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    e = fxplain.explain(classifier, {"input_ids": IDS}, target=1)
    every, five = e.paths(10_000, sample=1), e.paths(5, sample=1)
    maps = [A[1] / A.shape[1] for A in maps_by_hand(classifier, monkeypatch)]
    tokens, heads = range(IDS.shape[1]), range(len(maps[0]))
    by_hand = [A[h, 0, k] for A in maps for h in heads for k in tokens]
    by_hand += [
        maps[1][h, 0, middle] * maps[0][g, middle, k]
        for h, middle, g, k in itertools.product(heads, tokens, heads, tokens)
    ]
    got = [path.relevance for path in every]
    assert got == pytest.approx(sorted((float(w) for w in by_hand if w), reverse=True))
    assert every.share == pytest.approx(1)
    assert [p.relevance for p in five] == got[:5]
    best = every[0]
    assert best.relevance == pytest.approx(math.prod(hop.weight for hop in best.hops))
    assert (best.readout.position, best.hops[-1].key) == (0, best.token)
    assert "5 paths bring" in five.to_text(100)
    assert len(json.loads(json.dumps(five.to_dict()))["paths"]) == 5


@pytest.mark.parametrize("name", [n for n in QUICK if n != "gpt2"])
def test_paths_through_routes_and_modalities_add_up(name: str) -> None:
    e = explained(name, start_layer=-1)
    paths = e.paths(2000)
    if name == "swin":  # each window's tokens by each head of each layer: too many to list
        assert 0.2 < paths.share < 1 + 1e-6
    else:
        assert paths.share == pytest.approx(1, abs=0.02)
    assert {path.token.modality for path in paths} <= set(e.modalities)


def kept_by_hand(graph: object) -> float:
    """The worth of all ways through a networkx graph whose edges carry flows, by conservation."""
    return sum(
        data["relevance"]
        for _, target, data in graph.edges(data=True)
        if graph.nodes[target]["kind"] == "readout"
    )


def test_flow_has_every_edge_of_every_chain(classifier: nn.Module) -> None:
    e = fxplain.explain(classifier, {"input_ids": IDS}, target=1)
    flow, paths = e.flow(1.0, sample=1), e.paths(10_000, sample=1)
    graph = flow.to_networkx()
    assert flow.kept == pytest.approx(1)
    assert kept_by_hand(graph) == pytest.approx(paths.attended)
    between: dict[tuple[str, int, str, int], float] = {}
    for path in paths:
        stops = [("readout", path.readout), *((h.node, h.query) for h in path.hops)]
        for (a, asking), (b, heard) in itertools.pairwise([*stops, ("birth", path.token)]):
            key = (b, heard.position, a, asking.position)
            between[key] = between.get(key, 0) + path.relevance
    got = {
        (
            graph.nodes[a]["node"] or graph.nodes[a]["kind"],
            graph.nodes[a]["position"],
            graph.nodes[b]["node"] or graph.nodes[b]["kind"],
            graph.nodes[b]["position"],
        ): data["relevance"]
        for a, b, data in graph.edges(data=True)
    }
    assert got == pytest.approx({key: worth for key, worth in between.items() if key in got})
    assert sum(between.values()) == pytest.approx(sum(got.values()), rel=1e-4)


@pytest.mark.parametrize("name", QUICK)
def test_flow_is_pruned_to_the_share_that_is_asked_for(name: str) -> None:
    e = explained(name)
    half, most = e.flow(0.5), e.flow(0.9)
    assert 0.5 <= half.kept <= most.kept <= 1 + 1e-9
    assert most.kept >= 0.9 - 1e-9
    assert len(half.edges) < len(most.edges)
    depth = [at.depth for at in most.tokens]
    assert all(depth[edge.source] <= depth[edge.target] for edge in most.edges)
    ends = {edge.source for edge in most.edges} | {edge.target for edge in most.edges}
    assert ends == set(range(len(most.tokens)))  # nothing hangs loose


def test_flow_of_many_edges_keeps_the_strongest(
    classifier: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    e = fxplain.explain(classifier, {"input_ids": IDS}, target=1)
    every = e.flow(1.0)
    monkeypatch.setattr(flow_edges, "MOST_EDGES", len(every.edges) // 2)
    fewer = e.flow(1.0)
    assert 0.3 < fewer.kept < every.kept == pytest.approx(1)
    strongest = {edge.relevance for edge in every.edges[: len(every.edges) // 2]}
    assert all(any(math.isclose(e.relevance, s) for s in strongest) for e in fewer.edges)
    monkeypatch.setattr(flow_edges, "MOST_CELLS", 20)
    with pytest.raises(InputError, match=r"5 and 5 tokens of 2 samples .* too large to be drawn"):
        e.flow()


def test_what_auto_chose_is_told_of_the_generic_rules(classifier: nn.Module) -> None:
    inputs = {"input_ids": IDS}
    e = fxplain.explain(classifier, inputs, target=1, method="auto")
    generic = fxplain.explain(classifier, inputs, target=1, gradients="corrected")
    assert (e.method, generic.method) == ("input_x_gradient", "generic")
    for what in ("heads", "layers", "paths", "flow"):
        found, same = getattr(e, what)(), getattr(generic, what)()
        told = found.to_dict()
        assert (told["method"], told["in_place_of"]) == ("generic", "input_x_gradient")
        assert told == {**same.to_dict(), "in_place_of": "input_x_gradient"}
        assert "by generic, as input_x_gradient has no chains" in " ".join(found.to_text().split())
        assert "has no chains" not in same.to_text()
    assert e.check(1, units="head", draws=2).method == "generic"
    with pytest.raises(MethodError, match=r"no heads.*explain with method='generic'"):
        fxplain.explain(classifier, inputs, method="input_x_gradient").heads()


def test_flow_is_drawn(classifier: nn.Module, tmp_path: Path) -> None:
    flow = fxplain.explain(classifier, {"input_ids": IDS}, target=1).flow()
    page = flow.to_html(tmp_path / "flow.html")
    assert page.count("data-spot=") >= len(flow.tokens)
    assert page.count("<path d=") == len(flow.edges)
    assert "http" not in page.split("<main>")[1].split("<script>")[0]
    figure = flow.plot()
    assert len(figure.axes[0].patches) == len(flow.edges)
    assert json.loads(json.dumps(flow.to_dict()))["kept"] == flow.kept
    assert "edges" in flow.to_text()


def test_labels_in_a_flow_are_text(classifier: nn.Module) -> None:
    class Tokenizer:
        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return ["<script>alert(1)</script>" for _ in ids]

    e = fxplain.explain(classifier, {"input_ids": IDS}, target=1, tokenizer=Tokenizer())
    assert "<script>alert" not in e.flow().to_html()


def test_they_print_and_are_plain_data(found: HeadRelevance) -> None:
    text = found.to_text(100)
    assert "0.attention" in text
    assert "strongest head" in text
    assert len(json.loads(json.dumps(found.to_dict()))["heads"]) == 2 * 2 * 2
    layers = explained("lxmert").layers()
    assert "of visual_feats" in layers.to_text(120)
    assert len(layers.to_frame()) == len(json.loads(json.dumps(layers.to_dict()))["layers"])
    assert set(found.to_frame().columns) >= {"node", "head", "relevance", "share", "through"}


def test_mixed_precision_is_the_models_and_stays_that_of_the_explanation() -> None:
    torch.manual_seed(0)
    model, weights = TextClassifier(depth=2).eval(), torch.randn(5)
    mixed, plain = torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False)
    told = []
    for made, other in ((mixed, plain), (plain, mixed)):
        with made:
            e = fxplain.explain(model, {"input_ids": IDS}, lambda output: output @ weights)
        with other:
            found, cut = e.heads(), e.intervene(fxplain.Cut.heads(0, 1))
        torch.testing.assert_close(found.total, sums(e), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(cut.baseline, e.scores)
        told.append((e.scores.dtype, found.total))
    (low, of_low), (high, of_high) = told
    assert (low, high) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(of_low, of_high, rtol=0.05, atol=0.05)
    assert not torch.equal(of_low, of_high)


def test_other_methods_and_loaded_explanations_are_refused(
    classifier: nn.Module, tmp_path: Path
) -> None:
    with pytest.raises(MethodError, match="no sum over chains"):
        fxplain.explain(classifier, (IDS,), 1, "rollout").heads()
    with pytest.raises(MethodError, match="replace one another"):
        fxplain.explain(classifier, (IDS,), 1, aggregate=False).heads()
    fxplain.explain(classifier, (IDS,), 1).save(tmp_path / "e")
    with pytest.raises(MethodError, match="loaded"):
        fxplain.load(tmp_path / "e").layers()
