"""Attention as people write it: each form against the paper's equations by hand."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.attention_by_hand import (
    HEADS,
    SIZE,
    TOKENS,
    WIDTH,
    Classifier,
    Form,
    check_classifier,
    classifier,
    distances,
    merged,
    noted,
    split,
)


class BucketBias(Form):
    """T5: an embedding of the distance's bucket."""

    def build(self) -> None:
        self.bias = nn.Embedding(4, HEADS)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        bias = self.bias(distances().abs().clamp(max=3)).permute(2, 0, 1)
        return query @ key.mT + bias.unsqueeze(0)


class TableBias(Form):
    """Swin: a table with a row for each offset, indexed by a buffer."""

    def build(self) -> None:
        self.table = nn.Parameter(torch.randn(2 * TOKENS - 1, HEADS))
        self.register_buffer("index", distances() + TOKENS - 1)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        bias = self.table[self.index.view(-1)].view(TOKENS, TOKENS, HEADS).permute(2, 0, 1)
        return super().scores(query, key) + bias.contiguous()


class Alibi(Form):
    """Scores fall with distance, at another rate for every head."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        slopes = torch.tensor([0.5**i for i in range(1, HEADS + 1)]).view(HEADS, 1, 1)
        return super().scores(query, key) - slopes * distances().abs()


def angles() -> Tensor:
    return torch.arange(TOKENS)[:, None] / 10.0 ** torch.arange(SIZE // 2)


class Rotary(Form):
    def turned(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        angle = torch.cat([angles(), angles()], -1)

        def turn(x: Tensor) -> Tensor:
            first, second = x.chunk(2, -1)
            return x * angle.cos() + torch.cat([-second, first], -1) * angle.sin()

        return turn(query), turn(key)


class ComplexRotary(Form):
    """Llama as first published: pairs of features are complex numbers."""

    def turned(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        turns = torch.polar(torch.ones_like(angles()), angles())

        def turn(x: Tensor) -> Tensor:
            pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
            return torch.view_as_real(pairs * turns).flatten(-2).type_as(x)

        return turn(query), turn(key)


class SoftCap(Form):
    """Gemma 2: scores are squeezed below a cap."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        return 2.0 * torch.tanh(super().scores(query, key) / 2.0)


class Sink(Form):
    """gpt-oss: a learned score for every head takes a part of the weight, and is dropped."""

    def build(self) -> None:
        self.sinks = nn.Parameter(torch.randn(HEADS))

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        sinks = self.sinks.view(1, -1, 1, 1).expand(scores.shape[0], -1, TOKENS, -1)
        weights = torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
        return noted(weights) @ value


class Latent(nn.Module):
    """DeepSeek: keys and values from one small latent, and a turned key that all heads share."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(WIDTH, 3 + 2), nn.Linear(3, 2 * WIDTH)
        self.query = nn.Linear(WIDTH, HEADS * (SIZE + 2))
        self.norm, self.out = nn.RMSNorm(3), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        latent, shared = self.down(x).split([3, 2], -1)
        key, value = self.up(self.norm(latent)).unflatten(-1, (HEADS, -1)).chunk(2, -1)
        shared = shared.unsqueeze(2).expand(-1, -1, HEADS, -1)
        key = torch.cat([key, shared], -1).transpose(1, 2)
        query = self.query(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        return self.out(merged(F.scaled_dot_product_attention(query, key, value.transpose(1, 2))))


class Disentangled(Form):
    """DeBERTa: words ask for distances, and distances for words."""

    def build(self) -> None:
        self.distance = nn.Embedding(2 * TOKENS - 1, WIDTH)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        far = self.distance.weight
        index = (distances() + TOKENS - 1).expand(query.shape[0], HEADS, -1, -1)
        asked = torch.gather(query @ split(self.key(far)[None]).mT, -1, index)
        answered = torch.gather(key @ split(self.query(far)[None]).mT, -1, index).mT
        return (query @ key.mT + asked + answered) / math.sqrt(3 * SIZE)


class TalkingHeads(Form):
    """Heads are mixed before the softmax and after it."""

    def build(self) -> None:
        self.before, self.after = nn.Linear(HEADS, HEADS), nn.Linear(HEADS, HEADS)

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        weights = self.before(scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(-1)
        weights = self.after(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return noted(weights) @ value


class TalkingConvolution(TalkingHeads):
    """The same as a convolution with a kernel of one."""

    def build(self) -> None:
        self.before, self.after = nn.Conv2d(HEADS, HEADS, 1), nn.Conv2d(HEADS, HEADS, 1)

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        return noted(self.after(self.before(scores).softmax(-1))) @ value


class Differential(Form):
    """The difference of two maps is the map."""

    def build(self) -> None:
        self.queries, self.keys = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.shares = nn.Parameter(torch.randn(2, SIZE) / SIZE)

    def forward(self, x: Tensor) -> Tensor:
        (a, b), (c, d) = (map(split, f(x).chunk(2, -1)) for f in (self.queries, self.keys))
        share = (self.shares[0] * self.shares[1]).sum().exp() / 3
        weights = self.scores(a, c).softmax(-1) - share * self.scores(b, d).softmax(-1)
        return self.out(merged(noted(weights) @ split(self.value(x))))


class ConvolutionalProjection(nn.Module):
    """CvT: a depthwise convolution along the tokens before each projection."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH) for _ in range(3)
        )
        self.attention = Form()

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (f(x.mT).mT for f in self.convolutions)
        form = self.attention
        scores = form.scores(split(form.query(query)), split(form.key(key)))
        return form.out(merged(form.mixed(scores, split(form.value(value)))))


class Cosine(Form):
    """Swin v2: angles between queries and keys, sharpened for each head."""

    def build(self) -> None:
        self.sharpness = nn.Parameter(torch.ones(HEADS, 1, 1))

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        scale = self.sharpness.clamp(max=math.log(100.0)).exp()
        return F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT * scale


class NormedQueries(Form):
    """Qwen 3: queries and keys are normalised head by head."""

    def build(self) -> None:
        self.of_query, self.of_key = nn.RMSNorm(SIZE), nn.LayerNorm(SIZE)

    def turned(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return self.of_query(query), self.of_key(key)


class Gated(Form):
    """A gate on what attention gives, before the output layer."""

    def build(self) -> None:
        self.gate = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split(f(x)) for f in (self.query, self.key, self.value))
        mixed = merged(F.scaled_dot_product_attention(query, key, value))
        return self.out(mixed * torch.sigmoid(self.gate(x)))


class ParallelBlock(Form):
    """PaLM: attention and a feed-forward layer side by side, from one normed input."""

    def build(self) -> None:
        self.norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 12), nn.SiLU(), nn.Linear(12, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        return super().forward(normed) + self.mlp(normed)


class SharedKeys(Form):
    """Two layers: the second asks the first one's keys and values."""

    def build(self) -> None:
        self.second = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        key, value = split(self.key(x)), split(self.value(x))
        first = merged(self.mixed(self.scores(split(self.query(x)), key), value))
        scores = self.scores(split(self.second(x + first)), key)
        return first + merged(noted(scores.softmax(-1), newborn_keys=True) @ value)


class Twice(Form):
    """One module, called twice in a row."""

    def forward(self, x: Tensor) -> Tensor:
        first = super().forward(x)
        return first + super().forward(x + first)


class OneKeyHead(Form):
    """Multi-query attention by broadcasting: all heads share a key and a value."""

    def forward(self, x: Tensor) -> Tensor:
        key, value = self.key(x)[..., :SIZE].unsqueeze(1), self.value(x)[..., :SIZE].unsqueeze(1)
        return self.out(merged(self.mixed(self.scores(split(self.query(x)), key), value)))


class TokensFirst(Form):
    """(tokens, batch, width), as older code has it, softmax in the middle of the axes."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            f(x.transpose(0, 1)).unflatten(-1, (HEADS, SIZE))
            for f in (self.query, self.key, self.value)
        )
        scores = torch.einsum("sbhd,qbhd->sqbh", query, key)
        weights = noted(scores.softmax(1), lambda a: a.permute(2, 3, 0, 1))
        return self.out(torch.einsum("sqbh,qbhd->sbhd", weights, value).flatten(2)).transpose(0, 1)


class Tempered(Form):
    """Scores scaled by a learned temperature after them, weights dropped out and cast."""

    def build(self) -> None:
        self.temperature, self.dropout = nn.Parameter(torch.ones(1)), nn.Dropout(0.1)

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        weights = (scores * self.temperature).softmax(-1, dtype=torch.float64)
        return torch.matmul(noted(self.dropout(weights.to(value.dtype))), value)


class Sparsemax(Form):
    """Weights are scores less a threshold of theirs, where that is positive: most are 0."""

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        ordered = scores.sort(-1, descending=True).values
        sums, count = ordered.cumsum(-1), torch.arange(1, TOKENS + 1)
        last = (1 + count * ordered > sums).sum(-1, keepdim=True)
        threshold = (sums.gather(-1, last - 1) - 1) / last
        return noted(F.relu(scores - threshold)) @ value


class Entmax(Form):
    """The same of squares, the threshold found by bisection."""

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        low, step = scores.amax(-1, keepdim=True) - 1, 1.0
        for _ in range(6):
            step = step / 2
            weights = (scores - low - step).clamp(min=0) ** 2
            low = torch.where(weights.sum(-1, keepdim=True) >= 1, low + step, low)
        return noted(weights / weights.sum(-1, keepdim=True)) @ value


class Memory(Form):
    """Learned keys and values beside those of the words."""

    def build(self) -> None:
        self.more_keys = nn.Parameter(torch.randn(1, 2, WIDTH))
        self.more_values = nn.Parameter(torch.randn(1, 2, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        more = self.more_keys, self.more_values
        key, value = (
            split(torch.cat([f(x), rows.expand(len(x), -1, -1)], 1))
            for f, rows in zip((self.key, self.value), more, strict=True)
        )
        return self.out(merged(self.mixed(self.scores(split(self.query(x)), key), value)))


class MemoryOfHeads(Memory):
    """The same, written as what each head has of them: the same function of the same tokens."""

    def build(self) -> None:
        self.more_keys = nn.Parameter(torch.randn(HEADS, 2, SIZE))
        self.more_values = nn.Parameter(torch.randn(HEADS, 2, SIZE))

    def forward(self, x: Tensor) -> Tensor:
        more = self.more_keys, self.more_values
        key, value = (
            torch.cat([split(f(x)), rows.expand(len(x), -1, -1, -1)], 2)
            for f, rows in zip((self.key, self.value), more, strict=True)
        )
        return self.out(merged(self.mixed(self.scores(split(self.query(x)), key), value)))


FORMS = [
    BucketBias, TableBias, Alibi, Rotary, ComplexRotary, SoftCap, Sink, Latent,
    TalkingHeads, TalkingConvolution, Differential, ConvolutionalProjection, Cosine,
    NormedQueries, Gated, ParallelBlock, SharedKeys, OneKeyHead, TokensFirst, Tempered,
    Sparsemax, Entmax,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_form_is_what_it_is_by_hand(form: type[nn.Module]) -> None:
    check_classifier(classifier(form))


def test_disentangled_scores() -> None:
    check_classifier(classifier(Disentangled))


@pytest.mark.parametrize("form", [Memory, MemoryOfHeads])
def test_learned_keys_are_special_tokens(form: type[nn.Module]) -> None:
    explanation = check_classifier(classifier(form), tokens=TOKENS + 2)
    assert list(explanation.special["ids"]) == [TOKENS, TOKENS + 1]


def test_a_module_called_twice_is_two_nodes() -> None:
    explanation = check_classifier(classifier(Twice))
    assert [node.name for node in explanation.graph.nodes] == ["layers.0", "layers.0#2"]


def test_shared_weights_are_two_attentions() -> None:
    first, second = Form(), Form()
    second.query, second.key.weight = first.query, first.key.weight
    check_classifier(Classifier(first, second).double().eval())
