"""Sources: what MODEL on the command line is, and how it is inspected and explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
import typer
from torch import nn

import fxplain
from fxplain.cli.factory import is_factory, load_factory
from fxplain.cli.inputs import as_typed, stand_ins
from fxplain.cli.terminal import note, progress
from fxplain.errors import InputError
from fxplain.explanation.naming import class_namer

__all__ = ["Checkpoint", "Checks", "Made", "open_source"]


class Checks(TypedDict):
    """How what is detected is checked, as `fxplain.inspect` takes it."""

    verify: str
    strict: bool


@dataclass(frozen=True, eq=False)
class Made:
    """A model and its inputs that a function of the user's own made."""

    model: nn.Module
    inputs: Any

    def is_one_sample(self) -> bool:
        """Several targets are one for each sample of the factory's own inputs."""
        return False

    def inspected(self, checks: Checks) -> fxplain.AttentionGraph:
        """What is detected in the model."""
        with progress("detecting attention"):
            return fxplain.inspect(self.model, self.inputs, **checks)

    def verified(self, level: str) -> fxplain.Verification:
        """What held and what broke in the model."""
        with progress("verifying"):
            return fxplain.verify(self.model, self.inputs, level=level)

    def explained(self, asked: Mapping[str, Any], each: bool) -> list[fxplain.Explanation]:
        """The one explanation that was asked for.

        Raises
        ------
        typer.BadParameter
            When `each` of a task's targets is asked for, since there is no task.
        """
        if each:
            raise typer.BadParameter("a factory's model has no task: leave --each out.")
        with progress("explaining"):
            made = fxplain.explain(self.model, self.inputs, **asked)
            return made if isinstance(made, list) else [made]

    def generated(self, asked: Mapping[str, Any]) -> fxplain.Generation:
        """What the model writes after the inputs, explained."""
        with progress("writing and explaining"):
            return fxplain.explain_generation(self.model, self.inputs, **asked)

    def class_namer(
        self, explanation: fxplain.Explanation, output: str | None
    ) -> Callable[[int], str] | None:
        """What the classes of the explained output are called, where that is known."""
        return class_namer(explanation, self.model, output=output)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A pretrained model with its processors, and the raw inputs that were typed."""

    explainer: fxplain.Explainer
    raw: Mapping[str, Any]

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self.explainer.model

    @property
    def inputs(self) -> dict[str, Any]:
        """The model's inputs, as its processors make them."""
        return self.explainer.inputs(**self.raw)

    def is_one_sample(self) -> bool:
        """Whether no batch was typed, as the task sees it: several texts may be of one image."""
        with _input_errors_are_usage():
            return self.explainer.is_one_sample(**self.raw)

    def inspected(self, checks: Checks) -> fxplain.AttentionGraph:
        """What is detected in the model; what is not given has a stand-in."""
        with progress("detecting attention"), _input_errors_are_usage():
            return self.explainer.inspect(**stand_ins(self.explainer, self.raw), **checks)

    def verified(self, level: str) -> fxplain.Verification:
        """What held and what broke in the model; what is not given has a stand-in."""
        with progress("verifying"), _input_errors_are_usage():
            return self.explainer.verify(level=level, **stand_ins(self.explainer, self.raw))

    def explained(self, asked: Mapping[str, Any], each: bool) -> list[fxplain.Explanation]:
        """The explanation that was asked for, or one of `each` target that the task has."""
        everything = {**self.raw, **asked}
        with progress("explaining"), _input_errors_are_usage():
            made = self.explainer.each(**everything) if each else self.explainer(**everything)
            explanations = made if isinstance(made, list) else [made]
        start = explanations[0].inputs.get("decoder_input_ids") if explanations else None
        if start is not None and not each:
            tokens = ", ".join(map(str, start[0].tolist()))
            note(f"the decoder is given its start token ({tokens}): its first token is explained.")
        return explanations

    def generated(self, asked: Mapping[str, Any]) -> fxplain.Generation:
        """What the model writes, explained."""
        with progress("writing and explaining"), _input_errors_are_usage():
            return self.explainer.generate(
                **{kind: given for kind, given in self.raw.items() if kind != "pair"}, **asked
            )

    def class_namer(
        self, explanation: fxplain.Explanation, output: str | None
    ) -> Callable[[int], str] | None:
        """What the classes of the explained output are called, where that is known."""
        return class_namer(explanation, self.model, self.explainer.loaded.tokenizer, output)


def open_source(
    name: str,
    raw: Mapping[str, Any],
    task: str | None,
    trust_remote_code: bool,
    device: str | None = None,
    dtype: str | None = None,
) -> Made | Checkpoint:
    """What MODEL names, loaded or called.

    Raises
    ------
    typer.BadParameter
        When a factory, which brings its own inputs, is given some, or a task.
    """
    if not is_factory(name):
        with progress(f"loading {name}"):
            precision = {"dtype": getattr(torch, dtype)} if dtype else {}
            explainer = fxplain.from_pretrained(
                name, task, device=device, trust_remote_code=trust_remote_code, **precision
            )
        return Checkpoint(explainer, raw)
    if any(raw.values()):
        raise typer.BadParameter(
            f"{name} brings its own inputs: leave --text, --pair, --image, --video and --audio out."
        )
    if task:
        raise typer.BadParameter(f"{name} has no task: leave --task out.")
    if device or dtype:
        raise typer.BadParameter(f"{name} makes its model itself: leave --device and --dtype out.")
    with progress(f"calling {name}"):
        return Made(*load_factory(name))


@contextmanager
def _input_errors_are_usage() -> Iterator[None]:
    """What is missing or too much was typed, or not."""
    try:
        yield
    except InputError as error:
        raise typer.BadParameter(as_typed(str(error))) from error
