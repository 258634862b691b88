"""Check: what an explanation says matters most and least is cut, beside what chance chooses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import FUNCTION, checked, one_of, optional, place_in, whole
from fxplain.errors import InputError
from fxplain.explanation import UNITS, Explanation, Shown
from fxplain.explanation.shown import shown
from fxplain.interventions.cut import SOURCES, Cut
from fxplain.interventions.worded import asked_of
from fxplain.presentation import Presentable

__all__ = ["Check", "Claim", "check", "compared_units"]


@dataclass(frozen=True)
class Claim:
    """One word, patch or other unit: what the explanation says of it, and what cutting it did.

    Attributes
    ----------
    text, modality, tokens
        What it is, and the places of its tokens; of a head its node, and its number.
    relevance
        What the explanation gives it, beside the identity.
    fall
        By how much the score fell when it alone was cut; negative where it rose.
    """

    text: str
    modality: str
    tokens: tuple[int, ...]
    relevance: float
    fall: float


@dataclass(frozen=True)
class Check(Presentable):
    """What cutting says of an explanation of one sample.

    Attributes
    ----------
    method
        The explanation's method; of heads, the one that their relevance is told of.
    sample, score
        Which sample, and its score before any cut.
    most, least
        The claims at either end of the order, the most relevant first, and the least relevant first.
    fall_of_most, fall_of_least
        By how much the score fell when all of these were cut at once.
    by_chance
        The same of as many that chance chose, for each draw.
    """

    method: str
    sample: int
    score: float
    most: tuple[Claim, ...]
    least: tuple[Claim, ...]
    fall_of_most: float
    fall_of_least: float
    by_chance: tuple[float, ...] = field(repr=False)

    @property
    def chance(self) -> tuple[float, float, float]:
        """The mean fall by chance, and the interval in which 95% of the draws lie."""
        drawn = torch.tensor(self.by_chance, dtype=torch.float64)
        low, high = torch.quantile(
            drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)
        ).tolist()
        return float(drawn.mean()), low, high

    @property
    def beaten(self) -> int:
        """How many draws of chance did less than cutting what matters most."""
        return sum(fall < self.fall_of_most for fall in self.by_chance)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        told = {"format": "fxplain-check-1", **asdict(self)}
        return {**told, "chance": list(self.chance), "beaten": self.beaten}


HEAD = "head"
"""The unit of `check` that is no token: a head of an attention node."""


@checked(
    k=whole(1),
    draws=whole(1, 10_000),
    units=one_of((*UNITS, HEAD)),
    to=one_of(SOURCES),
    seed=whole(0, 2**63 - 1),
    progress=optional(FUNCTION),
)
def check(
    explanation: Explanation,
    k: int = 10,
    *,
    sample: int = 0,
    units: str = "word",
    draws: int = 20,
    to: str = "mean",
    reference: Any = None,
    seed: int = 0,
    progress: Any = None,
) -> Check:
    """Cut what an explanation says matters most and least, and look at the score.

    Tokens are cut as they are born, so that nothing of them is left but their place; heads where they
    speak, to all tokens.

    Parameters
    ----------
    explanation
        Of `fxplain.explain`.
    k
        How many units at either end of the order; half of all at most.
    sample
        Whose tokens.
    units
        What is cut together: "word", "token", "sentence", ...; or "head", for which the explanation
        must tell relevance by head (`Explanation.heads`).
    draws
        How often as many units are chosen by chance.
    to, reference
        What takes a token's place, as `Cut.tokens` and `intervene` take it.
    seed
        Of chance.
    progress
        As `intervene` takes it.

    Raises
    ------
    MethodError
        When the explanation has no model: it was loaded, or comes from another process.
    InputError
        When there are not two units to compare.
    """
    asked = asked_of(explanation)
    place = place_in("sample", sample, explanation.batch_size)
    found = _heads if units == HEAD else _ordered
    method, order = found(explanation, place, units)
    k = min(k, len(order) // 2)
    ends = order[:k], order[: -k - 1 : -1]
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        [order[i] for i in torch.randperm(len(order), generator=generator)[:k].tolist()]
        for _ in range(draws)
    ]
    groups = [[unit] for end in ends for unit in end] + [*ends, *drawn]
    cut = _cut_heads if units == HEAD else _cut
    cuts = [cut(group, to).named(str(i)) for i, group in enumerate(groups)]
    effects = asked.intervene(cuts, reference=reference, progress=progress)
    falls: Tensor = -effects.effects[:, place].double()
    alone, together = falls[: 2 * k].tolist(), falls[2 * k :].tolist()
    claims = [
        Claim(unit.text, unit.modality, unit.tokens, unit.relevance, fall)
        for unit, fall in zip([*ends[0], *ends[1]], alone, strict=True)
    ]
    return Check(
        method,
        place,
        float(effects.baseline[place]),
        tuple(claims[:k]),
        tuple(claims[k:]),
        together[0],
        together[1],
        tuple(together[2:]),
    )


def compared_units(explanation: Explanation, sample: int, units: Any) -> list[Shown]:
    """A sample's units that can be compared, in reading order.

    Special tokens and what alone is read are none; learned tokens (object queries) are no one's claim
    where there are tokens of inputs.

    Raises
    ------
    InputError
        When there are not two.
    """
    found = [
        unit
        for unit in shown(explanation, sample, units, "hide")
        if not unit.apart and not unit.special and not _is_padding(explanation, unit, sample)
    ]
    given = [unit for unit in found if unit.modality.split("@")[0] in explanation.inputs]
    found = given or found
    if len(found) < 2:
        raise InputError(
            f"there is nothing to compare: {len(found)} of this sample's units can be."
        )
    return found


def _ordered(explanation: Explanation, sample: int, units: Any) -> tuple[str, list[Shown]]:
    """The method, and a sample's units, the most relevant first."""
    found = compared_units(explanation, sample, units)
    return explanation.method, sorted(found, key=lambda unit: -unit.relevance)


def _heads(explanation: Explanation, sample: int, _units: Any) -> tuple[str, list[Shown]]:
    """The method, and heads by the relevance that comes by them, the most relevant first."""
    by_head = explanation.heads()
    relevance = by_head.relevance
    found = [
        Shown(node.name, f"{node.name} head {head}", (head,), float(value))
        for node in explanation.graph.nodes
        if node.name in relevance
        for head, value in enumerate(relevance[node.name][sample].double().sum(-1).tolist())
    ]
    if len(found) < 2:
        raise InputError("there is nothing to compare: the model has one head.")
    return by_head.method, sorted(found, key=lambda unit: -unit.relevance)


def _is_padding(explanation: Explanation, unit: Shown, sample: int) -> bool:
    """Whether an attention mask of the inputs hides all of a unit's tokens."""
    ids = explanation.inputs.get(unit.modality)
    mask = explanation.inputs.get("attention_mask")
    if ids is None or mask is None or mask.shape != ids.shape or mask.dim() != 2:
        return False
    places = [place for place in unit.tokens if place < mask.shape[1]]
    return not bool(mask[sample, places].any())


def _cut(units: Sequence[Shown], to: Any) -> Cut:
    return _all(Cut.tokens(unit.modality, list(unit.tokens), to=to) for unit in units)


def _cut_heads(units: Sequence[Shown], to: Any) -> Cut:
    return _all(Cut.heads(unit.modality, unit.tokens, to=to) for unit in units)


def _all(cuts: Iterable[Cut]) -> Cut:
    first, *rest = cuts
    for other in rest:
        first = first + other
    return first
