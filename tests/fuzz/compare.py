"""One recipe tried: the library's relevance and matrices against the truth, in several forms."""

import copy
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import torch
from torch import Tensor

import fxplain
from fxplain.capture import Capture, ModelInputs, routes
from tests.fuzz.build import CLASSES, Inputs, Net, build, make_inputs
from tests.fuzz.recipe import Recipe
from tests.fuzz.truth import Account, Ledger

TOLERANCE = 1e-7
FLOAT32 = 2e-3
VERIFIED = 20
"""Of so many seeds one is verified, too: what is right must not be called broken."""
ZEROS = (1, 30, 1000)
"""Times the type's epsilon: thresholds of what is zero but for rounding."""
SHARE = 10
"""What rounding moves by a tenth of a difference, it may have made."""
OUTCOMES = (
    "equal", "warned", "refused", "crashed", "wrong", "false alarm", "unsettled", "invalid",
)  # fmt: skip
"""Unsettled: rounding decides what is zero (the library is right by another threshold alone), or how
large it is: the truth is as far from that of the same model with weights that differ by rounding."""


@dataclass(frozen=True)
class Finding:
    """What became of a recipe: an outcome, the form that showed it, and in words what was seen."""

    recipe: Recipe
    outcome: str
    form: str = ""
    detail: str = ""
    off: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """``relevance[modality]`` (batch, tokens), ``matrices[a, b]`` (batch, a tokens, b tokens)."""

    relevance: dict[str, np.ndarray]
    matrices: dict[tuple[str, str], np.ndarray]
    output: Tensor


def targets(recipe: Recipe, batch: int) -> list[int]:
    return [(recipe.seed + b) % CLASSES for b in range(batch)]


def truth(model: Net, inputs: Inputs, target: list[int]) -> Wanted:
    """The model's own account; nothing of the library is involved."""
    return truths(model, inputs, target)[0]


def truths(model: Net, inputs: Inputs, target: list[int]) -> list[Wanted]:
    """The account, with the library's threshold of what is zero but for rounding first.

    A sum that should be zero is a few epsilons of one run and none of another, and equation 8 makes
    a share of it or not. So further thresholds follow: where they say otherwise, nothing is settled.
    """
    model.ledger = ledger = Ledger()
    try:
        output = model(**inputs)
        output[torch.arange(len(target)), target].sum().backward()
    finally:
        model.ledger = None
        model.zero_grad(set_to_none=True)
    epsilon = torch.finfo(output.dtype).eps
    return [wanted(ledger, output, times * epsilon) for times in ZEROS]


def wanted(ledger: Ledger, output: Tensor, zero: float) -> Wanted:
    accounts = [Account(ledger, sample, zero) for sample in range(len(output))]
    relevances = [account.relevance() for account in accounts]
    names = list(accounts[0].columns)
    return Wanted(
        {name: np.stack([one[name] for one in relevances]) for name in names},
        {(a, b): np.stack([one.matrix(a, b) for one in accounts]) for a in names for b in names},
        output.detach(),
    )


def moved_by_rounding(model: Net, inputs: Inputs, target: list[int], want: Wanted) -> float:
    """How far the truth itself moves with every weight by a few epsilons, as `differences` count."""
    other, chance = copy.deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in other.parameters():
            noise = torch.randn(weight.shape, generator=chance, dtype=weight.dtype)
            weight.mul_(1 + 4 * torch.finfo(weight.dtype).eps * noise)
    moved = truth(other, inputs, target)
    scale = max(max(np.abs(r).max() for r in want.relevance.values()), 1e-9)
    found = [
        np.abs(moved.relevance[name] - value).max() / scale
        for name, value in want.relevance.items()
    ]
    found += [
        np.abs(moved.matrices[pair] - value).max() / max(np.abs(value).max(), 1e-9)
        for pair, value in want.matrices.items()
    ]
    return float(max(found))


def distance(got: Tensor, want: np.ndarray, scale: float) -> float:
    """The largest difference, relative to the largest relevance; infinite for another shape."""
    found = got.detach().double().numpy()
    if found.shape != want.shape:
        return float("inf")
    return float(np.abs(found - want).max(initial=0.0)) / scale


def differences(
    explanation: fxplain.Explanation, want: Wanted, matrices: bool
) -> list[tuple[float, str]]:
    """(how far, what), for everything that is said of the model."""
    scale = max(max(np.abs(r).max() for r in want.relevance.values()), 1e-9)
    found = []
    for name, relevance in want.relevance.items():
        if name in explanation.relevance:
            off = distance(explanation.relevance[name], relevance, scale)
            found.append((off, f"relevance[{name}]"))
        elif np.abs(relevance).max() > TOLERANCE * scale:
            found.append((float("inf"), f"relevance[{name}] is missing"))
    for name in set(explanation.relevance) - set(want.relevance):
        found.append((float("inf"), f"relevance[{name}] is no modality"))
    for (a, b), matrix in want.matrices.items() if matrices else ():
        if {a, b} <= set(explanation.relevance):
            size = max(np.abs(matrix).max(), 1e-9)
            found.append((distance(explanation.matrix(a, b), matrix, size), f"matrix({a}, {b})"))
    return found


def forms(recipe: Recipe, inputs: Inputs) -> dict[str, tuple[Inputs, dict[str, object]]]:
    """Inputs and options of every form in which a recipe is tried."""
    turned = {name: value.flip(0) for name, value in inputs.items()}
    result: dict[str, tuple[Inputs, dict[str, object]]] = {
        "batch": (inputs, {}),
        "single": ({name: value[:1] for name, value in inputs.items()}, {}),
        "permuted": (turned, {}),
        "matrices": (inputs, {"engine": "matrices"}),
    }
    if "words" in inputs:
        longer = make_inputs(replace(recipe, words=recipe.words + 2))
        result["longer"] = (longer, {})
    return result


@contextmanager
def fixed_sizes() -> Iterator[None]:
    """Graphs that hold for one size only: they are traced in a third of the time."""

    def fixed(model: Net, inputs: ModelInputs, *, dynamic: bool) -> Capture:
        return export(model, inputs, dynamic=False)

    export = routes.capture_by_export
    with mock.patch.object(routes, "capture_by_export", fixed):
        yield


def tried(recipe: Recipe, every_form: bool = False) -> Finding:
    """The first form in which something is not as it should be, or equal.

    A batch is always tried, and one other form, in which seeds take turns, or all of them. Other
    lengths are tried on a graph with free sizes, most else on graphs that are quicker to trace.
    """
    model, inputs = build(recipe), make_inputs(recipe)
    all_forms = forms(recipe, inputs)
    others = [*list(all_forms)[1:], "float32"]
    chosen = others if every_form else [others[recipe.seed // 7 % len(others)]]
    if "longer" in chosen or recipe.seed % 5 == 0:
        return tried_in_forms(recipe, model, inputs, chosen)
    with fixed_sizes():
        return tried_in_forms(recipe, model, inputs, chosen)


def tried_in_forms(recipe: Recipe, model: Net, inputs: Inputs, chosen: list[str]) -> Finding:
    all_forms = forms(recipe, inputs)
    for form, (given, options) in all_forms.items():
        if form not in ("batch", *chosen):
            continue
        finding = tried_in(recipe, form, model, given, options, TOLERANCE)
        if finding.outcome != "equal":
            return finding
    if "float32" not in chosen:
        return Finding(recipe, "equal")
    narrow = {k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}
    return tried_in(recipe, "float32", model.float(), narrow, {}, FLOAT32)


def tried_in(
    recipe: Recipe,
    form: str,
    model: Net,
    inputs: Inputs,
    options: dict[str, object],
    tolerance: float,
) -> Finding:
    target = targets(recipe, len(next(iter(inputs.values()))))
    wants = truths(model, inputs, target)
    output = wants[0].output
    with torch.no_grad():
        apart = float((model(**inputs) - output).abs().max())
    if not apart <= 100 * tolerance * max(float(output.abs().max()), 1.0):
        return Finding(recipe, "invalid", form, f"the styled model differs by {apart:.1e}", apart)
    try:
        explanation = fxplain.explain(model, inputs, target=target, **options)
        whole = form in ("batch", "matrices")
        found = [max(differences(explanation, want, matrices=whole)) for want in wants]
    except fxplain.FxplainError as error:
        return Finding(recipe, "refused", form, f"{type(error).__name__}: {str(error)[:160]}")
    except Exception as error:  # noqa: BLE001 whatever it is, it is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rsplit('/', 2)[-2:]}:{place.lineno}"
        return Finding(recipe, "crashed", form, f"{type(error).__name__}: {error} ({where})"[:240])
    off, what = found[0]
    if off <= tolerance and recipe.seed % VERIFIED == 0 and form == "batch":
        broken = fxplain.verify(model, inputs).broken
        if broken:
            said = f"{broken[0].law}: {broken[0].faults[0]}"[:200]
            return Finding(recipe, "false alarm", form, said)
    if off <= tolerance:
        return Finding(recipe, "equal")
    if min(found)[0] <= tolerance:
        said = f"{what} is off by {off:.1e}, and by no more than {min(found)[0]:.1e} otherwise"
        return Finding(recipe, "unsettled", form, said, off)
    moved = moved_by_rounding(model, inputs, target, wants[0])
    if moved >= off / SHARE:
        said = f"{what} is off by {off:.1e}; weights that differ by rounding move it by {moved:.1e}"
        return Finding(recipe, "unsettled", form, said, off)
    warned = "; ".join(explanation.graph.warnings)[:120]
    said = f"{what} is off by {off:.1e}"
    if warned:
        return Finding(recipe, "warned", form, f"{said} {warned}", off)
    seen = "is not seen" if fxplain.verify(model, inputs).ok else "is seen"
    return Finding(recipe, "wrong", form, f"{said}, which {seen} by a full verification", off)
