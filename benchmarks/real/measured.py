"""What was measured of a case: one number a method, with intervals and paired tests, as plain data."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import fxplain
from benchmarks.real.cases import Case, Prepared
from benchmarks.real.methods import METHODS, ONE_GRADIENT

__all__ = [
    "AUTO",
    "LEFT_OUT",
    "Measured",
    "Result",
    "Versus",
    "compared",
    "holm",
    "is_kept",
    "kept",
    "measure",
]

STEPS = (0.2, 0.5, 0.8)
"""The shares of tokens that go."""

GENERIC, AUTO, CHANCE = "generic", "auto", "random"
MASS = "relevance_mass"
INTEGRATED, LEFT_OUT = "integrated_gradients, 20 steps", "leave_one_out"


@dataclass(frozen=True)
class Versus:
    """A method less another on the same samples, with the p-value of a paired test."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Result:
    """A method's number, and how it compares with `generic`, with `auto` and with chance.

    `mass` is the share of positive relevance that lies on the evidence, where there is evidence.
    """

    method: str
    value: float
    low: float
    high: float
    generic: Versus
    auto: Versus
    chance: Versus
    integrated: Versus
    mass: float | None = None


@dataclass(frozen=True)
class Measured:
    """All of a case, the best method first."""

    case: str
    metric: str
    samples: int
    chosen: str
    why: str
    removal: str
    results: tuple[Result, ...]

    def result(self, method: str) -> Result:
        """One method's."""
        return next(each for each in self.results if each.method == method)

    def value(self, method: str) -> float | None:
        """One method's number, if it was measured."""
        return next((each.value for each in self.results if each.method == method), None)

    @property
    def one_gradient(self) -> tuple[Result, ...]:
        """Those that cost one forward and one backward, the best first."""
        return tuple(each for each in self.results if each.method in ONE_GRADIENT)


def holm(ps: list[float]) -> list[float]:
    """Holm's p-values for several tests.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [0.0] * len(ps), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[i]))
        adjusted[i] = highest
    return adjusted


def measure(given: Prepared) -> fxplain.Evaluation:
    """Run all methods on a case; what `auto` takes is one of them."""
    own = given.leave_one_out
    return fxplain.evaluate(
        given.model,
        given.data,
        METHODS | ({LEFT_OUT: own} if own else {}),
        [given.metric, MASS] if given.points else [given.metric],
        steps=STEPS,
        tokenizer=given.tokenizer,
        **given.options,
    )


def compared(case: Case, given: Prepared, found: fxplain.Evaluation) -> Measured:
    """All numbers of a case, beside the method that `auto` takes on it."""
    example = given.data[0]
    is_asked = isinstance(example, fxplain.Example)
    inputs, target = (example.inputs, example.target) if is_asked else (example, None)
    taken = fxplain.explain(given.model, inputs, target, AUTO, **given.options)
    chosen = _label(taken)

    def versus(method: str, other: str) -> Versus:
        c = found.compare(method, other, given.metric)
        return Versus(c.difference, c.low, c.high, c.p_value)

    def result(name: str, method: str) -> Result:
        row = found.row(method, given.metric)
        return Result(
            name, row.value, row.low, row.high,
            *(versus(method, other) for other in (GENERIC, chosen, CHANCE, INTEGRATED)),
            found.row(method, MASS).value if given.points else None,
        )  # fmt: skip

    results = [result(AUTO, chosen), *(result(name, name) for name in found.methods)]
    return Measured(
        case=case.name,
        metric=given.metric,
        samples=found.settings["samples"],
        chosen=chosen,
        why=taken.chosen,
        removal="; ".join(f"{n} {how}" for n, how in found.settings["removal"].items()),
        results=tuple(sorted(results, key=lambda each: -each.value)),
    )


def _label(chosen: fxplain.Explanation) -> str:
    """What the tables call the method that `auto` took."""
    names = [chosen.method]
    names += ["corrected"] if chosen.options.get("gradients") == "corrected" else []
    names += ["attention constant"] if chosen.options.get("attention") == "constant" else []
    return ", ".join(names)


def _path(case: Case, folder: Path) -> Path:
    return folder / f"{case.name.replace(' ', '-').replace(',', '')}.pickle"


def is_kept(case: Case, folder: Path) -> bool:
    """Whether it was measured before."""
    return _path(case, folder).exists()


def kept(case: Case, folder: Path, *, again: bool = False) -> Measured:
    """What is kept under `folder`, or measured now and kept, beside what `auto` takes now."""
    path, given = _path(case, folder), case.prepare()
    if again or not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(measure(given)))
    return compared(case, given, pickle.loads(path.read_bytes()))
