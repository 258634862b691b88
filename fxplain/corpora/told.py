"""What an explanation says of one row, as the columns of the result have it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor, nn

from fxplain.capture import config_of
from fxplain.corpora.prepared import Pieces, Prepared
from fxplain.explanation import Explanation
from fxplain.explanation.naming import class_namer
from fxplain.explanation.target import plain_target

__all__ = ["Padding", "label_named", "told"]


@dataclass(frozen=True)
class Padding:
    """On which side texts are padded, and whether the model reads that as it reads their words."""

    side: str = "right"
    read: bool = False


def told(
    explanation: Explanation, model: nn.Module, rows: Sequence[Prepared], padding: Padding
) -> Iterator[dict[str, Any]]:
    """One row of the result for each of the batch; of a row that is there twice only one."""
    namer = class_namer(explanation, model)
    logits = _logits(explanation.output)
    names = [namer(i) for i in range(logits.shape[-1])] if namer and logits is not None else []
    for sample, row in enumerate(rows):
        if sample and rows[sample - 1] is row:
            return
        target = explanation.target[sample]
        called = explanation.target_names
        parts = [_part(explanation, name, sample, row, padding) for name in explanation.relevance]
        columns = {name: list(chain(*(part[name] for part in parts))) for name in parts[0]}
        yield {
            **{name: row.row[name] for name in ("id", "text")},
            "label": label_named(row.row["label"], names),
            **columns,
            "predicted": _predicted(logits, sample, namer),
            "grids": json.dumps({name: grid for name, grid in explanation.grids.items() if grid}),
            "target": json.dumps(plain_target(target)),
            "target_name": called[sample] if called else str(target),
            "score": float(explanation.scores[sample]),
            "probability": _probability(logits, sample, target, model),
            "method": explanation.method,
            "options": json.dumps(dict(explanation.options), default=str),
            "readout": explanation.readout[sample],
            "error": None,
        }


def _part(
    explanation: Explanation, name: str, sample: int, row: Prepared, padding: Padding
) -> dict[str, list[Any]]:
    """The tokens of one modality."""
    relevance = explanation.relevance[name][sample].tolist()
    labels = explanation.labels[name][sample]
    special = [place in explanation.special.get(name, {}) for place in range(len(relevance))]
    starts: list[int | None] = [None] * len(relevance)
    ends = list(starts)
    pieces = _pieces_of(explanation, name, sample, row.pieces, padding)
    if pieces is not None:
        text = _kept(len(pieces.ids), padding)
        special = [True] * len(relevance)
        special[text] = pieces.special
        for place, span in zip(range(len(relevance))[text], pieces.offsets or (), strict=False):
            if not special[place]:
                starts[place], ends[place] = span
        if not padding.read:
            relevance, labels, special = relevance[text], labels[text], special[text]
            starts, ends = starts[text], ends[text]
    return {
        "modality": [name] * len(relevance),
        "tokens": list(labels),
        "starts": starts,
        "ends": ends,
        "relevance": relevance,
        "special": special,
    }


def _kept(count: int, padding: Padding) -> slice:
    return slice(-count, None) if padding.side == "left" else slice(count)


def _pieces_of(
    explanation: Explanation, name: str, sample: int, pieces: Pieces | None, padding: Padding
) -> Pieces | None:
    """The text's pieces, where this modality is that text and the model was given just these."""
    ids = explanation.inputs.get(name)
    if pieces is None or not isinstance(ids, Tensor) or ids.dim() != 2:
        return None
    if ids.shape[1] != explanation.relevance[name].shape[1]:
        return None
    return pieces if ids[sample].tolist()[_kept(len(pieces.ids), padding)] == pieces.ids else None


def _logits(output: Any) -> Tensor | None:
    if isinstance(output, Mapping):
        output = output.get("logits")
    return output if isinstance(output, Tensor) and output.dim() >= 2 else None


def _predicted(logits: Tensor | None, sample: int, namer: Any) -> str | None:
    if logits is None or logits.dim() != 2 or logits.shape[1] < 2:
        return None
    best = int(logits[sample].argmax())
    return (namer(best) if namer else "") or str(best)


def label_named(label: str | None, names: Sequence[str]) -> str | None:
    """The data's label; a class's number by its name, as what is predicted is called.

    Examples
    --------
    >>> names = ["bad", "good"]
    >>> label_named("1", names), label_named("7", names), label_named("great", names)
    ('good', '7', 'great')
    >>> label_named("1", ["1", "2", "3"])  # which is a name here
    '1'
    """
    if label is None or not label.isdecimal() or label in names or int(label) >= len(names):
        return label
    return names[int(label)] or label


def _probability(logits: Tensor | None, sample: int, target: Any, model: nn.Module) -> float | None:
    """Of the explained class among all, or for itself where several may hold."""
    index = target if isinstance(target, tuple) else (target,)
    if logits is None or not all(isinstance(i, int) for i in index):
        return None
    if logits.dim() != len(index) + 1 or logits.shape[-1] < 2:
        return None
    row = logits[sample].detach().float()[index[:-1]]
    several = getattr(config_of(model), "problem_type", None) == "multi_label_classification"
    return float((row.sigmoid() if several else row.softmax(-1))[index[-1]])
