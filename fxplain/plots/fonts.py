"""Fonts: what a figure's letters are drawn with, where the usual font has not all of them."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, TypeVar, cast

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from fxplain.explanation import Explanation
from fxplain.generation import Generation

__all__ = ["in_fonts_that_have_them"]

F = TypeVar("F", bound=Callable[..., Any])

SHOWN = 12
"""So many letters that no font has are named."""


def in_fonts_that_have_them(draw: F) -> F:
    """A function that draws an explanation or a text, with fonts that have the letters of its words."""
    first = next(iter(inspect.signature(draw).parameters))

    @functools.wraps(draw)
    def drawn(*args: Any, **options: Any) -> Any:
        result = args[0] if args else options.get(first)
        usual = tuple(mpl.rcParams["font.family"])
        more, missing = _fonts_for(frozenset(_letters(result)), usual)
        if missing:
            told = " ".join(sorted(missing)[:SHOWN]) + (" ..." if missing[SHOWN:] else "")
            warnings.warn(
                f"no installed font has {told}: boxes stand in their place. Install one that has them, "
                f"such as Noto Sans of that script, and delete matplotlib's font cache.",
                stacklevel=2,
            )
        with mpl.rc_context({"font.family": [*usual, *more]} if more else {}):
            return draw(*args, **options)

    return cast("F", drawn)


def _letters(result: Any) -> set[str]:
    """The letters beyond ASCII of what a result's tokens and words are called."""
    if isinstance(result, Generation):
        return {c for text in result.text for c in text if not c.isascii()}
    if not isinstance(result, Explanation):
        return set()
    texts = [name for name in result.modalities if result.is_text(name)]
    labels = [label for name in texts for row in result.labels[name] for label in row]
    words = [word.text for name in texts for row in result.words_in(name) for word in row]
    return {c for text in (*labels, *words) for c in text if not c.isascii()}


@lru_cache(maxsize=64)
def _fonts_for(letters: frozenset[str], usual: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Families that have what the usual ones have not, the widest first; and what none has."""
    missing = {c for c in letters if c.isprintable()} - _letters_of(
        findfont(FontProperties(family=list(usual)))
    )
    found: list[str] = []
    while missing and (best := max(_installed(), key=lambda name: len(missing & _of(name)))):
        if not missing & _of(best):
            break
        found.append(best)
        missing -= _of(best)
    return tuple(found), "".join(missing)


@cache
def _installed() -> dict[str, str]:
    """Every family that is installed but the one of boxes, and a file of it."""
    files = sorted(
        fontManager.ttflist, key=lambda font: (font.weight != 400, font.style != "normal")
    )
    return {font.name: font.fname for font in reversed(files) if "Last Resort" not in font.name}


def _of(name: str) -> frozenset[str]:
    return _letters_of(_installed()[name])


@cache
def _letters_of(file: str) -> frozenset[str]:
    """What a font can draw; nothing where it is of bitmaps, which figures do not take."""
    try:
        font = get_font(file)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError):  # a font that FreeType does not read
        return frozenset()
