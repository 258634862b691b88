"""Enough steps: an integral along a path, taken finer until what it shares out adds up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fxplain.explanation.explanation import Explanation

__all__ = ["INCOMPLETE", "TOO_FEW", "with_enough_steps"]

INCOMPLETE = 0.1
"""How far relevance may be from adding up to what it promises without a word."""

TOO_FEW = "steps are too few here"
"""What is said of one number of steps."""

MOST_STEPS = 320
BETTER, PATIENCE = 0.8, 2
"""More of what is missing than this part is left twice in a row by twice as many steps: give up."""

Make = Callable[[Mapping[str, Any]], list[Explanation]]


def with_enough_steps(make: Make, options: Mapping[str, Any]) -> list[Explanation]:
    """Explanations by a method with ``steps``, of as many as their sums need.

    Steps are doubled until relevance adds up to what it promises, until that no longer comes nearer,
    or up to 320; that it was given up is a warning.

    Parameters
    ----------
    make
        Makes the explanations by options of the method.
    options
        With the steps to begin with.
    """
    made = make(options)
    gap, tried, in_vain = _gap(made), [options["steps"]], 0
    while gap > INCOMPLETE and 2 * tried[-1] <= MOST_STEPS and in_vain < PATIENCE:
        tried.append(2 * tried[-1])
        finer = make({**options, "steps": tried[-1]})
        in_vain = 0 if _gap(finer) < BETTER * gap else in_vain + 1
        if _gap(finer) < gap:
            made, gap = finer, _gap(finer)
    return [_told(each, tried) for each in made] if gap > INCOMPLETE else made


def _gap(made: Sequence[Explanation]) -> float:
    """How far the worst is from adding up."""
    shares = [share for each in made if (share := each.completeness()) is not None]
    return max((float((share - 1).abs().max()) for share in shares), default=0.0)


def _told(explanation: Explanation, tried: Sequence[int]) -> Explanation:
    """With the word that it was given up, on those that fall short."""
    share = explanation.completeness()
    if share is None or float((share - 1).abs().max()) <= INCOMPLETE:
        return explanation
    steps = ", ".join(map(str, tried))
    told = (
        f"{steps} steps of {explanation.method} were tried, and its relevance still does not add up to "
        f"the score less that of an input of zeros; it was given up."
    )
    before = [warning for warning in explanation.graph.warnings if TOO_FEW not in warning]
    graph = replace(explanation.graph, warnings=(*before, told))
    return replace(explanation, graph=graph)
