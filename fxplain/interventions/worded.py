"""Worded cuts: words as an explanation shows them, whole, as the places of their tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from fxplain.errors import MethodError
from fxplain.explanation import Explanation
from fxplain.explanation.asked import Asked
from fxplain.explanation.shown import shown
from fxplain.interventions.cut import Births, Cut, Part
from fxplain.interventions.effects import Effects

__all__ = ["asked_of", "intervene_on", "with_places"]

_CHOICES = ("tokens", "queries", "keys")


def asked_of(explanation: Explanation) -> Asked:
    """The model, inputs and target of an explanation.

    Raises
    ------
    MethodError
        When it has none: it was loaded, or comes from another process.
    """
    if explanation.asked is None:
        raise MethodError(
            "this explanation has no model to cut: it was loaded from a file, or made in another "
            "process. Explain again, and cut that."
        )
    return explanation.asked


def intervene_on(explanation: Explanation, cuts: Any, **options: Any) -> Effects:
    """Cut the model of an explanation, on the same inputs and target.

    Raises
    ------
    MethodError
        When the explanation has no model.
    """
    asked = asked_of(explanation)
    if isinstance(cuts, Mapping):
        cuts = {name: _placed(cut, explanation) for name, cut in cuts.items()}
    elif isinstance(cuts, (list, tuple)):
        cuts = [_placed(cut, explanation) for cut in cuts]
    else:
        cuts = _placed(cuts, explanation)
    found: Effects = asked.intervene(cuts, **options)
    return found


def _placed(cut: Any, explanation: Explanation) -> Any:
    return with_places(cut, explanation) if isinstance(cut, Cut) else cut


def with_places(cut: Cut, explanation: Explanation) -> Cut:
    """A cut with the places of words of one sample; of a batch the words stay as they are.

    It keeps its words in its name.
    """
    if explanation.batch_size > 1:
        return cut
    parts = tuple(_with_places(part, explanation) for part in cut.parts)
    return cut if parts == cut.parts else Cut(parts, str(cut))


def _with_places(part: Part, explanation: Explanation) -> Part:
    names = {field.name for field in fields(part)} & set(_CHOICES)
    modality = part.modality if isinstance(part, Births) else None
    chosen = {name: _chosen(getattr(part, name), modality, explanation) for name in names}
    return replace(part, **chosen)


def _chosen(tokens: Any, modality: str | None, explanation: Explanation) -> Any:
    if tokens is None or (modality is None and tokens in tuple(explanation.relevance)):
        return tokens
    if isinstance(tokens, Mapping):
        return {name: _chosen(places, name, explanation) for name, places in tokens.items()}
    if isinstance(tokens, tuple):
        return tokens[0], _chosen(tokens[1], tokens[0], explanation)
    places = tokens if isinstance(tokens, list) else [tokens]
    words = [place for place in places if isinstance(place, str)]
    if not words:
        return tokens
    found = _places(words, modality, explanation)
    if modality is not None:
        return [*(p for p in places if not isinstance(p, str)), *found.get(modality, words)]
    return tokens if len(words) < len(places) or not found else found


def _places(
    words: Iterable[str], modality: str | None, explanation: Explanation
) -> dict[str, list[int]]:
    """By modality, the places of the tokens of some words, of each wherever it stands."""
    found: dict[str, list[int]] = {}
    for unit in shown(explanation, 0, "word"):
        if unit.text in words and modality in (None, unit.modality):
            found.setdefault(unit.modality, []).extend(unit.tokens)
    return found
