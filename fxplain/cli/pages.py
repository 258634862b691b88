"""Pages: what ``--html`` writes, and what is said beside a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import fxplain
from fxplain.cli.sources import Checkpoint, Made
from fxplain.demo import digits
from fxplain.reports import drawn, tells_for_from_against

__all__ = ["companion", "with_matrices", "write_demo_page", "write_page"]


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


def companion(explanation: fxplain.Explanation) -> str:
    """A sentence on what spoke for the target and against it, beside a method that cannot tell.

    By one forward and one backward more; nothing where it can tell, of several samples, or where the
    model lets no gradient reach the tokens.
    """
    if tells_for_from_against(explanation) or explanation.batch_size > 1:
        return ""
    try:
        signed = explanation.signed()
    except fxplain.FxplainError:
        return ""
    return f"Beside it, by {signed.method}: {drawn(signed)}"


def with_matrices(
    source: Made | Checkpoint, explanation: fxplain.Explanation, asked: Mapping[str, Any]
) -> list[fxplain.Explanation]:
    """What stands beside an explanation that `auto` chose a method without matrices for."""
    if not explanation.chosen or explanation.engine != "tokens":
        return []
    return source.explained({**asked, "method": "generic", "gradients": "corrected"}, each=False)


def write_demo_page(path: Path, questions: int, method: str) -> None:
    """Write the demo's first questions as a page, with the mosaics that they ask about."""
    model, tokenizer = digits.load_model()
    samples = digits.load_samples()[:questions]
    mosaics = torch.stack([sample.mosaic for sample in samples])
    inputs = digits.encode(tokenizer, [sample.question.text for sample in samples], mosaics)
    explanation = fxplain.explain(model, inputs, method=method, tokenizer=tokenizer)
    explanation.to_html(path, class_names=digits.ANSWERS, pictures={"visual_feats": mosaics})
