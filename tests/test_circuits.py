"""Circuits that are known are found, and edges that are left out bring what they should."""

import itertools

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from fxplain.circuits import Edge, Unit
from fxplain.circuits.network import Network
from fxplain.explanation.resolving import resolve_target
from fxplain.interventions.edits import Edits
from fxplain.interventions.intervene import given_of
from tests.known_circuits import Detector, Heads, IndirectObject, Induction
from tests.small_models import ImageClassifier, TextClassifier, architecture, pixels, seeded, words
from tests.test_heads import Grouped, Headed

CLEAN = torch.tensor([[0, 1, 2, 3, 4, 5, 1], [0, 3, 7, 1, 9, 8, 3], [0, 4, 6, 2, 1, 5, 4]])
CORRUPTED = torch.tensor([[0, 6, 7, 8, 9, 2, 5], [0, 2, 5, 4, 6, 3, 1], [0, 9, 1, 3, 7, 8, 2]])


def continued(output: Tensor) -> Tensor:
    """How much more likely than others the word is that stood behind the last one's first mention."""
    return output[range(3), -1, CLEAN[:, 2]] - output[:, -1].mean(-1)


@pytest.mark.parametrize("fused", [True, False])
def test_an_induction_circuit_is_found_exactly(fused: bool) -> None:
    model = Induction(fused=fused).eval()
    assert torch.equal(model(CLEAN)[:, -1].argmax(-1), CLEAN[:, 2])
    found = fxplain.circuit(model, (CLEAN,), (CORRUPTED,), continued)
    ids = Unit("input", "ids")
    previous, induction = Unit("head", "layers.0", 1), Unit("head", "layers.1", 0)
    assert set(found.edges) == {
        Edge(ids, previous, "v"),
        Edge(ids, induction, "q"),
        Edge(previous, induction, "k"),
        Edge(ids, induction, "v"),
        Edge(induction, Unit("output", "output"), "in"),
    }
    assert found.heads == (("layers.0", 1), ("layers.1", 0))
    assert 0.95 <= found.faithfulness <= 1.05
    assert found.of_edges == 3 * 3 + 3 * 3 * 4 + 7


def test_an_indirect_object_circuit_is_found_exactly() -> None:
    clean = torch.tensor([[0, 1, 2, 3, 2, 8, 9], [0, 4, 5, 3, 5, 8, 9], [0, 6, 1, 3, 6, 8, 9]])
    corrupted = clean.clone()
    corrupted[:, 4] = 7  # a third name: nothing tells which one is meant
    said = torch.tensor([1, 4, 1])
    model = IndirectObject().eval()
    assert torch.equal(model(clean)[:, -1].argmax(-1), said)

    def metric(output: Tensor) -> Tensor:
        return output[range(3), -1, said] - output[range(3), -1, clean[:, 4]]

    found = fxplain.circuit(model, (clean,), (corrupted,), metric)
    ids = Unit("input", "ids")
    again, avoid, mover = (Unit("head", f"layers.{i}", head) for i, head in enumerate((1, 0, 2)))
    assert set(found.edges) == {
        Edge(ids, again, "q"),
        Edge(again, avoid, "k"),
        Edge(ids, avoid, "v"),
        Edge(avoid, mover, "q"),
        Edge(mover, Unit("output", "output"), "in"),
    }
    assert 0.95 <= found.faithfulness <= 1.05
    assert found.of_edges > 20 * len(found.edges)


def test_a_circuit_with_a_feed_forward_layer_is_found_exactly() -> None:
    model = Detector().eval()
    clean, other = (
        torch.tensor([[9, 1, 2, 3], [8, 3, 1, 6]]),
        torch.tensor([[1, 5, 8, 2], [0, 7, 2, 1]]),
    )
    found = fxplain.circuit(model, (clean,), (other,), 0)
    ids, head = Unit("input", "ids"), Unit("head", "attention", 0)
    compared = Unit("layer", "mlps.1.2")
    assert found.clean == pytest.approx(4.5, abs=0.1)
    assert set(found.edges) == {
        Edge(ids, head, "v"), Edge(head, compared, "in"),
        Edge(compared, Unit("output", "output"), "in"),
    }  # fmt: skip
    assert found.layers == ("mlps.1.2",)


def network(model: nn.Module, inputs: object, other: object, target: object = 1) -> Network:
    given, corrupted = (given_of(model, x) for x in (inputs, other))
    with torch.no_grad():
        outputs = given.run(Edits())
    resolved = resolve_target(
        target, None, model, given.inputs, given.capture, given.sites.program, outputs
    )
    return Network(given, corrupted, resolved)


def small(name: str) -> tuple[nn.Module, object, object]:
    ids, other = (words(2, 6),), (words(2, 6, seed=1),)
    return {
        "text": lambda: (seeded(TextClassifier, depth=2), ids, other),
        "explicit": lambda: (seeded(TextClassifier, depth=2, fused=False), ids, other),
        "image": lambda: (seeded(ImageClassifier, depth=2), (pixels(),), (pixels(seed=1),)),
        "shared keys": lambda: (seeded(Grouped, 2, "einsum"), ids, other),
        "one by one": lambda: (seeded(Headed, "one by one"), ids, other),
    }[name]()


SMALL = ["text", "explicit", "image", "shared keys", "one by one"]


@pytest.mark.parametrize("name", SMALL)
def test_all_edges_are_the_model_and_none_the_corrupted_one(name: str) -> None:
    model, inputs, other = small(name)
    found = network(model, inputs, other)
    with torch.no_grad():
        torch.testing.assert_close(found.score(set(found.edges)), model(*inputs)[:, 1])
        torch.testing.assert_close(found.score(set()), model(*other)[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["bert", "gpt2", "llama", "t5", "lxmert", "detr", "swin", "whisper"]
)
def test_all_edges_of_architectures(name: str) -> None:
    model, inputs = architecture(name)
    rolled = {k: v.roll(1, -1) if v.dim() > 1 and "mask" not in k else v for k, v in inputs.items()}
    found = network(model, inputs, rolled, None)
    torch.testing.assert_close(found.score(set(found.edges)), found.target.scores)


def test_an_edge_is_corrupted_for_its_reader_alone() -> None:
    """Path patching by hand: one head's queries are made of a stream without the clean tokens."""
    model, inputs, other = small("text")
    found = network(model, inputs, other)
    node = "encoder.blocks.0.attention"
    edge = Edge(Unit("input", "input_ids"), Unit("head", node, 1), "q")
    assert edge in found.edges
    block = model.encoder.blocks[0]
    with torch.no_grad():
        stream, corrupted = (
            model.encoder.words(x[0]) + model.encoder.positions(torch.arange(6))
            for x in (inputs, other)
        )
        own, foreign = block.norm_1(stream), block.norm_1(corrupted)
        query = block.attention.query(own)
        query[..., 8:] = block.attention.query(foreign)[..., 8:]
        q, k, v = (
            x.unflatten(-1, (2, 8)).transpose(1, 2)
            for x in (query, block.attention.key(own), block.attention.value(own))
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = stream + block.attention.out(mixed)
        x = x + block.feed_forward(block.norm_2(x))
        want = model.head(model.encoder.blocks[1](x)[:, 0])[:, 1]
    torch.testing.assert_close(found.score(set(found.edges) - {edge}), want)


def test_edges_are_attributed_to_first_order() -> None:
    model, image = seeded(ImageClassifier, depth=2).double(), pixels().double()
    other = image + 1e-5 * pixels(seed=1).double()
    found = network(model, (image,), (other,))
    estimates = found.attributed(1)
    whole = found.score(set(found.edges)).mean()
    for edge in found.edges[::5]:
        true = float(found.score(set(found.edges) - {edge}).mean() - whole)
        assert estimates[edge] == pytest.approx(true, rel=1e-2, abs=1e-9), edge
    assert max(map(abs, estimates.values())) > 1e-7


class Trained(nn.Module):
    """Two layers of attention, to be trained."""

    def __init__(self, words: int, places: int, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(places, width)
        self.layers = nn.ModuleList(Heads(width, heads, width // heads) for _ in range(2))
        self.head = nn.Linear(width, words)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


@pytest.mark.slow
def test_a_model_trained_on_indirect_objects_has_its_name_mover_in_its_circuit() -> None:
    count = 12

    def drawn(batch: int) -> tuple[Tensor, Tensor]:
        """ "A B . A to" or "A B . B to", and the name that is not said again."""
        names, again = torch.rand(batch, count).argsort(-1)[:, :2], torch.randint(2, (batch, 1))
        marks = torch.tensor([[count, count + 1]]).expand(batch, 2)
        ids = torch.cat([names, marks[:, :1], names.gather(1, again), marks[:, 1:]], 1)
        return ids, names.gather(1, 1 - again)[:, 0]

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Trained(count + 2, 5)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(1500):
            ids, said = drawn(64)
            loss = F.cross_entropy(model(ids)[:, -1], said)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert float(loss.detach()) < 0.1
        clean, said = drawn(16)
    corrupted = clean.clone()
    for row in corrupted:
        row[3] = next(name for name in range(count) if name not in row[:2])
    model.eval()

    def metric(output: Tensor) -> Tensor:
        return output[range(16), -1, said] - output[range(16), -1, clean[:, 3]]

    found = fxplain.circuit(model, (clean,), (corrupted,), metric)
    assert abs(1 - found.faithfulness) <= 0.05
    weights = fxplain.attention_weights(model, (clean,))["layers.1"][:, :, -1, :2]
    mover = (clean[:, :2] == said[:, None]).float()  # where the name stands that is to be said
    assert ("layers.1", int((weights * mover[:, None]).sum((0, 2)).argmax())) in found.heads
    assert len(found.edges) < found.of_edges / 2


@pytest.mark.slow
def test_a_trained_model_has_its_induction_heads_in_its_circuit() -> None:
    count, half = 20, 8
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Trained(count, 2 * half)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)

        def drawn(batch: int) -> Tensor:
            return torch.rand(batch, count).argsort(-1)[:, :half].repeat(1, 2)

        for _ in range(2500):
            ids = drawn(64)
            loss = F.cross_entropy(
                model(ids)[:, half:-1].flatten(0, 1), ids[:, half + 1 :].flatten()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert float(loss.detach()) < 0.3
        clean = drawn(16)
        corrupted = torch.cat([drawn(16)[:, :half], clean[:, half:]], 1)
    model.eval()

    def right(output: Tensor) -> Tensor:
        return output[:, half + 3].gather(1, clean[:, half + 4, None])[:, 0] - output[
            :, half + 3
        ].mean(-1)

    found = fxplain.circuit(model, (clean,), (corrupted,), right)
    assert abs(1 - found.faithfulness) <= 0.05
    weights = fxplain.attention_weights(model, (clean,))
    after = weights["layers.1"][:, :, half + 3, 4].mean(0)  # the place behind the first mention
    assert ("layers.1", int(after.argmax())) in found.heads
    assert any(name == "layers.0" for name, _ in found.heads)
    assert len(found.edges) < found.of_edges / 2


def test_what_is_printed_and_told() -> None:
    found = fxplain.circuit(Induction().eval(), (CLEAN,), (CORRUPTED,), continued)
    text = str(found)
    assert f"Induction: 5 of {found.of_edges} edges keep {found.faithfulness:.1%} of continued" in (
        " ".join(text.split())
    )
    graph = found.to_networkx()
    assert nx.has_path(graph, "ids", "output")
    assert graph.nodes["layers.1 head 0"]["head"] == 0
    assert set(graph["layers.0 head 1"]["layers.1 head 0"]) == {"k"}
    told = found.to_dict()
    assert told["edges"][0] == {
        "source": "ids", "target": "layers.0 head 1", "slot": "v",
        "strength": found.strengths[found.edges[0]],
    }  # fmt: skip
    sizes = [size for size, _ in found.curve]
    assert sizes == sorted(set(sizes))
    assert (found.curve[0][1], found.curve[-1][1]) == pytest.approx((0, 1), abs=1e-6)


def test_a_circuit_is_drawn_from_the_inputs_up_with_its_curve() -> None:
    pytest.importorskip("matplotlib")
    found = fxplain.circuit(Induction().eval(), (CLEAN,), (CORRUPTED,), continued)
    above, below = found.plot().axes
    heights = {text.get_text(): text.get_position()[1] for text in above.texts}
    order = ["ids", "0\nhead 1", "1\nhead 0", "output"]
    assert [heights[name] for name in order] == [0, 1, 2, 3]
    assert len(below.lines[0].get_xdata()) == len(found.curve)
    assert list(below.lines[1].get_xdata()) == [5]


def test_no_edge_of_a_circuit_can_be_left_out() -> None:
    model, inputs, other = small("text")
    found = fxplain.circuit(model, inputs, other, 1, faithfulness=0.8)
    parts = network(model, inputs, other)
    low, high = (float(parts.score(edges).mean()) for edges in (set(), set(parts.edges)))
    for edge in found.edges:
        share = (float(parts.score(set(found.edges) - {edge}).mean()) - low) / (high - low)
        assert abs(1 - share) > 0.2


def test_what_has_no_circuit_is_refused_by_name() -> None:
    model, ids = seeded(TextClassifier), words(2, 6)
    with pytest.raises(fxplain.InputError, match="no behaviour to find"):
        fxplain.circuit(model, (ids,), (ids,), 1)
    with pytest.raises(fxplain.InputError, match="must be of one size"):
        fxplain.circuit(model, (ids,), (words(2, 5),), 1)
    with pytest.raises(fxplain.InputError, match="faithfulness=2"):
        fxplain.circuit(model, (ids,), (words(2, 6, seed=1),), 1, faithfulness=2)
    with pytest.raises(fxplain.MethodError, match="cannot be told apart"):
        fxplain.circuit(seeded(Headed, "among keys"), (ids,), (words(2, 6, seed=1),), 1)


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    fxplain.circuit(
        Induction().eval(), (CLEAN,), (CORRUPTED,), continued, progress=lambda *x: told.append(x)
    )
    assert all(a <= b for a, b in itertools.pairwise(done for done, _ in told))
    assert told[-1] == (52, 52)
