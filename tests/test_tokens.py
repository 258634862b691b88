"""Tags: every movement against brute force, births and their names, and what a tag costs."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

import fxplain
from fxplain.capture import Capture, ModelInputs, bind_inputs, capture
from fxplain.tokens import AttentionSite, Tag, TokenFlow, follow_tokens, tokens_in
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.op_table import kind_of
from fxplain.tokens.walk import walked
from tests.small_models import (
    VOCABULARY,
    Attention,
    Block,
    ImageClassifier,
    TextEncoder,
    architecture,
    pixels,
    seeded,
    words,
)

BATCH, SIDE, WIDTH = 2, 4, 8
LENGTH = SIDE * SIDE


def flow_of(model: nn.Module, *inputs: Tensor) -> TokenFlow:
    bound = bind_inputs(model, inputs)
    return follow_tokens(capture(model, bound), model, bound)


# Reshaping, on tags alone


def splits(draw: st.DrawFn, size: int) -> list[int]:
    """A random factorisation of `size`."""
    factors: list[int] = []
    while size > 1:
        factor = draw(st.sampled_from([n for n in range(2, size + 1) if size % n == 0]))
        factors.append(factor)
        size //= factor
    return factors or [1]


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[list[int], list[int], list[bool]]:
    """A shape, another one of the same size, and along which axes the tag varies."""
    size = draw(st.sampled_from([1, 6, 8, 12, 24, 36]))
    old, new = splits(draw, size), splits(draw, size)
    for shape in (old, new):
        for _ in range(draw(st.integers(0, 2))):
            shape.insert(draw(st.integers(0, len(shape))), 1)
    return old, new, draw(st.lists(st.booleans(), min_size=len(old), max_size=len(old)))


def tag_of(shape: list[int], varies: list[bool]) -> Tag:
    compact = [n if v else 1 for n, v in zip(shape, varies, strict=True)]
    return Tag(torch.arange(torch.Size(compact).numel()).reshape(compact))


@settings(max_examples=400, deadline=None)
@given(reshapes())
def test_reshape_is_what_it_is_on_the_full_tensor(case: tuple) -> None:
    old, new, varies = case
    tag = tag_of(old, varies)
    got = tag.reshaped(old, new)
    assert got.ids.dim() == len(new)
    assert all(n in (1, size) for n, size in zip(got.ids.shape, new, strict=True))
    assert torch.equal(got.ids.expand(new), tag.ids.expand(old).reshape(new))


@settings(max_examples=100, deadline=None)
@given(reshapes(), st.randoms(use_true_random=False))
def test_reshape_after_a_permutation(case: tuple, chance: object) -> None:
    old, new, varies = case
    axes = list(range(len(old)))
    chance.shuffle(axes)  # type: ignore[attr-defined]
    tag = tag_of(old, varies)
    permuted = tag.moved(lambda ids: ids.permute(axes), old)
    shape = [old[axis] for axis in axes]
    want = tag.ids.expand(old).permute(axes)
    assert torch.equal(permuted.ids.expand(shape), want)
    assert torch.equal(permuted.reshaped(shape, new).ids.expand(new), want.reshape(new))


def test_splitting_heads_keeps_features_constant() -> None:
    tag = tag_of([2, 5, 12], [True, True, False])
    split = tag.reshaped((2, 5, 12), (2, 5, 3, 4))
    assert split.ids.shape == (2, 5, 1, 1)
    heads = split.moved(lambda ids: ids.transpose(1, 2), (2, 5, 3, 4))
    assert heads.ids.shape == (2, 1, 5, 1)
    folded = heads.reshaped((2, 3, 5, 4), (6, 5, 4))
    assert folded.ids.shape == (6, 5, 1)
    assert torch.equal(folded.ids.reshape(2, 3, 5)[:, 2], tag.ids.squeeze(-1))
    merged = heads.moved(lambda ids: ids.transpose(1, 2), (2, 3, 5, 4)).reshaped(
        (2, 5, 3, 4), (2, 5, 12)
    )
    assert torch.equal(merged.ids, tag.ids)


# Every movement, in a captured graph

Move = Callable[[Tensor, dict[str, Tensor]], Tensor | tuple[Tensor, ...]]


def grid(x: Tensor) -> Tensor:
    return x.view(x.shape[0], SIDE, SIDE, -1)


def partition(x: Tensor, size: int) -> Tensor:
    """(batch, height, width, features) to (windows, size * size, features), as Swin has it."""
    b, h, w, c = x.shape
    x = x.view(b, h // size, size, w // size, size, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, c)


def joined(x: Tensor, size: int) -> Tensor:
    """The reverse of `partition`."""
    n = SIDE // size
    x = x.view(-1, n, n, size, size, x.shape[-1]).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(x.shape[0], SIDE, SIDE, -1)


def shifted(x: Tensor) -> Tensor:
    return torch.roll(grid(x), (-1, -1), (1, 2))


def merged(x: Tensor) -> Tensor:
    """Four neighbours side by side, before Swin's patch merging projects them."""
    g = grid(x)
    return torch.cat([g[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)


def absent(x: Tensor, *shape: int) -> Tensor:
    """Elements of no token: zeros among values, -1 among tokens."""
    return torch.full(shape, -1.0 if x.dtype == torch.float64 else 0.0, dtype=x.dtype)


def padded(x: Tensor, amounts: tuple[int, ...]) -> Tensor:
    return F.pad(x, amounts, value=-1.0 if x.dtype == torch.float64 else 0.0)


def write_slice(x: Tensor) -> Tensor:
    made = absent(x, BATCH, LENGTH + 4, WIDTH)
    made[:, 2 : LENGTH + 2] = x
    return made


def write_row(x: Tensor) -> Tensor:
    made = x.clone()
    made[:, 3] = x[:, 0]
    return made


def erase_rows(x: Tensor) -> Tensor:
    made = x.clone()
    made[:, 2:4] = -1.0 if x.dtype == torch.float64 else 0.0
    made[:, 7].fill_(-1.0 if x.dtype == torch.float64 else 0.0)
    return made


def write_index(x: Tensor, index: Tensor) -> Tensor:
    made = absent(x, BATCH, LENGTH, WIDTH)
    made[:, index] = x[:, : len(index)]
    return made


MOVES: dict[str, Move] = {
    # views
    "heads": lambda x, _: x.view(BATCH, LENGTH, 2, 4).transpose(1, 2),
    "heads folded": lambda x, _: x.view(BATCH, LENGTH, 2, 4).transpose(1, 2).reshape(4, LENGTH, 4),
    "there and back": lambda x, _: x.unflatten(-1, (2, 4)).transpose(1, 2).transpose(1, 2).flatten(2),
    "rows": lambda x, _: x.reshape(BATCH * LENGTH, WIDTH),
    "tokens into features": lambda x, _: x.reshape(BATCH, LENGTH * WIDTH),
    "two tokens a row": lambda x, _: x.reshape(BATCH, LENGTH // 2, 2 * WIDTH),
    "half a token a row": lambda x, _: x.reshape(BATCH, 2 * LENGTH, WIDTH // 2),
    "flat": lambda x, _: x.flatten(),
    "across": lambda x, _: x.reshape(BATCH, LENGTH, 2, 4).transpose(1, 3).reshape(BATCH, 4, -1),
    "features first": lambda x, _: x.permute(2, 0, 1),
    "as an image": lambda x, _: x.transpose(1, 2).reshape(BATCH, WIDTH, SIDE, SIDE),
    "back from an image": lambda x, _: x.transpose(1, 2).reshape(BATCH, WIDTH, SIDE, SIDE)
    .flatten(2).transpose(1, 2),
    "slice": lambda x, _: x[:, 2:9:3],
    "select": lambda x, _: x[:, -1],
    "unsqueeze": lambda x, _: x.unsqueeze(1).squeeze(1).unsqueeze(-1),
    "narrow": lambda x, _: x.narrow(1, 3, 5),
    "split": lambda x, _: x.split([4, 5, 7], 1)[1],
    "chunk": lambda x, _: x.chunk(3, 1)[2],
    "unbind": lambda x, _: x.unbind(1)[5],
    "query, key, value": lambda x, _: x.repeat(1, 1, 3).chunk(3, -1)[1],
    "diagonal": lambda x, _: grid(x).diagonal(0, 1, 2),
    "sliding windows": lambda x, _: x.unfold(1, 4, 2),
    "expand": lambda x, _: x.unsqueeze(1).expand(-1, 3, -1, -1).reshape(-1, LENGTH, WIDTH),
    # windows
    "windows": lambda x, _: partition(grid(x), 2),
    "shifted windows": lambda x, _: partition(shifted(x), 2),
    "windows joined": lambda x, _: joined(partition(grid(x), 2), 2),
    "shifted there and back": lambda x, _: torch.roll(
        joined(partition(shifted(x), 2), 2), (1, 1), (1, 2)).flatten(1, 2),
    "windows of a padded grid": lambda x, _: partition(padded(grid(x), (0, 0, 0, 2, 0, 2)), 3),
    "patch merging": lambda x, _: merged(x),
    "pixel unshuffle": lambda x, _: F.pixel_unshuffle(grid(x).permute(0, 3, 1, 2), 2),
    "pixel shuffle": lambda x, _: F.pixel_shuffle(grid(x).permute(0, 3, 1, 2), 2),
    "im2col": lambda x, _: F.unfold(grid(x).permute(0, 3, 1, 2), 2, stride=2),
    # copies and order
    "cat": lambda x, _: torch.cat([x[:, 3:], x[:, :1], x[:, 2:3]], 1),
    "cat of features": lambda x, _: torch.cat([x, x], -1),
    "cat of shifted features": lambda x, _: torch.cat([x, x.roll(1, 1)], -1),
    "cat with an empty cache": lambda x, _: torch.cat([absent(x, 0), x], 1),
    "stack": lambda x, _: torch.stack([x, x.flip(1)], 2),
    "pad": lambda x, _: padded(x, (0, 0, 2, 3)),
    "crop": lambda x, _: padded(x, (0, 0, -2, 1)),
    "pad the batch": lambda x, _: padded(x, (0, 0, 0, 0, 0, 1)),
    "roll": lambda x, _: x.roll(3, 1),
    "roll over all": lambda x, _: x.roll(5),
    "flip": lambda x, _: x.flip(1),
    "flip features": lambda x, _: x.flip(-1),
    "repeat": lambda x, _: x.repeat(1, 2, 1),
    "repeat interleave": lambda x, _: x.repeat_interleave(2, 1),
    "tile": lambda x, _: x.tile(2, 1, 1),
    "rotate": lambda x, _: torch.rot90(grid(x), 1, (1, 2)),
    # picking by indices: some are inputs, so that only their values say where tokens go
    "gather": lambda x, i: x.gather(1, i["order"].unsqueeze(-1).expand(-1, -1, WIDTH)),
    "take along": lambda x, i: torch.take_along_dim(x, i["order"].unsqueeze(-1), 1),
    "index": lambda x, i: x[torch.arange(BATCH), i["order"][:, 2]],
    "index rows": lambda x, i: x[torch.arange(BATCH)[:, None], i["order"]],
    "index by constants": lambda x, _: x[:, torch.tensor([3, 1, 1])],
    "index two axes": lambda x, i: grid(x)[:, i["order"][0, :3] % SIDE, i["order"][1, :3] % SIDE],
    "index select": lambda x, i: x.index_select(1, i["order"][0]),
    "last position": lambda x, i: x[torch.arange(BATCH), i["mask"].int().argmax(-1)],
    # writing
    "write a slice": lambda x, _: write_slice(x),
    "write a row": lambda x, _: write_row(x),
    "erase rows": lambda x, _: erase_rows(x),
    "write by an index": lambda x, i: write_index(x, i["order"][0, :5]),
    "scatter": lambda x, i: absent(x, BATCH, LENGTH, WIDTH).scatter(
        1, i["order"].unsqueeze(-1).expand(-1, -1, WIDTH), x),
    "masked scatter": lambda x, i: absent(x, BATCH, LENGTH, WIDTH).masked_scatter(
        i["mask"].unsqueeze(-1).expand(-1, -1, WIDTH), x.flip(1)),
    "masked scatter over tokens": lambda x, i: x.masked_scatter(
        i["mask"].unsqueeze(-1).expand(-1, -1, WIDTH), x.flip(1)),
}  # fmt: skip


class Moves(nn.Module):
    """Words, and every movement of them as an output."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)

    def forward(self, input_ids: Tensor, order: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        x = self.words(input_ids)
        found = {"order": order, "mask": mask}
        return (x, *(move(x, found) for move in MOVES.values()))


def move_inputs() -> tuple[Tensor, Tensor, Tensor]:
    order = torch.stack([torch.randperm(LENGTH) for _ in range(BATCH)])
    mask = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    mask[0, 3:6] = mask[1, 7:12] = True
    return words(BATCH, LENGTH), order, mask


@cache
def moves() -> tuple[nn.Module, ModelInputs, Capture]:
    torch.manual_seed(0)
    model, inputs = seeded(Moves), move_inputs()
    bound = bind_inputs(model, inputs)
    return model, bound, capture(model, bound)


def flow_of_move(name: str) -> TokenFlow:
    """The tokens of the words and of one movement: the graph without the other outputs."""
    model, inputs, made = moves()
    copies: dict[fx.Node, fx.Node] = {}
    graph = fx.Graph()
    (results,) = (node.args[0] for node in made.graph.nodes if node.op == "output")
    for node in made.graph.nodes:
        if node.op != "output":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output((copies[results[0]], copies[results[1 + list(MOVES).index(name)]]))
    graph.eliminate_dead_code()
    one = replace(made, graph_module=fx.GraphModule(made.graph_module, graph))
    return follow_tokens(one, model, inputs)


@pytest.mark.parametrize("name", MOVES)
def test_movement_is_what_it_is_on_the_full_tensor(name: str) -> None:
    flow = flow_of_move(name)
    (born,) = flow.outputs[0]
    assert born.ids.shape == (BATCH, LENGTH, 1)
    assert len(born.ids.unique()) == BATCH * LENGTH
    _, inputs, _ = moves()
    found = {"order": inputs.leaves[1], "mask": inputs.leaves[2]}
    want = MOVES[name](born.ids.expand(BATCH, LENGTH, WIDTH).double(), found).long()
    assert want.shape == flow.shapes[1]
    assert flow.warnings == []
    (tag,) = flow.outputs[1]
    assert torch.equal(tag.ids.expand(want.shape), want)


class Picked(nn.Module):
    """Keeps the tokens that the mask names: a size that depends on data."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        return self.words(input_ids)[mask]


def test_boolean_indexing() -> None:
    ids, _, mask = move_inputs()
    flow = flow_of(seeded(Picked), ids, mask)
    (tag,) = flow.outputs[0]
    want = torch.arange(BATCH * LENGTH).reshape(BATCH, LENGTH)[mask]
    offset = tag.tokens.min() - want.min()
    assert torch.equal(tag.tokens.squeeze(-1) - offset, want)


class Pruned(nn.Module):
    """Attention among all tokens, then among the three with the highest score."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.block = TextEncoder(depth=1), Block()
        self.score, self.head = nn.Linear(16, 1), nn.Linear(16, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.text(input_ids)
        kept = self.score(x).squeeze(-1).topk(3, dim=1).indices
        x = self.block(x.gather(1, kept.unsqueeze(-1).expand(-1, -1, 16)))
        return self.head(x.mean(1))


def test_pruned_tokens_are_followed_by_their_values() -> None:
    model = seeded(Pruned)
    for seed in (0, 1):  # the same shape with other values: other tokens are kept
        ids = words(2, 7, seed=seed)
        e = fxplain.explain(model, (ids,), target=1)
        kept = model.score(model.text(ids)).squeeze(-1).topk(3, dim=1).indices.sort().values
        for sample, rows in enumerate(kept.tolist()):
            assert e.readout[sample].startswith("mean of input_ids[")
            assert all(str(row) in e.readout[sample] or ".." in e.readout[sample] for row in rows)
        alone = [fxplain.explain(model, (ids[b : b + 1],), target=1) for b in (0, 1)]
        torch.testing.assert_close(
            e.relevance["input_ids"], torch.cat([a.relevance["input_ids"] for a in alone])
        )


# Births


class Typed(nn.Module):
    """Word, token type and position, each an embedding of its own, and a float feature."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.types = nn.Embedding(VOCABULARY, 16), nn.Embedding(3, 16)
        self.positions, self.features = nn.Embedding(64, 16), nn.Linear(4, 16)
        self.norm, self.block, self.head = nn.LayerNorm(16), Block(), nn.Linear(16, 3)

    def forward(self, token_type_ids: Tensor, input_ids: Tensor, features: Tensor) -> Tensor:
        x = self.types(token_type_ids) + self.words(input_ids)
        x = x + self.positions(torch.arange(input_ids.shape[1]))
        x = self.norm(x + self.features(features))
        return self.head(self.block(x)[:, 0])


def test_newborns_that_are_added_are_the_same_token() -> None:
    inputs = {
        "token_type_ids": words(2, 6) % 3,
        "input_ids": words(2, 6),
        "features": torch.randn(2, 6, 4),
    }
    graph = fxplain.inspect(seeded(Typed), inputs)
    assert graph.modalities == {"token_type_ids": 6}  # the first argument lends its name
    assert [node.kind for node in graph.nodes] == ["self"]
    bert, inputs = architecture("bert")
    typed = {**inputs, "token_type_ids": torch.ones_like(inputs["input_ids"])}
    assert fxplain.inspect(bert, typed).modalities == {"input_ids": 8}


class Neighbours(nn.Module):
    """Every word with the one before it: added (RWKV's token shift), side by side, gated."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.pair = nn.Embedding(VOCABULARY, 16), nn.Linear(32, 16)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        x = self.words(input_ids)
        before = F.pad(x, (0, 0, 1, -1))
        return x, x + before, self.pair(torch.cat([x, before], -1)), x * x.roll(1, 1)


def test_neighbours_are_never_the_same_token() -> None:
    """Only different births can be one token: word 3 is not word 4, however they are joined."""
    flow = flow_of(seeded(Neighbours), words(2, 5))
    for tags in flow.outputs:
        (tag,) = tags
        tokens = flow.book.find(tag.tokens)
        assert tokens.shape == (2, 5, 1)
        assert len(tokens.unique()) == 10


class Joint(nn.Module):
    """Words and features of equal length, side by side in one sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.features = nn.Embedding(VOCABULARY, 16), nn.Linear(4, 16)
        self.block, self.cross, self.head = Block(), Attention(), nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, features: Tensor) -> Tensor:
        x, y = self.text(input_ids), self.features(features)
        x = x + self.cross(x, y)
        both = self.block(torch.cat([x, y], 1))
        return self.head(both[:, 0])


def test_equal_lengths_stay_apart() -> None:
    e = fxplain.explain(seeded(Joint), (words(2, 5), torch.randn(2, 5, 4)))
    assert e.graph.modalities == {"input_ids": 5, "features": 5}
    assert [(n.query, n.key, n.k_len) for n in e.graph.nodes] == [
        (("input_ids",), ("features",), 5),
        (("input_ids", "features"), ("input_ids", "features"), 10),
    ]
    assert e.readout == ("input_ids[0]",) * 2


class Derived(nn.Module):
    """An encoder and a decoder whose input is the encoder's, shifted to the right."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 16)
        self.encoder, self.decoder, self.cross = Block(), Block(), Attention()
        self.head = nn.Linear(16, VOCABULARY)

    def forward(self, input_ids: Tensor) -> Tensor:
        source = self.encoder(self.words(input_ids))
        decoder_ids = torch.cat([torch.ones_like(input_ids[:, :1]), input_ids[:, :-1]], 1)
        x = self.decoder(self.words(decoder_ids))
        return self.head(x + self.cross(x, source))


def test_decoder_ids_that_are_derived_are_a_stream_of_their_own() -> None:
    e = fxplain.explain(seeded(Derived), (words(2, 5),))
    first, start = e.relevance
    assert (first, start) == ("input_ids", "input_ids@added")
    assert [(n.kind, n.query, n.key) for n in e.graph.nodes] == [
        ("self", (first,), (first,)),
        ("self", (first, start), (first, start)),
        ("encoder-decoder", (first, start), (first,)),
    ]
    encoder, decoder = e.graph.nodes[0].query_stream, e.graph.nodes[1].query_stream
    assert (encoder, decoder) == (first, f"{first}@words")
    assert e.relevance[first].abs().sum() > 0
    assert e.readout[0] == f"{first}[3]"


# Parameters


def test_a_parameter_is_one_token_for_each_sample() -> None:
    model = seeded(ImageClassifier, registers=2)
    flow = flow_of(model, pixels(3, 3, 8, 8))
    book = flow.book
    site = next(update for update in flow.updates if isinstance(update, AttentionSite))
    tokens = book.find(tokens_in(site.rows)).reshape(3, -1)
    assert tokens.shape == (3, 1 + 4 + 2)
    assert len(tokens.unique()) == 3 * 7
    for sample in range(3):
        known = book.samples(tokens[sample])
        assert set(known.tolist()) == {sample}


def test_cls_comes_first_and_registers_last() -> None:
    model = seeded(ImageClassifier, registers=2)
    e = fxplain.explain(model, (pixels(),), target=0)
    assert e.graph.modalities == {"pixel_values": 7}
    labels = e.tokens("pixel_values")[0]
    assert labels == ["cls_token", "0,0", "0,1", "1,0", "1,1", "registers", "registers"]
    assert e.readout == ("pixel_values[0]",) * 2
    assert dict(e.special["pixel_values"]) == {0: "cls_token", 5: "registers", 6: "registers"}
    row = e.matrix("pixel_values", "pixel_values")[:, 0]
    torch.testing.assert_close(row, e.relevance["pixel_values"])


class Latents(nn.Module):
    """Learned latents that gather from the words, then attend among themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 16)
        self.latents = nn.Parameter(torch.randn(3, 16))
        self.cross, self.block, self.head = Attention(), Block(), nn.Linear(16, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.latents.expand(input_ids.shape[0], -1, -1)
        x = x + self.cross(x, self.words(input_ids))
        return self.head(self.block(x).mean(1))


def test_latents_are_a_modality_named_by_their_path() -> None:
    e = fxplain.explain(seeded(Latents), (words(2, 5),))
    assert e.graph.modalities == {"input_ids": 5, "latents": 3}
    assert e.relevance["latents"].shape == (2, 3)
    assert [n.kind for n in e.graph.nodes] == ["encoder-decoder", "self"]
    assert e.readout == ("mean of latents[0..2]",) * 2
    alone = [fxplain.explain(seeded(Latents), (words(2, 5)[b : b + 1],)) for b in (0, 1)]
    torch.testing.assert_close(
        e.relevance["input_ids"], torch.cat([a.relevance["input_ids"] for a in alone])
    )


def test_masks_and_position_ids_carry_no_tokens() -> None:
    model, inputs = architecture("bert")
    bound = bind_inputs(model, inputs)
    analysis = Analysis(capture(model, bound), model, bound, kind_of)
    walked(analysis)
    for node, tags in analysis._tags.items():
        value = node.meta.get("val")
        if isinstance(value, Tensor) and tags:
            assert value.dtype.is_floating_point, node
    roots = {birth.root for birth in analysis.book.births if birth.kind == "input"}
    assert roots == {"input_ids"}


# Cost


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_tags_cost_tokens_not_activations(implementation: str) -> None:
    batch, length, width = 2, 11, 256
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=2 * width, max_position_embeddings=length,
        attn_implementation=implementation,
    )  # fmt: skip
    model = BertModel(config).eval()
    inputs = {"input_ids": words(batch, length), "attention_mask": torch.ones(batch, length).long()}
    bound = bind_inputs(model, inputs)
    analysis = Analysis(capture(model, bound), model, bound, kind_of)
    flow = walked(analysis)
    assert len(flow.updates) >= 2
    tokens = batch * length
    checked = 0
    for node, found in analysis._tags.items():
        for tags in found if isinstance(found, list) else [found]:
            for tag in tags:
                most = VOCABULARY if node.op == "placeholder" else 2 * tokens
                assert tag.ids.numel() <= most, (node, tuple(tag.ids.shape))
                assert tag.ids.untyped_storage().nbytes() <= 8 * max(most, VOCABULARY) * 2, node
                checked += 1
    assert checked > 50


def test_the_walk_runs_no_layer() -> None:
    """Sizes and integer masks are enough: no float value is computed."""
    model, inputs = architecture("bert")
    bound = bind_inputs(model, inputs)
    analysis = Analysis(capture(model, bound), model, bound, kind_of)
    walked(analysis)
    known = analysis.values._known
    computed = [node for node in known if node.op == "call_function"]
    assert not [
        node for node in computed
        if isinstance(known[node], Tensor) and known[node].is_floating_point()
    ]  # fmt: skip


def test_ids_are_unique_over_the_batch() -> None:
    flow = flow_of(seeded(TextEncoder), words(3, 5))
    (tag,) = flow.outputs[0]
    tokens = flow.book.find(tag.tokens)
    assert len(tokens.unique()) == 15
    assert flow.book.samples(tokens.flatten()).tolist() == [s for s in range(3) for _ in range(5)]
