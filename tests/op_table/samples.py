"""Samples: calls of operations, in the layouts and forms in which models have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, ops

from tests.op_table.dependence import Finding, Trial, faults_of
from tests.op_table.layouts import LAYOUTS
from tests.op_table.setting import STAGES, Setting

__all__ = ["LATER", "Sample", "along_each_axis", "of_each_layout", "thinned"]

aten = ops.aten


LATER = ("attended", "uneven")
"""The stages after an attention: before one, a window that slides along a grid makes the tokens."""


@dataclass(frozen=True)
class Sample:
    """A call of an operation.

    Attributes
    ----------
    name
        Says what is called on what.
    call
        Makes the call in a setting.
    small
        Whether only small disturbances leave the choice that the call makes (the largest, the order) as
        it is.
    extreme
        Whether it takes large disturbances to reach all that the call may choose.
    chooses
        Whether a mask that is not read says which of several values is taken.
    normalises
        Whether the call makes weights, or what becomes such: what they carry is the attention node's.
    lossy
        Whether the analysis takes what it cannot follow for new tokens, or for none, and says so.
    stages
        What the tokens have absorbed before.
    thorough
        Whether it is one of many alike, which are all tried where there is time.
    """

    name: str
    call: Callable[[Setting], Any]
    small: bool = False
    extreme: bool = False
    chooses: bool = False
    normalises: bool = False
    lossy: bool = False
    stages: tuple[str, ...] = STAGES
    thorough: bool = False

    def tried(self, stage: str) -> Trial:
        """What the tags of the call claim, against what moves."""
        strengths = (1e-4,) if self.small else (3.0, 1e3, -1e3) if self.extreme else (3.0,)
        trial = faults_of(self.call, stage, strengths=strengths)
        told = any(str(op) in w for w in trial.warnings for op in trial.called)
        excused = {"ghost"} if self.chooses else {"leak"} if self.normalises or told else set()
        kept = tuple(f for f in trial.findings if f.kind not in excused)
        leaks = any(f.kind == "leak" for f in trial.findings)
        if trial.warnings and not (leaks and told) and not self.lossy:
            kept = (*kept, Finding("alarm", "", trial.warnings[0]))
        return replace(trial, findings=kept)


_USUAL = [
    ("rows", 1), ("heads", 2), ("rows", 2), ("sequence first", 0), ("image", 2), ("folded", 0),
    ("channels first", 2), ("heads folded", 1), ("grid", 1), ("flat", 1), ("image", 1),
]  # fmt: skip
"""Layouts and axes of which each call is tried in some."""

Unary = Callable[[fx.Proxy, int], Any]


def along_each_axis(name: str, call: Unary, **how: Any) -> Iterator[Sample]:
    """A call along one axis, for every layout and every axis, counted from either end."""
    first = sum(map(ord, name))
    quick = {_USUAL[(first + i * 3) % len(_USUAL)] for i in range(2)}
    for i, (layout, (make, rank)) in enumerate(LAYOUTS.items()):
        for axis in range(rank):
            dim = axis - rank if (i + axis) % 2 else axis

            def made(s: Setting, make: Any = make, dim: int = dim) -> Any:
                return call(make(s), dim)

            thorough = (layout, axis) not in quick
            yield Sample(f"{name} of {layout} along {dim}", made, thorough=thorough, **how)


def of_each_layout(name: str, call: Callable[[fx.Proxy], Any], **how: Any) -> Iterator[Sample]:
    """A call on every layout."""
    first = sum(map(ord, name))
    for i, (layout, (make, _)) in enumerate(LAYOUTS.items()):

        def made(s: Setting, make: Any = make) -> Any:
            return call(make(s))

        yield Sample(f"{name} of {layout}", made, thorough=(first + i) % 5 > 0, **how)


def thinned(samples: Iterable[Sample], every: int) -> Iterator[Sample]:
    """The first sample of each operation and one in some of the others: the rest is for later."""
    seen: set[str] = set()
    for i, sample in enumerate(samples):
        first = sample.name.split()[0]
        yield replace(sample, thorough=first in seen and i % every > 0)
        seen.add(first)
