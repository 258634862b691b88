"""plot_flow: tokens in lanes by depth, and the relevance that flows between them."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from fxplain.arguments import checked, instance
from fxplain.errors import PlotError
from fxplain.inside import Flow
from fxplain.plots.canvas import Room, axes_for, figure_of
from fxplain.plots.view import SOME_AXES
from fxplain.reports.flow_lanes import FlowLanes, lay_out_flow
from fxplain.reports.shading import printable

__all__ = ["plot_flow"]

COLUMN, ROW, MARGIN, LEFT = 0.5, 0.75, 0.75, 2.2
WIDEST = 60.0
"""Inches, as the ones before."""


@checked(flow=instance(Flow).raising(PlotError), ax=SOME_AXES)
def plot_flow(flow: Flow, *, ax: Axes | None = None) -> Figure:
    """The pruned graph: births in the lowest lane, what is read in the highest.

    Parameters
    ----------
    flow
        What `Explanation.flow` returned.
    ax
        Where to draw; by default in a new figure, as large as the flow needs.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of the axes.
    """
    lanes = lay_out_flow(flow)
    width = min(WIDEST, max(5.0, COLUMN * lanes.columns + LEFT + MARGIN))
    height = ROW * len(lanes.names) + 2 * MARGIN
    ax = axes_for(ax, Room(width, height, 0, 0, 0, 0))
    ax.set(xlim=(-LEFT / COLUMN, lanes.columns + 0.5), ylim=(len(lanes.names) - 0.3, -1.1))
    ax.set_axis_off()
    for line in reversed(lanes.lines):
        _draw_line(ax, lanes, line)
    for spot in lanes.spots:
        ax.plot(spot.column, spot.lane, "o", ms=3 + 6 * spot.size, color=spot.colour, zorder=3)
        lowest = spot.lane == len(lanes.names) - 1
        at = (spot.column, spot.lane + (0.22 if lowest else -0.16))
        label = printable(spot.label)
        ax.text(*at, label[:8], size=7, ha="center", va="top" if lowest else "bottom", zorder=4)
    for lane, name in enumerate(lanes.names):
        ax.text(-LEFT / COLUMN, lane, printable(name), size=6, color="0.45", va="center")
    handles = [Patch(color=colour, label=printable(name)) for name, colour in lanes.legend]
    ax.legend(handles=handles, loc="upper right", fontsize=7, frameon=False, ncols=3)
    ax.set_title(f"{flow.kept:.0%} of what attention gives", size=9, loc="left")
    return figure_of(ax)


def _draw_line(ax: Axes, lanes: FlowLanes, line: tuple[int, int, float, float]) -> None:
    source, target = lanes.spots[line[0]], lanes.spots[line[1]]
    half = (source.lane + target.lane) / 2
    points = [
        (source.column, source.lane),
        (source.column, half),
        (target.column, half),
        (target.column, target.lane),
    ]
    path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    wide = 0.4 + 5 * line[3]
    ax.add_patch(PathPatch(path, fill=False, ec=source.colour, lw=wide, alpha=0.55, zorder=2))
