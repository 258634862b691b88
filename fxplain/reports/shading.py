"""Shading: a number between 0 and 1 as a colour, or as a character where there is no colour."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions
from rich.style import Style

from fxplain.explanation.shown import escaped

__all__ = [
    "has_colour", "height_character", "percent", "printable", "shade", "shade_character",
    "signed_percent",
]  # fmt: skip

# The colour map "cividis" (Nunez, Anderton & Renslow, PLOS ONE 2018): dark blue to yellow, its
# lightness rising evenly, so that readers with and without colour vision deficiency see one order.
_CIVIDIS = (
    (0, 34, 78),
    (18, 53, 112),
    (59, 73, 108),
    (87, 93, 109),
    (112, 113, 115),
    (138, 134, 120),
    (165, 156, 116),
    (195, 179, 105),
    (254, 232, 56),
)
# What speaks against: the same order of lightness in the hue that stays apart from blue and yellow.
_AGAINST = (
    (52, 12, 40),
    (87, 18, 62),
    (122, 28, 82),
    (150, 46, 100),
    (174, 70, 120),
    (196, 98, 142),
    (214, 130, 166),
    (229, 165, 190),
    (244, 202, 218),
)
_HEIGHTS = " ▁▂▃▄▅▆▇█"
_SHADES = " ░▒▓█"
_ASCII = " .:-=+*#%@"


def has_colour(console: Console) -> bool:
    """Whether a console can show shades of colour; 16 colours are too few for that."""
    return console.color_system in ("256", "truecolor") and not console.no_color


def shade(level: float) -> Style:
    """The background for a level from -1 to 1, with a text colour that is readable on it."""
    colours = _AGAINST if level < 0 else _CIVIDIS
    place = min(abs(level), 1.0) * (len(colours) - 1)
    i = min(int(place), len(colours) - 2)
    low, high = colours[i], colours[i + 1]
    red, green, blue = (round(a + (b - a) * (place - i)) for a, b in zip(low, high, strict=True))
    lightness = (0.299 * red + 0.587 * green + 0.114 * blue) / 255
    text = "black" if lightness > 0.45 else "bright_white"
    return Style(color=text, bgcolor=f"rgb({red},{green},{blue})")


def height_character(level: float, options: ConsoleOptions) -> str:
    """A bar of eight heights for a level from 0 to 1."""
    return _pick(_ASCII if options.ascii_only else _HEIGHTS, level)


def shade_character(level: float, options: ConsoleOptions) -> str:
    """A more or less filled cell for a level from 0 to 1."""
    return _pick(_ASCII if options.ascii_only else _SHADES, level)


def _pick(characters: str, level: float) -> str:
    """The first character stands for 0 alone: a small relevance stays visible."""
    if level <= 0:
        return characters[0]
    steps = len(characters) - 1
    return characters[min(max(round(level * steps), 1), steps)]


def percent(share: float) -> str:
    """A share as a short text.

    Examples
    --------
    >>> percent(0.254), percent(0.002), percent(0.0)
    ('25%', '<1%', '0%')
    """
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def signed_percent(share: float) -> str:
    """A share with a minus where it is negative; a small one has a digit more.

    Examples
    --------
    >>> signed_percent(-0.254), signed_percent(0.254), signed_percent(0.0)
    ('−25%', '25%', '0%')
    >>> signed_percent(-0.004), signed_percent(-0.0001)
    ('−0.4%', '−0%')
    """
    if share >= 0:
        return percent(share)
    return f"−{-share:.1%}".replace("0.0%", "0%") if share > -0.005 else f"−{-share:.0%}"


def printable(label: str) -> str:
    r"""A token's label on one line, its control characters escaped.

    Examples
    --------
    >>> printable("a\nb")
    'a\\nb'
    """
    return escaped(label)
