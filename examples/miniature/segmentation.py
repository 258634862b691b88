"""Average precision and recall of masks, as COCO defines them, with bootstrap and paired tests.

What is detected does not depend on the method that makes the masks, so that two methods differ only in
which detections hit. A mask hits an object of its class, that no more confident one has hit, when they
overlap enough; precision is interpolated at 101 points of recall; classes count alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fxplain.evaluation import Comparison, Row
from fxplain.evaluation.statistics import seeded

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""Least overlaps (intersection over union) from which on a mask hits."""
RECALLS = 101

Numbers = dict[str, Tensor]
"""By metric (AP, AP50, AR, IoU), its values (rows,)."""


def mask_iou(found: Tensor, objects: Tensor) -> Tensor:
    """The overlaps (n, m) of masks (n, height, width) with masks (m, height, width), bool.

    Examples
    --------
    >>> mask_iou(torch.tensor([[[True, True]]]), torch.tensor([[[True, False]], [[False, True]]]))
    tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    a, b = found.flatten(1).double(), objects.flatten(1).double()
    inside = a @ b.T
    return inside / (a.sum(1)[:, None] + b.sum(1) - inside).clamp(min=1)


def hits(overlaps: Tensor, labels: Sequence[int], objects: Sequence[int]) -> Tensor:
    """Which detections of one image hit an object, at each threshold.

    Parameters
    ----------
    overlaps : Tensor
        (detections, objects), the most confident detection first.
    labels, objects : sequence of int
        The classes of both.

    Returns
    -------
    Tensor
        (thresholds, detections) bool.
    """
    same = torch.tensor(labels)[:, None] == torch.tensor(objects)
    hit = torch.zeros(len(THRESHOLDS), len(labels), dtype=torch.bool)
    for t, least in enumerate(THRESHOLDS):
        free = same & (overlaps >= least - 1e-9)
        for d in range(len(labels)):
            if free[d].any():
                hit[t, d] = True
                free[:, (overlaps[d] * free[d]).argmax()] = False
    return hit


def precision_and_recall(
    hit: Tensor, labels: Tensor, confidences: Tensor, weights: Tensor, objects: Tensor
) -> tuple[Tensor, Tensor]:
    """Average precision and highest recall at each threshold, mean over classes.

    Parameters
    ----------
    hit : Tensor
        (..., thresholds, detections) bool.
    labels, confidences : Tensor
        (detections,).
    weights : Tensor
        (..., detections): how often each counts (the resamples of its image).
    objects : Tensor
        (..., classes): how many objects of each class there are.

    Returns
    -------
    tuple of Tensor
        Twice (..., thresholds).
    """
    precisions, recalls = [], []
    for label in range(objects.shape[-1]):
        total = objects[..., label, None, None]
        mine = (labels == label).nonzero().flatten()
        mine = mine[confidences[mine].argsort(descending=True, stable=True)]
        weight = weights[..., None, mine]
        true = (weight * hit[..., mine]).cumsum(-1)
        all_ = weight.cumsum(-1)
        recall = true / total.clamp(min=1)
        precision = (true / all_.clamp(min=1)).flip(-1).cummax(-1).values.flip(-1)
        there = total[..., 0] > 0
        nothing = torch.full_like(true.sum(-1), torch.nan)
        precisions.append(torch.where(there, _interpolated(precision, recall), nothing))
        highest = recall[..., -1] if len(mine) else torch.zeros_like(nothing)
        recalls.append(torch.where(there, highest, nothing))
    return torch.stack(precisions).nanmean(0), torch.stack(recalls).nanmean(0)


def _interpolated(precision: Tensor, recall: Tensor) -> Tensor:
    """The mean over points of recall of the precision there, 0 beyond the highest."""
    if not precision.shape[-1]:
        return torch.zeros(precision.shape[:-1], dtype=precision.dtype)
    points = torch.linspace(0, 1, RECALLS, dtype=recall.dtype)
    points = points.expand(*recall.shape[:-1], RECALLS).contiguous()
    place = torch.searchsorted(recall.contiguous() + 1e-9, points)
    reached = place < recall.shape[-1]
    at = precision.gather(-1, place.clamp(max=recall.shape[-1] - 1))
    return (at * reached).mean(-1)


@dataclass(frozen=True, eq=False)
class MaskScores:
    """Masks of the same detections by several methods: a row per method, as an Evaluation has them.

    Attributes
    ----------
    images, labels, confidences : Tensor
        (detections,): where, what and how sure.
    objects : Tensor
        (images, classes): how many there are.
    hit : mapping
        By method (thresholds, detections) bool.
    overlap : mapping
        By method (detections,): each mask's overlap with the object that its box finds.
    settings : mapping
        What the numbers depend on, with "seed", "resamples" and "confidence" of the bootstrap.
    """

    images: Tensor
    labels: Tensor
    confidences: Tensor
    objects: Tensor
    hit: Mapping[str, Tensor]
    overlap: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    memo: dict[Any, Numbers] = field(default_factory=dict, init=False, repr=False)

    @property
    def methods(self) -> tuple[str, ...]:
        """The labels of the rows."""
        return tuple(self.hit)

    def row(self, method: str, metric: str, modality: str | None = None) -> Row:
        """A number with its bootstrap interval over images."""
        low, high = self._ends(self._resampled(method)[metric])
        value = float(self._plain(method)[metric])
        return Row(method, metric, modality or "", value, low, high, len(self.objects), "higher")

    def compare(self, a: str, b: str, metric: str, modality: str | None = None) -> Comparison:
        """Two methods: paired bootstrap, and a permutation test that exchanges them image by image."""
        observed = float(self._plain(a)[metric] - self._plain(b)[metric])
        low, high = self._ends(self._resampled(a)[metric] - self._resampled(b)[metric])
        exchanged = self._exchanged(a, b)[metric] - self._exchanged(b, a)[metric]
        as_large = int((exchanged.abs() >= abs(observed) - 1e-12).sum())
        return Comparison(
            a=a,
            b=b,
            metric=metric,
            modality=modality or "",
            difference=observed,
            low=low,
            high=high,
            p_value=(1 + as_large) / (1 + len(exchanged)),
            samples=len(self.objects),
            better="neither" if observed == 0 else a if observed > 0 else b,
        )

    # -- what rows and comparisons share, found once --------------------------------------------------

    def _plain(self, method: str) -> Numbers:
        """The numbers of a method on all images."""
        once = torch.ones(1, len(self.objects), dtype=torch.double)
        return self._once(
            ("plain", method),
            lambda: self._numbers(once, self.hit[method], self.overlap[method]),
        )

    def _resampled(self, method: str) -> Numbers:
        """The numbers on images drawn anew; the same images for every method."""

        def drawn() -> Numbers:
            number, n = self.settings["resamples"], len(self.objects)
            generator = seeded(self.settings["seed"], "bootstrap")
            places = torch.randint(n, (number, n), generator=generator)
            weights = torch.zeros(number, n, dtype=torch.double)
            weights.scatter_add_(1, places, torch.ones_like(weights))
            return self._numbers(weights, self.hit[method], self.overlap[method])

        return self._once(("resampled", method), drawn)

    def _exchanged(self, a: str, b: str) -> Numbers:
        """The numbers of a with the masks of b in images chosen by chance; always the same images."""

        def exchanged() -> Numbers:
            number, n = self.settings["resamples"], len(self.objects)
            generator = seeded(self.settings["seed"], "permutation")
            swapped = (torch.rand(number, n, generator=generator) < 0.5)[:, self.images]
            return self._numbers(
                torch.ones(1, n, dtype=torch.double),
                torch.where(swapped[:, None], self.hit[b], self.hit[a]),
                torch.where(swapped, self.overlap[b], self.overlap[a]),
            )

        return self._once(("exchanged", a, b), exchanged)

    def _once(self, key: tuple[str, ...], make: Callable[[], Numbers]) -> Numbers:
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    def _numbers(self, weights: Tensor, hit: Tensor, overlap: Tensor) -> Numbers:
        """Every metric for each row of (rows, images) weights."""
        of_detection = weights[:, self.images]
        # What hits at one threshold hits at those below; those that nothing reaches cost no time.
        reached = max(1, int(hit.any(-1).reshape(-1, len(THRESHOLDS)).any(0).sum()))
        precision, recall = precision_and_recall(
            hit[..., :reached, :],
            self.labels,
            self.confidences,
            of_detection,
            weights @ self.objects.double(),
        )
        matched = of_detection * ~overlap.isnan()
        iou = (matched * overlap.nan_to_num()).sum(-1) / matched.sum(-1).clamp(min=1)
        return {
            "AP": precision.sum(-1) / len(THRESHOLDS),
            "AP50": precision[..., 0],
            "AR": recall.sum(-1) / len(THRESHOLDS),
            "IoU": iou,
        }

    def _ends(self, drawn: Tensor) -> tuple[float, float]:
        tail = (1 - self.settings["confidence"]) / 2
        low, high = torch.quantile(drawn, torch.tensor([tail, 1 - tail], dtype=drawn.dtype))
        return float(low), float(high)
