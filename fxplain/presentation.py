"""The one door from results to how they look: opened by name, so that the core draws nothing."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from fxplain.arguments import checked, only_known, optional, whole
from fxplain.extras import data_frame

__all__ = ["KIND_COLOURS", "Presentable", "Tabled", "compare", "text_colour", "to_html"]

_PRESENTER = "fxplain.reports"
_PLOTTER = "fxplain.plots"
_PAGES = "fxplain.html"

KIND_COLOURS = {
    "self": "#0072B2",
    "co": "#D55E00",
    "encoder-decoder": "#009E73",
    "pooling": "#CC79A7",
    "route": "#E69F00",
    "stream": "#56606B",
}
"""One colour for each kind of attention, for routes and for streams, in all drawings of a graph.

Of the palette by Okabe and Ito (2008), which people with any colour vision tell apart.
"""


def text_colour(background: str) -> str:
    """Black or white, whichever is easier to read on a colour (contrast ratio of WCAG 2).

    Examples
    --------
    >>> text_colour("#0072B2"), text_colour("#E69F00")
    ('#ffffff', '#000000')
    """
    levels = (int(background[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"


def to_html(result: Any, path: str | Path | None = None, **extras: Any) -> str:
    """Results as one self-contained HTML page that opens from disk and needs no network.

    Of an Explanation, an AttentionGraph, or a list of Explanations of one input, by several methods
    or of several targets, between which the page switches. `fxplain.html.to_html` tells of what else
    a page can know: ``class_names``, ``pictures``, ``attention``, ``matrix_bytes``.

    Examples
    --------
    >>> import fxplain, torch
    >>> model = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> graph = fxplain.inspect(model, (torch.randn(1, 4, 8),))
    >>> fxplain.to_html(graph).splitlines()[0]
    '<!DOCTYPE html>'
    """
    write = import_module(_PAGES).to_html
    only_known(write, extras, "to_html")
    page: str = write(result, path, **extras)
    return page


def compare(explanations: Any, path: str | Path | None = None, **options: Any) -> str:
    """Explanations side by side as one HTML page, with the difference of two.

    Of two methods, targets, models or inputs, at most six. `fxplain.html.compare` tells of the
    options: ``names``, ``units``, ``special``.

    Examples
    --------
    >>> import fxplain, torch
    >>> model = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> score = lambda output: output[:, 0].sum(-1)
    >>> one = fxplain.explain(model, (torch.randn(1, 4, 8),), score)
    >>> two = fxplain.explain(model, (torch.randn(1, 4, 8),), score, "rollout")
    >>> fxplain.compare([one, two]).splitlines()[0]
    '<!DOCTYPE html>'
    """
    write = import_module(_PAGES).compare
    only_known(write, options, "compare")
    page: str = write(explanations, path, **options)
    return page


class Presentable:
    """A result that prints as a rich report, draws itself, and is a page of HTML."""

    def __str__(self) -> str:
        text: str = import_module(_PRESENTER).to_text(self)
        return text

    def __rich__(self) -> Any:
        return import_module(_PRESENTER).to_rich(self)

    @checked(width=optional(whole(1, 100_000)))
    def to_text(self, width: int | None = None, **options: Any) -> str:
        """What `print` shows, as text: of an Explanation by ``units=`` and with ``special="hide"``."""
        text: str = import_module(_PRESENTER).to_text(self, width, **options)
        return text

    def plot(self, *args: Any, **options: Any) -> Any:
        """The picture that fits, as a matplotlib Figure; options as `fxplain.plots.plot` has them.

        Raises
        ------
        MissingExtraError
            When matplotlib is not installed (``pip install 'fxplain[plot]'``).
        InputError, PlotError
            When there is no such option, or the picture does not fit.
        """
        draw = import_module(_PLOTTER).plot
        only_known(draw, options, "plot")
        return draw(self, *args, **options)

    def to_html(self, path: str | Path | None = None, **extras: Any) -> str:
        """The result as one self-contained HTML page; see `fxplain.to_html`."""
        return to_html(self, path, **extras)

    def _repr_html_(self) -> str:
        frame: str = import_module(_PAGES).to_notebook(self)
        return frame


class Tabled(Presentable):
    """A result that is a table, too."""

    def table(self) -> list[dict[str, Any]]:
        """One row for each thing that it tells of."""
        raise NotImplementedError

    def to_frame(self) -> Any:
        """`table` as a pandas data frame.

        Raises
        ------
        MissingExtraError
            When pandas is not installed.
        """
        return data_frame(self.table())
