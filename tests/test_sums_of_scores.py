"""Scores that are made of other scores, or of gates that are summed up on their way to a key."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.attention_by_hand import (
    HEADS,
    SIZE,
    TOKENS,
    WIDTH,
    Form,
    check_classifier,
    classifier,
    noted,
)
from tests.small_models import words

SEEN = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()


class Causal(Form):
    """What a score becomes before the later keys are hidden differs from form to form."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        scores = self.changed(super().scores(query, key), query)
        return torch.where(SEEN, scores, -1e9)

    def changed(self, scores: Tensor, query: Tensor) -> Tensor:
        return scores

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        return noted(scores.softmax(-1)) @ value


class Forgetting(Causal):
    """A key is forgotten by the gates of the tokens behind it."""

    def build(self) -> None:
        self.gate = nn.Linear(WIDTH, HEADS)

    def forward(self, x: Tensor) -> Tensor:
        self.kept = F.logsigmoid(self.gate(x)).transpose(1, 2).cumsum(-1)
        return super().forward(x)

    def changed(self, scores: Tensor, query: Tensor) -> Tensor:
        return scores + self.kept[..., :, None] - self.kept[..., None, :]


class Selective(Causal):
    """What one head looks at is hidden from all later queries."""

    def changed(self, scores: Tensor, query: Tensor) -> Tensor:
        seen = torch.relu(scores[:, 0]).masked_fill(torch.eye(TOKENS, dtype=torch.bool), 0)
        before = F.pad(seen, (0, 0, 1, -1)).cumsum(-2)
        return scores - before.unsqueeze(1)


class Cleared(Selective):
    """The same, with the scores of the first key cleared in place."""

    def changed(self, scores: Tensor, query: Tensor) -> Tensor:
        seen = torch.relu(scores[:, 0]).clone()
        seen[..., 0] = 0
        return scores - F.pad(seen, (0, 0, 1, -1)).cumsum(-2).unsqueeze(1)


class CountedPlaces(Causal):
    """A key's place is the number of open gates up to it; between two places it has a part of both."""

    def build(self) -> None:
        self.places = nn.Parameter(torch.randn(SIZE, TOKENS + 1))

    def changed(self, scores: Tensor, query: Tensor) -> Tensor:
        gates = torch.sigmoid(scores) * SEEN
        place = gates.flip(-1).cumsum(-1).flip(-1).clamp(max=TOKENS - 1)
        logits, low = query @ self.places, place.floor().long()
        part = place - low
        return scores + logits.gather(-1, low) * (1 - part) + logits.gather(-1, low + 1) * part


@pytest.mark.parametrize("form", [Forgetting, Selective, Cleared, CountedPlaces])
def test_weights_are_those_of_the_queries_and_keys(form: type[nn.Module]) -> None:
    model = classifier(form, form)
    check_classifier(model)
    assert fxplain.verify(model, (words(2, TOKENS),)).ok
