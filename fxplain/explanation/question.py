"""Question: what is asked of a model about one batch, as plain data that can be asked again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from fxplain.arguments import YES_NO, one_of, optional
from fxplain.capture import NO_AUTOCAST, Autocast, Capture, ModelInputs
from fxplain.errors import MethodError
from fxplain.explanation.call import Call
from fxplain.explanation.choosing import Kind, choose
from fxplain.explanation.detection import BatchAxis, program_of
from fxplain.explanation.enough_steps import with_enough_steps
from fxplain.explanation.explanation import Explanation
from fxplain.explanation.kept import Kept
from fxplain.explanation.labels import NAMES_BY_MODALITY, check_tokenizer
from fxplain.explanation.matrices import Matrices
from fxplain.explanation.reading import ENGINES
from fxplain.explanation.smoothing import smoothed
from fxplain.methods import AUTOMATIC, Method
from fxplain.program import Program
from fxplain.run import UNDISTURBED, Disturbance, Run, forward

__all__ = ["Question"]


@dataclass(frozen=True, eq=False)
class Question:
    """A model, a batch and a method; the targets come when it is asked.

    Attributes
    ----------
    model, inputs, output, tokenizer, names, engine, batch_axis, verify, strict, recheck, recompute
        As `fxplain.explain` takes them.
    method, options
        The method, and all of its options.
    given
        The options that were not left out.
    why
        Why this method, where it was chosen for the model; else empty.
    disturbance
        What is changed in all of its runs.
    autocast
        The mixed precision in which it was asked, and is asked again.
    """

    model: nn.Module
    inputs: Any
    method: Method
    options: Mapping[str, Any]
    given: Mapping[str, Any]
    output: str | None = None
    tokenizer: Any = None
    names: Mapping[str, Sequence[str]] | None = None
    engine: str = "auto"
    batch_axis: BatchAxis = None
    verify: str = "light"
    strict: bool = False
    recheck: bool = False
    recompute: bool = False
    why: str = ""
    disturbance: Disturbance = UNDISTURBED
    autocast: Autocast = field(default_factory=Autocast.now)

    def checked(self) -> Question:
        """The same, if it can be answered as it is asked.

        Raises
        ------
        MethodError
            For an engine that does not exist.
        InputError
            For something that is no tokenizer, or no yes or no.
        """
        check_tokenizer(self.tokenizer)
        optional(NAMES_BY_MODALITY).check("names", self.names)
        one_of(ENGINES).raising(MethodError).check("engine", self.engine)
        for flag in ("strict", "recheck", "recompute"):
            YES_NO.check(flag, getattr(self, flag))
        return self

    def detected(self) -> tuple[ModelInputs, Capture, Program]:
        """The call, its capture and its program."""
        with self.autocast.again():
            return program_of(
                self.model,
                self.inputs,
                self.batch_axis,
                self.verify,
                strict=self.strict,
                recheck=self.recheck,
            )

    def settled(self) -> Question:
        """With a method: ``"auto"`` is the one that measured best on this kind of model."""
        if self.method is not AUTOMATIC:
            return self
        choice = choose(Kind.of(*self.detected(), self.output), self.given)
        return replace(self, method=choice.method, options=choice.options, why=choice.why)

    def answers(self, targets: Sequence[Any]) -> list[Explanation]:
        """The explanations of targets, with as many steps as a method needs that takes steps.

        A smoothing method's are made of many.
        """
        if self.method.smoothing is not None:
            return smoothed(self, targets)
        leaves_steps = "steps" in self.options and "steps" not in self.given
        if leaves_steps and self.options["signed"]:
            return with_enough_steps(lambda own: self._asked(own, targets), self.options)
        return self._asked(self.options, targets)

    def _asked(self, options: Mapping[str, Any], targets: Sequence[Any]) -> list[Explanation]:
        with NO_AUTOCAST.again():
            return Call(replace(self, options=options)).explanations(targets)

    # -- once more, for what was not made at once -------------------------------------------------

    def matrices(self, target: Any) -> tuple[Tensor, Matrices]:
        """The scores of one target, and the matrices of R for it."""
        with NO_AUTOCAST.again():
            return Call(self._unchecked()).matrices(target)

    def kept(self, target: Any) -> Kept:
        """What the passes for one target leave behind, heads included."""
        with NO_AUTOCAST.again():
            return Call(self._unchecked()).kept(target)

    def attention(self) -> Run:
        """A forward without gradients, which leaves the weights of attention behind."""
        with NO_AUTOCAST.again():
            bound, captured, program = self._unchecked().detected()
            return forward(captured, self.model, bound, program, recompute=self.recompute)

    def _unchecked(self) -> Question:
        """The same, without the checks that were made."""
        return replace(self, verify="off", strict=False, recheck=False)
