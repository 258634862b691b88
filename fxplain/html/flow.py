"""The page of a flow: lanes of tokens by depth, to be zoomed and moved."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2

from fxplain.html.assets_of import asset, digest, package_version
from fxplain.inside import Flow
from fxplain.reports.flow_lanes import FlowLanes, Spot, lay_out_flow

__all__ = ["flow_page"]

COLUMN, ROW, LEFT, TOP = 46.0, 74.0, 190.0, 40.0


def flow_page(flow: Flow) -> str:
    """A flow as one self-contained HTML page."""
    lanes = lay_out_flow(flow)
    style, script = asset("page.css") + asset("flow.css"), asset("flow.js")
    return _template().render(
        flow=flow,
        lanes=lanes,
        spots=[_spot(spot, len(lanes.names)) for spot in lanes.spots],
        lines=[_line(lanes, line) for line in reversed(lanes.lines)],
        row=ROW,
        width=max(240.0, LEFT + COLUMN * lanes.columns),
        height=TOP + ROW * (len(lanes.names) - 1) + 30,
        style=style,
        script=script,
        style_hash=digest(style),
        script_hash=digest(script),
        version=package_version(),
    )


def _centre(spot: Spot) -> tuple[float, float]:
    return LEFT + COLUMN * spot.column, TOP + ROW * spot.lane


def _spot(spot: Spot, lanes: int) -> dict[str, Any]:
    x, y = _centre(spot)
    return {
        "x": round(x, 1),
        "y": round(y, 1),
        "radius": round(2.5 + 4 * spot.size, 1),
        "colour": spot.colour,
        "label": spot.label if len(spot.label) < 9 else f"{spot.label[:7]}…",
        "told": spot.told,
        "lowest": spot.lane == lanes - 1,
    }


def _line(lanes: FlowLanes, line: tuple[int, int, float, float]) -> dict[str, Any]:
    source, target, share, part = line
    (x, y), (to_x, to_y) = _centre(lanes.spots[source]), _centre(lanes.spots[target])
    half = (y + to_y) / 2
    return {
        "path": f"M{x:.1f} {y:.1f}C{x:.1f} {half:.1f} {to_x:.1f} {half:.1f} {to_x:.1f} {to_y:.1f}",
        "colour": lanes.spots[source].colour,
        "width": round(0.4 + 6 * part, 2),
        "source": source,
        "target": target,
        "told": f"{lanes.spots[source].label} → {lanes.spots[target].label}: {share:.1%}",
    }


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(asset("flow.html.j2"))
