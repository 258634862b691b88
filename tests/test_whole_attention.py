"""One attention in parts, tokens with versions of their own: matrices and rows say the same."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.small_models import VOCABULARY, Attention, Block, TextClassifier, seeded, words

WIDTH = 16


def taken(q: Tensor, k: Tensor, size: int, form: str) -> Tensor:
    """Attention with `size` queries at a time (0: all at once)."""
    if not size:
        return (q @ k.mT / 4).softmax(-1) @ k
    if form == "weights cut":
        return torch.cat([w @ k for w in (q @ k.mT / 4).softmax(-1).split(size, 1)], 1)
    if form == "fused":
        cut = q[:, None].split(size, 2)
        made = [F.scaled_dot_product_attention(c, k[:, None], k[:, None])[:, 0] for c in cut]
        return torch.cat(made, 1)
    starts = range(0, q.shape[1], size)
    if form == "both cut":
        return torch.cat([over_blocks(q[:, i : i + size], k, size) for i in starts], 1)
    return torch.cat([(q[:, i : i + size] @ k.mT / 4).softmax(-1) @ k for i in starts], 1)


def over_blocks(q: Tensor, k: Tensor, size: int) -> Tensor:
    """Attention over blocks of keys, with a running maximum and sum (the inner loop of flash)."""
    top = torch.full((*q.shape[:-1], 1), -1e30)
    total, heard = torch.zeros_like(top), torch.zeros_like(q)
    for i in range(0, k.shape[1], size):
        scores = q @ k[:, i : i + size].mT / 4
        higher = torch.maximum(top, scores.amax(-1, keepdim=True))
        weights, left = (scores - higher).exp(), (top - higher).exp()
        total = total * left + weights.sum(-1, keepdim=True)
        heard, top = heard * left + weights @ k[:, i : i + size], higher
    return heard / total


class Bimodal(nn.Module):
    """Words that attend to patches, then both to both; queries are taken in chunks."""

    def __init__(self, size: int, form: str) -> None:
        super().__init__()
        self.words, self.patches = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(5, WIDTH)
        self.text, self.image, self.head = Block(), Block(), nn.Linear(WIDTH, 3)
        self.size, self.form = size, form

    def forward(self, ids: Tensor, patches: Tensor) -> Tensor:
        x, y = self.text(self.words(ids)), self.image(self.patches(patches))
        x = x + taken(x, y, self.size, self.form)
        z = torch.cat([x, y], 1)
        z = z + taken(z, z, self.size, self.form)
        return self.head(z[:, 1])


@pytest.mark.parametrize("form", ["queries cut", "both cut", "weights cut", "fused"])
@pytest.mark.parametrize("size", [1, pytest.param(2, marks=pytest.mark.slow), 4])
def test_an_attention_in_chunks_is_the_whole_attention(size: int, form: str) -> None:
    given = {"ids": words(2, 4), "patches": torch.randn(2, 4, 5)}
    whole = fxplain.explain(seeded(Bimodal, 0, form), given, target=1)
    e = fxplain.explain(seeded(Bimodal, size, form), given, target=1)
    torch.testing.assert_close(e.output, whole.output)
    assert {node.kind for node in e.graph.nodes} == {node.kind for node in whole.graph.nodes}
    for name in given:
        torch.testing.assert_close(e.relevance[name], whole.relevance[name], rtol=1e-4, atol=1e-6)


class Uneven(nn.Module):
    """Tokens that are not all updated alike."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.head, self.form = (
            nn.Embedding(VOCABULARY, WIDTH),
            nn.Linear(WIDTH, 3),
            form,
        )
        self.attention = Attention(fused=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for _ in range(2):
            y = self.attention(x, x)
            if self.form == "no residual":
                x = y
            elif self.form == "first two":
                x = torch.cat([x[:, :2] + y[:, :2], x[:, 2:]], 1)
            elif self.form == "chunks":
                x = x + torch.cat([self.attention(c, x) for c in x.split(2, 1)], 1)
            else:
                x = x + y
        return self.head(x)


@pytest.mark.parametrize("form", ["all", "no residual", "first two", "chunks"])
@pytest.mark.parametrize("place", [0, 3])
def test_a_matrix_has_the_relevance_as_its_row(form: str, place: int) -> None:
    e = fxplain.explain(seeded(Uneven, form), (words(2, 4),), target=(place, 1))
    torch.testing.assert_close(e.matrix("ids", "ids")[:, place], e.relevance["ids"])


class Pruned(nn.Module):
    """A class token and the patches from `start` on query all tokens."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.patches, self.head, self.start = nn.Linear(7, WIDTH), nn.Linear(WIDTH, 3), start
        self.cls = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.attention = Attention()

    def forward(self, patches: Tensor) -> Tensor:
        x = torch.cat((self.cls.expand(len(patches), -1, -1), self.patches(patches)), 1)
        kept = torch.cat((x[:, :1], x[:, 1 + self.start :]), 1)
        return self.head((kept + self.attention(kept, x))[:, 0])


@pytest.mark.parametrize("start", [0, 2, 3])
def test_a_class_token_stands_first_though_only_some_patches_query(start: int) -> None:
    e = fxplain.explain(seeded(Pruned, start), (torch.randn(2, 5, 7),), target=1)
    assert e.readout[0] == "patches[0]"
    assert e.special["patches"] == {0: "cls"}
    assert bool((e.relevance["patches"][:, 0] >= 1).all())


@pytest.mark.parametrize("fused", [True, False])
def test_legrad_gives_nothing_to_hidden_keys(fused: bool) -> None:
    mask = torch.ones(2, 5, dtype=torch.long)
    mask[1, 3:] = 0
    given = {"input_ids": words(2, 5), "attention_mask": mask}
    e = fxplain.explain(seeded(TextClassifier, fused=fused), given, target=1, method="legrad")
    assert not e.relevance["input_ids"][1, 3:].any()


class Joint(nn.Module):
    """Words and patches attend jointly; what the patches hear in the end is not read."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.patches = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(5, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor, patches: Tensor) -> Tensor:
        x, y = self.words(ids), self.patches(patches)
        for _ in range(2):
            z = torch.cat([x, y], 1)
            heard = (z @ z.mT / 4).softmax(-1) @ z
            x, y = x + heard[:, : x.shape[1]], y + heard[:, x.shape[1] :]
        return self.head(x[:, 1])


def test_rows_that_nothing_reads_are_left_as_they_were() -> None:
    given = {"ids": words(1, 3), "patches": torch.randn(1, 4, 5)}
    model = seeded(Joint)
    matrix = fxplain.explain(model, given, target=1).matrix("patches", "patches")[0]
    x, y = model.words(given["ids"]), model.patches(given["patches"])
    z = torch.cat([x, y], 1).detach()
    weights = (z @ z.mT / 4).softmax(-1).requires_grad_(True)
    z = z + weights @ z
    last = (z @ z.mT / 4).softmax(-1) @ z
    model.head((z + last)[:, 1])[0, 1].backward()
    want = torch.eye(7) + (weights * weights.grad).clamp(min=0)[0]
    torch.testing.assert_close(matrix, want[3:, 3:].detach())


class Memory(nn.Module):
    """Learned tokens that two layers attend to beside the words, and that never ask."""

    def __init__(self, form: str, layers: int = 2) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 3)
        self.memory, self.form, self.layers = nn.Parameter(torch.randn(2, WIDTH)), form, layers

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        memory = self.memory.expand(len(x), -1, -1)
        for _ in range(self.layers):
            x = x + self.heard(x, memory)
        return self.head(x[:, 0])

    def heard(self, x: Tensor, memory: Tensor) -> Tensor:
        keys = torch.cat([memory, x], 1)
        if self.form == "whole":
            return (x @ keys.mT / 4).softmax(-1) @ keys
        parts = [keys[:, :2], keys[:, 2:]]
        if self.form == "values apart":
            weights = (x @ keys.mT / 4).softmax(-1)
            return weights[..., :2] @ parts[0] + weights[..., 2:] @ parts[1]
        powers = [(x @ part.mT / 4).exp() for part in parts]
        total = powers[0].sum(-1, keepdim=True) + powers[1].sum(-1, keepdim=True)
        return (powers[0] @ parts[0] + powers[1] @ parts[1]) / total


def test_memory_stands_in_the_sequence_that_attends_to_it() -> None:
    """By hand: A R at every layer, where the memory's rows of R stay the identity (eqs. 6 and 7)."""
    model, ids = seeded(Memory, "whole"), words(2, 3)
    e = fxplain.explain(model, (ids,), target=1)
    assert e.special["ids"] == {0: "memory", 1: "memory"}
    x = model.words(ids).detach()
    memory = model.memory.detach().expand(2, -1, -1)
    maps = []
    for _ in range(2):
        keys = torch.cat([memory, x], 1)
        maps.append((x @ keys.mT / 4).softmax(-1).requires_grad_(True))
        maps[-1].retain_grad()
        x = x + maps[-1] @ keys
    model.head(x[:, 0])[:, 1].sum().backward()
    R = torch.cat([torch.zeros(2, 3, 2), torch.eye(3).expand(2, -1, -1)], 2)
    start = torch.cat([torch.eye(2), torch.zeros(2, 3)], 1).expand(2, -1, -1)
    for weights in maps:
        R = R + (weights * weights.grad).clamp(min=0).detach() @ torch.cat([start, R], 1)
    torch.testing.assert_close(e.relevance["ids"], R[:, 0])


@pytest.mark.parametrize("form", ["values apart", "sums apart"])
def test_memory_is_the_same_where_its_keys_are_a_part_of_their_own(form: str) -> None:
    whole = fxplain.explain(seeded(Memory, "whole"), (words(2, 3),), target=1)
    e = fxplain.explain(seeded(Memory, form), (words(2, 3),), target=1)
    torch.testing.assert_close(e.output, whole.output)
    torch.testing.assert_close(e.relevance["ids"], whole.relevance["ids"], rtol=1e-4, atol=1e-6)


class Registers(nn.Module):
    """Two learned tokens before the words; queries are taken by two, behind a mask or a bias."""

    def __init__(self, size: int, form: str) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 3)
        self.registers, self.form = nn.Parameter(torch.randn(2, WIDTH)), form
        self.bias, self.size = nn.Parameter(torch.randn(1, 5, 5)), size

    def forward(self, ids: Tensor) -> Tensor:
        x = torch.cat([self.registers.expand(len(ids), -1, -1), self.words(ids)], 1)
        for _ in range(2):
            bounds = range(0, 5, self.size)
            heard = [self.weights(x, slice(i, i + self.size)) @ x for i in bounds]
            x = x + torch.cat(heard, 1)
        return self.head(x[:, 2])

    def weights(self, x: Tensor, at: slice) -> Tensor:
        scores = x[:, at] @ x.mT / 4
        if self.form == "masked":
            seen = torch.ones(5, 5, dtype=torch.bool).tril()[at]
            scores = torch.where(seen, scores, -torch.inf)
        if self.form == "biased":
            scores = self.bias[:, at] + scores
        return scores.softmax(-1)


@pytest.mark.parametrize("form", ["plain", "masked", "biased"])
@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 2, 4])
def test_a_part_of_special_tokens_alone_is_no_sequence_of_its_own(size: int, form: str) -> None:
    """One query in the last part, too: beside a bias of its keys, it has them still."""
    whole = fxplain.explain(seeded(Registers, 5, form), (words(2, 3),), target=1)
    e = fxplain.explain(seeded(Registers, size, form), (words(2, 3),), target=1)
    torch.testing.assert_close(e.output, whole.output)
    assert e.special == whole.special == {"ids": {0: "registers", 1: "registers"}}
    torch.testing.assert_close(e.relevance["ids"], whole.relevance["ids"], rtol=1e-4, atol=1e-6)


class JointByParts(Joint):
    """The same, two queries at a time (the last part's rows are the patches' alone) or by heads."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def heard(self, z: Tensor) -> Tensor:
        if self.form == "queries":
            return taken(z, z, 2, "queries cut")
        if self.form == "all heads":
            heads = z.unflatten(-1, (2, -1)).transpose(1, 2)
            return ((heads @ heads.mT).softmax(-1) @ heads).transpose(1, 2).flatten(2)
        return torch.cat([(h @ h.mT).softmax(-1) @ h for h in z.chunk(2, -1)], -1)

    def forward(self, ids: Tensor, patches: Tensor) -> Tensor:
        x, y = self.words(ids), self.patches(patches)
        for _ in range(2):
            heard = self.heard(torch.cat([x, y], 1))
            x, y = x + heard[:, : x.shape[1]], y + heard[:, x.shape[1] :]
        return self.head(x[:, 1])


@pytest.mark.parametrize("form", ["queries", "heads"])
def test_rows_that_nothing_reads_are_left_as_they_were_by_parts(form: str) -> None:
    given = {"ids": words(1, 3), "patches": torch.randn(1, 4, 5)}
    plain = seeded(Joint) if form == "queries" else seeded(JointByParts, "all heads")
    whole = fxplain.explain(plain, given, target=1).matrix("patches", "patches")
    e = fxplain.explain(seeded(JointByParts, form), given, target=1)
    torch.testing.assert_close(e.matrix("patches", "patches"), whole, rtol=1e-4, atol=1e-6)
