"""``python -m tests.loading``: every way of having a model, explained or refused, as a table."""

from __future__ import annotations

import argparse
import importlib.util
import warnings
from pathlib import Path

import fxplain
from tests.loading.ways import WAYS, Way, inputs, plain

__all__ = ["Found", "main", "tried"]

HEAD = """# Models as people load them

Each way to load, wrap or change a model, tried on a small one and compared with the plain model (or
with the same change made by hand). Written by `python -m tests.loading --markdown docs/loading.md`.
What does not fit one machine has [a page of its own](how-to/large-models.md).

| a model that is | captured by | relevance |
|---|---|---|
"""


class Found:
    """What came of one way.

    Attributes
    ----------
    route
        How it was captured, or "".
    difference
        From the plain model's relevance, in shares of the largest; None where it was refused.
    message
        With which it was refused, or "".
    """

    def __init__(self, route: str, difference: float | None, message: str) -> None:
        self.route, self.difference, self.message = route, difference, message

    def right(self, way: Way) -> bool:
        """Whether it is as it should be."""
        if way.refused is not None:
            return way.refused in self.message
        return self.difference is not None and self.difference <= way.within


def tried(way: Way) -> Found:
    """Explain the model by this way and by the plain one."""
    (expected,) = fxplain.explain(way.like(plain()), inputs(), target=1).relevance.values()
    try:
        model, given = way.made(plain()), inputs()
        with warnings.catch_warnings(), way.around():
            warnings.simplefilter("ignore")
            explanation = fxplain.explain(model, given, target=1)
    except fxplain.FxplainError as error:
        return Found("", None, str(error))
    (found,) = explanation.relevance.values()
    difference = float((found.double() - expected.double()).abs().max() / expected.abs().max())
    return Found(explanation.graph.capture.route, difference, "")


def main() -> int:
    """Print the table; 1 where something is neither right nor refused as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.loading", description=__doc__)
    parser.add_argument("--markdown", type=Path, help="a page to write")
    asked = parser.parse_args()
    wrong, rows = 0, []
    for way in WAYS:
        if way.needs and importlib.util.find_spec(way.needs) is None:
            print(f"{way.name:45s} not tried: {way.needs} is not installed")
            continue
        found = tried(way)
        wrong += not found.right(way)
        lines = found.message.split("\n")  # what was tried is between the first and the last
        refused = " ... ".join(dict.fromkeys([lines[0], lines[-1]]))
        said = f"refused: {refused}" if refused else f"differs by {found.difference:.1g}"
        print(
            f"{way.name:45s} {'' if found.right(way) else 'WRONG '}{found.route:14s} {said[:120]}"
        )
        rows.append(f"| {way.name} | {found.route or '-'} | {said} |\n")
    if asked.markdown:
        asked.markdown.write_text(HEAD + "".join(rows), encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
