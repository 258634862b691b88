"""Black-box attribution: what units are worth, from a function that scores inputs with some of them.

Nothing here knows of models: a unit is a word, a sentence, a region or a passage, and `Score` says
what the model says with some of them kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import comb

import torch
from torch import Tensor

from fxplain.arguments import Form, as_numbers, blaming, number, shown, whole
from fxplain.errors import MethodError, NonFiniteError

__all__ = [
    "Attribution",
    "Score",
    "kernel_shap",
    "leave_one_out",
    "lime",
    "occlusion",
    "permutation_shap",
    "sparse_linear",
]

Score = Callable[[Tensor], Tensor]
"""From which units are kept, (rows, units) bool, to a number for each row."""


@dataclass(frozen=True)
class Attribution:
    """What units are worth.

    Attributes
    ----------
    values
        (units,) in the score's unit.
    error
        (units,) the standard error of each value; 0 where nothing was drawn.
    calls
        How many rows were scored.
    """

    values: Tensor
    error: Tensor
    calls: int


def leave_one_out(score: Score, units: int) -> Attribution:
    """How much the score falls without each unit: f(all) - f(all but i).

    Parameters
    ----------
    score
        From (rows, units) bool to (rows,).
    units
        How many there are.

    Raises
    ------
    MethodError
        When the score returns something else.

    References
    ----------
    Li, Monroe & Jurafsky, "Understanding Neural Networks through Representation Erasure", 2016, arXiv
    1612.08220.

    Examples
    --------
    >>> leave_one_out(lambda kept: kept.float() @ torch.tensor([1.0, 3.0]), 2).values
    tensor([1., 3.], dtype=torch.float64)
    """
    _checked(score, units)
    found = _scored(score, torch.cat([torch.ones(1, units).bool(), ~torch.eye(units).bool()]))
    return Attribution(found[0] - found[1:], torch.zeros(units).double(), units + 1)


def occlusion(score: Score, windows: Tensor) -> Attribution:
    """How much the score falls without each window of units, shared by all windows that hold a unit.

    A unit's value is the mean over its windows w of f(all) - f(all but w); 0 where none holds it.

    Parameters
    ----------
    score
        As `leave_one_out` takes it.
    windows
        (windows, units) bool.

    References
    ----------
    Zeiler & Fergus, ECCV 2014, arXiv 1311.2901.
    """
    units = windows.shape[1]
    _checked(score, units)
    found = _scored(score, torch.cat([torch.ones(1, units).bool(), ~windows.bool()]))
    held = windows.double()
    fallen = (found[0] - found[1:]) @ held
    return Attribution(fallen / held.sum(0).clamp(min=1), torch.zeros(units).double(), len(found))


def permutation_shap(
    score: Score, units: int, *, permutations: int = 16, seed: int = 0
) -> Attribution:
    """Shapley values, by what each unit adds in random orders and in the same orders backwards.

    phi_i = E over orders of f(those before i, and i) - f(those before i). An order and its reverse
    together are one draw; the standard error is that of the mean over draws.

    Parameters
    ----------
    score, units
        As `leave_one_out` takes them.
    permutations
        How many pairs of orders are drawn; each costs 2 (units - 1) rows.
    seed
        Of the orders.

    References
    ----------
    Castro, Gomez & Tejada, Computers & Operations Research 2009; reversed orders as in Mitchell et al.,
    JMLR 2022, arXiv 2104.12199.
    """
    _checked(score, units, seed)
    whole(2, MOST).raising(MethodError).check("permutations", permutations)
    generator = torch.Generator().manual_seed(int(seed))
    orders = torch.stack([torch.randperm(units, generator=generator) for _ in range(permutations)])
    orders = torch.stack([orders, orders.flip(1)], 1).flatten(0, 1)
    places = orders.argsort(1)
    kept = places[:, None, :] < torch.arange(units + 1)[None, :, None]  # (orders, steps, units)
    ends = _scored(score, kept[0, [0, units]])
    between = _scored(score, kept[:, 1:-1].flatten(0, 1)).reshape(len(orders), units - 1)
    walk = torch.cat([ends[:1].expand(len(orders), 1), between, ends[1:].expand(len(orders), 1)], 1)
    added = walk.diff(dim=1).gather(1, places).reshape(permutations, 2, units).mean(1)
    error = added.std(0) / permutations**0.5
    return Attribution(added.mean(0), error, 2 + between.numel())


def kernel_shap(score: Score, units: int, *, budget: int = 512, seed: int = 0) -> Attribution:
    """Shapley values, by a weighted regression on sets of kept units.

    The values minimise sum over sets z of w(z) (f(z) - f(none) - sum_i z_i phi_i)^2 with
    w(z) = (n - 1) / (C(n, |z|) |z| (n - |z|)), under sum_i phi_i = f(all) - f(none). Where the budget
    holds all 2^n sets it is exact; else sets are drawn by their weight, each with its complement, and
    the standard error is that of a jackknife over ten parts of the draws.

    Parameters
    ----------
    score, units, seed
        As above.
    budget
        How many rows are scored at most.

    References
    ----------
    Lundberg & Lee, NeurIPS 2017, arXiv 1705.07874; complements as in Covert & Lee, AISTATS 2021,
    arXiv 2012.01536.
    """
    _checked(score, units, seed)
    whole(2 * units + 2).raising(MethodError).check("budget", budget)
    ends = _scored(score, torch.stack([torch.zeros(units), torch.ones(units)]).bool())
    if units == 1:
        return Attribution(ends[1:] - ends[:1], torch.zeros(1).double(), 2)
    if 2**units <= budget:
        kept = torch.tensor(list(product((False, True), repeat=units)))[1:-1]
        each = [(units - 1) / (comb(units, s) * s * (units - s)) for s in kept.sum(1).tolist()]
        weights = torch.tensor(each, dtype=torch.double)
        found = _scored(score, kept)
        values = _regressed(kept.double(), found, weights, ends)
        return Attribution(values, torch.zeros(units).double(), len(kept) + 2)
    kept = _drawn_sets(units, (budget - 2) // 2, seed)
    found = _scored(score, kept)
    design, even = kept.double(), torch.ones(len(kept)).double()
    parts = torch.arange(len(kept)) // 2  # a set stays with its complement
    fit = _jackknifed(lambda weights: _regressed(design, found, weights, ends), even, parts)
    return Attribution(*fit, len(kept) + 2)


PARTS = 10


def _jackknifed(
    fit: Callable[[Tensor], Tensor], weights: Tensor, numbers: Tensor
) -> tuple[Tensor, Tensor]:
    """Values fitted with weights of rows, and their standard error: fitted without each part."""
    without = torch.stack([fit(weights * (numbers % PARTS != i)) for i in range(PARTS)])
    error = ((PARTS - 1) / PARTS * (without - without.mean(0)).square().sum(0)).sqrt()
    return fit(weights), error


def _orders(rows: int, units: int, generator: torch.Generator) -> Tensor:
    """(rows, units) the place of each unit in an order that is drawn."""
    return torch.rand(rows, units, generator=generator).argsort(1).argsort(1)


def _drawn_sets(units: int, pairs: int, seed: int) -> Tensor:
    """(2 pairs, units) sets by the kernel's weight of their size, each before its complement."""
    generator = torch.Generator().manual_seed(int(seed))
    sizes = torch.arange(1, units)
    mass = 1 / (sizes * (units - sizes)).double()
    drawn = sizes[torch.multinomial(mass, pairs, replacement=True, generator=generator)]
    sets = _orders(pairs, units, generator) < drawn[:, None]
    return torch.stack([sets, ~sets], 1).flatten(0, 1)


def _regressed(kept: Tensor, found: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """The values that fit best under the sum, by the last unit's elimination."""
    total = ends[1] - ends[0]
    design = kept[:, :-1] - kept[:, -1:]
    wanted = found - ends[0] - kept[:, -1] * total
    root = weights.sqrt()
    first = torch.linalg.lstsq(root[:, None] * design, (root * wanted)[:, None]).solution[:, 0]
    return torch.cat([first, (total - first.sum())[None]])


def lime(
    score: Score,
    units: int,
    *,
    draws: int = 256,
    width: float = 0.25,
    penalty: float = 1.0,
    seed: int = 0,
) -> Attribution:
    """A linear model of the score near all units, by random sets of kept units.

    The values minimise sum over m sets z of w(z) (f(z) - b - z . beta)^2 + penalty |beta|^2 with
    w(z) = exp(-d(z)^2 / (2 width^2)) and d(z) = 1 - cos(z, all). A set of how many are away is drawn
    first, evenly from 1 to all, then which; all units are one set more. The standard error is that of a
    jackknife over ten parts of the draws.

    Parameters
    ----------
    score, units, seed
        As `permutation_shap` takes them.
    draws
        How many sets.
    width
        How near counts as near: a smaller one looks at sets that keep most units.
    penalty
        Of the sum of squares.

    References
    ----------
    Ribeiro, Singh & Guestrin, KDD 2016, arXiv 1602.04938.
    """
    _checked(score, units, seed)
    whole(2 * PARTS, MOST).raising(MethodError).check("draws", draws)
    number(0, inside=True).raising(MethodError).check("width", width)
    number(0).raising(MethodError).check("penalty", penalty)
    generator = torch.Generator().manual_seed(int(seed))
    away = torch.randint(1, units + 1, (draws, 1), generator=generator)
    kept = torch.cat([torch.ones(1, units).bool(), _orders(draws, units, generator) >= away])
    found, design = _scored(score, kept), kept.double()
    fit = _jackknifed(
        lambda weights: _ridge(design, found, weights, penalty),
        _nearness(kept, width),
        torch.arange(len(kept)),
    )
    return Attribution(*fit, len(kept))


def _nearness(kept: Tensor, width: float) -> Tensor:
    """(rows,) the weight of each set by its cosine distance from all units."""
    share = kept.double().mean(1)  # cos(z, all) is the root of the kept share
    return (-(((1 - share.sqrt()) / float(width)) ** 2) / 2).exp()


def _ridge(kept: Tensor, found: Tensor, weights: Tensor, penalty: float) -> Tensor:
    """The slopes of a weighted ridge regression with a free intercept."""
    total = weights.sum()
    z = kept - weights @ kept / total
    y = found - weights @ found / total
    gram = (z * weights[:, None]).T @ z + penalty * torch.eye(z.shape[1]).double()
    pull = (z * weights[:, None]).T @ y
    slopes: Tensor = torch.linalg.lstsq(gram, pull[:, None]).solution[:, 0]
    return slopes


def sparse_linear(
    score: Score,
    units: int,
    *,
    draws: int = 64,
    keep: float = 0.5,
    penalty: float = 0.01,
    seed: int = 0,
) -> Attribution:
    """A sparse linear model of the score, by random sets of kept units: context attribution.

    Where the score is log p - log(1 - p) of an answer and units are passages of its context, this is
    ContextCite. The values minimise |f - b - Z beta|^2 / (2 m) + penalty |beta|_1 over m sets, with the
    columns of Z brought to mean 0 and deviation 1, and are told in units of the kept set: beta over
    that deviation.

    Parameters
    ----------
    score, units, seed
        As above.
    draws, keep
        How many sets, and how probably each unit is kept.
    penalty
        Of the sum of absolute values.

    References
    ----------
    Cohen-Wang et al., NeurIPS 2024, arXiv 2409.00729.
    """
    _checked(score, units, seed)
    whole(2, MOST).raising(MethodError).check("draws", draws)
    number(0, 1, inside=True).raising(MethodError).check("keep", keep)
    number(0, 1e9).raising(MethodError).check("penalty", penalty)
    generator = torch.Generator().manual_seed(int(seed))
    kept = torch.rand(draws, units, generator=generator) < keep
    found, design = _scored(score, kept), kept.double()
    scale = design.std(0, correction=0)
    scale = torch.where(scale > 0, scale, torch.inf)  # a unit that was never away says nothing
    beta = _lasso((design - design.mean(0)) / scale, found - found.mean(), penalty)
    return Attribution(beta / scale, torch.zeros(units).double(), draws)


def _lasso(z: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Coordinate descent on |y - z beta|^2 / (2 m) + penalty |beta|_1; columns of deviation 1 or 0."""
    beta = torch.zeros(z.shape[1]).double()
    rest = y.clone()
    for _ in range(1000):
        largest = 0.0
        for i in range(z.shape[1]):
            pull = z[:, i] @ rest / len(y) + beta[i]
            new = pull.sign() * (pull.abs() - penalty).clamp(min=0)
            rest -= z[:, i] * (new - beta[i])
            largest = max(largest, float((new - beta[i]).abs()))
            beta[i] = new
        if largest <= 1e-10 * float(y.abs().max()):
            break
    return beta


MOST = 10**6
MOST_UNITS = 2**14
"""A row of kept units for each of them is 256 MiB."""

_SCORE = Form(
    "a function from which units are kept, (rows, units) bool, to a number for each row",
    callable,
    MethodError,
)


def _checked(score: Score, units: int, seed: int = 0) -> None:
    _SCORE.check("score", score)
    whole(1, MOST_UNITS).raising(MethodError).check("units", units)
    whole(0, 2**63 - 1).raising(MethodError).check("seed", seed)


def _scored(score: Score, kept: Tensor) -> Tensor:
    if not len(kept):  # a single unit has no set between none and all
        return torch.zeros(0, dtype=torch.double)
    with blaming("the score", MethodError):
        returned = score(kept)
    wanted = (
        f"the score must return {len(kept)} numbers, one for each row of kept units; it returned"
    )
    try:
        found = as_numbers(returned)
        numbers = found.cpu()
    except Exception as error:  # whatever it returned
        raise MethodError(f"{wanted} {shown(returned)}.") from error
    rows, *columns = found.shape or (0,)
    if rows != len(kept) or any(size != 1 for size in columns) or found.is_complex():
        raise MethodError(f"{wanted} {tuple(found.shape)} of {found.dtype}.")
    plain: Tensor = numbers.double().reshape(rows)
    if not bool(plain.isfinite().all()):
        raise NonFiniteError(
            "the score returned NaN or infinite numbers; shared out are finite ones."
        )
    return plain
