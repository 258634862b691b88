"""Replays: explanations of one form made again as bare operations, once a few of them were made."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fxplain.capture import Capture
from fxplain.errors import FxplainError
from fxplain.explanation.reading import Reading
from fxplain.explanation.resolved_target import Readout, ResolvedTarget, Seeds
from fxplain.methods import Method, Relevancies, TokenScores
from fxplain.program import Program
from fxplain.run import UNDISTURBED, DoesNotHoldError, Recording, Replay

if TYPE_CHECKING:
    from fxplain.explanation.call import Call
    from fxplain.explanation.question import Question

__all__ = ["Form", "Made", "form_of", "never"]

FIRST = 8
"""The call of a form that is recorded: what came so often comes again."""

MOST = 4
"""How many recordings of a form there are: for masks and readouts of several kinds."""

LARGEST = 2**22
"""Up to how many weights of all nodes: with more, operations take so long that Python is nothing."""

Made = tuple[ResolvedTarget, tuple[Tensor, ...], Reading]
"""The target, the model's outputs, and what was read for it."""


@dataclass(frozen=True, eq=False)
class _Recorded:
    """One recording of a form.

    Attributes
    ----------
    replay
        What is made again.
    strides
        How the values of the placeholders lay in memory.
    readouts, outputs
        Where the target that was recorded is read, and of which of the model's outputs.
    leaves
        At which outputs its gradients begin.
    reading
        What was read, without the numbers.
    """

    replay: Replay
    strides: list[Any]
    readouts: tuple[Readout, ...]
    outputs: tuple[int, ...]
    leaves: tuple[int, ...]
    reading: Reading

    def suits(self, resolved: ResolvedTarget) -> bool:
        """Whether a target is read from the same tokens."""
        return resolved.readouts == self.readouts and resolved.outputs == self.outputs

    def made(self, call: Call, target: Any, values: Sequence[Tensor]) -> Made | ResolvedTarget:
        """What is made for a target; the target alone where this is not its recording.

        Raises
        ------
        DoesNotHoldError
            When the recording does not hold for the values.
        """
        found, kept = self.replay.begun(values)
        outputs = tuple(found)
        resolved = call.resolved(target, outputs)
        if not self.suits(resolved):
            return resolved
        leaves, gradients = resolved.seeds(outputs, None)
        if _places(leaves, outputs) != self.leaves:
            return resolved
        read = self.replay.finished(kept, gradients)
        relevance = dict(zip(self.reading.relevance, read, strict=True))
        return resolved, outputs, replace(self.reading, relevance=relevance)


@dataclass(eq=False)
class Form:
    """Explanations of one program by one method with the same options, however many.

    Attributes
    ----------
    method
        The method.
    calls
        How many there were since the last recording.
    found
        The recordings, the last used first.
    wasted
        How many replays were for nothing, less those that were not.
    why_not
        Why nothing is recorded any more; empty where it may be.
    """

    method: Method
    calls: int = 0
    found: list[_Recorded] = field(default_factory=list)
    wasted: int = 0
    why_not: str = ""

    def made(self, call: Call, target: Any) -> Made | None:
        """What is made for a target by a replay, or while it is recorded; None for neither."""
        self.calls += 1
        made = self._replayed(call, target) if self.found else None
        if made is None and self.calls >= FIRST and len(self.found) < MOST and not self.why_not:
            return self.recorded(call, target)
        return made

    def _replayed(self, call: Call, target: Any) -> Made | None:
        values = call.values()
        strides = [*map(Tensor.stride, values)]
        known: ResolvedTarget | None = None
        for recorded in tuple(self.found):
            if recorded.strides != strides or (known and not recorded.suits(known)):
                continue
            try:
                made = recorded.made(call, target, values)
            except DoesNotHoldError:
                continue
            if isinstance(made, tuple):
                self._served(recorded)
                return made
            known = made
        self.wasted += 1
        if self.wasted > 2 * MOST:
            self.found, self.why_not = [], "each call looks at other tokens, or hides others"
        return None

    def _served(self, recorded: _Recorded) -> None:
        self.wasted, self.calls = max(0, self.wasted - 1), 0
        if self.found[:1] != [recorded]:
            self.found = [recorded, *(each for each in self.found if each is not recorded)]

    def recorded(self, call: Call, target: Any) -> Made | None:
        """What is made for a target, with its operations noted; None where that failed."""
        self.calls = 0
        recording = Recording()
        try:
            with recording.active():
                outputs = call.passes.outputs
            resolved = call.resolved(target, outputs)
            leaves, gradients = resolved.seeds(outputs, None)

            def seeds(_: Sequence[Tensor], sample: int | None) -> Seeds:
                if sample is not None:
                    recording.refuse("samples are explained one by one")
                    return resolved.seeds(outputs, sample)
                return leaves, gradients

            with recording.part(gradients):
                reading = call.reading(replace(resolved, seeds=seeds))
        except FxplainError:
            raise
        except Exception as error:  # noqa: BLE001 - the call is made again, and says it if it is its own
            self.why_not = f"it cannot be recorded: {type(error).__name__}: {error}"
            call.begin_again()
            return None
        bare = _bare(reading)
        replay = (
            None if bare is None else self._proved(recording, call, outputs, gradients, reading)
        )
        if bare is not None and replay is not None:
            strides = [*map(Tensor.stride, call.values())]
            read = resolved.readouts, resolved.outputs, _places(leaves, outputs)
            self.found = [_Recorded(replay, strides, *read, bare), *self.found]
        else:
            self.why_not = recording.refused or "the method needs whole matrices"
        return resolved, outputs, reading

    def _proved(
        self,
        recording: Recording,
        call: Call,
        outputs: Sequence[Tensor],
        gradients: Sequence[Tensor],
        reading: Reading,
    ) -> Replay | None:
        """The replay of a recording, if it makes the same numbers."""
        if len(recording.given) != 2:
            recording.refuse("more runs than one")
        if recording.refused:
            return None
        read = [*reading.relevance.values()]
        replay = Replay.of(recording, outputs, read)
        if replay is None:
            return None
        try:
            again, kept = replay.begun(call.values())
            again = [*again, *replay.finished(kept, gradients)]
        except DoesNotHoldError:
            recording.refuse("the model answers otherwise when it is asked again")
            return None
        if not all(map(_close, again, [*outputs, *read])):
            recording.refuse("replayed it makes other numbers")
            return None
        return replay


def form_of(
    question: Question, captured: Capture, program: Program, *, large: bool = False
) -> Form | None:
    """The form of a question; None where no recording would hold.

    Of a large model there is none unless it is asked for, with `large`: nothing is to be gained.
    """
    if never(question, captured):
        return None
    key = _key(question)
    if key is None or not (large or key in program.memo or _is_small(program)):
        return None
    form: Form = program.memo.made(key, lambda: Form(question.method))
    return form


def never(question: Question, captured: Capture) -> str:
    """Why explanations as the question asks for them are never replayed; empty where they may be."""
    method = question.method
    needs = method.needs(question.options)
    if question.recompute:
        return "recompute=True makes parts of the model again"
    more = needs.relevance or needs.steps or needs.biases or method.smoothing
    if more or needs.compared is not None or question.disturbance is not UNDISTURBED:
        return f"{method.name} does more than one forward and one backward"
    if question.engine == "matrices" or not needs.gradient:
        return f"{method.name} builds whole matrices"
    return "the model draws random numbers" if captured.draws else ""


def _key(question: Question) -> Hashable | None:
    options = tuple(question.options.items())
    key = ("replays", id(question.method), question.engine, options)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _is_small(program: Program) -> bool:
    def weights() -> int:
        return sum(math.prod(node.site.shape) for node in program.nodes.values())

    found: int = program.memo.made("weights of all nodes", weights)
    return found <= LARGEST


def _places(leaves: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[int, ...]:
    ids = [*map(id, outputs)]
    return tuple(ids.index(id(leaf)) for leaf in leaves)


def _bare(reading: Reading) -> Reading | None:
    """A reading without its numbers; None of a method that has whole matrices."""
    views = []
    for view in reading.views:
        scores = view.scores
        if isinstance(scores, TokenScores):
            scores = TokenScores(scores.scores.new_empty(0))
        elif type(scores) is Relevancies and reading.engine == "rows":
            scores = scores.without_maps()
        else:
            return None
        views.append(replace(view, scores=scores))
    nothing = {name: values.new_empty(0) for name, values in reading.relevance.items()}
    return replace(reading, views=tuple(views), relevance=nothing, matrix_of=None)


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-7, equal_nan=True)
