"""The page of results: tables, what the paper found and whether it holds here, and what to use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import mean

from examples.miniature.experiment import Claim, Column, Experiment
from examples.miniature.findings import (
    LEVEL,
    Findings,
    Tally,
    Test,
    holm,
    true_against_predicted,
)
from examples.miniature.methods import (
    BASELINES,
    CORRECTED,
    GENERIC,
    INTEGRATED,
    INTEGRATION_STEPS,
    OPTIONS,
    compared_methods,
)
from fxplain.evaluation import RANDOM, Comparison, Evaluation
from fxplain.evaluation.result import Key

IMAGES = "images/results"
PARTS = ("predicted", "true")


def page(
    findings: Sequence[Findings],
    seed: int,
    command: str,
    left_out: Sequence[Experiment] = (),
    docs: str = "",
) -> str:
    """The whole page as Markdown.

    Parameters
    ----------
    findings : sequence of Findings
        Of the experiments, in their order.
    seed : int
        Of the run.
    command : str
        What made the page.
    left_out : sequence of Experiment
        Those that were not asked for.
    docs : str
        Where the documentation's other pages are, as "../".
    """
    sections = [
        _head(findings, seed, command, docs),
        *([_left_out(left_out)] if left_out else []),
        *(_section(number, each) for number, each in enumerate(findings, 1)),
        *([_options(findings)] if CORRECTED in findings[0].methods else []),
        *([_one_gradient(findings)] if INTEGRATED in findings[0].methods else []),
        _which_method(findings, docs),
    ]
    return "\n\n".join(sections) + "\n"


def _head(findings: Sequence[Findings], seed: int, command: str, docs: str) -> str:
    samples = ", ".join(f"{each.samples} for {each.experiment.name}" for each in findings)
    missing = len(compared_methods()) - len(findings[0].methods)
    title = "Results: the paper's experiments in miniature"
    title += f", {len(findings[0].methods)} methods" if missing else ""
    return f"""\
# {title}

Made by

    {command}

with seed {seed}: numbers and verdicts are all computed, only what is measured
and what the paper found is written by hand. Samples: {samples}; all from handwritten digits that
training never saw or, for text, drawn anew.

The experiments are those of [2103.15679](https://arxiv.org/abs/2103.15679) on small models that
come with this repository (`examples/models/`, trained by `examples/training/`), with
[`fxplain.evaluate`]({docs}evaluation.md). These are small models of easy tasks: what holds here
need not hold for large ones, nor the other way round.

All numbers are percentages. ↑ says that higher is better and ↓ that lower is; the best method of a
column is **bold**. An asterisk (\\*) marks what is better than `{GENERIC}` by a paired permutation
test, a degree sign (°) what it cannot tell from `{GENERIC}` (p < {LEVEL} after Holm's correction
for the methods of a column); all else is worse. `{RANDOM}` is chance. `integrated_gradients` takes
{INTEGRATION_STEPS} steps."""


def _left_out(experiments: Sequence[Experiment]) -> str:
    titles = "; ".join(f"{each.title} (`{each.name}`)" for each in experiments)
    return f"Left out of this run: {titles}."


# ---- one experiment -----------------------------------------------------------------------------


def _section(number: int, findings: Findings) -> str:
    experiment = findings.experiment
    pictures = [f"![{name}]({IMAGES}/{name}.png)" for name in experiment.plots]
    parts = [
        f"## {number}. {experiment.title}",
        experiment.about,
        _table(findings),
        _unperturbed(findings),
        *pictures,
        f"**The paper:** {experiment.paper}",
        "**Here,** by paired tests, `generic` is",
        "\n".join(f"- {_held(findings, claim)}" for claim in experiment.claims),
        _better_than_default(findings),
        _true_class(findings),
    ]
    return "\n\n".join(part for part in parts if part)


def _unperturbed(findings: Findings) -> str:
    """What the perturbation curves begin with."""
    for part, modality in findings.experiment.plots.values():
        results = findings.found[part]
        assert isinstance(results, Evaluation)
        start = results.curves[Key(GENERIC, "negative", modality)].mean[0]
        return f"Without perturbation the {results.settings['score']} is {100 * start:.1f}%."
    return ""


def _table(findings: Findings) -> str:
    columns = findings.experiment.columns
    better = {c: findings.found[c.part].row(RANDOM, c.metric, c.modality).better for c in columns}
    arrows = {"higher": "↑", "lower": "↓"}
    headings = ["<br>".join(column.heading) + " " + arrows[better[column]] for column in columns]
    rows = [[f"`{row}`", *(_cell(findings, c, row) for c in columns)] for row in findings.rows]
    return markdown_table(["method", *headings], rows)


def _cell(findings: Findings, column: Column, row: str) -> str:
    value = findings.value(column, row)
    text = f"{100 * value:.1f}"
    if row in findings.methods and value == findings.best(column):
        text = f"**{text}**"
    test = findings.tests.get((column, row))
    if test is None:
        return text
    return text + ("\\*" if test.tally.wins else "°" if test.tally.ties else "")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose other columns are numbers."""
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _held(findings: Findings, claim: Claim) -> str:
    """A sentence on how `generic` fares against the methods that the paper has it beat."""
    others = [other for other in claim.others if other in findings.methods]
    against = {other: -findings.tally(other, claim.columns) for other in others}
    total = sum(against.values(), Tally())
    each = "; ".join(f"`{other}` {_score(tally)}" for other, tally in against.items())
    return (
        f"in {claim.text} **{_verdict(total)}**: it wins {total.wins} of {total.tests} tests, loses "
        f"{total.losses} and cannot be told apart in {total.ties} (won and lost against {each})."
    )


def _verdict(tally: Tally) -> str:
    """Whether a claim holds, by the tests of it."""
    if tally.wins == tally.losses == 0:
        return "not told apart from any"
    if tally.wins == tally.tests:
        return "better throughout"
    if tally.losses == 0:
        return "better or not told apart"
    if tally.wins > tally.losses:
        return "more often better than worse"
    return "not better"


def _score(tally: Tally) -> str:
    return f"{tally.wins}:{tally.losses}"


def _better_than_default(findings: Findings) -> str:
    """Which methods, baselines among them, are better than `generic` in a column or more."""
    tallies = {m: findings.tally(m) for m in findings.methods if m != GENERIC}
    winners = {m: tally for m, tally in tallies.items() if tally.wins}
    if not winners:
        return f"No method is better than `{GENERIC}` in any column."
    ranked = sorted(winners.items(), key=lambda item: item[1].losses - item[1].wins)
    listed = ", ".join(f"`{m}` {_score(tally)}" for m, tally in ranked)
    return (
        f"Better than `{GENERIC}` somewhere, with columns won and lost against it, of "
        f"{len(findings.experiment.columns)}: {listed}."
    )


def _true_class(findings: Findings) -> str:
    if not set(PARTS) <= set(findings.found):
        return ""
    tests = [
        true_against_predicted(findings.found, column)
        for column in findings.experiment.columns
        if column.part == "predicted"
    ]
    told = ", ".join(
        f"{test.metric} of {test.modality} {100 * test.difference:+.1f} (p = {test.p_value:.2g})"
        for test in tests
    )
    better = sum(test.better == "true" for test in tests)
    sure = sum(test.better == "true" and test.p_value <= LEVEL for test in tests)
    return (
        f"With the true class explained in place of the predicted one `{GENERIC}` changes by: {told}. "
        f"The true class is better in {better} of {len(tests)} columns, in {sure} by the paired test."
    )


# ---- all experiments ----------------------------------------------------------------------------


def _options(findings: Sequence[Findings]) -> str:
    names = [each.experiment.name for each in findings]
    rows = []
    for label in (label for label in OPTIONS if label in findings[0].methods):
        tallies = [each.tally(label) for each in findings]
        total = sum(tallies, Tally())
        rows.append([f"`{label}`", *(map(_score, tallies)), _score(total)])
    corrected = sum((each.tally(CORRECTED) for each in findings), Tally())
    return f"""\
## Options of `{GENERIC}`

Columns won and lost against plain `{GENERIC}` by the paired test:

{markdown_table(["options", *names, "all"], rows)}

{_corrected(findings, corrected)}"""


def _corrected(findings: Sequence[Findings], total: Tally) -> str:
    by_sign: dict[str, list[str]] = {"better": [], "worse": [], "neither better nor worse": []}
    for each in findings:
        tally = each.tally(CORRECTED)
        sign = (
            "better" if tally.wins > tally.losses
            else "worse" if tally.losses > tally.wins
            else "neither better nor worse"
        )  # fmt: skip
        by_sign[sign].append(each.experiment.model)
    told = "; ".join(
        f"{sign} for {', '.join(models)}" for sign, models in by_sign.items() if models
    )
    if total.wins == total.tests:
        answer = "yes"
    elif total.wins > total.losses == 0:
        answer = "nowhere worse, and better in some"
    else:
        answer = "no"
    return (
        f"Is `{GENERIC}` with corrected gradients better everywhere? By these tests {answer}: it wins "
        f"{total.wins} of {total.tests} columns and loses {total.losses}; on balance it is {told}."
    )


def _one_gradient(findings: Sequence[Findings]) -> str:
    """The best method of one gradient beside integrated gradients, in every column."""
    rows, told = [], []
    for each in findings:
        best = _best_of_one_gradient(each)
        found = {
            column: _beside_integrated(each, column, best) for column in each.experiment.columns
        }
        corrected = holm([comparison.p_value for comparison in found.values()])
        for (column, comparison), p_value in zip(found.items(), corrected, strict=True):
            gain, low, high = _gain(each, column, comparison)
            rows.append(
                [
                    f"{each.experiment.name}: {', '.join(column.heading)}",
                    f"`{best}`",
                    *(f"{100 * each.value(column, method):.1f}" for method in (best, INTEGRATED)),
                    f"{gain:+.1f} ({low:+.1f} to {high:+.1f})",
                    f"{p_value:.3f}",
                ]
            )
        tests = [
            Test(comparison, p) for comparison, p in zip(found.values(), corrected, strict=True)
        ]
        total = sum((test.tally for test in tests), Tally())
        told.append(f"{each.experiment.model} {_score(total)} ({total.ties} not told apart)")
    head = ["column", "best of one gradient", "value", "integrated gradients", "gain", "p"]
    return f"""\
## Best of one gradient against {INTEGRATION_STEPS} steps of integrated gradients

Of each experiment the method of one gradient whose mean rank is best (on these samples), beside
integrated gradients. *Gain* is how much better it is, with the paired bootstrap interval; p is that
of a paired permutation test, after Holm within an experiment.

{markdown_table(head, rows)}

Columns won and lost against integrated gradients: {"; ".join(told)}."""


def _beside_integrated(findings: Findings, column: Column, method: str) -> Comparison:
    results = findings.found[column.part]
    return results.compare(method, INTEGRATED, column.metric, column.modality)


def _gain(findings: Findings, column: Column, found: Comparison) -> tuple[float, float, float]:
    """How much better the first method is, in percent, and between what."""
    row = findings.found[column.part].row(found.a, column.metric, column.modality)
    sign = 100 if row.better == "higher" else -100
    low, high = sorted((sign * found.low, sign * found.high))
    return sign * found.difference, low, high


def _best_of_one_gradient(findings: Findings) -> str:
    ranks = findings.mean_ranks()
    return min((m for m in findings.methods if m != INTEGRATED), key=lambda m: ranks[m])


def _which_method(findings: Sequence[Findings], docs: str = "") -> str:
    ranks = {each.experiment.name: each.mean_ranks() for each in findings}
    methods = findings[0].methods
    overall = {method: mean(of[method] for of in ranks.values()) for method in methods}
    ordered = sorted(methods, key=lambda method: overall[method])
    rows = [
        [f"`{method}`", *(f"{of[method]:.1f}" for of in ranks.values()), f"{overall[method]:.1f}"]
        for method in ordered
    ]
    return f"""\
## Which method to use

The mean rank of each method over an experiment's columns, 1 being the best of {len(methods)}:

{markdown_table(["method", *ranks, "all"], rows)}

{" ".join(_advice(findings, overall, ordered, docs))}"""


def _advice(
    findings: Sequence[Findings], overall: Mapping[str, float], ordered: Sequence[str], docs: str
) -> Iterator[str]:
    best, place = ordered[0], ordered.index(GENERIC) + 1
    if best == GENERIC:
        yield f"Over all experiments `{GENERIC}`, the default, ranks best ({overall[GENERIC]:.1f})."
    else:
        yield (
            f"Over all experiments `{best}` ranks best ({overall[best]:.1f}), and `{GENERIC}`, the "
            f"default, ranks {place} of {len(ordered)} ({overall[GENERIC]:.1f})."
        )
    for each in findings:
        yield _advice_for(each)
    ranked = [method for method in ordered if method in BASELINES]
    if ranked:
        yield f"Of the paper's baselines `{ranked[0]}` ranks best ({overall[ranked[0]]:.1f})."
    yield (
        "Where a choice matters, evaluate on your own model and data: "
        f"[`fxplain.evaluate`]({docs}evaluation.md)."
    )


def _advice_for(findings: Findings) -> str:
    ranks = findings.mean_ranks()
    best = min(ranks, key=lambda method: ranks[method])
    if best == GENERIC:
        return f"For {findings.experiment.model} `{GENERIC}` ranks best."
    tally = findings.tally(best)
    change = "take it" if tally.wins > tally.losses else f"`{GENERIC}` is as good by the tests"
    return (
        f"For {findings.experiment.model} `{best}` ranks best and beats `{GENERIC}` {_score(tally)}: "
        f"{change}."
    )
