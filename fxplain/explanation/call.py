"""Call: one forward of a model, and the explanations of one or several targets of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fxplain.errors import NoAttentionError
from fxplain.explanation import reading
from fxplain.explanation.answer import Answer
from fxplain.explanation.asked import Asked
from fxplain.explanation.detection import no_attention
from fxplain.explanation.explanation import Explanation
from fxplain.explanation.kept import Kept
from fxplain.explanation.labels import known_names, token_labels
from fxplain.explanation.matrices import Matrices
from fxplain.explanation.passes import Passes
from fxplain.explanation.plan import Plan
from fxplain.explanation.resolved_target import ResolvedTarget
from fxplain.explanation.resolving import resolve_target
from fxplain.explanation.several import each_read

if TYPE_CHECKING:
    from fxplain.explanation.question import Question

__all__ = ["Call"]


class Call:
    """A question whose forward has run when this is made: readout, plan, passes, reading.

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
        needs = question.method.needs(question.options)
        self.passes = Passes(
            self.captured,
            question.model,
            self.bound,
            self.program,
            needs,
            recompute=question.recompute,
            disturbance=question.disturbance,
        )

    def explanations(self, targets: Sequence[Any]) -> list[Explanation]:
        """Those of the targets, one forward for all; the call is used up.

        What one of several leaves behind is dropped as soon as it is read, so that their number costs
        no memory; a matrix of R is then made by another run.
        """
        if len(targets) == 1:
            return [self.explanation(targets[0])]
        plans = [self._plan(self._resolved(target)) for target in targets]
        found = each_read(plans)
        made = []
        for target, plan in zip(targets, plans, strict=True):
            asked, promised = self._asked(target, plan.resolved), plan.promised_sum()
            views, read = next(found)
            made.append(self._answer(asked, plan.resolved, views, asked.matrix, read, promised))
        return made

    def explanation(self, target: Any) -> Explanation:
        """The explanation of one target; the call is used up.

        What the attention nodes saw goes while the backward is under way, where that can be; a matrix
        of R is then made by another run.
        """
        resolved = self._resolved(target)
        plan, asked = self._plan(resolved), self._asked(target, resolved)
        ridden = plan.ridden()
        if ridden is not None:
            views, read = ridden
            return self._answer(asked, resolved, views, asked.matrix, read, None)
        promised = plan.promised_sum()
        views = plan.views(more=False)
        return self._answer(asked, resolved, views, Matrices(self.program, views), None, promised)

    def matrices(self, target: Any) -> tuple[Tensor, Matrices]:
        """The scores of one target, and the matrices of R for it; the call is used up."""
        resolved = self._resolved(target)
        views = self._plan(resolved).views(more=False)
        return resolved.scores, Matrices(self.program, views)

    def kept(self, target: Any) -> Kept:
        """What the passes for one target leave behind, heads included; the call is used up."""
        resolved = self._resolved(target)
        return Kept(
            model=self.question.model,
            inputs=self.bound,
            captured=self.captured,
            program=self.program,
            resolved=resolved,
            views=tuple(self._plan(resolved).views(more=False, keep=True)),
        )

    def _resolved(self, target: Any) -> ResolvedTarget:
        question = self.question
        return resolve_target(
            target,
            question.output,
            question.model,
            self.bound,
            self.captured,
            self.program,
            self.passes.outputs,
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

    def _asked(self, target: Any, resolved: ResolvedTarget) -> Asked:
        outputs = tuple(output.detach() for output in self.passes.outputs)
        return Asked(self.question, target, resolved.scores, outputs)

    def _answer(
        self,
        asked: Asked,
        resolved: ResolvedTarget,
        views: Sequence[reading.View],
        matrix_of: Callable[[str, str], Tensor],
        read: dict[int, Tensor] | None,
        promised: Tensor | None,
    ) -> Explanation:
        answer = Answer(
            asked,
            self.bound,
            self.captured,
            self.program,
            self.passes,
            self._labels,
            resolved,
            tuple(views),
        )
        return answer.explanation(matrix_of, read, promised)

    @cached_property
    def _labels(self) -> dict[str, list[list[str]]]:
        """By modality and sample, a label for every token."""
        tokenizer, modalities = self.question.tokenizer, self.program.modalities
        names = known_names(self.question.names, [m.name for m in modalities])
        return {
            m.name: token_labels(m, self.bound, tokenizer, names.get(m.name)) for m in modalities
        }
