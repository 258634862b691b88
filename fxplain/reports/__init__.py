"""Reports: how an `AttentionGraph` and an `Explanation` look in a terminal, a pipe or a string."""

from fxplain.explanation import readout_place
from fxplain.reports.drawing import Bars, GreyImage, ShadedGrid, ShadedWords
from fxplain.reports.headline import drawn, tells_for_from_against
from fxplain.reports.report import to_page, to_rich, to_text
from fxplain.reports.shading import has_colour, percent

__all__ = [
    "Bars",
    "GreyImage",
    "ShadedGrid",
    "ShadedWords",
    "drawn",
    "has_colour",
    "percent",
    "readout_place",
    "tells_for_from_against",
    "to_page",
    "to_rich",
    "to_text",
]
