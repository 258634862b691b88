"""Heads in every way that a model may compute them: equation 5 takes the mean over them."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.long_run import quickly
from tests.small_models import VOCABULARY, Attention, Block, pixels, seeded, words


class Headed(nn.Module):
    """One attention of two heads over words."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 3)
        self.query, self.key, self.value = (nn.Linear(16, n) for n in (16, 16, 32))
        self.form = form

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        query, key, value = (
            f(x).unflatten(-1, (2, -1)).transpose(1, 2) for f in (self.query, self.key, self.value)
        )
        if self.form == "among keys":
            weights = torch.einsum("bhsd,bqhd->bhsq", query, key.transpose(1, 2)).softmax(-1)
            return self.read(x, torch.einsum("bhsq,bhqw->bsw", weights, value))
        if self.form == "one by one":
            parts = [(query[:, i] @ key[:, i].mT).softmax(-1) @ value[:, i] for i in range(2)]
            mixed = torch.cat(parts, -1).unflatten(-1, (2, 16))
            return self.read(x, mixed.sum(2))
        return self.read(x, ((query @ key.mT).softmax(-1) @ value).sum(1))

    def read(self, x: Tensor, mixed: Tensor) -> Tensor:
        return self.head((x + mixed)[:, 0])


@pytest.mark.parametrize("form", ["among keys", "one by one"])
def test_the_mean_over_heads_however_they_are_computed(form: str) -> None:
    ids = words(2, 6)
    e, want = (fxplain.explain(seeded(Headed, f), (ids,), target=1) for f in (form, "at once"))
    torch.testing.assert_close(e.output, want.output)
    assert e.graph.warnings == ()
    assert len(e.graph.nodes) == (2 if form == "one by one" else 1)
    torch.testing.assert_close(e.relevance["ids"], want.relevance["ids"])


class MaskedHeads(nn.Module):
    """Heads one by one or at once; every one is given the mask anew."""

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 3)
        self.apart = apart

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids)
        heads, seen = x.unflatten(-1, (2, 8)).transpose(1, 2), mask[:, None].bool()
        if self.apart:
            one_by_one = [
                torch.where(seen, heads[:, i] @ heads[:, i].mT, float("-inf")).softmax(-1)
                @ (heads[:, i] * mask[..., None])
                for i in range(2)
            ]
            made = torch.stack(one_by_one, 1)
        else:
            scores = torch.where(seen[:, None], heads @ heads.mT, float("-inf"))
            made = scores.softmax(-1) @ (heads * mask[:, None, :, None])
        return self.head((x + made.transpose(1, 2).flatten(2))[:, 0])


def test_masks_do_not_set_heads_apart() -> None:
    given = {"ids": words(2, 4), "mask": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])}
    e, want = (
        fxplain.explain(seeded(MaskedHeads, apart=f), given, target=1) for f in (True, False)
    )
    torch.testing.assert_close(e.output, want.output)
    torch.testing.assert_close(e.relevance["ids"], want.relevance["ids"])


class Repeated(nn.Module):
    """Every key stands there twice, and one softmax sees both: they are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        keys = torch.cat([x, x], 1)
        return self.head((x + (x @ keys.mT).softmax(-1) @ keys)[:, 0])


def test_keys_that_stand_there_twice_are_no_heads() -> None:
    model, ids = seeded(Repeated), words(1, 5)
    e = fxplain.explain(model, (ids,), target=1)
    x = model.words(ids)[0]
    weights = (x[:1] @ torch.cat([x, x]).mT).softmax(-1)
    gradient = (model.head.weight[1] @ torch.cat([x, x]).mT)[None]
    want = (weights * gradient).clamp(min=0).unflatten(-1, (2, 5)).sum(1)[0].detach()
    torch.testing.assert_close(e.relevance["ids"][0], want + torch.eye(5)[0])


class Grouped(nn.Module):
    """Four heads of queries share keys and values by groups, written in several ways."""

    def __init__(self, groups: int, form: str) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 3)
        self.query, self.key = nn.Linear(16, 16), nn.Linear(16, 4 * groups)
        self.groups, self.form = groups, form

    def attend(self, x: Tensor) -> Tensor:
        g, r = self.groups, 4 // self.groups
        q, k = self.query(x).unflatten(-1, (g, r, 4)), self.key(x).unflatten(-1, (g, 4))
        if self.form == "einsum":
            weights = torch.einsum("bigrd,bjgd->bgrij", q, k).softmax(-1)
            return torch.einsum("bgrij,bjgd->bigrd", weights, k).flatten(2)
        if self.form in ("heads by queries", "queries by heads"):
            lead = (0, 2, 3, 1, 4) if self.form == "heads by queries" else (0, 2, 1, 3, 4)
            rows, keys = q.permute(lead), k.transpose(1, 2)
            mixed = (rows.flatten(2, 3) @ keys.mT).softmax(-1) @ keys
            mixed = mixed.unflatten(2, rows.shape[2:4])
            back = (0, 3, 1, 2, 4) if self.form == "heads by queries" else (0, 2, 1, 3, 4)
            return mixed.permute(back).flatten(2)
        q = q.flatten(2, 3).transpose(1, 2)
        k = k.repeat_interleave(r, 2).transpose(1, 2)
        return ((q @ k.mT).softmax(-1) @ k).transpose(1, 2).flatten(2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for _ in range(2):
            x = x + self.attend(x)
        return self.head(x[:, 0])


@pytest.mark.parametrize("form", ["einsum", "heads by queries", "queries by heads"])
@pytest.mark.parametrize("groups", quickly([1, 2, 4], [2]))
def test_heads_that_share_keys_are_averaged(groups: int, form: str) -> None:
    ids = words(2, 6)
    want = fxplain.explain(seeded(Grouped, groups, "repeated"), (ids,), target=1)
    for engine in ("rows", "matrices"):
        e = fxplain.explain(seeded(Grouped, groups, form), (ids,), target=1, engine=engine)
        torch.testing.assert_close(e.output, want.output)
        assert [(n.heads, n.q_len, n.k_len) for n in e.graph.nodes] == [(4, 6, 6)] * 2
        torch.testing.assert_close(e.relevance["ids"], want.relevance["ids"])


class Twice(nn.Module):
    """The first word queries twice, in rows of its own: its map is the mean of both."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 3)
        self.other = nn.Linear(16, 16)

    def run(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(ids)
        weights = (torch.cat([x, self.other(x[:, :1])], 1) @ x.mT).softmax(-1)
        mixed = weights @ x
        x = x + torch.cat([mixed[:, :1] + mixed[:, -1:], mixed[:, 1:-1]], 1)
        return self.head(x[:, 0] + x[:, 1]), weights

    def forward(self, ids: Tensor) -> Tensor:
        return self.run(ids)[0]


def test_a_token_with_more_rows_than_others() -> None:
    model, ids = seeded(Twice), words(1, 5)
    score, weights = model.run(ids)
    weights.retain_grad()
    score[0, 1].backward()
    rows = (weights.grad * weights.detach())[0].clamp(min=0)
    first, second = (rows[0] + rows[-1]) / 2 + torch.eye(5)[0], rows[1] + torch.eye(5)[1]
    e = fxplain.explain(model, (ids,), target=1, engine="matrices")
    torch.testing.assert_close(e.matrix("ids", "ids")[0, :2], torch.stack([first, second]))


class EachTextOfEachVideo(nn.Module):
    """All texts ask every video before they are compared with it."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.frames = nn.Embedding(VOCABULARY, 16), nn.Linear(8, 16)
        self.text, self.video, self.asks = Block(), Block(), Attention()

    def forward(self, ids: Tensor, frames: Tensor) -> Tensor:
        texts, frames = self.text(self.words(ids))[:, 0], self.video(self.frames(frames))
        texts = texts.expand(len(frames), -1, -1)
        texts = texts + self.asks(texts, frames)
        return (texts @ frames.mean(1, keepdim=True).mT).squeeze(-1)


def test_a_text_that_asks_every_video_has_the_map_of_its_own() -> None:
    model, inputs = seeded(EachTextOfEachVideo), (words(2, 5), pixels(2, 3, 8))
    e = fxplain.explain(model, inputs, target=[0, 1])
    assert any("reaches across the samples" in warning for warning in e.graph.warnings)
    for sample in (0, 1):
        alone = tuple(value[sample : sample + 1] for value in inputs)
        want = fxplain.explain(model, alone, target=0)
        for name in ("ids", "frames"):
            torch.testing.assert_close(
                e.relevance[name][sample], want.relevance[name][0], rtol=1e-4, atol=1e-4
            )
