"""The summary: what a page says where no script runs (mail previews, readers)."""

from __future__ import annotations

from dataclasses import dataclass

from fxplain.explanation import Explanation
from fxplain.generation import Generation
from fxplain.html.outputs import ClassNames, explained_text
from fxplain.reports.generation_report import drawn_from, output_name
from fxplain.reports.headline import headline
from fxplain.reports.shading import percent
from fxplain.written import rounded

__all__ = ["Summary", "sample_summaries", "text_summaries"]

MOST_SAMPLES = 16
MOST_TOKENS = 10


@dataclass(frozen=True)
class Summary:
    """One sample in a few words and a table.

    Attributes
    ----------
    sample
        Its place in the batch.
    title, about
        What is explained: a target, or a text; where it is read, and its number.
    caption, headings, rows
        The table of what it draws on most.
    headline
        All that in a plain sentence.
    """

    sample: int
    title: str
    about: str
    caption: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    headline: str = ""


def sample_summaries(explanation: Explanation, names: ClassNames | None) -> list[Summary]:
    """Each sample's target and the tokens that it draws on most, of the first sixteen samples."""
    shown = range(min(explanation.batch_size, MOST_SAMPLES))
    return [_of_sample(explanation, sample, names) for sample in shown]


def _of_sample(explanation: Explanation, sample: int, names: ClassNames | None) -> Summary:
    readout = explanation.readout[sample]
    top = explanation.top(MOST_TOKENS, sample=sample)
    return Summary(
        sample,
        explained_text(explanation, sample, names),
        f"Score {rounded(float(explanation.scores[sample]), '.4g')}, read from {readout}.",
        "Tokens that it draws on most",
        ("input", "token", "relevance", "share"),
        [
            (
                e.modality,
                f"{e.tokens[0]}: {e.text}",
                rounded(e.relevance, ".4g"),
                percent(e.share),
            )
            for e in top
        ],
        headline(explanation, sample, names),
    )


def text_summaries(generation: Generation) -> list[Summary]:
    """Each text, and what each of its explained tokens draws on most, of the first sixteen texts."""
    return [
        Summary(
            sample,
            generation.text[sample],
            f"Explained: each token's {generation.score.replace('_', ' ')}.",
            "What each token draws on most",
            ("output", "score", "draws on"),
            [
                (
                    output_name(generation, sample, target),
                    rounded(float(explanation.scores[sample]), ".4g"),
                    "; ".join(drawn_from(generation, sample, target)),
                )
                for target, explanation in enumerate(generation.explanations)
                if generation.real[sample, target]
            ],
        )
        for sample in range(min(generation.batch_size, MOST_SAMPLES))
    ]
