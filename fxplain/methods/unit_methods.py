"""Unit methods: those that judge units of the inputs by what the model says without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import Form, number, one_of, whole
from fxplain.methods.black_box import (
    Attribution,
    Score,
    kernel_shap,
    leave_one_out,
    lime,
    occlusion,
    permutation_shap,
    sparse_linear,
)
from fxplain.methods.method import HasOptions, Option, Options

__all__ = ["UNIT_METHODS", "UNIT_SCORES", "Place", "UnitMethod", "windows_of"]

Place = tuple[str, tuple[int, ...]]
"""The modality of a unit, and where it lies: its number among words, or row and column of regions."""

UNIT_SCORES = ("logit", "probability", "log_odds")
"""The explained number itself; the softmax of the explained class; log p - log(1 - p) of it."""


@dataclass(frozen=True)
class UnitMethod(HasOptions):
    """A method that runs the model without some units of its inputs.

    Attributes
    ----------
    name, source, cost, about, options
        As of a `fxplain.methods.Method`.
    attribute
        From a score of kept units, where each unit lies, and options, to what units are worth.
    shares_out
        Whether values promise to add up to f(all) - f(none).
    equation
        What a unit i is worth, f(z) being the score where the units z are kept.
    """

    name: str
    source: str
    cost: str
    attribute: Callable[[Score, Sequence[Place], Options], Attribution]
    about: str
    own: Mapping[str, Option] = field(default_factory=dict)
    shares_out: bool = False
    equation: str = ""

    @property
    def options(self) -> Mapping[str, Option]:
        """Its own, and those of all unit methods."""
        return {**self.own, **_ALL}


def windows_of(places: Sequence[Place], width: int) -> Tensor:
    """(windows, units) every run of `width` words, or square of regions, of one modality.

    Of a modality that is narrower than that, all of it along that axis.

    Examples
    --------
    >>> windows_of([("text", (0,)), ("text", (1,)), ("text", (2,))], 2).int()
    tensor([[1, 1, 0],
            [0, 1, 1]], dtype=torch.int32)
    """
    windows = []
    for modality in dict.fromkeys(name for name, _ in places):
        own = [place for name, place in places if name == modality]
        corners = torch.tensor(own)
        sizes = corners.max(0).values + 1
        starts = [torch.arange(max(1, int(size) - width + 1)) for size in sizes]
        for start in torch.cartesian_prod(*starts).reshape(-1, len(sizes)):
            inside = ((corners >= start) & (corners < start + width)).all(1)
            row = torch.zeros(len(places), dtype=torch.bool)
            row[[i for i, (name, _) in enumerate(places) if name == modality]] = inside
            windows.append(row)
    return torch.stack(windows)


# -- how each is asked ----------------------------------------------------------------------------


def _leave_one_out(score: Score, places: Sequence[Place], _options: Options) -> Attribution:
    return leave_one_out(score, len(places))


def _occlusion(score: Score, places: Sequence[Place], options: Options) -> Attribution:
    return occlusion(score, windows_of(places, options["window"]))


def _permutation_shap(score: Score, places: Sequence[Place], options: Options) -> Attribution:
    a_pair = 2 * max(1, len(places) - 1)
    pairs = max(2, options["budget"] // a_pair)
    return permutation_shap(score, len(places), permutations=pairs, seed=options["seed"])


def _kernel_shap(score: Score, places: Sequence[Place], options: Options) -> Attribution:
    budget = max(options["budget"], 4 * len(places))
    return kernel_shap(score, len(places), budget=budget, seed=options["seed"])


def _lime(score: Score, places: Sequence[Place], options: Options) -> Attribution:
    return lime(score, len(places), **_those(options, "draws", "width", "penalty", "seed"))


def _sparse_linear(score: Score, places: Sequence[Place], options: Options) -> Attribution:
    return sparse_linear(score, len(places), **_those(options, "draws", "keep", "penalty", "seed"))


def _those(options: Options, *names: str) -> dict[str, Any]:
    return {name: options[name] for name in names}


# -- options --------------------------------------------------------------------------------------

_UNITS = Form(
    "a unit of texts (token, word, sentence, line, passage), or parts of the text",
    lambda value: isinstance(value, (str, list, tuple, Mapping)) and bool(value),
)
_REMOVAL = Form("the name of a removal, or ''", lambda value: isinstance(value, str))
_MOST = whole(1, 1 << 24)

_ALL = {
    "units": Option(
        "word", "of texts: token, word, sentence, line, passage, or parts of them", form=_UNITS
    ),
    "regions": Option(64, "how many parts a grid of patches is cut into, at most", form=_MOST),
    "removal": Option(
        "", "how tokens are removed, as fxplain.evaluate says; by default what suits", form=_REMOVAL
    ),
    "score": Option(
        "logit", "what is asked of the model: " + ", ".join(UNIT_SCORES), form=one_of(UNIT_SCORES)
    ),
}
_SEED = Option(0, "of what is drawn", form=whole(0, (1 << 63) - 1))
_BUDGET = Option(
    512, "how many rows are run about, more where units are too many for it", form=_MOST
)

UNIT_METHODS = {
    method.name: method
    for method in (
        UnitMethod(
            "leave_one_out",
            "f(all) - f(all but one); Li, Monroe & Jurafsky 2016, arXiv 1612.08220",
            "a forward for each unit",
            _leave_one_out,
            "how much the score falls without each unit",
            equation="f(all) - f(all but i)",
        ),
        UnitMethod(
            "occlusion",
            "Zeiler & Fergus, ECCV 2014, arXiv 1311.2901",
            "a forward for each window",
            _occlusion,
            "how much the score falls without each window, shared by the units in it",
            {"window": Option(2, "how many units wide, along each axis", form=_MOST)},
            equation="the mean of f(all) - f(all but w) over the windows w that hold i",
        ),
        UnitMethod(
            "permutation_shap",
            "Castro et al. 2009; Mitchell et al., JMLR 2022, arXiv 2104.12199",
            "`budget` forwards about",
            _permutation_shap,
            "Shapley values of units, by random orders and their reverses, with a standard error",
            {"budget": _BUDGET, "seed": _SEED},
            shares_out=True,
            equation="the mean over orders of f(those before i, and i) - f(those before i)",
        ),
        UnitMethod(
            "kernel_shap",
            "Lundberg & Lee, NeurIPS 2017, arXiv 1705.07874",
            "`budget` forwards about",
            _kernel_shap,
            "Shapley values of units, by a weighted regression; exact where the budget holds all sets",
            {"budget": _BUDGET, "seed": _SEED},
            shares_out=True,
            equation="phi_i of the phi that minimise sum_z w(z) (f(z) - f(none) - sum_i z_i phi_i)^2 "
            "with "
            "w(z) = (n - 1) / (C(n, |z|) |z| (n - |z|)), under sum_i phi_i = f(all) - f(none)",
        ),
        UnitMethod(
            "lime",
            "Ribeiro, Singh & Guestrin, KDD 2016, arXiv 1602.04938",
            "`draws` forwards",
            _lime,
            "a linear model of the score near the whole input",
            {
                "draws": Option(256, "how many random sets of units", form=whole(20, 1 << 24)),
                "width": Option(0.25, "how near counts as near", form=number(0, inside=True)),
                "penalty": Option(1.0, "of the sum of squares", form=number(0)),
                "seed": _SEED,
            },
            equation="beta_i of the beta that minimise sum_z w(z) (f(z) - b - z . beta)^2 + penalty "
            "|beta|^2 with w(z) = exp(-(1 - cos(z, all))^2 / (2 width^2))",
        ),
        UnitMethod(
            "sparse_linear",
            "Cohen-Wang et al., NeurIPS 2024, arXiv 2409.00729",
            "`draws` forwards",
            _sparse_linear,
            "a sparse linear model of the score over random sets of units",
            {
                "draws": Option(64, "how many random sets of units", form=whole(2, 1 << 24)),
                "keep": Option(
                    0.5, "how probably each unit is kept", form=number(0, 1, inside=True)
                ),
                "penalty": Option(0.01, "of the sum of sizes", form=number(0)),
                "seed": _SEED,
            },
            equation="beta_i of the beta that minimise |f - b - Z beta|^2 / (2 draws) + penalty "
            "|beta|_1, "
            "the columns of Z brought to mean 0 and deviation 1, over that deviation",
        ),
    )
}
"""Every unit method by its name."""
