"""One recipe tried: the library's relevance and matrices against the truth, in several forms."""

import traceback
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

import fxplain
from tests.fuzz.build import CLASSES, Inputs, Net, build, make_inputs
from tests.fuzz.recipe import Recipe
from tests.fuzz.truth import Account, Ledger

TOLERANCE = 1e-7
FLOAT32 = 2e-3
OUTCOMES = ("equal", "warned", "refused", "crashed", "wrong", "invalid")


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
    model.ledger = ledger = Ledger()
    try:
        output = model(**inputs)
        output[torch.arange(len(target)), target].sum().backward()
    finally:
        model.ledger = None
        model.zero_grad(set_to_none=True)
    accounts = [Account(ledger, sample) for sample in range(len(target))]
    relevances = [account.relevance() for account in accounts]
    names = list(accounts[0].columns)
    return Wanted(
        {name: np.stack([one[name] for one in relevances]) for name in names},
        {(a, b): np.stack([one.matrix(a, b) for one in accounts]) for a in names for b in names},
        output.detach(),
    )


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


def tried(recipe: Recipe, every_form: bool = False) -> Finding:
    """The first form in which something is not as it should be, or equal.

    A batch is always tried, and one other form, in which seeds take turns, or all of them.
    """
    model, inputs = build(recipe), make_inputs(recipe)
    all_forms = forms(recipe, inputs)
    others = [*list(all_forms)[1:], "float32"]
    chosen = others if every_form else [others[recipe.seed // 7 % len(others)]]
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
    want = truth(model, inputs, target)
    with torch.no_grad():
        apart = float((model(**inputs) - want.output).abs().max())
    if not apart <= 100 * tolerance * max(float(want.output.abs().max()), 1.0):
        return Finding(recipe, "invalid", form, f"the styled model differs by {apart:.1e}", apart)
    try:
        explanation = fxplain.explain(model, inputs, target=target, **options)
        found = differences(explanation, want, matrices=form in ("batch", "matrices"))
    except fxplain.FxplainError as error:
        return Finding(recipe, "refused", form, f"{type(error).__name__}: {str(error)[:160]}")
    except Exception as error:  # noqa: BLE001 whatever it is, it is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rsplit('/', 2)[-2:]}:{place.lineno}"
        return Finding(recipe, "crashed", form, f"{type(error).__name__}: {error} ({where})"[:240])
    off, what = max(found)
    if off <= tolerance:
        return Finding(recipe, "equal")
    warned = "; ".join(explanation.graph.warnings)[:120]
    outcome = "warned" if warned else "wrong"
    return Finding(recipe, outcome, form, f"{what} is off by {off:.1e} {warned}".strip(), off)
