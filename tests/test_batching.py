"""Where the samples lie: sequence-first models, folded batches, outputs with samples elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import VOCABULARY, Block, seeded, words

WORDS, WIDTH = 30, 16


def _encoder(*, batch_first: bool = False) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, dropout=0.0, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def _made(make: type[nn.Module], *args: Any) -> nn.Module:
    torch.manual_seed(0)
    model = make(*args).double().eval()
    with torch.no_grad():  # attention that is not nearly even
        for name, parameter in model.named_parameters():
            if "in_proj" in name or name.endswith("e.weight"):
                parameter.mul_(2)
    return model


class Reader(nn.Module):
    """Ids (sequence, batch), as in the translation tutorial."""

    def __init__(self, read: str) -> None:
        super().__init__()
        self.read = read
        self.e, self.encoder, self.head = (
            nn.Embedding(WORDS, WIDTH),
            _encoder(),
            nn.Linear(WIDTH, 5),
        )
        self.position = nn.Parameter(torch.randn(20, 1, WIDTH))
        self.cls = nn.Parameter(torch.randn(1, 1, WIDTH))

    def forward(self, src: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.e(src) + self.position[: len(src)]
        if self.read == "cls":
            x = torch.cat([self.cls.expand(1, x.shape[1], -1), x])
        y = self.encoder(x, src_key_padding_mask=mask)
        if self.read == "each":
            return self.head(y)
        return self.head(y.mean(0) if self.read == "mean" else y[0])


class Turned(nn.Module):
    """The same model with samples first, for inputs and output."""

    def __init__(self, model: nn.Module, *, output: bool = False) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, src: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self.model(src.transpose(0, 1), mask)
        return y.transpose(0, 1) if self.output else y


@pytest.mark.parametrize("length", [7, 3])  # 3: as many words as samples
@pytest.mark.parametrize("batch", [3, 1])
@pytest.mark.parametrize("read", ["each", "mean", "first", "cls"])
def test_sequence_first(read: str, batch: int, length: int) -> None:
    model, ids = _made(Reader, read), words(length, batch)
    target: Any = (length - 2, 1) if read == "each" else 1
    e = fxplain.explain(model, (ids,), target)
    assert e.graph.warnings == ()
    assert {n.q_len for n in e.graph.nodes} == {length + (read == "cls")}
    turned = Turned(model, output=read == "each").eval()
    for sample in range(batch):
        alone = fxplain.explain(turned, (ids[:, [sample]].t().contiguous(),), target)
        torch.testing.assert_close(e.relevance["src"][sample], alone.relevance["src"][0])
        torch.testing.assert_close(e.matrix("src", "src")[sample], alone.matrix("src", "src")[0])
        assert e.readout[sample] == alone.readout[0]
        assert e.labels["src"][sample] == alone.labels["src"][0]


def test_by_hand() -> None:
    """R = I + A-bar of one layer, from the model's own modules and autograd."""

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, 4)
            self.attention = nn.MultiheadAttention(WIDTH, 2)

        def forward(self, src: Tensor) -> Tensor:
            x = self.e(src)
            return self.head((x + self.attention(x, x, x)[0])[-1])

    model, ids = _made(One), words(5, 5)
    e = fxplain.explain(model, (ids,), [0, 1, 2, 3, 0])
    m = model.attention
    for b, c in enumerate([0, 1, 2, 3, 0]):
        x = model.e(ids[:, b])
        q, k, v = (x @ m.in_proj_weight.t() + m.in_proj_bias).chunk(3, -1)
        heads = [t.reshape(5, 2, 8).transpose(0, 1) for t in (q, k, v)]
        a = torch.softmax(heads[0] @ heads[1].transpose(1, 2) / 8**0.5, -1)
        out = m.out_proj((a @ heads[2]).transpose(0, 1).reshape(5, WIDTH))
        (gradient,) = torch.autograd.grad(model.head((x + out)[-1])[c], a)
        row = (gradient * a).clamp(min=0).mean(0)[-1]
        expected = row + torch.eye(5, dtype=torch.float64)[-1]
        torch.testing.assert_close(e.relevance["src"][b], expected.detach())


def test_mask_of_other_layout() -> None:
    """Ids (sequence, batch) beside a padding mask (batch, sequence)."""
    model, ids = _made(Reader, "mean"), words(6, 2)
    mask = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    e = fxplain.explain(model, (ids, mask), 2)
    turned = Turned(model).eval()
    for b in range(2):
        alone = fxplain.explain(turned, (ids[:, [b]].t().contiguous(), mask[[b]]), 2)
        torch.testing.assert_close(e.relevance["src"][b], alone.relevance["src"][0])


class Translator(nn.Module):
    """`nn.Transformer` as it comes."""

    def __init__(self, first: bool = False) -> None:
        super().__init__()
        self.e, self.head, self.first = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS), first
        self.core = nn.Transformer(WIDTH, 2, 1, 1, 32, 0.0)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        if self.first:
            src, tgt = src.transpose(0, 1), tgt.transpose(0, 1)
        mask = nn.Transformer.generate_square_subsequent_mask(len(tgt), dtype=torch.float64)
        y = self.head(self.core(self.e(src), self.e(tgt), tgt_mask=mask))
        return y.transpose(0, 1) if self.first else y


@pytest.mark.parametrize("batch", [2, 1])
def test_translation(batch: int) -> None:
    model, src, tgt = _made(Translator), words(6, batch), words(4, batch, seed=1)
    other = _made(Translator, True)
    for target in (None, 3, [(1, 2), (3, 4)][:batch]):
        e = fxplain.explain(model, (src, tgt), target)
        same = fxplain.explain(other, (src.t().contiguous(), tgt.t().contiguous()), target)
        assert (e.target, e.readout) == (same.target, same.readout)
        for name, relevance in same.relevance.items():
            assert relevance.shape[0] == batch
            torch.testing.assert_close(e.relevance[name], relevance)


def test_learned_queries_beside_a_sequence_first_memory() -> None:
    """Object queries repeated along the second axis, features (sequence, batch, width)."""

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Embedding(2, WIDTH)
            self.proj, self.head = nn.Linear(6, WIDTH), nn.Linear(WIDTH, 3)
            layer = nn.TransformerDecoderLayer(WIDTH, 2, 32, 0.0)
            self.decoder = nn.TransformerDecoder(layer, 2)

        def forward(self, features: Tensor) -> Tensor:
            memory = self.proj(features)
            queries = self.query.weight.unsqueeze(1).repeat(1, memory.shape[1], 1)
            return self.head(self.decoder(queries, memory)).transpose(0, 1)

    model = _made(Detector)
    features = torch.randn(5, 2, 6, dtype=torch.float64)
    e = fxplain.explain(model, (features,), (1, 2))
    assert {name: tuple(r.shape) for name, r in e.relevance.items()} == {
        "features": (2, 5), "query": (2, 2),
    }  # fmt: skip
    for b in range(2):
        alone = fxplain.explain(model, (features[:, [b]],), (1, 2))
        for name, relevance in alone.relevance.items():
            torch.testing.assert_close(e.relevance[name][b], relevance[0])


def test_a_bare_sequence() -> None:
    """`nn.Transformer` also takes a sequence without a batch."""
    model, ids = _made(Reader, "each"), words(6)

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, src: Tensor) -> Tensor:
            return model.head(model.encoder(model.e(src)))

    class Batched(Bare):
        def forward(self, src: Tensor) -> Tensor:
            return super().forward(src[0]).unsqueeze(0)

    e = fxplain.explain(Bare().eval(), (ids,), (2, 1))
    alone = fxplain.explain(Batched().eval(), (ids[None],), (2, 1))
    torch.testing.assert_close(e.relevance["src"], alone.relevance["src"])
    assert e.readout == alone.readout


def test_said_by_hand() -> None:
    model, ids = _made(Reader, "mean"), words(6, 2)
    found = fxplain.explain(model, (ids,), 1)
    for axis in (1, -1, {"src": 1}):
        said = fxplain.explain(model, (ids,), 1, batch_axis=axis)
        torch.testing.assert_close(said.relevance["src"], found.relevance["src"])
    assert fxplain.inspect(model, (ids,), batch_axis=1).warnings == ()
    with pytest.raises(fxplain.InputError, match=r"batch_axis=3 .*src \(6, 2\)"):
        fxplain.explain(model, (ids,), 1, batch_axis=3)
    with pytest.raises(fxplain.InputError, match="names 'ids'; the inputs are: src"):
        fxplain.inspect(model, (ids,), batch_axis={"ids": 1})


# -- samples folded into rows -------------------------------------------------------------------------


class Folded(nn.Module):
    """A long text read in pieces, which are rows of one batch."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.e, self.encoder = nn.Embedding(WORDS, WIDTH), _encoder(batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def pieces(self, ids: Tensor) -> Tensor:
        n, t = ids.shape
        if self.how == "view":
            return ids.view(n * 2, t // 2)
        if self.how == "chunk first":
            return ids.view(n, 2, t // 2).transpose(0, 1).reshape(n * 2, t // 2)
        if self.how == "unfold":
            return ids.unfold(1, t // 2, t // 4).flatten(0, 1)
        if self.how == "cat":
            return torch.cat(ids.chunk(2, 1))
        if self.how == "started":
            start = torch.full((n * 2, 1), 1, dtype=ids.dtype)
            return torch.cat([start, ids.view(n * 2, t // 2)], 1)
        if self.how == "shifted":
            rows = ids.view(n * 2, t // 2)
            out = rows.new_zeros(rows.shape)
            out[:, 1:] = rows[:, :-1]
            out[:, 0] = 2
            return out.masked_fill(out == 29, 3)
        raise AssertionError(self.how)

    def forward(self, ids: Tensor) -> Tensor:
        n = len(ids)
        y = self.head(self.encoder(self.e(self.pieces(ids))).mean(1))
        if self.how in ("chunk first", "cat"):
            return y.view(2, n, -1).sum(0)
        return y.view(n, -1, 3).sum(1)


@pytest.mark.parametrize("how", ["view", "chunk first", "unfold", "cat", "started", "shifted"])
@pytest.mark.parametrize("batch", [2, 3])
def test_chunks(how: str, batch: int) -> None:
    model, ids = _made(Folded, how), words(batch, 8)
    e = fxplain.explain(model, (ids,), 1)
    assert e.graph.warnings == ()
    for b in range(batch):
        alone = fxplain.explain(model, (ids[[b]],), 1)
        assert float(alone.relevance["ids"].abs().sum()) > 0
        torch.testing.assert_close(e.relevance["ids"][b], alone.relevance["ids"][0])


# -- outputs --------------------------------------------------------------------------------


class Head(nn.Module):
    """A text encoder whose pooled vector is put out in one way or another."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.e, self.encoder = nn.Embedding(WORDS, WIDTH), _encoder(batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor) -> Any:
        h = self.encoder(self.e(ids))[:, 0]
        y = self.head(h)
        if self.how == "turned":
            return y.t()
        if self.how == "flat":
            return y.view(1, -1)
        if self.how == "row":
            return y.flatten()
        if self.how == "softmax":  # as `softmax` without an axis may choose it
            return y.softmax(0)
        if self.how == "complex":
            return torch.complex(y, y + 1)
        if self.how == "similarity":
            return h @ h.t()
        if self.how == "loss":
            return y.square().mean()
        return y


def test_samples_along_the_outputs_second_axis() -> None:
    ids = words(2, 5)
    e = fxplain.explain(_made(Head, "turned"), (ids,), [0, 2])
    plain = fxplain.explain(_made(Head, "plain"), (ids,), [0, 2])
    torch.testing.assert_close(e.relevance["ids"], plain.relevance["ids"])
    torch.testing.assert_close(e.scores, plain.scores)
    assert e.target == plain.target
    assert fxplain.explain(_made(Head, "turned"), (ids[:1].repeat(3, 1),)).scores.shape == (3,)


def test_a_flattened_batch() -> None:
    """One row of numbers is one sample, of all the inputs' rows, unless the batch is said."""
    model, ids = _made(Head, "flat"), words(2, 5)
    alone = [fxplain.explain(model, (ids[[b]],), 1).relevance["ids"][0] for b in range(2)]
    together = fxplain.explain(model, (ids,), 4)  # the second row's number 1
    expected = torch.cat([torch.zeros_like(alone[0]), alone[1]])
    torch.testing.assert_close(together.relevance["ids"], expected[None])
    with pytest.raises(fxplain.TargetError, match=r"\(1, 6\), and no axis of it"):
        fxplain.explain(model, (ids,), 1, batch_axis=0)
    in_a_row = _made(Head, "row")
    with pytest.raises(fxplain.TargetError, match=r"\(6,\), and no axis of it"):
        fxplain.explain(in_a_row, (ids,), 1)
    for flat in (model, in_a_row):
        by_function = fxplain.explain(flat, (ids,), lambda y: y.view(2, 3)[:, 1], batch_axis=0)
        torch.testing.assert_close(by_function.relevance["ids"], torch.stack(alone))


def test_a_target_across_samples_is_refused() -> None:
    model, ids = _made(Head, "similarity"), words(2, 5)
    with pytest.raises(fxplain.TargetError, match="samples 0 and 1 of the batch at once"):
        fxplain.explain(model, (ids,), [1, 0])
    with pytest.raises(fxplain.TargetError, match="samples 0 and 1"):
        fxplain.explain(model, (ids,), lambda sim: torch.stack([sim[0, 1], sim[1, 0]]))
    own = fxplain.explain(model, (ids,), [0, 1])  # a sample with itself
    for b in range(2):
        alone = fxplain.explain(model, (ids[[b]],), 0)
        torch.testing.assert_close(own.relevance["ids"][b], alone.relevance["ids"][0])


def test_a_softmax_over_the_samples_is_told() -> None:
    (warning,) = fxplain.inspect(_made(Head, "softmax"), (words(2, 5),)).warnings
    assert warning.startswith("softmax in the model normalises over the samples of the batch")


def test_two_arguments_are_compared() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Head("vector")

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.model(a) @ self.model(b).t()

    a, b = words(2, 5), words(2, 4, seed=3)
    model = _made(Pair)
    e = fxplain.explain(model, (a, b), [1, 0])
    for i, j in ((0, 1), (1, 0)):
        alone = fxplain.explain(model, (a[[i]], b[[j]]), 0)
        for name, relevance in alone.relevance.items():
            torch.testing.assert_close(e.relevance[name][i], relevance[0])


def test_complex_outputs_need_a_function() -> None:
    model, ids = _made(Head, "complex"), words(2, 5)
    with pytest.raises(fxplain.TargetError, match="is complex"):
        fxplain.explain(model, (ids,), 1)
    with pytest.raises(fxplain.TargetError, match="returned complex numbers"):
        fxplain.explain(model, (ids,), lambda y: y[:, 1])
    e = fxplain.explain(model, (ids,), lambda y: y.real[:, 1])
    plain = fxplain.explain(_made(Head, "plain"), (ids,), 1)
    torch.testing.assert_close(e.relevance["ids"], plain.relevance["ids"])


def test_a_loss_says_what_to_explain() -> None:
    class Trainer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Head("plain")

        def forward(self, ids: Tensor) -> Tensor:
            return self.net(ids).square().mean()

    with pytest.raises(fxplain.TargetError, match=r"single number .* model\.net\."):
        fxplain.explain(_made(Trainer), (words(2, 5),))


def same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


class Towers(nn.Module):
    """Pictures are compared with all texts, or each with as many of them."""

    def __init__(self, *, folded: bool) -> None:
        super().__init__()
        self.words, self.patches = nn.Embedding(VOCABULARY, 16), nn.Linear(12, 16)
        self.first = nn.Parameter(torch.randn(1, 1, 16))
        self.text, self.vision, self.folded = Block(), Block(), folded

    def forward(self, ids: Tensor, image: Tensor) -> Tensor:
        texts, x = self.text(self.words(ids))[:, 0], self.patches(image)
        x = self.vision(torch.cat([self.first.expand(len(x), -1, -1), x], 1))
        if self.folded:
            return x[:, 1:] * x[:, :1] @ texts.unflatten(0, (len(x), -1)).mT
        return x[:, 0] @ texts.mT


@pytest.mark.parametrize("folded", [True, False])
def test_pictures_that_share_a_batch_of_texts_are_samples(folded: bool) -> None:
    model, ids, image = seeded(Towers, folded=folded), words(4, 5), torch.randn(2, 3, 12)
    e = fxplain.explain(model, (ids, image), target=[(1, 0), (1, 1)] if folded else [0, 3])
    assert e.graph.modalities == {"ids": 5, "image": 4}
    assert e.graph.warnings == ()
    for sample, text in enumerate((0, 3)):
        alone = fxplain.explain(
            model, (ids[text : text + 1], image[sample : sample + 1]),
            target=(1, 0) if folded else 0)  # fmt: skip
        assert e.readout[sample] == alone.readout[0]
        for name in ("ids", "image"):
            same(e.relevance[name][sample], alone.relevance[name][0])


class Rows(nn.Module):
    """Pictures one by one, a learned token at the end of each row of patches, before the words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.patches = nn.Embedding(VOCABULARY, 16), nn.Linear(12, 16)
        self.end, self.block, self.head = nn.Parameter(torch.randn(16)), Block(), nn.Linear(16, 3)

    def forward(self, ids: Tensor, image: Tensor) -> Tensor:
        ends = self.end[None, None].expand(2, 1, -1)
        rows = [torch.cat([self.patches(x).unflatten(0, (2, 2)), ends], 1) for x in image]
        x = torch.cat([torch.stack([x.flatten(0, 1) for x in rows]), self.words(ids)], 1)
        return self.head(self.block(x)[:, -1])


def test_a_learned_token_in_each_picture_s_rows_is_one_of_each_sample() -> None:
    model, ids, image = seeded(Rows), words(2, 3), torch.randn(2, 4, 12)
    e = fxplain.explain(model, (ids, image), target=1)
    assert e.graph.warnings == ()
    assert e.graph.modalities == {"ids": 3, "image": 4 + 2}
    assert e.special["image"] == {2: "end", 5: "end"}
    for sample in (0, 1):
        alone = tuple(x[sample : sample + 1] for x in (ids, image))
        want = fxplain.explain(model, alone, target=1)
        assert want.graph.modalities == e.graph.modalities
        for name in ("ids", "image"):
            same(e.relevance[name][sample], want.relevance[name][0])


class BiasedPairs(nn.Module):
    """Pairs of words attend to pairs, with a bias of distances for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + (x @ x.mT / 4).softmax(-1) @ x
        x = x.unflatten(1, (-1, 2)).mean(2)
        at = torch.arange(x.shape[1])
        bias = -(at[None] - at[:, None]).abs() * torch.tensor([0.5, 0.25])[:, None, None]
        q = x.unflatten(-1, (2, -1)).transpose(1, 2)
        heard = (q @ q.mT / 4 + bias[None]).softmax(-1) @ q
        return self.head((x + heard.transpose(1, 2).flatten(2)).mean(1))


def test_a_bias_of_scores_has_the_shape_of_a_batch_of_one() -> None:
    model, ids = seeded(BiasedPairs), words(2, 6)
    both, one = (
        fxplain.explain(model, (ids,), target=1),
        fxplain.explain(model, (ids[:1],), target=1),
    )
    torch.testing.assert_close(one.relevance["ids"], both.relevance["ids"][:1])
