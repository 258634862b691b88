"""The summary: what a page says where no script runs (mail previews, readers)."""

from __future__ import annotations

from dataclasses import dataclass

from fxplain.explanation import Explanation
from fxplain.html.inputs import readout_places
from fxplain.html.outputs import ClassNames, explained_text

__all__ = ["Summary", "summaries"]

MOST_SAMPLES = 16
MOST_TOKENS = 10


@dataclass(frozen=True)
class Summary:
    """One sample's target and the tokens that it draws on most.

    Attributes
    ----------
    sample
        Its place in the batch.
    target, readout, score
        What is explained, where it is read, and its number.
    tokens
        (modality, place, label, relevance), the largest first, without the readout's own tokens.
    """

    sample: int
    target: str
    readout: str
    score: float
    tokens: list[tuple[str, int, str, float]]


def summaries(explanation: Explanation, names: ClassNames | None) -> list[Summary]:
    """A summary of each sample, of the first sixteen of a large batch."""
    shown = range(min(explanation.batch_size, MOST_SAMPLES))
    return [_summary(explanation, sample, names) for sample in shown]


def _summary(explanation: Explanation, sample: int, names: ClassNames | None) -> Summary:
    readout = explanation.readout[sample]
    tokens = []
    for modality, values in explanation.relevance.items():
        read = readout_places(readout, modality)
        labels = explanation.tokens(modality)[sample]
        tokens += [
            (modality, i, label, value)
            for i, (label, value) in enumerate(zip(labels, values[sample].tolist(), strict=True))
            if read != [i]
        ]
    tokens.sort(key=lambda token: -abs(token[3]))
    return Summary(
        sample,
        explained_text(explanation, sample, names),
        readout,
        float(explanation.scores[sample]),
        tokens[:MOST_TOKENS],
    )
