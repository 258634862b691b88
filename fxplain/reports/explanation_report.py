"""How an explanation looks: for each sample, what was explained and what it draws on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text
from torch import Tensor

from fxplain.explanation import Explanation, readout_place
from fxplain.reports.drawing import Bars, ShadedGrid, ShadedWords
from fxplain.reports.graph_report import count_nodes, facts_table, warning_lines
from fxplain.views import are_words, is_number

__all__ = ["explanation_report", "relevance_view"]

MOST_SAMPLES = 8
MOST_WORDS = 256
"""Longer texts and batches are cut short, and the report says so."""


def explanation_report(explanation: Explanation) -> RenderableType:
    """Model, method and warnings, then each sample's target and the relevance in each modality."""
    shown = min(explanation.batch_size, MOST_SAMPLES)
    parts: list[RenderableType] = [
        Text.assemble(("Explanation of ", "bold"), (explanation.graph.model, "bold cyan")),
        *warning_lines(explanation.graph.warnings),
        facts_table([("method", explanation.method), ("found", count_nodes(explanation.graph))]),
    ]
    for sample in range(shown):
        parts += _sample(explanation, sample)
    left = explanation.batch_size - shown
    if left:
        parts.append(Text(f"\n({left} more samples are not shown; see .relevance)", "dim"))
    return Group(*parts)


def _sample(explanation: Explanation, sample: int) -> Iterator[RenderableType]:
    name = explanation.target_names[sample] if explanation.target_names else ""
    named = f" ({name})" if name else ""
    title = f"sample {sample}: target {_target(explanation.target[sample])}{named}"
    yield Text()
    yield Rule(Text(title, "bold"), align="left", characters="-", style="dim")
    yield Text(
        f"score {float(explanation.scores[sample]):.4g}, read from {explanation.readout[sample]}"
    )
    if explanation.graph.context:
        acting = ", ".join(explanation.graph.context)
        yield Text(f"not in the relevance, since it acts on all tokens alike: {acting}", "dim")
    for modality in explanation.modalities:
        yield Text()
        yield from _modality(explanation, modality, sample)


def _target(target: Any) -> str:
    return ", ".join(map(str, target)) if isinstance(target, tuple) else str(target)


def _modality(explanation: Explanation, name: str, sample: int) -> Iterator[RenderableType]:
    values = explanation.relevance[name][sample]
    read = readout_place(explanation.readout[sample], name)
    others = torch.ones(len(values), dtype=torch.bool)
    count = f"{len(values)} token{'' if len(values) == 1 else 's'}"
    own = ""
    if read is not None:
        others[read] = False
        own = f", besides {float(values[read]):.4g} of the readout token itself"
    total = float(values[others].abs().sum())
    yield Text.assemble((name, "bold"), f"  {count}, relevance {total:.4g} in all{own}")
    if total:
        view = relevance_view(
            values,
            explanation.tokens(name)[sample],
            explanation.grids.get(name, ()),
            explanation.special.get(name, {}),
            read,
        )
        yield Padding(view, (0, 0, 0, 2))


def relevance_view(
    values: Tensor,
    labels: Sequence[str],
    grid: tuple[int, ...] = (),
    special: Mapping[int, str] | None = None,
    read: int | None = None,
) -> RenderableType:
    """One sample's relevance in one modality.

    Words in reading order where the labels are words, a grid of cells where the tokens lie on one,
    and in any case the tokens with the most relevance, ranked.

    Parameters
    ----------
    values
        (tokens,) relevance.
    labels
        One label per token.
    grid
        (rows, columns) of the tokens that are not special, or ().
    special
        Place and full name of each special token (a CLS, registers).
    read
        The place of the token that the target is read from: left out of shades and ranks.
    """
    special = special or {}
    plain = [i for i in range(len(values)) if i not in special]
    drawn: list[RenderableType] = []
    if len(grid) == 2 and grid[0] * grid[1] == len(plain):
        shown = values.clone()
        shown[[] if read is None else [read]] = 0
        drawn.append(ShadedGrid(shown[plain].reshape(grid[0], grid[1])))
    elif are_words(labels[i] for i in plain):
        drawn.append(_words(values, labels, read))
    if special:
        names = ", ".join(f"{i} is {name}" for i, name in _some(special))
        drawn.append(Text(f"special tokens: {names}", "dim"))
    ranked = [i for i in range(len(values)) if i != read]
    bars = Bars([_distinct(labels, i) for i in ranked], values[ranked].tolist(), 5 if drawn else 10)
    return Group(*drawn, bars)


def _words(values: Tensor, labels: Sequence[str], read: int | None) -> RenderableType:
    if len(values) > MOST_WORDS:
        return Text(f"(a text of {len(values)} tokens is not shown, only its top tokens)", "dim")
    words = list(labels)
    numbers = [None if i == read else value for i, value in enumerate(values.tolist())]
    end = len(words)
    while end and numbers[end - 1] == 0 and words[end - 1] == words[-1]:
        end -= 1
    padding = len(words) - end
    if padding < 2:
        return ShadedWords(words, numbers, "(read)")
    left = Text(f"(then {padding} times {words[-1]} without relevance)", "dim")
    return Group(ShadedWords(words[:end], numbers[:end], "(read)"), left)


def _distinct(labels: Sequence[str], i: int) -> str:
    """A token's label, its place before it where the label alone does not say which it is."""
    label = labels[i] or str(i)
    own = not is_number(label) or "," in label or label == str(i)
    return label if own and labels.count(label) <= 1 else f"{i}: {label}"


def _some(special: Mapping[int, str], most: int = 6) -> list[tuple[int | str, str]]:
    items: list[tuple[int | str, str]] = list(special.items())
    return items if len(items) <= most else [*items[:most], ("...", f"{len(items)} in all")]
