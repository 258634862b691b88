"""Plots: an `Explanation` and an `AttentionGraph` as matplotlib figures.

Each function draws into the Axes that it is given, or into a Figure of its own that pyplot knows
nothing of, and returns the Figure. It needs matplotlib: ``pip install 'fxplain[plot]'``.
"""

from importlib.util import find_spec

from fxplain.errors import MissingExtraError

if find_spec("matplotlib") is None:
    raise MissingExtraError(
        "plots need matplotlib, which is not installed: pip install 'fxplain[plot]'."
    )

from fxplain.plots.boxes import plot_boxes
from fxplain.plots.canvas import file_formats
from fxplain.plots.circuit import plot_circuit
from fxplain.plots.curves import plot_curves
from fxplain.plots.flow import plot_flow
from fxplain.plots.graph import plot_graph
from fxplain.plots.image import pixel_relevance, plot_image
from fxplain.plots.matrix import plot_generation, plot_matrix
from fxplain.plots.overview import plot
from fxplain.plots.signal import plot_signal
from fxplain.plots.text import plot_text
from fxplain.plots.tokens import plot_tokens

__all__ = [
    "file_formats",
    "pixel_relevance",
    "plot",
    "plot_boxes",
    "plot_circuit",
    "plot_curves",
    "plot_flow",
    "plot_generation",
    "plot_graph",
    "plot_image",
    "plot_matrix",
    "plot_signal",
    "plot_text",
    "plot_tokens",
]
