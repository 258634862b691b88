"""Models whose explanations are known, to evaluate metrics with."""

from functools import cache

import torch
from torch import Tensor, nn

import fxplain


class BagOfTokens(nn.Module):
    """The score of class 0 is the sum of all tokens' numbers, read by one query that attends evenly."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 1, 1))
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[scale], [0.0]]))
            self.head.bias.zero_()

    def forward(self, feats: Tensor) -> Tensor:
        query = self.query.expand(len(feats), 1, 1)
        weights = (query @ feats.transpose(1, 2)).softmax(-1)
        return self.head((weights @ feats)[:, 0] * feats.shape[1])


@cache
def bag_of_tokens() -> BagOfTokens:
    return BagOfTokens().eval()


def contributions(batch: int, tokens: int, seed: int = 0) -> Tensor:
    """(batch, tokens) positive numbers, no two alike."""
    return torch.rand(batch, tokens, generator=torch.Generator().manual_seed(seed)) + 0.1


def bag(values: Tensor, **options: object) -> fxplain.Evaluation:
    """An evaluation of a bag of tokens with these contributions, each token removed by zeroing."""
    settings = {"target": 0, "score": "logit", "removal": "zero", **options}
    return fxplain.evaluate(bag_of_tokens(), [{"feats": values[..., None]}], **settings)


def right(_model: nn.Module, inputs: dict[str, Tensor], _target: object) -> dict[str, Tensor]:
    """The true contributions."""
    return {"feats": inputs["feats"][..., 0]}


def reversed_(_model: nn.Module, inputs: dict[str, Tensor], _target: object) -> dict[str, Tensor]:
    return {"feats": -inputs["feats"][..., 0]}
