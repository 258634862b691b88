"""The pages: tables of what was measured, and what to take on which kind of model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.real.cases import CLASSIFIES, FILLS, HEARS, SEES, TAGS, WRITES, Case
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
from benchmarks.real.methods import ONE_GRADIENT

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

A *method* turns one answer of a model into a number for each word, patch or moment of what it read:
how much the answer drew on it. Methods disagree, and the best one depends on the kind of model, so
they were tried on real models ([all numbers](results/real.md)). This page is written by `make real`
from what was measured.
"""

_READING = """
Models that are explained from raw inputs (`fxplain.from_pretrained`, `fxplain explain`) take
`method="auto"`, which follows this table by itself and says what it chose and why;
`fxplain.explain(model, inputs, method="auto")` does, too. `fxplain.explain` without a method takes
`generic`, the paper's. What methods are good for beyond such numbers (for and against, matrices,
sums): [how to choose a method](how-to/choose-a-method.md). On your own model and data:
[evaluate](evaluation.md).

## How to read the numbers

- **Area between deletion curves.** Words are taken away, those with the highest numbers first, and
  the model is asked each time how sure it still is of its answer: after a good explanation it
  becomes unsure at once. Then the same with the lowest numbers first: it should stay sure for long.
  The area is how far the second curve lies above the first, on average: near 1 where the numbers
  order the words as the model uses them, near 0 where they say nothing, below 0 where the order is
  upside down. How high it can get depends on the model, so compare within a row.
- **Pointing at the evidence.** Where it is known what the answer rests on (the subject of a verb, the
  seconds in which a word is spoken), how often the highest number is there: 1 is always.
- **Chance** is what random numbers get. A method that is no better says nothing of the model.
- **`generic`** and all in the column *best of one gradient* cost one run of the model forward and one
  backward; **leave one out** costs a run for each word, **integrated gradients, 20** twenty of both.
- `corrected` is short for `gradients="corrected"`, `attention constant` for `attention="constant"`.

Each number is a mean over {smallest} to {largest} inputs, so that small differences mean nothing:
[intervals and tests](results/real.md).
"""

_SUCH_AS = {
    CLASSIFIES: "sentiment, intents, rerankers, sentence similarity, regression",
    TAGS: "entities, parts of speech",
    HEARS: "Whisper",
    SEES: "DINOv2 that draws what is salient",
    WRITES: "GPT-2, Llama",
    FILLS: "BERT",
}
"""Examples of each kind."""

_ELSEWHERE = """
## Not measured on real models here

Where a decoder of words reads an encoder of words (T5, translations) `auto` takes `input_x_gradient`
with `gradients="corrected"`: on [the small one that ships](results.md) it did best.

Where words are read beside pictures, and where pictures or sound are classified, it takes `generic`
with `gradients="corrected"`: among methods of one gradient it did best on
[the small models](results.md) on average, and it has relevancy matrices.
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
    return (
        f"| {case.name} | {'no' if case.held_out else 'yes'} | {measured.chosen} | {own.value:.3f} | "
        f"{best.method} ({best.value:.3f}) | {_versus(less)} | {p:.3f} | {told} | "
        f"{'yes' if _is_above_chance(measured) else 'no'} |"
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
    by_kind = {
        kind: [(case, measured) for case, measured in found if case.kind == kind]
        for kind in dict.fromkeys(case.kind for case, _ in found)
    }
    yield from _WHICH.strip().split("\n")
    yield ""
    yield "| your model | take | as measured among methods of one gradient |"
    yield "|---|---|---|"
    for kind, own in by_kind.items():
        such = f" (such as {_SUCH_AS[kind]})" if kind in _SUCH_AS else ""
        yield f"| {kind}{such} | {_taken(own)} | {_standing(own)} |"
    elsewhere = f"(#{_anchor(_ELSEWHERE)})"
    translates = f"[a decoder of words that reads an encoder of words]{elsewhere} (such as T5)"
    yield f"| {translates} | {_code('input_x_gradient, corrected')} | |"
    yield f"| [any other]{elsewhere} | {_code('generic, corrected')} | |"
    yield ""
    counts = [measured.samples for _, measured in found]
    ends = {"smallest": min(counts, default=0), "largest": max(counts, default=0)}
    yield from _READING.strip().format(**ends).split("\n")
    yield ""
    for kind, own in by_kind.items():
        yield from _kind(kind, own)
    yield from _ELSEWHERE.strip().split("\n")


def _anchor(section: str) -> str:
    """What a heading is linked by."""
    heading = section.strip().split("\n")[0].lstrip("# ")
    return heading.lower().replace(" ", "-")


def _taken(own: Pairs) -> str:
    return ", ".join(dict.fromkeys(_code(measured.chosen) for _, measured in own))


def _code(name: str) -> str:
    """How a method of the tables is asked for."""
    asked = ONE_GRADIENT[name]
    method, options = (asked, {}) if isinstance(asked, str) else asked
    return "`" + ", ".join(f'{k}="{v}"' for k, v in {"method": method, **options}.items()) + "`"


def _standing(own: Pairs) -> str:
    """How what `auto` takes stands on a kind of model."""
    good = [case.name for case, measured in own if verdict(measured)[0] != "worse"]
    told = f"best, or not told from the best, on {len(good)} of {len(own)} sets of inputs"
    at_chance = [case.name for case, measured in own if not _is_above_chance(measured)]
    return told + (f"; not told from chance on {', '.join(at_chance)}" if at_chance else "")


def _is_above_chance(measured: Measured) -> bool:
    own = measured.result(AUTO)
    return own.chance.difference > 0 and own.chance.p < SURE


def _kind(kind: str, own: Pairs) -> Iterator[str]:
    yield f"## {kind[0].upper()}{kind[1:]}"
    yield ""
    yield f"`auto` takes {_taken(own)}: {_standing(own)}."
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
