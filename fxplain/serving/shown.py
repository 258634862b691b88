"""What the live page shows of an explanation, as plain data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fxplain.errors import FxplainError, InputError
from fxplain.explanation import Explanation
from fxplain.explanation.pictures import names_of
from fxplain.generation import Generation
from fxplain.html.photos import photo_url
from fxplain.html.pictures import images_of, strip_of
from fxplain.html.sounds import sounds_of
from fxplain.html.words import cuts_of
from fxplain.interventions import Cut
from fxplain.views import View

__all__ = ["cells_of", "curve_of", "heads_of", "sent_modality", "sent_writing"]

MOST_PIXELS = 1 << 18
MOST_MOMENTS = 48
"""Stretches of a recording that can be struck out."""

MOST_CELLS = 64
"""Queries and keys of a head's map that are shown."""


def sent_modality(explanation: Explanation, name: str) -> dict[str, Any]:
    """One modality: its units, and what they lie on."""
    return units_of(explanation, name) | {"looks": looks_of(explanation, name)}


def units_of(explanation: Explanation, name: str) -> dict[str, Any]:
    """One modality's units: words of a text, patches of pictures, moments, or tokens.

    What alone is read stands for itself, as in reports, and is not shaded.
    """
    apart = set(explanation.apart(name, 0))
    values = explanation.beyond_identity()[name][0].double()
    view = View(explanation, name)
    kind: str = view.kinds[0]
    made: dict[str, Any] = {"name": name, "kind": "tokens"}
    if view.is_text:
        made["kind"] = "text"
        words = cuts_of(explanation, name, 0, "word")["word"]
        units = [(text, gap, places, special) for text, gap, places, special in words]
    elif kind == "signal" or (name in explanation.seconds and not view.pictures):
        made["kind"] = "moments"
        units = _moments(view, explanation.seconds.get(name))
    else:
        labels = explanation.tokens(name)[0]
        units = [(labels[place], "", [place], False) for place in view.plain]
        if view.pictures:
            named = zip(view.pictures, names_of(view.pictures), strict=True)
            tiles = [{"name": own, "grid": list(picture.grid)} for picture, own in named]
            made |= {"kind": "pictures", "pictures": tiles}
    made["units"] = [
        {
            "text": text,
            "gap": gap,
            "tokens": places,
            "special": special or set(places) <= apart,
            "relevance": float(values[places].sum()),
        }
        for text, gap, places, special in units
    ]
    return made


def _moments(view: View, seconds: float | None) -> list[tuple[str, str, list[int], bool]]:
    """Tokens in time in stretches of equal length, few enough to be chosen one by one."""
    count = len(view.plain)
    length = -(-count // MOST_MOMENTS)
    labels = view.explanation.tokens(view.name)[0]
    made = []
    for start in range(0, count, length):
        places = view.plain[start : start + length]
        said = f"{labels[places[0]]} to {labels[places[-1]]}" if length > 1 else labels[places[0]]
        if seconds is not None:
            ends = (start, start + len(places))
            said = " to ".join(f"{seconds * end / count:.2f}" for end in ends) + " s"
        made.append((said, "", places, False))
    return made


def looks_of(explanation: Explanation, name: str) -> dict[str, Any]:
    """What a modality's units lie on: pictures or a strip over time, and the recording."""
    view = View(explanation, name)
    made: dict[str, Any] = {}
    frames = view.frames()
    signal = view.signal()
    if frames and len(frames) == len(view.pictures):
        made["pictures"] = [_url(pixels) for pixels in images_of(frames, MOST_PIXELS)]
    elif signal is not None:
        made["strip"] = _url(strip_of(signal))
    sounds = sounds_of(explanation, name)
    if sounds:
        made["sound"] = sounds[0]
    return made


def sent_writing(generation: Generation) -> dict[str, Any]:
    """What a model wrote, and for each token what it draws on."""
    told = generation.to_dict()["samples"][0]
    first = generation.explanations[0]
    return {
        "text": told["text"],
        "looks": {name: looks_of(first, name) for name in first.modalities},
        "tokens": [
            {
                "text": one["name"],
                "score": one["score"],
                "modalities": [units_of(e, modality) for modality in e.modalities],
            }
            for one, e in zip(told["targets"], generation.explanations, strict=True)
        ],
    }


def _url(pixels: NDArray[np.uint8]) -> str:
    """Pixels as a data URL."""
    rgb = np.repeat(pixels[..., None], 3, -1) if pixels.ndim == 2 else pixels
    return photo_url(rgb, MOST_PIXELS)


def heads_of(explanation: Explanation) -> dict[str, Any] | None:
    """The grid of nodes x heads, or nothing where the method has no heads."""
    try:
        found = explanation.heads()
    except FxplainError:
        return None
    whole = float(found.attended[0]) or 1.0
    return {
        "nodes": [
            {
                "name": node.name,
                "kind": node.kind,
                "shares": (found.relevance[node.name][0].sum(-1) / whole).tolist(),
            }
            for node in found.nodes
        ]
    }


def curve_of(explanation: Explanation, most: int) -> dict[str, Any]:
    """Scores as units are struck out, the most relevant first and the least relevant first."""
    units = [
        (unit["relevance"], modality, unit["tokens"])
        for modality in explanation.modalities
        for unit in units_of(explanation, modality)["units"]
        if unit["tokens"] and not unit["special"]
    ]
    order = sorted(units, key=lambda unit: -unit[0])
    counts = sorted({round(len(order) * i / most) for i in range(1, most + 1)} - {0})
    lines = {
        "most relevant first": [_without(order[:count]) for count in counts],
        "least relevant first": [_without(order[::-1][:count]) for count in counts],
    }
    assert explanation.asked is not None, "it was made here"
    cuts = [cut for line in lines.values() for cut in line]
    found = explanation.asked.intervene(cuts) if cuts else None
    scores = [] if found is None else found.scores[:, 0].tolist()
    start = float(explanation.scores[0])
    return {
        "counts": [0, *counts],
        "of": len(order),
        "lines": {
            name: [start, *scores[i * len(counts) : (i + 1) * len(counts)]]
            for i, name in enumerate(lines)
        },
    }


def _without(units: list[tuple[float, str, list[int]]]) -> Cut:
    places: dict[str, list[int]] = {}
    for _, modality, tokens in units:
        places.setdefault(modality, []).extend(tokens)
    first, *rest = (Cut.tokens(modality, own) for modality, own in places.items())
    return sum(rest, first)


def cells_of(explanation: Explanation, node: Any, head: Any) -> dict[str, Any]:
    """The attention weights of one head, of the first queries and keys."""
    known = {each.name: each for each in explanation.graph.nodes}
    if (
        not isinstance(node, str)
        or node not in known
        or type(head) is not int
        or not 0 <= head < known[node].heads
    ):
        raise InputError("there is no such head.")
    assert explanation.asked is not None, "it was made here"
    weights = explanation.asked.attention({node})[node].float()
    if weights.dim() != 4 or weights.shape[1] != known[node].heads:
        raise InputError(f"the heads of {node} do not stand apart in its weights.")
    shown = torch.nan_to_num(weights[0, head, :MOST_CELLS, :MOST_CELLS])
    return {
        "cells": shown.tolist(),
        "queries": _labels(explanation, known[node].query, len(shown)),
        "keys": _labels(explanation, known[node].key, shown.shape[1]),
    }


def _labels(explanation: Explanation, modalities: tuple[str, ...], count: int) -> list[str]:
    """What tokens are called, where they are those of one modality; else their places."""
    if len(modalities) == 1 and modalities[0] in explanation.labels:
        labels = explanation.tokens(modalities[0])[0]
        if len(labels) >= count:
            return labels[:count]
    return [str(place) for place in range(count)]
