"""Where everything in a drawn flow stands: lanes by depth, tokens of each modality side by side."""

from __future__ import annotations

from dataclasses import dataclass

from fxplain.inside import Flow
from fxplain.reports.inside_report import common_path

__all__ = ["FLOW_COLOURS", "FlowLanes", "Spot", "lay_out_flow"]

FLOW_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#56606B")
"""One for each modality, the last for tokens that routes made (Okabe and Ito, 2008)."""


@dataclass(frozen=True)
class Spot:
    """One token of the flow.

    Attributes
    ----------
    column, lane
        Where it stands, from the left and from the top; births are in the lowest lane.
    colour
        Of its modality.
    label
        What it is called.
    told
        What there is to say of it.
    size
        Its part of the largest flow, 0 to 1.
    """

    column: float
    lane: int
    colour: str
    label: str
    told: str
    size: float


@dataclass(frozen=True)
class FlowLanes:
    """A whole layout: spots as `Flow.tokens`, lines (source, target, share, part of the largest)."""

    spots: tuple[Spot, ...]
    lines: tuple[tuple[int, int, float, float], ...]
    names: tuple[str, ...]
    legend: tuple[tuple[str, str], ...]
    columns: float


def lay_out_flow(flow: Flow) -> FlowLanes:
    """Give every token its place.

    Examples
    --------
    >>> import fxplain, torch
    >>> from fxplain.reports.flow_lanes import lay_out_flow
    >>> layer = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> e = fxplain.explain(layer, (torch.randn(1, 4, 8),), lambda output: output[:, 0, 0])
    >>> lay_out_flow(e.flow()).names[-1]
    'tokens'
    """
    known = dict.fromkeys([*flow.modalities, *(at.token.modality for at in flow.tokens)])
    used = [name for name in known if any(at.token.modality == name for at in flow.tokens)]
    columns: dict[tuple[str, int], float] = {}
    edge = 0.0
    for name in used:
        places = sorted({at.token.position for at in flow.tokens if at.token.modality == name})
        for place in places:
            columns[name, place] = edge
            edge += 1
        edge += 0.5
    largest = max((abs(at.relevance) for at in flow.tokens), default=0) or 1
    top = flow.lanes - 1
    colours = {
        name: FLOW_COLOURS[min(i, len(FLOW_COLOURS) - 2) if name in flow.modalities else -1]
        for i, name in enumerate(known)
    }
    spots = tuple(
        Spot(
            columns[at.token.modality, at.token.position],
            top - at.depth,
            colours[at.token.modality],
            at.token.label,
            f"{at.token.modality}: {at.token.label}, {_where(at.kind, at.node)}",
            abs(at.relevance) / largest,
        )
        for at in flow.tokens
    )
    widest = max((abs(edge.share) for edge in flow.edges), default=0) or 1
    lines = tuple((e.source, e.target, e.share, abs(e.share) / widest) for e in flow.edges)
    legend = tuple((name, colours[name]) for name in used)
    return FlowLanes(spots, lines, _lane_names(flow), legend, max(1.0, edge - 0.5))


def _where(kind: str, node: str) -> str:
    if kind == "birth":
        return "as it is born"
    if kind == "readout":
        return "as it is read"
    return f"made by the route {node}" if kind == "route" else f"asking in {node} ({kind})"


def _lane_names(flow: Flow) -> tuple[str, ...]:
    """From the top lane to the lowest."""
    names = []
    prefix = common_path([at.node for at in flow.tokens if at.node])
    for depth in reversed(range(flow.lanes)):
        nodes = {at.node for at in flow.tokens if at.depth == depth and at.node}
        if depth == 0:
            names.append("tokens")
        elif depth == flow.lanes - 1:
            names.append("read")
        else:
            first = sorted(nodes)[0].removeprefix(prefix) if nodes else ""
            names.append(first if len(nodes) < 2 else f"{first} and {len(nodes) - 1} more")
    return tuple(names)
