"""plot_signal: relevance over time, under the waveform or the spectrogram."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fxplain.arguments import checked
from fxplain.explanation import Explanation
from fxplain.plots.canvas import Room, axes_for, colour_scale, figure_of
from fxplain.plots.view import AN_EXPLANATION, SOME_AXES, ModalityView

__all__ = ["ROOM", "draw_signal", "plot_signal"]

ROOM = Room(7.0, 1.9, left=0.8, below=0.45)
STRIP = (0.0, 0.22)
ABOVE = (0.27, 1.0)
"""Where strip and signal stand in the height of the axes."""


@checked(explanation=AN_EXPLANATION, ax=SOME_AXES)
def plot_signal(
    explanation: Explanation,
    modality: str | None = None,
    *,
    sample: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """A waveform, or a spectrogram in grey, above a strip of the relevance of each moment.

    Parameters
    ----------
    explanation
        What `fxplain.explain` returned.
    modality
        Which signal; by default the first modality whose tokens follow each other in time.
    sample, ax
        Which of the batch, and where to draw: by default in a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of the axes.

    Raises
    ------
    ModalityError, PlotError
        When there is no such modality or sample, or it is no signal.
    """
    view = ModalityView.of(explanation, modality, sample, "signal")
    return draw_signal(view, axes_for(ax, ROOM))


def draw_signal(view: ModalityView, ax: Axes) -> Figure:
    """Draw into axes; the x axis counts the steps of the input."""
    signal = view.signal
    assert signal is not None
    steps = signal.shape[1]
    if len(signal) == 1:
        middle, half = sum(ABOVE) / 2, (ABOVE[1] - ABOVE[0]) / 2
        loudest = float(np.abs(signal).max()) or 1.0
        ax.plot(np.arange(steps) + 0.5, middle + half * signal[0] / loudest, lw=0.6, color="0.35")
    else:
        ax.imshow(signal, extent=(0, steps, *ABOVE), aspect="auto", cmap="gray_r", origin="lower")
    values = view.others[view.plain]
    shades, scale = colour_scale(values)
    strip = ax.imshow(
        values[None], extent=(0, steps, *STRIP), aspect="auto", cmap=shades, norm=scale,
        interpolation="nearest",
    )  # fmt: skip
    strip.set_gid("relevance")
    centres = [sum(ABOVE) / 2, sum(STRIP) / 2]
    ax.set(xlim=(0, steps), ylim=(0, 1))
    ax.set_xlabel("step of the input", size=8)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.set_yticks(centres, ["input", "relevance"])
    ax.tick_params(length=0, labelsize=8)
    ax.spines[:].set_visible(False)
    return figure_of(ax)
