"""Pages: what ``--html`` writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import fxplain
from fxplain.cli.sources import Checkpoint, Made
from fxplain.demo import digits

__all__ = ["write_demo_page", "write_page"]

MOST_WEIGHTS = 2**24
"""Attention weights of all nodes and heads that are computed for a page, about 64 MB."""


def write_page(
    path: Path,
    explanations: Sequence[fxplain.Explanation],
    source: Made | Checkpoint,
    output: str | None,
) -> None:
    """Write explanations as a page, with each node's attention where that is cheap.

    Parameters
    ----------
    path, explanations
        Where to write, and what.
    source
        What was explained.
    output
        The explained output's name, where it was given.
    """
    fxplain.to_html(
        explanations,
        path,
        class_names=source.class_namer(explanations[0], output),
        attention=_cheap_attention(explanations[0], source),
    )


def write_demo_page(path: Path, questions: int, method: str) -> None:
    """Write the demo's first questions as a page, with the mosaics that they ask about."""
    model, tokenizer = digits.load_model()
    samples = digits.load_samples()[:questions]
    mosaics = torch.stack([sample.mosaic for sample in samples])
    inputs = digits.encode(tokenizer, [sample.question.text for sample in samples], mosaics)
    explanation = fxplain.explain(model, inputs, method=method, tokenizer=tokenizer)
    explanation.to_html(
        path,
        class_names=digits.ANSWERS,
        pictures={"visual_feats": mosaics},
        attention=fxplain.attention_weights(model, inputs),
    )


def _cheap_attention(
    explanation: fxplain.Explanation, source: Made | Checkpoint
) -> dict[str, Tensor]:
    nodes = explanation.graph.nodes
    weights = sum(math.prod((node.heads, node.q_len, node.k_len)) for node in nodes)
    if weights * explanation.batch_size > MOST_WEIGHTS:
        return {}
    return fxplain.attention_weights(source.model, source.inputs)
