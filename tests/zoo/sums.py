"""``python -m tests.zoo.sums``: whether what is inside adds up, on the architectures of the zoo.

Heads and what is read of itself add up to the relevance, all paths to all that attention gives, and the
direct contributions, biases by their names, to the score.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from rich.console import Console
from rich.table import Table

import fxplain
from tests.zoo import CASES
from tests.zoo.case import ZooCase
from tests.zoo.laws import explained
from tests.zoo.table import quiet

__all__ = ["FEW", "Sums", "sums_of"]

FEW = (
    "bert", "deberta-v2", "xlnet", "gpt2", "bloom", "llama", "gemma2", "mixtral", "gpt-oss",
    "t5", "bart-equal", "vit", "swin", "segformer", "detr", "sam", "lxmert", "visual-bert-equal",
    "clip", "llava", "blip", "wav2vec2", "whisper", "timesformer", "patchtst", "layoutlmv3",
    "perceiver-image", "beit", "dinov2", "dpt",
)  # fmt: skip
"""Architectures of all kinds."""

TOLERANCE = 1e-5


@dataclass
class Sums:
    """By how much the sums of one architecture are off, of what they should be.

    Attributes
    ----------
    name
        The architecture.
    heads, paths, terms
        Of the relevance, of all that attention gives, and of the score.
    kinds
        How many terms of each kind there are.
    refused
        What was refused, or went wrong, in words.
    """

    name: str
    heads: float | None = None
    paths: float | None = None
    terms: float | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        """Whether everything adds up."""
        off = (self.heads, self.paths, self.terms)
        return not self.refused and all(x is not None and x <= TOLERANCE for x in off)


def sums_of(case: ZooCase) -> Sums:
    """The sums of one architecture; what goes wrong becomes a part of the row."""
    row, start = Sums(case.name), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = case.build(None)
        e = explained(model, inputs)
        for what, measure in (("heads", _heads), ("paths", _paths), ("terms", _terms)):
            try:
                setattr(row, what, measure(e, row))
            except Exception as error:  # noqa: BLE001 - one failure must not stop the table
                row.refused.append(f"{what}: {type(error).__name__}: {error}")
    row.seconds = time.perf_counter() - start
    return row


def _heads(e: fxplain.Explanation, row: Sums) -> float:
    whole = torch.stack([values.sum(1) for values in e.relevance.values()], 1)
    return _off(e.heads().total, whole)


def _paths(e: fxplain.Explanation, row: Sums) -> float:
    """All chains at once: what flows into the readout along the edges of the whole graph."""
    flow = e.flow(1.0)
    read = sum(edge.relevance for edge in flow.edges if flow.tokens[edge.target].kind == "readout")
    attended = e.beyond_identity().values()
    whole = torch.tensor(sum(float(values[0].double().sum()) for values in attended))
    off = _off(torch.tensor(read), whole)
    paths = e.paths(500)
    if len(paths) < 500:  # these are all of them
        off = max(off, abs(paths.share - 1) if float(whole) else 0.0)
    return off


def _terms(e: fxplain.Explanation, row: Sums) -> float:
    found = e.contributions()
    row.kinds = Counter(term.kind for term in found)
    largest = torch.stack([term.values.abs() for term in found]).amax(0)
    return float((found.rest.abs() / torch.maximum(largest, found.scores.abs())).nan_to_num().max())


def _off(found: torch.Tensor, whole: torch.Tensor) -> float:
    scale = float(whole.abs().max()) or 1.0
    return float((found - whole).abs().max()) / scale


def table(rows: Sequence[Sums]) -> Table:
    """The rows, as people read them."""
    made = Table("architecture", "heads", "paths", "terms", "kinds of terms", "s", "refused")
    for row in rows:
        off = ("-" if x is None else f"{x:.0e}" for x in (row.heads, row.paths, row.terms))
        kinds = ", ".join(f"{n} {kind}" for kind, n in row.kinds.items() if kind != "rest")
        made.add_row(row.name, *off, kinds, f"{row.seconds:.1f}", "; ".join(row.refused))
    return made


def main() -> int:
    """Print the table; the exit status says whether everything adds up."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.sums", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="architectures, by name")
    parser.add_argument("--all", action="store_true", help="the whole zoo")
    options = parser.parse_args()
    quiet()
    console, rows = Console(width=180), []
    for case in _chosen(options.only, options.all):
        rows.append(sums_of(case))
        console.print(f"{case.name}: {'right' if rows[-1].right else rows[-1]}")
    console.print(table(rows))
    console.print(f"{sum(row.right for row in rows)} of {len(rows)} add up to {TOLERANCE:.0e}")
    return 0 if all(row.right for row in rows) else 1


def _chosen(only: Sequence[str] | None, everything: bool) -> Iterator[ZooCase]:
    for case in CASES:
        if case.expected and (everything or case.name in (only or FEW)):
            yield case


if __name__ == "__main__":
    raise SystemExit(main())
