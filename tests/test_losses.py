"""Losses are followed as what they are made of; a batch may come with its labels."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.small_models import TextEncoder, architecture, seeded, words

CLASSES = 5
IGNORED = -100
Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits (batch, words, classes) and labels (batch, words) to a number per sample."""


class Learner(nn.Module):
    """A loss of each sample from logits of each word and labels."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.encoder = TextEncoder()
        self.head = nn.Linear(16, CLASSES)
        self.loss = loss

    def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        logits = self.head(self.encoder(input_ids))
        return self.loss(logits, labels)


def known(labels: Tensor) -> Tensor:
    return labels != IGNORED


def chosen(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1)


def flat(logits: Tensor, labels: Tensor) -> Tensor:
    of_words = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return of_words.view(labels.shape).sum(1)


def cross_entropy_by_hand(logits: Tensor, labels: Tensor) -> Tensor:
    return -(chosen(logits.log_softmax(2), labels) * known(labels)).sum(1)


def smoothed(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(
        logits.transpose(1, 2), labels, reduction="none", label_smoothing=0.1
    ).sum(1)


def smoothed_by_hand(logits: Tensor, labels: Tensor) -> Tensor:
    scores = logits.log_softmax(2)
    mixed = 0.9 * chosen(scores, labels) + 0.1 * scores.mean(2)
    return -(mixed * known(labels)).sum(1)


def squared(logits: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(logits[..., 0], labels.float(), reduction="none").sum(1)


def squared_by_hand(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits[..., 0] - labels).square().sum(1)


def binary(logits: Tensor, labels: Tensor) -> Tensor:
    true = known(labels).float()
    return F.binary_cross_entropy_with_logits(logits[..., 1], true, reduction="none").sum(1)


def binary_by_hand(logits: Tensor, labels: Tensor) -> Tensor:
    true, score = known(labels).float(), logits[..., 1]
    return -(true * F.logsigmoid(score) + (1 - true) * F.logsigmoid(-score)).sum(1)


def divergence(logits: Tensor, labels: Tensor) -> Tensor:
    even = torch.full((labels.shape[0], CLASSES), 1 / CLASSES)
    return F.kl_div(logits[:, 0].log_softmax(1), even, reduction="none").sum(1)


def divergence_by_hand(logits: Tensor, labels: Tensor) -> Tensor:
    return -(logits[:, 0].log_softmax(1) + torch.tensor(float(CLASSES)).log()).mean(1)


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [
        (cross_entropy, cross_entropy_by_hand),
        (flat, cross_entropy_by_hand),
        (smoothed, smoothed_by_hand),
        (squared, squared_by_hand),
        (binary, binary_by_hand),
        (divergence, divergence_by_hand),
    ],
)
def test_a_loss_is_explained_as_written_out(loss: Loss, by_hand: Loss) -> None:
    labels = torch.tensor([[1, IGNORED, 4, 0], [IGNORED, 2, IGNORED, 3]])
    inputs = (words(2, 4), labels)
    found, wanted = (
        fxplain.explain(seeded(Learner, which), inputs, target=lambda x: x)
        for which in (loss, by_hand)
    )
    assert found.graph.warnings == ()
    torch.testing.assert_close(found.output, wanted.output)
    assert list(found.relevance) == ["input_ids"]
    torch.testing.assert_close(found.relevance, wanted.relevance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_labels_beside_the_inputs_change_nothing(name: str) -> None:
    model, inputs = architecture(name)
    labels = inputs["input_ids"].clone() if name == "gpt2" else torch.tensor([0, 2])
    with_labels = {**inputs, "labels": labels}
    found, wanted = (fxplain.explain(model, given) for given in (with_labels, inputs))
    assert found.graph.warnings == ()
    torch.testing.assert_close(found.relevance, wanted.relevance)


def test_rows_that_two_masks_leave_nothing_of_are_not_read() -> None:
    """One mask, written twice: only what is 0 in both parts of a sum is not read."""

    def twice(logits: Tensor, labels: Tensor) -> Tensor:
        one = torch.where(known(labels), logits[..., 0], 0.0)
        return (one + logits[..., 1].masked_fill(labels == IGNORED, 0.0)).sum(1)

    def once(logits: Tensor, labels: Tensor) -> Tensor:
        return (logits[..., :2].sum(2) * known(labels)).sum(1)

    def apart(logits: Tensor, labels: Tensor) -> Tensor:
        one = torch.where(known(labels), logits[..., 0], 0.0)
        return (one + logits[..., 1].masked_fill(labels == 4, 0.0)).sum(1)

    labels = torch.tensor([[1, IGNORED, 4, 0]])
    found, wanted, all_read = (
        fxplain.explain(seeded(Learner, loss), (words(1, 4), labels), target=lambda x: x)
        for loss in (twice, once, apart)
    )
    torch.testing.assert_close(found.relevance, wanted.relevance)
    assert bool((all_read.relevance["input_ids"] > 0.2).all())
