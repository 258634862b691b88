"""Pages: what ``--html`` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import fxplain
from fxplain.cli.sources import Checkpoint, Made
from fxplain.cli.terminal import note
from fxplain.demo import digits
from fxplain.reports import tells_for_from_against

__all__ = ["companion", "write_demo_page", "write_page"]

SIGNED = "input_x_gradient"
"""What is shown beside a map without signs."""


def write_page(
    path: Path,
    explanations: Sequence[fxplain.Explanation],
    source: Made | Checkpoint,
    output: str | None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write explanations as a page.

    Parameters
    ----------
    path, explanations
        Where to write, and what.
    source
        What was explained.
    output
        The explained output's name, where it was given.
    options
        What else `fxplain.to_html` takes.
    """
    names = source.class_namer(explanations[0], output)
    fxplain.to_html(explanations, path, class_names=names, **options or {})


def companion(
    source: Made | Checkpoint, explanation: fxplain.Explanation, asked: Mapping[str, Any]
) -> list[fxplain.Explanation]:
    """A signed explanation to stand beside one that cannot tell for from against.

    By one forward and one backward more; none where it can tell, or where the model lets no gradient
    reach the tokens.
    """
    if tells_for_from_against(explanation):
        return []
    try:
        return source.explained({**asked, "method": SIGNED}, each=False)
    except fxplain.FxplainError as error:
        note(f"the report has no signed map beside it: {error}")
        return []


def write_demo_page(path: Path, questions: int, method: str) -> None:
    """Write the demo's first questions as a page, with the mosaics that they ask about."""
    model, tokenizer = digits.load_model()
    samples = digits.load_samples()[:questions]
    mosaics = torch.stack([sample.mosaic for sample in samples])
    inputs = digits.encode(tokenizer, [sample.question.text for sample in samples], mosaics)
    explanation = fxplain.explain(model, inputs, method=method, tokenizer=tokenizer)
    explanation.to_html(path, class_names=digits.ANSWERS, pictures={"visual_feats": mosaics})
