"""The reports of what goes on inside: heads, layers, chains of attention."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxplain.inside import (
    Contributions,
    Flow,
    FlowToken,
    HeadRelevance,
    LayerRelevance,
    Lens,
    Pairs,
    Path,
    Paths,
)
from fxplain.written import rounded

__all__ = [
    "common_path",
    "contributions_report",
    "flow_report",
    "heads_report",
    "layers_report",
    "lens_report",
    "pairs_report",
    "paths_report",
]

_MOST_SAMPLES = 4
_MOST_EDGES = 12
_BLOCKS = " ▁▂▃▄▅▆▇█"


def heads_report(found: HeadRelevance) -> RenderableType:
    """A row for each node with a bar for each head, then the strongest heads, sample by sample."""
    samples = range(min(_MOST_SAMPLES, len(found.identity)))
    parts = [part for sample in samples for part in _heads_of(found, sample)]
    return Group(*parts, *_left(len(found.identity)))


def _heads_of(found: HeadRelevance, sample: int) -> list[RenderableType]:
    grid, every = found.matrix(sample=sample), float(found.attended[sample])
    largest = float(grid.nan_to_num().abs().max())
    prefix = common_path([node.name for node in found.nodes])
    table = _table("node", "kind", "heads", "share", "strongest head")
    for node, row in zip(found.nodes, grid, strict=True):
        own = row[~row.isnan()]
        best = int(own.abs().argmax())
        table.add_row(
            Text(node.name.removeprefix(prefix)),
            _kind(node.kind, node.query, found.modalities),
            _bars(own.tolist(), largest),
            _percent(float(own.sum()), every),
            f"{best}: {_percent(float(own[best]), every)}",
        )
    return [
        _headline(found, "heads", sample, every),
        table,
    ]


def layers_report(found: LayerRelevance) -> RenderableType:
    """A row for each node in the order of depth, sample by sample."""
    parts: list[RenderableType] = []
    prefix = common_path([node.name for node in found.nodes])
    for sample in range(min(_MOST_SAMPLES, len(found.identity))):
        rows = found.table(sample)
        several = len(found.modalities) > 1
        names = found.modalities if several else ()
        table = _table("depth", "node", "kind", "share", "", *(f"of {name}" for name in names))
        every = sum(sum(row["relevance"].values()) for row in rows)
        largest = max(abs(row["share"]) for row in rows)
        for node, row in zip(found.nodes, rows, strict=True):
            shares = (_percent(row["relevance"][name], every) for name in names)
            width = round(10 * abs(row["share"]) / largest) if largest else 0
            table.add_row(
                str(row["depth"]),
                Text(node.name.removeprefix(prefix)),
                _kind(node.kind, node.query, found.modalities),
                f"{row['share']:.1%}",
                Text("█" * width, "dark_orange" if row["share"] >= 0 else "blue"),
                *shares,
            )
        parts += [
            _headline(found, "layers", sample, every),
            table,
        ]
    return Group(*parts, *_left(len(found.identity)))


def common_path(names: Sequence[str]) -> str:
    """The path that all names begin with.

    Examples
    --------
    >>> common_path(["encoder.layer.0.self", "encoder.layer.1.self"])
    'encoder.layer.'
    """
    parts = [name.split(".")[:-1] for name in names]
    same = itertools.takewhile(lambda own: len(set(own)) == 1, zip(*parts, strict=False))
    return "".join(f"{own[0]}." for own in same)


def paths_report(found: Paths) -> RenderableType:
    """A row for each path, from the token to what is read."""
    table = _table("share", "token", "path, in the order in which the model computes")
    prefix = common_path([hop.node for path in found for hop in path.hops if hop.head is not None])
    for path in found:
        table.add_row(f"{path.share:.1%}", Text(path.token.label), _steps(path, prefix))
    head = Text.assemble(
        (f"{len(found)} paths", "bold"),
        f" bring {found.share:.1%} of the {found.attended:.4g} that attention gives",
        (f"; nodes are in {prefix[:-1]}" if prefix else "", "dim"),
        _in_place(found),
    )
    return Group(head, table)


def _steps(path: Path, prefix: str) -> Text:
    text = Text()
    for hop in reversed(path.hops):
        head = "" if hop.head is None else f" h{hop.head}"
        text.append(f"→ {hop.node.removeprefix(prefix)}{head} ", "dim")
        text.append(f"→ {hop.query.label} ")
    return text


def flow_report(found: Flow) -> RenderableType:
    """How large the graph is, and its strongest edges."""
    head = Text.assemble(
        ("flow", "bold"),
        f": {len(found.tokens)} tokens and {len(found.edges)} edges bring {found.kept:.1%} of what "
        "attention gives; to_html(path) and plot() draw it",
        _in_place(found),
    )
    table = _table("share", "from", "to")
    for edge in found.edges[:_MOST_EDGES]:
        source, target = found.tokens[edge.source], found.tokens[edge.target]
        table.add_row(f"{edge.share:.1%}", *(Text(_told(at)) for at in (source, target)))
    left = len(found.edges) - _MOST_EDGES
    rest = [Text(f"and {left} weaker edges", "dim")] if left > 0 else []
    return Group(head, table, *rest)


def _told(at: FlowToken) -> str:
    return f"{at.token.label} at {at.node}" if at.node else f"{at.token.label} ({at.kind})"


def contributions_report(found: Contributions) -> RenderableType:
    """The strongest terms of each score, and what the others add up to."""
    parts: list[RenderableType] = []
    for sample in range(min(_MOST_SAMPLES, len(found.scores))):
        named = f" of sample {sample}" if len(found.scores) > 1 else ""
        head = Text.assemble(
            (f"score{named}", "bold"),
            f": {rounded(float(found.scores[sample]), '.4g')}, the sum of",
        )
        table = _table("adds", "", "what", "kind")
        top = found.top(_MOST_EDGES, sample=sample)
        largest = max((abs(float(term.values[sample])) for term in top), default=0) or 1
        for term in top:
            value = float(term.values[sample])
            bar = Text(
                "█" * round(10 * abs(value) / largest), "dark_orange" if value > 0 else "blue"
            )
            table.add_row(rounded(value, "+.4g"), bar, Text(str(term)), term.kind)
        others = len(found.terms) - len(top)
        if others:
            left = float(found.scores[sample]) - sum(float(term.values[sample]) for term in top)
            table.add_row(rounded(left, "+.4g"), "", Text(f"{others} other terms", "dim"), "")
        parts += [head, table]
    return Group(*parts, *_left(len(found.scores)))


def lens_report(found: Lens) -> RenderableType:
    """The score and the answer after each layer, sample by sample."""
    parts: list[RenderableType] = []
    prefix = common_path(found.layers)
    for sample in range(min(_MOST_SAMPLES, found.scores.shape[1])):
        table = _table("after", "score", "answer")
        for i, layer in enumerate(found.layers):
            told = found.predicted[i][sample] if found.predicted else ""
            name = Text(layer.removeprefix(prefix))
            table.add_row(name, rounded(float(found.scores[i, sample]), ".4g"), Text(told))
        named = f" of sample {sample}" if found.scores.shape[1] > 1 else ""
        parts += [
            Text.assemble((f"lens{named}", "bold"), ": the model's head after each layer"),
            table,
        ]
    return Group(*parts, *_left(found.scores.shape[1]))


def _headline(found: HeadRelevance | LayerRelevance, what: str, sample: int, every: float) -> Text:
    own = float(found.identity[sample].sum())
    return Text.assemble(
        (what, "bold"),
        f" of sample {sample}" if len(found.identity) > 1 else "",
        f": attention gives {rounded(every, '.4g')}",
        (f", the readout has {rounded(own, '.4g')} of itself" if own else "", "dim"),
        _in_place(found),
    )


def _in_place(found: HeadRelevance | LayerRelevance | Paths | Flow) -> tuple[str, str]:
    """By which method it is told, where that is not the explanation's."""
    if not found.in_place_of:
        return "", ""
    return f"; by {found.method}, as {found.in_place_of} has no chains of attention", "dim"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in columns:
        right = name in ("share", "depth") or name.startswith("of ")
        narrow = name in ("kind", "heads", "strongest head", "")
        table.add_column(
            name, justify="right" if right else "left", overflow="fold", no_wrap=narrow
        )
    return table


def _kind(kind: str, query: Sequence[str], modalities: Sequence[str]) -> Text:
    asked = f" {', '.join(query)}" if len(modalities) > 1 else ""
    return Text.assemble(kind, (asked, "dim"))


def _bars(values: Sequence[float], largest: float) -> Text:
    text = Text()
    for value in values:
        size = round(8 * abs(value) / largest) if largest else 0
        text.append(_BLOCKS[max(size, value != 0)], "dark_orange" if value >= 0 else "blue")
    return text


def pairs_report(found: Pairs) -> RenderableType:
    """The strongest pairs of each sample, and what all of them add up to."""
    parts: list[RenderableType] = []
    for sample in range(min(len(found.values), _MOST_SAMPLES)):
        numbers = (found.scores[sample], found.promised[sample], found.values[sample].sum())
        score, both, whole = (rounded(float(number), ".4g") for number in numbers)
        parts.append(
            Text.assemble(
                (f"{found.a} and {found.b}", "bold"),
                f", sample {sample}: score {score}, of which both have {both} together; all pairs "
                f"add up to {whole}",
            )
        )
        table = _table(found.a, found.b, "adds")
        for pair in found.top(_MOST_PAIRS, sample=sample):
            style = "dark_orange" if pair.value >= 0 else "blue"
            table.add_row(Text(pair.a), Text(pair.b), Text(rounded(pair.value, "+.4g"), style))
        parts.append(table)
    return Group(*parts, *_left(len(found.values)))


_MOST_PAIRS = 15


def _percent(value: float, whole: float) -> str:
    return f"{value / whole:.1%}" if whole else "0%"


def _left(samples: int) -> list[Text]:
    more = samples - _MOST_SAMPLES
    return [Text(f"and {more} more samples", "dim")] if more > 0 else []
