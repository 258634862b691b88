"""Explainers: what is evaluated, a method of the library, a function of the user's, or chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fxplain.arguments import as_numbers, blaming
from fxplain.errors import EvaluationError
from fxplain.evaluation.asked import labelled
from fxplain.explanation import explain
from fxplain.methods import AUTOMATIC, methods, resolve_method

__all__ = ["RANDOM", "AskedMethods", "ByMethod", "Chance", "Explainer", "choose_explainers"]

RANDOM = "random"
"""The row that every evaluation has: relevance drawn by chance."""

Relevance = Mapping[str, Tensor]

Chance = Callable[[int], Relevance]
"""From the number of a call to relevance drawn by chance for the samples at hand."""

Explainer = Callable[[nn.Module, Mapping[str, Any], Any, Chance], Relevance]
"""From model, inputs by argument name, target and chance to relevance, (batch, tokens) by modality."""

Method = (
    str | tuple[str, Mapping[str, Any]] | Callable[[nn.Module, Mapping[str, Any], Any], Relevance]
)
AskedMethods = Sequence[str] | Mapping[str, Method] | None


def choose_explainers(asked: AskedMethods, output: str | None) -> dict[str, Explainer]:
    """Explainers by the label of their rows, chance last.

    Parameters
    ----------
    asked
        Names of methods; or by label a name, a (name, options) pair or a function of model, inputs
        and target that returns relevance by modality. None for all methods.
    output
        The name of the explained output field.

    Raises
    ------
    FxplainError
        When a method or one of its options is unknown.
    """
    entries = labelled(asked, methods(), "method")
    if not entries:
        raise EvaluationError("no method is asked for.")
    entries.pop(RANDOM, None)
    return {
        **{label: _explainer(entry, output) for label, entry in entries.items()},
        RANDOM: lambda _model, _inputs, _target, chance: chance(0),
    }


def _called(function: Callable[..., Relevance]) -> Explainer:
    """A method that is a function of the user's."""
    name = getattr(function, "__name__", type(function).__name__)

    def explained(model: nn.Module, inputs: Any, target: Any, _chance: Chance) -> Relevance:
        with blaming(f"the method {name!r}", EvaluationError):
            made = function(model, inputs, target)
        if not isinstance(made, Mapping):
            raise EvaluationError(
                f"the method {name!r} must return relevance by modality, {{name: (batch, tokens)}}; it "
                f"returned a {type(made).__name__}."
            )
        with blaming(f"reading what the method {name!r} returned", EvaluationError):
            return {modality: as_numbers(values) for modality, values in made.items()}

    return explained


@dataclass
class ByMethod:
    """A method of the library.

    Attributes
    ----------
    name, options, output
        As `fxplain.explain` takes them.
    chosen
        What "auto" stood for when it was last asked, and why; else empty.
    """

    name: str
    options: Mapping[str, Any]
    output: str | None
    chosen: str = ""

    def __call__(
        self, model: nn.Module, inputs: Mapping[str, Any], target: Any, _chance: Chance
    ) -> Relevance:
        """Relevance by modality."""
        found = explain(model, inputs, target, self.name, output=self.output, **self.options)
        if found.chosen:
            corrected = found.options.get("gradients") == "corrected"
            taken = found.method + (", corrected gradients" if corrected else "")
            self.chosen = f"{taken}: {found.chosen}"
        return found.relevance


def _explainer(
    entry: tuple[str, dict[str, Any]] | Callable[..., Relevance], output: str | None
) -> Explainer:
    if not isinstance(entry, tuple):
        return _called(entry)
    name, options = entry
    method, resolved = resolve_method(name, options)  # with its steps: each sample costs the same
    return ByMethod(name, options if method is AUTOMATIC else resolved, output)
