"""Places: what people call a token that lies on a picture, where its number does not say where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxplain.explanation.on_photos import part, which
from fxplain.explanation.pictures import names_of

if TYPE_CHECKING:
    from fxplain.explanation.seen import AsSeen

__all__ = ["place_names"]


def place_names(seen: AsSeen, modality: str, sample: int) -> dict[int, str]:
    """By token, its row and column, and of several pictures which: ``photo 1: 2,3``.

    Only of tokens that nobody has named: their label is a bare number.
    """
    labels, pictures = seen.labels[modality][sample], seen.pictures(modality, sample)
    if not pictures or not any(label.isdigit() for label in labels):
        return {}
    found = seen.on_photos(modality, sample)
    parts = [
        (" ".join(filter(None, (which(on, found), part(on, found)))), on.grid, on.tokens)
        for on in found
    ]
    placed = {place for on in found for place in on.pictures}
    parts += [
        (name, picture.grid, picture.tokens)
        for i, (picture, name) in enumerate(zip(pictures, names_of(pictures), strict=True))
        if i not in placed
    ]
    return {
        token: f"{name}: {i // grid[1]},{i % grid[1]}" if name else f"{i // grid[1]},{i % grid[1]}"
        for name, grid, tokens in parts
        for i, token in enumerate(tokens)
        if labels[token].isdigit()
    }
