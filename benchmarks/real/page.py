"""The pages: tables of what was measured, and what to take on which kind of model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.real.cases import Case
from benchmarks.real.measured import (
    AUTO,
    CHANCE,
    GENERIC,
    INTEGRATED,
    LEFT_OUT,
    Measured,
    Versus,
    holm,
)

__all__ = ["choosing_page", "results_page", "verdict"]

Pairs = Sequence[tuple[Case, Measured]]

SURE = 0.05
NAMES = {"abpc": "area between deletion curves", "pointing_game": "pointing at the evidence"}


_INTRODUCTION = """
# Results on real models

Written by `make real`: checkpoints that packages of the registry carry, and a program that is
compiled into one, on sentences, reactions, speech and pictures that were made for this purpose.
Higher is better everywhere. *Area between deletion curves*: the probability of the explained class
as the least relevant tokens go first (20, 50, 80%), less that as the most relevant do; words are
masked in attention, patches take the picture's mean. *Pointing at the evidence*: whether the most
relevant token is among those that are known to be it; *share on it*: the positive relevance that
lies there. Intervals are bootstrap intervals of 95%, p-values
those of paired permutation tests, after Holm within a table. [Which method to
take](../choose-a-method.md) sums this up; [the small models](../results.md) are another view.

## `auto` among the methods of one gradient

*Tied*: no method of one gradient is better by a paired test (p < 0.05 after Holm). Where it says
"no" the case was not looked at before `auto` was made.
"""

_WHICH = """
# Which method on which kind of model

Written by `make real` from [what was measured on real models](results/real.md). A model that is
explained from raw inputs (`fxplain.from_pretrained`, `fxplain explain`) takes `method="auto"`,
which follows this page and says what it chose and why; `fxplain.explain` takes `generic`, the
paper's method, unless it is told otherwise. How methods differ beyond such numbers: [how to choose
a method](how-to/choose-a-method.md). On your own model and data: [evaluate](evaluation.md).
"""

_ELSEWHERE = """
## Not measured on real models here

Where a decoder of words reads an encoder of words, where words are read beside pictures, and where
pictures or sound are classified, `auto` takes `generic` with `gradients="corrected"`: among methods
of one gradient it did best on [the small models](results.md) on average, and it has relevancy
matrices.
"""


def results_page(found: Pairs) -> str:
    """docs/results/real.md."""
    return "\n".join(_results(found)) + "\n"


def _results(found: Pairs) -> Iterator[str]:
    yield from _INTRODUCTION.strip().split("\n")
    yield ""
    yield (
        "| case | chosen from | `auto` took | value | best of one gradient | `auto` less it | p | "
        "verdict | above chance |"
    )
    yield "|---|---|---|--:|---|--:|--:|---|---|"
    for case, measured in found:
        yield _row(case, measured)
    yield ""
    yield "## Best of one gradient against 20 steps of integrated gradients"
    yield ""
    yield "| case | best of one gradient | value | integrated gradients | difference | p |"
    yield "|---|---|--:|--:|--:|--:|"
    for case, measured in found:
        best = measured.one_gradient[0]
        of_ig = measured.result(INTEGRATED)
        yield (
            f"| {case.name} | {best.method} | {best.value:.3f} | {of_ig.value:.3f} | "
            f"{_versus(best.integrated)} | {best.integrated.p:.3f} |"
        )
    for case, measured in found:
        yield from _case(case, measured)


def _row(case: Case, measured: Measured) -> str:
    own, best = measured.result(AUTO), measured.one_gradient[0]
    told, p = verdict(measured)
    less = Versus(-best.auto.difference, -best.auto.high, -best.auto.low, best.auto.p)
    above = own.chance.difference > 0 and own.chance.p < SURE
    return (
        f"| {case.name} | {'no' if case.held_out else 'yes'} | {measured.chosen} | {own.value:.3f} | "
        f"{best.method} ({best.value:.3f}) | {_versus(less)} | {p:.3f} | {told} | "
        f"{'yes' if above else 'no'} |"
    )


def verdict(measured: Measured) -> tuple[str, float]:
    """How `auto` stands among the methods of one gradient, and the smallest p of a better one."""
    better = [each for each in measured.one_gradient if each.auto.difference > 0]
    if not better:
        return "best", 1.0
    ps = holm([each.auto.p for each in measured.one_gradient])
    p = min(ps[i] for i, each in enumerate(measured.one_gradient) if each.auto.difference > 0)
    return ("worse" if p < SURE else "tied"), p


def _versus(versus: Versus) -> str:
    return f"{versus.difference:+.3f} ({versus.low:+.3f} to {versus.high:+.3f})"


def _case(case: Case, measured: Measured) -> Iterator[str]:
    yield ""
    yield f"## {case.name[0].upper()}{case.name[1:]}"
    yield ""
    about = f"{case.about[0].upper()}{case.about[1:]}"
    yield f"{about}. {NAMES[measured.metric].capitalize()}, n = {measured.samples}."
    yield ""
    has_mass = measured.results[0].mass is not None
    mass, line = (" share on it |", "--:|") if has_mass else ("", "")
    yield f"| method | {NAMES[measured.metric]} | less `generic` | p (Holm) |{mass}"
    yield f"|---|--:|--:|--:|{line}"
    others = [each for each in measured.results if each.method != GENERIC]
    adjusted = dict(
        zip(
            (each.method for each in others),
            holm([each.generic.p for each in others]),
            strict=True,
        )
    )
    for each in measured.results:
        number = f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})"
        mass = "" if each.mass is None else f" {each.mass:.3f} |"
        if each.method == GENERIC:
            yield f"| **{GENERIC}** | {number} | | |{mass}"
            continue
        name = "chance (random relevance)" if each.method == CHANCE else each.method
        name = f"**auto** ({measured.chosen})" if each.method == AUTO else name
        yield f"| {name} | {number} | {_versus(each.generic)} | {adjusted[each.method]:.3f} |{mass}"


# ---- what to take ---------------------------------------------------------------------------------


def choosing_page(found: Pairs) -> str:
    """docs/choose-a-method.md."""
    return "\n".join(_choosing(found)) + "\n"


def _choosing(found: Pairs) -> Iterator[str]:
    yield from _WHICH.strip().split("\n")
    yield ""
    for kind in dict.fromkeys(case.kind for case, _ in found):
        own = [(case, measured) for case, measured in found if case.kind == kind]
        yield from _kind(kind, own)
    yield from _ELSEWHERE.strip().split("\n")


def _kind(kind: str, own: Pairs) -> Iterator[str]:
    yield f"## {kind[0].upper()}{kind[1:]}"
    yield ""
    chosen = ", ".join(dict.fromkeys(f"`{measured.chosen}`" for _, measured in own))
    yield f"`auto` takes {chosen}."
    yield ""
    yield (
        "| on | `auto` | best of one gradient | `generic` | leave one out | integrated gradients, 20 | "
        "chance |"
    )
    yield "|---|--:|---|--:|--:|--:|--:|"
    for case, measured in own:
        best = measured.one_gradient[0]
        values = [measured.value(name) for name in (GENERIC, LEFT_OUT, INTEGRATED, CHANCE)]
        numbers = ["" if value is None else f"{value:.2f}" for value in values]
        yield (
            f"| {case.name} ({NAMES[measured.metric]}) | {measured.result(AUTO).value:.2f} | "
            f"{best.method} ({best.value:.2f}) | {' | '.join(numbers)} |"
        )
    yield ""
    below = [
        f"`{each.method}` ({each.value:.2f} on {case.name})"
        for case, measured in own
        for each in measured.results
        if each.method != CHANCE and each.chance.difference < 0 and each.chance.p < SURE
    ]
    if below:
        yield f"Below chance: {', '.join(below)}."
        yield ""
