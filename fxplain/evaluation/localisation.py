"""Localisation: whether relevance lies where the evidence is known to be."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from fxplain.arguments import checked, one_of
from fxplain.errors import EvaluationError
from fxplain.evaluation.case import Case
from fxplain.evaluation.metric import Measured

__all__ = [
    "average_precision",
    "mean_average_precision",
    "mean_iou",
    "mean_of_ratios",
    "otsu_threshold",
    "pixel_accuracy",
    "pointing_game",
    "relevance_mass",
]


NOWHERE = torch.tensor(torch.nan, dtype=torch.double)
"""What is said of a sample whose mask holds no evidence that counts: nothing can point at it."""

_THRESHOLD = one_of(("mean", "otsu")).raising(EvaluationError)


@checked(threshold=_THRESHOLD)
def pixel_accuracy(case: Case, modality: str, *, threshold: str = "mean") -> Measured | None:
    """The share of pixels (or tokens) on the right side of the threshold, over all samples."""
    kept = [
        torch.tensor([(found == mask).sum(), mask.numel()])
        for found, mask in _segmented(case, modality, threshold)
    ]
    return _stacked(kept)


@checked(threshold=_THRESHOLD)
def mean_iou(case: Case, modality: str, *, threshold: str = "mean") -> Measured | None:
    """Intersection over union of evidence, and of the rest, over all samples; their mean."""
    kept = [
        torch.tensor(
            [
                count
                for side in (True, False)
                for count in (
                    ((found == side) & (mask == side)).sum(),
                    ((found == side) | (mask == side)).sum(),
                )
            ]
        )
        for found, mask in _segmented(case, modality, threshold)
    ]
    return _stacked(kept)


def mean_of_ratios(means: Tensor) -> Tensor:
    """The summary of metrics that keep (numerator, denominator) pairs: (..., 2 k) to (...)."""
    return (means[..., ::2] / means[..., 1::2].clamp(min=1e-12)).mean(-1)


def mean_average_precision(case: Case, modality: str) -> Measured | None:
    """Each sample's average precision over both classes, evidence and the rest, as one list."""
    kept = []
    for values, mask in _maps(case, modality):
        low, high = values.min(), values.max()
        scaled = (values - low) / (high - low or 1)
        scores, truth = torch.cat([1 - scaled, scaled]), torch.cat([~mask, mask])
        kept.append(average_precision(scores, truth))
    return _stacked(kept)


def pointing_game(case: Case, modality: str) -> Measured | None:
    """Whether the most relevant pixel (or token) is evidence; of several, the share that is."""
    kept = []
    for values, mask in _maps(case, modality):
        kept.append(mask[values == values.max()].double().mean() if mask.any() else NOWHERE)
    return _stacked(kept)


def relevance_mass(case: Case, modality: str) -> Measured | None:
    """The share of positive relevance that lies on the evidence."""
    kept = []
    for values, mask in _maps(case, modality, smooth=False):
        positive = values.clamp(min=0)
        share = positive[mask].sum() / positive.sum().clamp(min=1e-300)
        kept.append(share if mask.any() else NOWHERE)
    return _stacked(kept)


def average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """Sum over thresholds of (recall gained) x precision; equal scores share a threshold.

    Parameters
    ----------
    scores, truth
        (n,) numbers and bools, at least one True.

    Examples
    --------
    >>> average_precision(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([True, False, True])).item()
    0.833...
    """
    order = scores.argsort(descending=True, stable=True)
    ranked, hits = scores[order], truth[order].double().cumsum(0)
    last = torch.cat([ranked[1:] != ranked[:-1], torch.tensor([True])]).nonzero().flatten()
    hits = hits[last]
    gained = torch.diff(hits, prepend=hits.new_zeros(1))
    return (gained * hits / (last + 1)).sum() / hits[-1]


def otsu_threshold(values: Tensor, bins: int = 256) -> float:
    """The threshold with the largest variance between the two sides (Otsu, 1979).

    Examples
    --------
    >>> 0.1 < otsu_threshold(torch.tensor([0.0, 0.1, 0.9, 1.0])) < 0.9
    True
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low
    counts = torch.histc(values.float(), bins, low, high).double()
    centres = low + (torch.arange(bins, dtype=torch.double) + 0.5) * (high - low) / bins
    below = counts.cumsum(0)
    above = below[-1] - below
    weighted = (counts * centres).cumsum(0)
    gap = weighted / below.clamp(min=1) - (weighted[-1] - weighted) / above.clamp(min=1)
    between = below * above * gap**2
    best = (between >= between.max() * (1 - 1e-9)).nonzero().flatten()
    return float(centres[best].mean())


# ---- relevance beside its mask ------------------------------------------------------------------


def _segmented(case: Case, modality: str, threshold: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Each sample's pixels above the threshold, and its mask."""
    for values, mask in _maps(case, modality):
        limit = otsu_threshold(values) if threshold == "otsu" else float(values.mean())
        yield values > limit, mask


def _maps(case: Case, modality: str, smooth: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
    """Each sample's relevance and mask, flat, of the same pixels or counted tokens.

    Relevance is brought to the mask's pixels, bilinearly as in the paper's code or, where it is to
    be summed, in equal shares.
    """
    mask = case.batch.mask.get(modality)
    if mask is None:
        return
    (tokens,) = case.tokens(modality)
    values, counted = case.values(modality)[:, tokens.plain], tokens.counted[:, tokens.plain]
    mask = mask.cpu()
    if mask.dim() == 3:
        yield from _pixel_maps(values * counted, mask, tokens.grid, modality, smooth)
        return
    if mask.shape[1] == tokens.counted.shape[1]:
        mask = mask[:, tokens.plain]
    if mask.shape != values.shape:
        raise EvaluationError(
            f"the mask of {modality!r} has {mask.shape[1]} tokens, the modality {values.shape[1]}."
        )
    for row, truth, chosen in zip(values, mask, counted, strict=True):
        yield row[chosen], truth[chosen]


def _pixel_maps(
    values: Tensor, mask: Tensor, grid: tuple[int, ...], modality: str, smooth: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    if len(grid) != 2:
        raise EvaluationError(
            f"the mask of {modality!r} has pixels, but its tokens lie on no grid of rows and columns:"
            f" give a mask of shape (batch, tokens)."
        )
    on_grid = values.reshape(len(values), 1, *grid)
    mode = {"mode": "bilinear", "align_corners": False} if smooth else {"mode": "nearest"}
    spread = F.interpolate(on_grid, size=mask.shape[1:], **mode)[:, 0]
    yield from zip(spread.flatten(1), mask.flatten(1), strict=True)


def _stacked(kept: list[Tensor]) -> Measured | None:
    return Measured(torch.stack(kept).double()) if kept else None
