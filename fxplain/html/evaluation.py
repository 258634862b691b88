"""The page of an evaluation: its numbers with intervals, its curves, and parts of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from math import isfinite, isnan
from typing import Any

import jinja2

from fxplain.evaluation import Curve, Evaluation, Row
from fxplain.html.assets_of import asset, digest, package_version
from fxplain.reports.evaluation_report import facts_of
from fxplain.written import rounded

__all__ = ["evaluation_page"]

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A1FA2", "#8C6D31",
    "#B22222", "#2F4F4F", "#6B8E23", "#4B0082",
)  # fmt: skip
"""Of the palette by Okabe and Ito (2008), and others that are told from these."""

MOST_PARTS = 20
"""More classes or groups than these get no tables of their own."""

WIDTH, HEIGHT, LEFT, TOP = 420.0, 240.0, 46.0, 12.0


def evaluation_page(found: Evaluation) -> str:
    """An evaluation as one self-contained HTML page."""
    style = asset("page.css") + asset("evaluation.css")
    colours = {m: COLOURS[i % len(COLOURS)] for i, m in enumerate(found.methods)}
    return _template().render(
        found=found,
        facts=list(facts_of(found.settings)),
        skipped=found.settings["skipped"],
        tables=_tables(found),
        charts=[_chart(found, *key, colours) for key in _charted(found)],
        parts=list(_parts(found)),
        metrics=found.metrics,
        style=style,
        style_hash=digest(style),
        version=package_version(),
    )


def _tables(found: Evaluation) -> list[dict[str, Any]]:
    """A table for each modality: methods by metrics, the best of each marked."""
    return [
        _table(modality, [row for row in found.rows if row.modality == modality], found)
        for modality in found.modalities
    ]


def _table(modality: str, rows: Sequence[Row], found: Evaluation) -> dict[str, Any]:
    metrics = list(dict.fromkeys(row.metric for row in rows))
    by_key = {(row.method, row.metric): row for row in rows}
    best = {metric: _best([row for row in rows if row.metric == metric]) for metric in metrics}
    lines = []
    for method in found.methods:
        cells = []
        for metric in metrics:
            row = by_key.get((method, metric))
            cells.append(None if row is None else _cell(row, best[metric]))
        lines.append({"method": method, "cells": cells})
    heads = [{"name": m, "better": found.metrics[m].better} for m in metrics]
    return {"modality": modality, "metrics": heads, "lines": lines}


def _best(rows: Sequence[Row]) -> float | None:
    values = [row.value for row in rows if isfinite(row.value)]
    choose = max if rows[0].better == "higher" else min
    return choose(values) if values else None


def _cell(row: Row, best: float | None) -> dict[str, Any]:
    return {
        "value": rounded(row.value, ".3f") if isfinite(row.value) else "-",
        "interval": _interval(row),
        "samples": row.samples,
        "best": row.value == best,
    }


def _interval(row: Row) -> str:
    if row.samples < 2:
        return "one sample" if row.samples else "of no sample"
    return f"{rounded(row.low, '.3f')} to {rounded(row.high, '.3f')}"


def _charted(found: Evaluation) -> list[tuple[str, str]]:
    return list(dict.fromkeys((key.metric, key.modality) for key in found.curves))


def _chart(
    found: Evaluation, metric: str, modality: str, colours: Mapping[str, str]
) -> dict[str, Any]:
    """The curves of one metric and modality, as lines of an SVG."""
    curves = {
        key.method: curve
        for key, curve in found.curves.items()
        if (key.metric, key.modality) == (metric, modality)
    }
    known = {m: c for m, c in curves.items() if all(map(isfinite, c.mean))}
    ends = (y for curve in known.values() for y in (*curve.mean, *curve.low, *curve.high))
    values = [y for y in ends if isfinite(y)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    high = high if high > low else low + 1
    lines = [
        {"method": m, "colour": colours[m], **_line(curve, low, high)} for m, curve in known.items()
    ]
    return {
        "metric": metric,
        "modality": modality,
        "axis": found.metrics[metric].axis,
        "lines": lines,
        "low": rounded(low, ".3g"),
        "high": rounded(high, ".3g"),
    }


def _line(curve: Curve, low: float, high: float) -> dict[str, str]:
    """The path of the means, and the outline of their intervals."""
    x = [LEFT + (WIDTH - LEFT - 8) * share for share in curve.x]

    def path(values: Sequence[float]) -> list[str]:
        down = HEIGHT - TOP - 26
        ys = [TOP + down * (1 - (value - low) / (high - low)) for value in values]
        return [f"{a:.1f} {b:.1f}" for a, b in zip(x, ys, strict=True)]

    outline = [] if isnan(curve.low[0]) else [*path(curve.high), *reversed(path(curve.low))]
    band = "M" + "L".join(outline) + "Z" if outline else ""
    return {"path": "M" + "L".join(path(curve.mean)), "band": band}


def _parts(found: Evaluation) -> Iterator[dict[str, Any]]:
    """By class and by group, where there are several, the same tables apart."""
    for label, values in found.labels.items():
        known = [value for value in dict.fromkeys(values) if value is not None]
        if not 1 < len(known) <= MOST_PARTS:
            continue
        for value, part in found.by(label).items():
            yield {
                "name": f"{label} {value}",
                "samples": part.settings["samples"],
                "tables": _tables(part),
            }


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(asset("evaluation.html.j2"))
