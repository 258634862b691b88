"""Mixing: attention laid out anew, tokens mixed without attention, and what each gives or says."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.small_models import VOCABULARY, seeded, words


class Banded(nn.Module):
    """Every word attends to itself and the two after it: by a mask, or by skewing the scores."""

    def __init__(self, *, skewed: bool) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 3)
        self.skewed = skewed

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + (self.by_skewing(x) if self.skewed else self.by_mask(x))
        return self.head(x.mean(1))

    def by_mask(self, x: Tensor) -> Tensor:
        ahead = torch.arange(x.shape[1]) - torch.arange(x.shape[1])[:, None]
        return F.scaled_dot_product_attention(x, x, x, attn_mask=(ahead >= 0) & (ahead < 3))

    def by_skewing(self, x: Tensor) -> Tensor:
        """Diagonals become columns; the corner holds leftovers of the next row, which a mask hides."""
        length = x.shape[1]
        scores = F.pad(x @ x.transpose(1, 2) / 8**0.5, (0, 0, 0, 1)).flatten(1)
        scores = scores.view(-1, length, length + 1)[..., :3]
        corner = scores.new_ones(2, 3).tril().flip(1)
        corner = F.pad(corner, (0, 0, length - 2, 0)) > 0
        weights = scores.masked_fill(corner, float("-inf")).softmax(-1)
        blocks = F.pad(weights.unflatten(1, (-1, 2)), (0, 3)).flatten(2)[..., :-2]
        blocks = blocks.unflatten(2, (2, 5))[..., :4]  # two queries and their four keys
        windows = F.pad(x, (0, 0, 0, 2)).unfold(1, 4, 2).transpose(-1, -2)
        return (blocks @ windows).flatten(1, 2)


def test_skewed_scores_keep_their_queries() -> None:
    skewed, plain = (seeded(Banded, skewed=skewed) for skewed in (True, False))
    ids = words(2, 6)
    e, want = (fxplain.explain(model, (ids,), target=1) for model in (skewed, plain))
    torch.testing.assert_close(e.output, want.output)
    assert e.graph.warnings == ()
    assert [node.kind for node in e.graph.nodes] == ["self"]
    torch.testing.assert_close(e.relevance["input_ids"], want.relevance["input_ids"])
