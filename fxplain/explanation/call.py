"""Call: one forward of a model, and the explanations of one or several targets of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fxplain.errors import NoAttentionError
from fxplain.explanation.answer import Answer
from fxplain.explanation.asked import Asked
from fxplain.explanation.detection import no_attention
from fxplain.explanation.explanation import Explanation
from fxplain.explanation.kept import Kept
from fxplain.explanation.labels import known_names, token_labels
from fxplain.explanation.matrices import Matrices
from fxplain.explanation.passes import Passes
from fxplain.explanation.plan import Plan
from fxplain.explanation.reading import Reading, View, choose_engine, relevance
from fxplain.explanation.replays import form_of
from fxplain.explanation.resolved_target import ResolvedTarget
from fxplain.explanation.resolving import resolve_target
from fxplain.explanation.several import each_read

if TYPE_CHECKING:
    from fxplain.explanation.question import Question

__all__ = ["Call"]


class Call:
    """A question about to be answered: passes, readout, plan, reading.

    Raises
    ------
    NoAttentionError
        When the model has no attention over tokens.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self.bound, self.captured, self.program = question.detected()
        if not self.program.nodes:
            raise NoAttentionError(no_attention(question.model, self.program))

    @cached_property
    def passes(self) -> Passes:
        """The passes for the question, of which the forward has run."""
        question = self.question
        return Passes(
            self.captured,
            question.model,
            self.bound,
            self.program,
            question.method.needs(question.options),
            recompute=question.recompute,
            disturbance=question.disturbance,
        )

    def begin_again(self) -> None:
        """Forget the passes that have run."""
        self.__dict__.pop("passes", None)

    def values(self) -> list[Tensor]:
        """The values of all placeholders of the capture, as they are now."""
        return self.captured.bind(self.question.model, self.bound)

    def explanations(self, targets: Sequence[Any]) -> list[Explanation]:
        """Those of the targets, one forward for all; the call is used up.

        What one of several leaves behind is dropped as soon as it is read, so that their number costs
        no memory; a matrix of R is then made by another run.
        """
        if len(targets) == 1:
            return [self.explanation(targets[0])]
        outputs = self.passes.outputs
        plans = [self._plan(self.resolved(target, outputs)) for target in targets]
        found = each_read(plans)
        made = []
        for target, plan in zip(targets, plans, strict=True):
            promised = plan.promised_sum()
            views, read = next(found)
            reading = self._read(views, read, promised, None)
            made.append(self._answer(target, plan.resolved, outputs, reading))
        return made

    def explanation(self, target: Any) -> Explanation:
        """The explanation of one target; the call is used up.

        What the attention nodes saw goes while the backward is under way, where that can be; a matrix
        of R is then made by another run. A form of call that comes again and again is replayed.
        """
        form = form_of(self.question, self.captured, self.program)
        made = None if form is None else form.made(self, target)
        if made is None:
            outputs = self.passes.outputs
            resolved = self.resolved(target, outputs)
            made = resolved, outputs, self.reading(resolved)
        return self._answer(target, *made)

    def reading(self, resolved: ResolvedTarget) -> Reading:
        """What the passes show for one target; they are used up."""
        plan = self._plan(resolved)
        ridden = plan.ridden()
        if ridden is not None:
            return self._read(*ridden, None, None)
        promised = plan.promised_sum()
        views = plan.views(more=False)
        return self._read(views, None, promised, Matrices(self.program, views))

    def _read(
        self,
        views: Sequence[View],
        read: dict[int, Tensor] | None,
        promised: Tensor | None,
        matrix_of: Callable[[str, str], Tensor] | None,
    ) -> Reading:
        question = self.question
        engine = choose_engine(question.engine, views[0].scores, question.method.name)
        values = relevance(self.program, views, engine, read)
        return Reading(tuple(views), engine, values, matrix_of, promised)

    def matrices(self, target: Any) -> tuple[Tensor, Matrices]:
        """The scores of one target, and the matrices of R for it; the call is used up."""
        resolved = self.resolved(target, self.passes.outputs)
        views = self._plan(resolved).views(more=False)
        return resolved.scores, Matrices(self.program, views)

    def kept(self, target: Any) -> Kept:
        """What the passes for one target leave behind, heads included; the call is used up."""
        resolved = self.resolved(target, self.passes.outputs)
        return Kept(
            model=self.question.model,
            inputs=self.bound,
            captured=self.captured,
            program=self.program,
            resolved=resolved,
            views=tuple(self._plan(resolved).views(more=False, keep=True)),
        )

    def resolved(self, target: Any, outputs: Sequence[Tensor]) -> ResolvedTarget:
        """A target as numbers, gradients and readouts, of the model's outputs."""
        question = self.question
        return resolve_target(
            target,
            question.output,
            question.model,
            self.bound,
            self.captured,
            self.program,
            outputs,
        )

    def _plan(self, resolved: ResolvedTarget) -> Plan:
        question = self.question
        return Plan(
            self.program,
            self.passes,
            question.method,
            question.options,
            question.engine,
            resolved,
        )

    def _answer(
        self, target: Any, resolved: ResolvedTarget, outputs: Sequence[Tensor], reading: Reading
    ) -> Explanation:
        question = self.question
        said = tuple(output.detach() for output in outputs)
        asked = Asked(question, target, resolved.scores, said)
        passes = self.__dict__.get("passes")  # there are none of a replay
        answer = Answer(
            asked,
            self.bound,
            self.captured,
            self.program,
            question.method.needs(question.options),
            {} if passes is None else passes.conservation,
            self._labels,
            resolved,
            reading,
        )
        return answer.explanation()

    @cached_property
    def _labels(self) -> dict[str, list[list[str]]]:
        """By modality and sample, a label for every token."""
        tokenizer, modalities = self.question.tokenizer, self.program.modalities
        names = known_names(self.question.names, self.bound, modalities)
        return {
            m.name: token_labels(m, self.bound, tokenizer, names.get(m.name)) for m in modalities
        }
