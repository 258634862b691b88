"""Stability: how relevance and its order move with noise in the tokens and with silent heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import checked, number, one_of, place_in, whole
from fxplain.errors import MethodError
from fxplain.evaluation.statistics import spearman
from fxplain.explanation import UNITS, Explanation, Shown
from fxplain.explanation.disturbing import disturbed_answers, settled_target
from fxplain.interventions.check import compared_units
from fxplain.interventions.geometry import geometry_of
from fxplain.interventions.masks import row_heads
from fxplain.interventions.worded import asked_of
from fxplain.methods import unit_methods
from fxplain.presentation import Tabled
from fxplain.run import Disturbance, Noise

__all__ = ["Moved", "Stability", "stability"]


@dataclass(frozen=True)
class Moved:
    """A word, patch or other unit, and how its relevance moved.

    Attributes
    ----------
    text, modality, tokens
        What it is, and the places of its tokens.
    relevance
        What the explanation gives it, beside the identity.
    low, high
        Between which the middle part of the draws lies.
    rank, lowest, highest
        Its place in the order, the most relevant first, from 1: in the explanation, and the first and
        last in the middle part of the draws.
    """

    text: str
    modality: str
    tokens: tuple[int, ...]
    relevance: float
    low: float
    high: float
    rank: int
    lowest: int
    highest: int


@dataclass(frozen=True, eq=False)
class Stability(Tabled):
    """How an explanation moves under disturbances that should not matter; printed, a table.

    Attributes
    ----------
    method
        Of the explanation.
    units
        By sample, in reading order.
    correlations
        (batch, draws) Spearman's rank correlation of the disturbed relevance with the explanation's,
        over units; 0 where a relevance is the same everywhere.
    first_kept
        (batch,) the share of draws in which the most relevant unit stays so.
    scores
        (batch, draws) the explained number, disturbed.
    settings
        ``draws``, ``noise``, ``heads``, ``level``, ``seed``, and ``steady``: the attention nodes whose
        heads have no output of their own, and were left as they are.
    deviation
        By modality, (batch, tokens): the standard deviation of each token's relevance over draws.
    explanation
        What was disturbed.
    """

    method: str
    units: tuple[tuple[Moved, ...], ...]
    correlations: Tensor = field(repr=False)
    first_kept: Tensor = field(repr=False)
    scores: Tensor = field(repr=False)
    settings: Mapping[str, Any]
    deviation: Mapping[str, Tensor] = field(repr=False)
    explanation: Explanation = field(repr=False)

    def interval(self, sample: int = 0) -> tuple[float, float, float]:
        """The mean rank correlation of a sample, and where the middle part of the draws lies."""
        own = self.correlations[place_in("sample", sample, len(self.units))]
        low, high = _middle(own[:, None], self.settings["level"])
        return float(own.mean()), float(low), float(high)

    def marked(self) -> Explanation:
        """The explanation, whose reports then show each number with its deviation."""
        return replace(self.explanation, error=type(self.explanation.relevance)(self.deviation))

    def table(self) -> list[dict[str, Any]]:
        """A row for each sample and unit, as plain data."""
        return [
            {"sample": sample, **asdict(unit), "tokens": list(unit.tokens)}
            for sample, own in enumerate(self.units)
            for unit in own
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the explanation as plain data."""
        return {
            "format": "fxplain-stability-1",
            "method": self.method,
            "settings": dict(self.settings),
            "correlations": self.correlations.tolist(),
            "first_kept": self.first_kept.tolist(),
            "scores": self.scores.tolist(),
            "units": self.table(),
        }

    def __repr__(self) -> str:
        return f"<Stability of {self.method!r}: {self.settings['draws']} draws>"


@checked(
    draws=whole(1, 10_000),
    noise=number(0, 100),
    heads=number(0, 0.9),
    units=one_of(UNITS),
    level=number(0, 1, inside=True),
    seed=whole(0, 2**63 - 1),
)
def stability(
    explanation: Explanation,
    draws: int = 20,
    *,
    noise: float = 0.05,
    heads: float = 0.1,
    units: str = "word",
    level: float = 0.9,
    seed: int = 0,
) -> Stability:
    """Explain the same target many times, with noise in the tokens and with some heads silent.

    Nothing is said in other words, so that the meaning stays: what moves is the explanation. In each
    draw every token is born with Gaussian noise of `noise` times the root mean square of its numbers
    (as SmoothGrad adds it, arXiv 1706.03825), and each attention head is silent with probability
    `heads` (as DropHead has it, arXiv 2004.13342, without scaling the others up).

    Parameters
    ----------
    explanation
        Of `fxplain.explain`, by a method that follows attention or gradients.
    draws
        How often.
    noise, heads
        Of both disturbances; 0 leaves one out.
    units
        What is put together and ranked: "word", "token", "sentence", ...
    level
        The middle part of the draws that intervals hold.
    seed
        Of all that is drawn.

    Raises
    ------
    MethodError
        When the explanation has no model, was made by a unit method, or nothing is to be disturbed.
    InputError
        When a sample has not two units that could change places.
    ChangedModelError
        When the model says something else by now.
    """
    asked = asked_of(explanation)
    if explanation.method in unit_methods():
        raise MethodError(
            f"{explanation.method} judges units by runs without them, and tells by its own `error` how "
            f"far its numbers may be off: ask a method that follows attention or gradients."
        )
    if not noise and not heads:
        raise MethodError("noise=0 and heads=0 disturb nothing: give one of them.")
    silenced, steady = _silenced(asked, heads, draws, seed) if heads else ([{}] * draws, ())
    disturbances = [
        Disturbance((Noise(noise, seed, draw, "stability"),) if noise else (), silenced[draw])
        for draw in range(draws)
    ]
    target = settled_target(asked.target, explanation)
    (clean,) = next(disturbed_answers(asked.question, [target], [asked.question.disturbance]))
    asked.check_unchanged(clean.scores)
    found = [own for (own,) in disturbed_answers(asked.question, [target], disturbances)]
    stacked = {
        name: torch.stack([own.relevance[name].detach() for own in found])
        for name in explanation.relevance
    }
    beside = explanation.beyond_identity()
    beyond = {name: x - (explanation.relevance[name] - beside[name]) for name, x in stacked.items()}
    moved = [
        _of_sample(explanation, beyond, sample, units, level)
        for sample in range(explanation.batch_size)
    ]
    return Stability(
        method=explanation.method,
        units=tuple(tuple(own) for own, _, _ in moved),
        correlations=torch.tensor([own for _, own, _ in moved], dtype=torch.double),
        first_kept=torch.tensor([own for _, _, own in moved], dtype=torch.double),
        scores=torch.stack([own.scores.detach().cpu() for own in found], 1),
        settings={
            **{"draws": draws, "noise": noise, "heads": heads, "units": units},
            **{"level": level, "seed": seed, "steady": list(steady)},
        },
        deviation={n: x.std(0, correction=min(1, draws - 1)) for n, x in stacked.items()},
        explanation=explanation,
    )


def _silenced(
    asked: Any, share: float, draws: int, seed: int
) -> tuple[list[dict[str, Tensor]], tuple[str, ...]]:
    """For each draw how loud the heads of each node are, and the nodes that cannot be silenced."""
    question = asked.question
    bound, captured, program = replace(question, verify="off", recheck=False).detected()
    geometry = geometry_of(captured, question.model, bound, program)
    generator = torch.Generator().manual_seed(seed)
    made: list[dict[str, Tensor]] = [{} for _ in range(draws)]
    steady = []
    heads = [node.info.heads for node in program.nodes.values()]
    drawn = torch.rand(draws, sum(heads), generator=generator) < share
    for (index, node), silent in zip(program.nodes.items(), drawn.split(heads, 1), strict=True):
        numbers = row_heads(node, geometry[index])
        if numbers is None:
            steady.append(node.info.name)
            continue
        for own, of_draw in zip(made, silent, strict=True):
            if of_draw.any():
                own[node.info.name] = (~of_draw)[numbers]
    return made, tuple(steady)


def _of_sample(
    explanation: Explanation,
    beyond: Mapping[str, Tensor],
    sample: int,
    units: Any,
    level: float,
) -> tuple[list[Moved], list[float], float]:
    """A sample's units, their rank correlation by draw, and how often the first stays the first."""
    shown_units = compared_units(explanation, sample, units)
    before = torch.tensor([unit.relevance for unit in shown_units], dtype=torch.double)
    drawn = torch.stack([_summed(beyond, unit, sample) for unit in shown_units], 1)
    ranks = torch.stack([_ranks(row) for row in drawn])
    low, high = _middle(drawn, level)
    first, last = _middle(ranks.double(), level)
    rows = zip(shown_units, _ranks(before).tolist(), *_lists(low, high, first, last), strict=True)
    moved = [
        Moved(u.text, u.modality, u.tokens, u.relevance, a, b, rank, round(c), round(d))
        for u, rank, a, b, c, d in rows
    ]
    kept = (drawn.argmax(1) == before.argmax()).double().mean()
    return moved, [spearman(before, row) for row in drawn], float(kept)


def _lists(*values: Tensor) -> Iterator[Sequence[Any]]:
    yield from (each.tolist() for each in values)


def _summed(beyond: Mapping[str, Tensor], unit: Shown, sample: int) -> Tensor:
    """(draws,) the relevance of a unit."""
    return beyond[unit.modality][:, sample, list(unit.tokens)].double().sum(1).cpu()


def _ranks(values: Tensor) -> Tensor:
    """The place of each value, the largest first, from 1."""
    return values.argsort(descending=True, stable=True).argsort() + 1


def _middle(values: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Between which the middle part of each column lies."""
    tail = (1 - level) / 2
    low, high = torch.quantile(values, torch.tensor([tail, 1 - tail], dtype=values.dtype), dim=0)
    return low, high
