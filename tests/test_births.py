"""Births: the elements of an input that a token was made of are those that its rows move with."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn, ops
from torch.nn import functional as F

import fxplain
from fxplain.tokens import follow_tokens
from tests.op_table.setting import BATCH, WIDTH, Setting, computed

aten = ops.aten
LENGTH, SIDE = 5, 4


def ids(s: Setting, *shape: int) -> fx.Proxy:
    return s.given(torch.randperm(100)[: torch.Size(shape).numel()].reshape(shape))


def table(s: Setting) -> fx.Proxy:
    return s.parameter(101, WIDTH)


def pixels(s: Setting) -> fx.Proxy:
    return s.given(torch.randn(BATCH, 3, SIDE, SIDE, dtype=torch.float64))


def series(s: Setting) -> fx.Proxy:
    return s.given(torch.randn(BATCH, LENGTH, 3, dtype=torch.float64))


BORN: dict[str, Callable[[Setting], fx.Proxy]] = {
    "words": lambda s: aten.embedding(table(s), ids(s, BATCH, LENGTH)),
    "words turned around": lambda s: aten.embedding(table(s), aten.flip(ids(s, BATCH, LENGTH), [1])),
    "chunks": lambda s: aten.embedding(table(s), aten.view(ids(s, BATCH, 6), [-1, 3])),
    "windows": lambda s: aten.embedding(table(s), aten.unfold(ids(s, BATCH, LENGTH), 1, 3, 2)),
    "padded words": lambda s: aten.embedding(table(s), aten.pad(ids(s, BATCH, LENGTH), [1, 2])),
    "one word": lambda s: aten.embedding(table(s), aten.select(ids(s, BATCH, LENGTH), 1, 3)),
    "a series": lambda s: aten.linear(series(s), s.parameter(WIDTH, 3)),
    "patches": lambda s: aten.conv2d(pixels(s), s.parameter(WIDTH, 3, 2, 2), None, [2, 2]),
    "pixels": lambda s: aten.conv2d(pixels(s), s.parameter(WIDTH, 3, 1, 1)),
    "patches of a view": lambda s: aten.linear(
        aten.reshape(aten.permute(aten.reshape(pixels(s), [BATCH, 3, 2, 2, 2, 2]), [0, 2, 4, 3, 5, 1]),
                     [BATCH, 4, 12]),
        s.parameter(WIDTH, 12),
    ),
    "bags of words": lambda s: aten.embedding_bag(
        table(s), aten.view(ids(s, BATCH, LENGTH), [-1]), torch.tensor([0, LENGTH]))[0],
    "bags of words, below": lambda s: aten._embedding_bag(
        table(s), aten.view(ids(s, BATCH, LENGTH), [-1]), torch.tensor([0, LENGTH]))[0],
}  # fmt: skip


def moved_by(s: Setting, result: fx.Node, leaf: fx.Node, element: int) -> Tensor:
    """Which elements of a result move when one element of an input is another."""
    values = {node: node.meta["val"] for node in s.graph.nodes if node.op != "output"}
    other = values[leaf].clone()
    other.view(-1)[element] += 1
    values[leaf] = other
    for node in s.graph.nodes:
        if node.op == "call_function":
            values[node] = computed(node, values.__getitem__)
    return values[result] != result.meta["val"]


@pytest.mark.parametrize("name", BORN)
def test_a_token_is_made_of_the_elements_that_it_names(name: str) -> None:
    torch.manual_seed(0)
    s = Setting()
    captured, model, inputs, (result,) = s.finish(BORN[name](s))
    flow = follow_tokens(captured, model, inputs, keep_tags=True)
    (tag,) = flow.outputs[0]
    (leaf,) = (n for n in s.graph.nodes if n.op == "placeholder" and n.name in captured.inputs)
    value = leaf.meta["val"]
    first, until = flow.book.elements(tag.tokens), flow.book.until(tag.tokens)
    samples = flow.book.samples(tag.tokens)
    assert len(tag.tokens.unique()) == tag.tokens.numel()
    rest = [axis for axis, size in enumerate(tag.ids.shape) if size == 1]
    for element in range(value.numel()):
        told = moved_by(s, result, leaf, element).any(rest, keepdim=True)
        sample = element // (value.numel() // BATCH)
        assert bool((samples[told] == sample).all())
        assert bool(told[first == element].all())
        assert bool((first[told] <= element).all())
        known = told & (until >= 0)
        assert bool((element <= until[known]).all())
        assert bool(told[until == element].all())


class Padded(nn.Module):
    """Words that are padded before they are looked up, which attend, and one of which is read."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(101, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(F.pad(input_ids, (1, 2)))
        x = x + F.scaled_dot_product_attention(x, x, x)
        return self.head(x[:, 2])


def test_padding_is_no_word_of_the_first_sample() -> None:
    torch.manual_seed(0)
    model, given = Padded().eval(), torch.randint(1, 100, (2, 5))
    both = fxplain.explain(model, (given,), target=1).relevance["input_ids"]
    for sample in (0, 1):
        alone = fxplain.explain(model, (given[sample : sample + 1],), target=1)
        torch.testing.assert_close(both[sample], alone.relevance["input_ids"][0])
