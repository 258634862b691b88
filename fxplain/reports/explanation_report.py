"""How an explanation looks: for each sample, what was explained and what it draws on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text
from torch import Tensor

from fxplain.explanation import Explanation, Shown, Special, Units
from fxplain.explanation.on_photos import part, which
from fxplain.explanation.pictures import names_of
from fxplain.explanation.shown import shown, without_padding
from fxplain.reports.drawing import Bars, ShadedGrid, ShadedWords
from fxplain.reports.graph_report import count_nodes, facts_table, warning_lines
from fxplain.reports.headline import headline, method_text, notes
from fxplain.reports.shading import percent
from fxplain.views import View, are_words, is_number
from fxplain.written import rounded

__all__ = ["explanation_report", "left_out", "method_facts", "relevance_view"]

MOST_SAMPLES = 8
MOST_WORDS = 256
"""Longer texts and batches are cut short, and the report says so."""


def explanation_report(
    explanation: Explanation, units: Units = "word", special: Special = "show"
) -> RenderableType:
    """Model, method and warnings, then each sample's target and the relevance in each modality.

    Parameters
    ----------
    units, special
        As `Explanation.top` takes them.
    """
    count = min(explanation.batch_size, MOST_SAMPLES)
    parts: list[RenderableType] = [
        Text.assemble(("Explanation of ", "bold"), (explanation.graph.model, "bold cyan")),
        *warning_lines(explanation.graph.warnings),
        facts_table([*method_facts(explanation), ("found", count_nodes(explanation.graph))]),
    ]
    for sample in range(count):
        parts += _sample(explanation, sample, units, special)
    left = explanation.batch_size - count
    if left:
        parts.append(Text(f"\n({left} more samples are not shown; see .relevance)", "dim"))
    return Group(*parts)


def method_facts(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """The method, and why it was chosen where `auto` did."""
    yield "method", method_text(explanation)
    if explanation.chosen:
        yield "chosen by auto", explanation.chosen


def _sample(
    explanation: Explanation, sample: int, units: Units, special: Special
) -> Iterator[RenderableType]:
    name = explanation.target_names[sample] if explanation.target_names else ""
    named = f" ({name})" if name else ""
    title = f"sample {sample}: target {_target(explanation.target[sample])}{named}"
    yield Text()
    yield Rule(Text(title, "bold"), align="left", characters="-", style="dim")
    yield Text(headline(explanation, sample, None, units, special))
    score = rounded(float(explanation.scores[sample]), ".4g")
    yield Text(f"score {score}, read from {explanation.readout[sample]}")
    if explanation.graph.context:
        acting = explanation.graph.acting
        yield Text(f"not in the relevance, since it acts on all tokens alike: {acting}", "dim")
    for note in notes(explanation, sample):
        yield Text(note, "dim")
    entries = shown(explanation, sample, units, special)
    if special == "hide" and (told := left_out(explanation, sample, units)):
        yield Text(told, "dim")
    for modality in explanation.modalities:
        yield Text()
        own = [entry for entry in entries if entry.modality == modality]
        yield from _modality(explanation, modality, sample, own, special)


def left_out(explanation: Explanation, sample: int, units: Units = "word") -> str:
    """What ``special="hide"`` leaves out of a sample, and how much of the relevance that is."""
    hidden = {e.own for e in shown(explanation, sample, units, "hide") if e.special}
    entries = [e for e in shown(explanation, sample, units) if e.own in hidden and not e.apart]
    if not entries:
        return ""
    names = list(dict.fromkeys(entry.text for entry in entries))
    told = ", ".join(names[:6]) + (", ..." if names[6:] else "")
    share = percent(sum(entry.share for entry in entries))
    return f"left out: {told} with {share} of the relevance"


def _target(target: Any) -> str:
    return ", ".join(map(str, target)) if isinstance(target, tuple) else str(target)


def _modality(
    explanation: Explanation, name: str, sample: int, entries: Sequence[Shown], special: Special
) -> Iterator[RenderableType]:
    count = explanation.relevance[name].shape[1]
    apart = explanation.apart(name, sample)
    values = explanation.beyond_identity()[name][sample]
    kept = [e for e in entries if not e.apart and not (e.special and special == "hide")]
    numbers = [float(values[i]) for e in kept for i in e.tokens]
    own = ""
    if apart:
        whole = float(explanation.relevance[name][sample][apart].sum())
        own = f", besides {rounded(whole, '.4g')} of the readout token itself"
    elif explanation.is_mean_readout(name, sample):
        whole = float(
            (explanation.relevance[name] - explanation.beyond_identity()[name])[sample].sum()
        )
        own = f", besides {rounded(whole, '.4g')} of the mean that it is read from"
    tokens = f"{count} token{'' if count == 1 else 's'}"
    yield Text.assemble((name, "bold"), f"  {tokens}, {_total(numbers)}{own}")
    if any(numbers):
        view = _view(explanation, name, sample, entries, special)
        yield Padding(view, (0, 0, 0, 2))


def _total(numbers: Sequence[float]) -> str:
    """The sum; of signed relevance what speaks for the target and what against it, too."""
    above, below = sum(v for v in numbers if v > 0), sum(v for v in numbers if v < 0)
    if not below:
        return f"relevance {above:.4g} in all"
    total = rounded(above + below, ".4g")
    return f"relevance {total} in all: {above:.4g} for, {-below:.4g} against"


def _view(
    explanation: Explanation, name: str, sample: int, entries: Sequence[Shown], special: Special
) -> RenderableType:
    """One modality as what it is, and its most relevant entries, ranked."""
    drawn: list[RenderableType] = []
    apart = explanation.apart(name, sample)
    parameters = explanation.special_in(name, sample)
    if explanation.is_text(name):
        if are_words(entry.text for entry in entries):
            drawn.append(_words(entries, special))
    else:
        values = explanation.beyond_identity()[name][sample].clone()
        values[apart] = 0
        drawn += _grids(View(explanation, name, sample), sample, values)
    if parameters:
        names = ", ".join(f"{i} is {each}" for i, each in _some(parameters))
        drawn.append(Text(f"special tokens: {names}", "dim"))
    ranked = [e for e in entries if not e.apart and not (e.special and special == "hide")]
    labels = [entry.text for entry in entries]
    named = [_distinct(labels, entries.index(e), e.tokens[0]) for e in ranked]
    errors = [e.error for e in ranked]
    drawn.append(Bars(named, [e.relevance for e in ranked], 5 if drawn else 10, errors))
    return Group(*drawn)


def _grids(view: View, sample: int, values: Tensor) -> Iterator[RenderableType]:
    top, whole = float(values.abs().max()), float(values.abs().sum())
    found = view.explanation.on_photos(view.name, sample)
    placed, given = view.explanation.placements(view.name, sample), view.explanation.originals
    shared = any(given.is_of_another(p, sample) for p in placed)
    told_of = any(on.said() or len(on.pictures) > 1 for on in found)
    every = len({i for on in found for i in on.pictures}) == len(view.pictures)
    if found and (shared or told_of or every):
        for on in found[:MOST_PICTURES]:
            told = [which(on, found), part(on, found), on.said()]
            if any(told):
                yield Text("; ".join(filter(None, told)), "dim")
            yield ShadedGrid(values[list(on.tokens)].reshape(on.grid), scale=top, whole=whole)
        yield from _more(len(found))
        return
    many = len(view.pictures) > 1
    names = names_of(view.pictures)
    for picture, name in zip(view.pictures[:MOST_PICTURES], names, strict=False):
        if many:
            yield Text(name, "dim")
        of_picture = values[list(picture.tokens)].reshape(picture.grid)
        yield ShadedGrid(of_picture, scale=top, whole=whole)
    yield from _more(len(view.pictures))


MOST_PICTURES = 6


def _more(count: int) -> Iterator[RenderableType]:
    if count > MOST_PICTURES:
        yield Text(f"(and {count - MOST_PICTURES} more)", "dim")


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
        kept = values.clone()
        kept[[] if read is None else [read]] = 0
        drawn.append(ShadedGrid(kept[plain].reshape(grid[0], grid[1])))
    elif are_words(labels[i] for i in plain):
        numbers = [None if i == read else value for i, value in enumerate(values.tolist())]
        drawn.append(ShadedWords(labels, numbers, "(read)"))
    if special:
        names = ", ".join(f"{i} is {name}" for i, name in _some(special))
        drawn.append(Text(f"special tokens: {names}", "dim"))
    ranked = [i for i in range(len(values)) if i != read]
    bars = Bars(
        [_distinct(labels, i, i) for i in ranked], values[ranked].tolist(), 5 if drawn else 10
    )
    return Group(*drawn, bars)


def _words(entries: Sequence[Shown], special: Special) -> RenderableType:
    if len(entries) > MOST_WORDS:
        count = sum(len(entry.tokens) for entry in entries)
        return Text(f"(a text of {count} tokens is not shown, only its top tokens)", "dim")
    hidden = [entry.special and special == "hide" and not entry.apart for entry in entries]
    kept = [entry for entry, out in zip(entries, hidden, strict=True) if not out]
    numbers = [None if entry.apart else entry.relevance for entry in kept]
    words = [entry.text for entry in kept]
    end = without_padding(kept)
    if end == len(kept):
        return ShadedWords(words, numbers, "(read)")
    padding = f"{sum(len(e.tokens) for e in kept[end:])} times {words[-1].rsplit(' × ')[-1]}"
    left = Text(f"(then {padding} without relevance)", "dim")
    return Group(ShadedWords(words[:end], numbers[:end], "(read)"), left)


def _distinct(labels: Sequence[str], i: int, place: int) -> str:
    """A token's label, its place before it where the label alone does not say which it is."""
    label = labels[i] or str(place)
    own = not is_number(label) or "," in label or label == str(place)
    return label if own and list(labels).count(label) <= 1 else f"{place}: {label}"


def _some(special: Mapping[int, str], most: int = 6) -> list[tuple[int | str, str]]:
    items: list[tuple[int | str, str]] = list(special.items())
    return items if len(items) <= most else [*items[:most], ("...", f"{len(items)} in all")]
