"""Streams, their roots, and the kinds that follow from them, on hand-written modules."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from fxplain.capture import bind_inputs, capture
from fxplain.program import AttentionNode, Program, build_program
from fxplain.tokens import IDENTITY, follow_tokens
from tests.small_models import VOCABULARY, Attention, Block, TextEncoder, pixels, seeded, words

WIDTH = 16


def kinds(model: nn.Module, *inputs: Tensor) -> list[str]:
    return [node.kind for node in nodes(model, *inputs)]


def program_of(model: nn.Module, *inputs: Tensor) -> Program:
    bound = bind_inputs(model, inputs)
    return build_program(follow_tokens(capture(model, bound), model, bound))


def nodes(model: nn.Module, *inputs: Tensor) -> tuple[AttentionNode, ...]:
    return fxplain.inspect(model, inputs).nodes


# Roots


class MergedLater(nn.Module):
    """Queries attend to words; later a mean is taken over both, and attends to them."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.queries = nn.Parameter(torch.randn(1, 3, WIDTH))
        self.self_, self.cross, self.last = (Attention() for _ in range(3))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        queries = self.queries.expand(x.shape[0], -1, -1)
        queries = queries + self.self_(queries, queries)
        queries = queries + self.cross(queries, x)
        both = torch.cat([queries, x + self.self_(x, x)], 1).mean(1, keepdim=True)
        return both + self.last(both, x)


def test_a_later_merge_of_two_streams_leaves_earlier_nodes_as_they_are() -> None:
    found = kinds(seeded(MergedLater), words(2, 5))
    assert found == ["self", "encoder-decoder", "self", "encoder-decoder"]


class MergedTogether(nn.Module):
    """Words are merged by two, with an early cross-attention to what they are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.merge = nn.Linear(2 * WIDTH, WIDTH)
        self.first, self.cross = Attention(), Attention()

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + self.first(x, x)
        merged = self.merge(x.unflatten(1, (-1, 2)).flatten(2))
        return merged + self.cross(merged, x)


def test_what_is_made_of_one_stream_is_one_sequence_with_it() -> None:
    assert kinds(seeded(MergedTogether), words(2, 6)) == ["self", "self"]


# Features of one token from several places


class SideBySide(nn.Module):
    """Words and what they attended to stand side by side, and a linear layer reads both."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.first, self.second = Attention(), Attention()
        self.both = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = self.both(torch.cat([x, self.first(x, x)], -1))
        return x + self.second(x, x)


def test_what_stands_side_by_side_has_absorbed_all_of_it() -> None:
    model, inputs = seeded(SideBySide), (words(1, 5),)
    program = program_of(model, *inputs)
    _, second = program.nodes.values()
    assert program.versions.of(second.row_versions) == {IDENTITY, 0}


# Several streams


class Towers(nn.Module):
    """Two texts through one encoder, compared."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TextEncoder()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return F.cosine_similarity(self.encoder(first).mean(1), self.encoder(second).mean(1))


def test_towers_that_share_an_encoder_stay_apart() -> None:
    graph = fxplain.inspect(seeded(Towers), (words(2, 5), words(2, 5, seed=1)))
    assert [(node.kind, node.query, node.key) for node in graph.nodes] == [
        ("self", ("first",), ("first",)),
        ("self", ("second",), ("second",)),
    ]
    assert graph.readout == "mean of first[0..4] and mean of second[0..4]"
    assert graph.warnings == ()


class Distances(nn.Module):
    """Each word of one text against each of another."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TextEncoder()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cdist(self.encoder(first), self.encoder(second))


def test_distances_belong_to_both_tokens() -> None:
    model, inputs = seeded(Distances), (words(2, 5), words(2, 4, seed=1))
    explanation = fxplain.explain(model, inputs, target=(1, 2))
    assert explanation.readout[0] == "first[1] and second[2]"
    assert explanation.graph.warnings == ()


class ClassAttention(nn.Module):
    """A class token that only attends in the last layers, to itself and to the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.block, self.first, self.second = Block(), Attention(), Attention()

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.block(self.patches(pixel_values).flatten(2).transpose(1, 2))
        cls = self.cls_token.expand(x.shape[0], -1, -1)
        for attention in (self.first, self.second):
            cls = cls + attention(cls, torch.cat([cls, x], 1))
        return cls[:, 0]


def test_a_class_token_that_comes_late_is_a_stream_with_its_own_name() -> None:
    graph = fxplain.inspect(seeded(ClassAttention), (pixels(),))
    assert [stream.name for stream in graph.streams] == ["pixel_values", "cls_token"]
    assert graph.modalities == {"pixel_values": 5}
    assert graph.readout == "pixel_values[0]"


class Neighbours(nn.Module):
    """A graph network: what comes along the edges is added up at each node, or its mean is taken."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.block = nn.Embedding(VOCABULARY, WIDTH), Block()
        self.form = form

    def forward(self, input_ids: Tensor, edges: Tensor) -> Tensor:
        x = self.block(self.words(input_ids))
        source, to = edges
        sent, made = x[:, source], torch.zeros_like(x)
        places = to[None, :, None].expand_as(sent)
        if self.form == "matrix":
            matrix = F.one_hot(to, x.shape[1]).T.float() @ F.one_hot(source, x.shape[1]).float()
            return matrix @ x
        if self.form == "scatter_mean":
            return made.scatter_reduce(1, places, sent, "mean", include_self=False)
        if self.form == "scatter_add":
            return made.scatter_add(1, places, sent)
        if self.form == "index_put":
            return made.index_put((torch.arange(len(x))[:, None], to[None]), sent, accumulate=True)
        return made.index_add(1, to, sent)


@pytest.mark.parametrize("form", ["index_add", "scatter_add", "scatter_mean", "index_put"])
def test_tokens_that_are_added_up_in_one_place_make_one_token(form: str) -> None:
    edges = torch.tensor([[0, 1, 2, 0, 3], [1, 2, 2, 2, 0]])
    found, wanted = (
        fxplain.explain(seeded(Neighbours, each), (words(2, 4), edges), target=(2, 1))
        for each in (form, "matrix")
    )
    assert found.graph.warnings == ()
    assert found.graph.modalities == {"input_ids": 4}
    scores = 3 if form == "scatter_mean" else 1  # its score is a third of what the others sum up
    attended = [(e.relevance["input_ids"] - e.identity["input_ids"]) for e in (found, wanted)]
    torch.testing.assert_close(found.identity["input_ids"], torch.tensor([[1.0, 1, 1, 0]] * 2) / 3)
    torch.testing.assert_close(attended[0] * scores, attended[1])


# The place of a text's tokens in a joint sequence


class Prompted(nn.Module):
    """Queries that have read an image stand in a text, whose positions come from its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(9, WIDTH)
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.queries = nn.Parameter(torch.randn(1, 3, WIDTH))
        self.cross, self.block = Attention(), Block()

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        image = self.patches(pixel_values).flatten(2).transpose(1, 2)
        queries = self.queries.expand(image.shape[0], -1, -1)
        queries = queries + self.cross(queries, image)
        x = torch.cat([queries, self.words(input_ids)], 1)
        return self.block(x + self.places(attention_mask.cumsum(1)))[:, -1]


def test_positions_that_come_from_a_mask_take_no_tokens_name() -> None:
    inputs = (pixels(), words(2, 4), torch.ones(2, 7, dtype=torch.long))
    graph = fxplain.inspect(seeded(Prompted), inputs)
    assert graph.modalities == {"pixel_values": 4, "input_ids": 4, "queries": 3}


class Pyramid(nn.Module):
    """Queries attend to the coarse grid; two finer ones only stand in the output."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.middle, self.coarse = (nn.Conv2d(c, WIDTH, 2, 2) for c in (3, WIDTH, WIDTH))
        self.queries = nn.Parameter(torch.randn(1, 3, WIDTH))
        self.cross = Attention()

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        fine = self.fine(pixel_values)
        middle = self.middle(fine)
        coarse = self.coarse(middle).flatten(2).transpose(1, 2)
        queries = self.queries.expand(coarse.shape[0], -1, -1)
        return queries + self.cross(queries, coarse), fine, middle


def test_grids_that_only_stand_in_the_output_are_of_one_modality_with_the_one_attended_to() -> None:
    graph = fxplain.inspect(seeded(Pyramid), (pixels(2, 3, 16, 16),))
    assert graph.modalities == {"pixel_values": 64 + 16 + 4, "queries": 3}
