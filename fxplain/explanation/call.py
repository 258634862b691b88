"""Call: one forward of a model, and the explanations of one or several targets of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.arguments import one_of
from fxplain.capture import config_of
from fxplain.errors import ChangedModelError, MethodError, NoAttentionError, NonFiniteError
from fxplain.explanation import reading
from fxplain.explanation.asked import Asked
from fxplain.explanation.choosing import Kind, measured_below_chance
from fxplain.explanation.cuts import cut_attention
from fxplain.explanation.detection import BatchAxis, graph_of, no_attention, program_of
from fxplain.explanation.enough_steps import INCOMPLETE, TOO_FEW
from fxplain.explanation.explanation import ByModality, Explanation
from fxplain.explanation.kept import Kept
from fxplain.explanation.labels import check_tokenizer, token_labels
from fxplain.explanation.naming import class_namer, target_names
from fxplain.explanation.passes import Passes
from fxplain.explanation.pictures import grid_of, pictures_of
from fxplain.explanation.target import ResolvedTarget, resolve_target
from fxplain.explanation.weights import attention_again
from fxplain.methods import Method, Relevancies, RelevancyRows
from fxplain.program import AttentionGraph, Program

__all__ = ["Call"]

SEVERAL_LABELS = "multi_label_classification"
"""What a config says of labels that do not compete."""


class Call:
    """One model, one batch, one method: the forward has run when this is made.

    Parameters
    ----------
    model, inputs
        As `fxplain.explain` takes them.
    method, options
        The method, and all of its options.
    output, tokenizer, engine, batch_axis, verify, strict, recheck
        As `fxplain.explain` takes them.

    Raises
    ------
    NoAttentionError
        When the model has no attention over tokens.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        method: Method,
        options: Mapping[str, Any],
        output: str | None = None,
        tokenizer: Any = None,
        engine: str = "auto",
        batch_axis: BatchAxis = None,
        *,
        verify: str = "light",
        strict: bool = False,
        recheck: bool = False,
    ) -> None:
        check_tokenizer(tokenizer)
        one_of(reading.ENGINES).raising(MethodError).check("engine", engine)
        self.model, self.method, self.options = model, method, options
        self.inputs, self.batch_axis = inputs, batch_axis
        self.output, self.tokenizer, self.engine = output, tokenizer, engine
        self.again: Callable[[], Call] = lambda: Call(
            model, inputs, method, options, output, tokenizer, engine, batch_axis, verify="off"
        )
        self.bound, self.captured, self.program = program_of(
            model, inputs, batch_axis, verify, strict=strict, recheck=recheck
        )
        if not self.program.nodes:
            raise NoAttentionError(no_attention(model, self.program))
        self.modalities = {m.name: m for m in self.program.modalities}
        self.labels = {
            name: token_labels(m, self.bound, tokenizer) for name, m in self.modalities.items()
        }
        needs = method.needs(options)
        self.passes = Passes(self.captured, model, self.bound, self.program, needs)
        self.outputs = self.passes.outputs

    def explanation(self, target: Any, *, ride: bool = True) -> Explanation:
        """The explanation of one target; the call is used up.

        With `ride`, what the attention nodes saw goes while the backward is under way, where that can
        be; a matrix of R is then made by another run.
        """
        resolved = self._resolved(target)
        ridden = self._ridden(resolved) if ride else None
        if ridden is not None:
            views, read = ridden
            again = self._run_again(target, resolved.scores)
            return self._made(target, resolved, views, again, read)
        promised = self._promised(resolved)
        views = self._views(resolved, more=False)
        program, of = self.program, self.modalities
        made = self._made(
            target, resolved, views, lambda a, b: reading.matrix(program, views, of[a], of[b])
        )
        return self._with_promise(made, promised)

    def explanations(self, targets: Sequence[Any]) -> list[Explanation]:
        """Those of several targets, a backward for each; the call is used up.

        What a target's backward leaves behind is dropped as soon as it is read, so that their number
        costs no memory; a matrix of R is made by another run.
        """
        resolved = [self._resolved(target) for target in targets]
        made = []
        for i, (target, each) in enumerate(zip(targets, resolved, strict=True)):
            promised = self._promised(each)
            views = self._views(each, more=i + 1 < len(resolved))
            one = self._made(target, each, views, self._run_again(target, each.scores))
            made.append(self._with_promise(one, promised))
        return made

    def _promised(self, resolved: ResolvedTarget) -> Tensor | None:
        """What the relevance of a method that keeps the negative part promises to add up to."""
        return self.passes.promised_sum(resolved) if self.options.get("signed") else None

    def _with_promise(self, made: Explanation, promised: Tensor | None) -> Explanation:
        """With how far relevance adds up; where it falls short, the result says so."""
        if promised is None:
            return made
        made = replace(made, promised=promised)
        share = made.completeness()
        assert share is not None
        off = [f"{float(part):.0%}" for part in share if abs(float(part) - 1) > INCOMPLETE]
        if not off:
            return made
        told = (
            f"the relevance of {self.method.name} adds up to {', '.join(off)} of what it promises to "
            f"share out"
            + (
                f", the score less that of an input of zeros: {self.options['steps']} {TOO_FEW}, "
                f"take more (steps=)"
                if "steps" in self.options
                else ""
            )
        )
        return replace(made, graph=replace(made.graph, warnings=(*made.graph.warnings, told)))

    def _resolved(self, target: Any) -> ResolvedTarget:
        return resolve_target(
            target,
            self.output,
            self.model,
            self.bound,
            self.captured,
            self.program,
            self.outputs,
        )

    def _run_again(self, target: Any, scores: Tensor) -> Callable[[str, str], Tensor]:
        """Matrices of one target, from a run for that target alone that keeps what nodes saw."""
        again = self.again

        @cache
        def alone() -> Explanation:
            with torch.inference_mode(False):
                explanation = again().explanation(target, ride=False)
            _check_unchanged(scores, explanation.scores)
            return explanation

        return lambda a, b: alone().matrix(a, b)

    def kept(self, target: Any) -> Kept:
        """What the passes for one target leave behind, heads included; the call is used up."""
        resolved = self._resolved(target)
        return Kept(
            model=self.model,
            inputs=self.bound,
            captured=self.captured,
            program=self.program,
            resolved=resolved,
            views=tuple(self._views(resolved, more=False, keep=True)),
        )

    def _kept_again(self, target: Any, scores: Tensor) -> Callable[[], Kept]:
        """The same from a run of its own, when it is asked for."""
        again = self.again

        def kept() -> Kept:
            with torch.inference_mode(False):
                made = again().kept(target)
            _check_unchanged(scores, made.resolved.scores)
            return made

        return kept

    def _made(
        self,
        target: Any,
        resolved: ResolvedTarget,
        views: Sequence[reading.View],
        matrix_of: Callable[[str, str], Tensor],
        read: dict[int, Tensor] | None = None,
    ) -> Explanation:
        engine = reading.choose_engine(self.engine, views[0].scores, self.method.name)
        bound, program = self.bound, self.program
        given = dict(zip(bound.names, (leaf.detach() for leaf in bound.leaves), strict=True))
        relevance = reading.relevance(program, views, engine, read)
        _check_finite(relevance)
        pictures = {
            name: pictures_of(name, relevance[name].shape[1], m.special, m.grid, given)
            for name, m in self.modalities.items()
        }
        made = Explanation(
            relevance=ByModality(relevance),
            graph=self._graph(resolved),
            method=self.method.name,
            target=resolved.description,
            readout=tuple(readout.text for readout in resolved.readouts),
            scores=resolved.scores,
            output=self.captured.output.rebuild([o.detach() for o in self.outputs]),
            labels={
                name: reading.by_view(program, views, m, self.labels[name])
                for name, m in self.modalities.items()
            },
            special={name: m.special for name, m in self.modalities.items()},
            grids={name: grid_of(pictures[name], m.grid) for name, m in self.modalities.items()},
            compete=getattr(config_of(self.model), "problem_type", None) != SEVERAL_LABELS,
            tiled=tuple(
                name
                for name, own in pictures.items()
                if own and not (own[0].is_frame or own[0].is_level)
            ),
            identity=reading.identity(program, views, relevance),
            options=self.options,
            engine=engine,
            conservation=self.passes.conservation,
            matrix_of=matrix_of,
            attention_of=attention_again(self.captured, self.model, bound, program, self.outputs),
            kept_of=self._kept_again(target, resolved.scores),
            inputs=given,
            asked=Asked(
                self.model,
                self.inputs,
                target,
                self.output,
                self.tokenizer,
                self.batch_axis,
                resolved.scores,
            ),
        )
        names = target_names(made, self.model, self.tokenizer, self.output)
        namer = class_namer(made, self.model, self.tokenizer, self.output)
        return replace(made, target_names=names, class_name=namer)

    def _graph(self, resolved: ResolvedTarget) -> AttentionGraph:
        """The attention graph, with what is to be said of this target's gradients."""
        graph = graph_of(self.model, self.captured, self.program)
        if not self.passes.needs.gradient:
            return graph
        told = cut_attention(self.captured, self.program, resolved.outputs)
        if self.method.name == "input_x_gradient":
            kind = Kind.of(self.bound, self.captured, self.program, self.output)
            told = (*told, *measured_below_chance(self.method, self.options, kind))
        return replace(graph, warnings=(*graph.warnings, *told)) if told else graph

    def _ridden(
        self, resolved: ResolvedTarget
    ) -> tuple[list[reading.View], dict[int, Tensor]] | None:
        """The readouts' rows, followed from node to node as the backward brings their gradients.

        None where rows do not go one way, from the last node to the first.
        """
        program, passes = self.program, self.passes
        if self.engine == "matrices" or not passes.needs.ahead or passes.reads_weights_twice:
            return None
        promised = passes.promised()
        scores = self.method.score(promised, self.options)
        if not isinstance(scores, Relevancies) or not (scores.by_rows and scores.reach.one_way):
            return None
        views = [reading.View.of(program, scores, r, i) for i, r in enumerate(resolved.readouts)]
        shares = reading.joint_shares(program, views)
        if shares is None or _share_tokens(program, resolved):
            return None
        rows = RelevancyRows(scores)
        rows.begin(shares)
        passes.ridden(resolved, promised, rows.advance)
        return views, rows.result()

    def _views(
        self, resolved: ResolvedTarget, *, more: bool, keep: bool = False
    ) -> list[reading.View]:
        """One view per sample; one backward for all, unless samples share tokens.

        Two targets may be read from the same tokens, and the images of all samples may be one
        sequence: relevancy matrices tell that apart by rows, scores of tokens do not. `more` says
        that further targets come, so that the forward's graph must be kept, `keep` that heads will be
        asked for.
        """
        readouts, passes, program = resolved.readouts, self.passes, self.program
        scores_tokens = passes.needs.births
        shared = scores_tokens and any(len(m.tokens) < len(readouts) for m in program.modalities)
        if not shared and not _share_tokens(program, resolved):
            evidence = replace(passes.evidence(resolved, None, more), kept=keep)
            scores = self.method.score(evidence, self.options)
            return [reading.View.of(program, scores, r, i) for i, r in enumerate(readouts)]
        views = []
        for i, readout in enumerate(readouts):
            evidence = passes.evidence(resolved, i, more or i + 1 < len(readouts))
            scores = self.method.score(replace(evidence, kept=keep), self.options)
            views.append(reading.View.of(program, scores, readout, i))
        return views


def _check_unchanged(before: Tensor, now: Tensor) -> None:
    """What was explained is what is explained again."""
    if not torch.allclose(now, before, rtol=1e-3, atol=1e-5):
        raise ChangedModelError(
            f"the explained output was {before.tolist()} and is now {now.tolist()}: the model or its "
            f"inputs changed since the explanation was made, so nothing more can be said of it. "
            f"Explain again."
        )


def _check_finite(relevance: Mapping[str, Tensor]) -> None:
    """A finite output may have a gradient that is none: the root of 0, a NaN behind a mask."""
    finite = [torch.isfinite(values).all() for values in relevance.values()]
    if not bool(torch.stack(finite).all()):  # one question for all: a device has to be waited for
        raise NonFiniteError(
            "the gradient of the explained output is infinite or NaN somewhere on the way to the "
            "tokens, as that of a root or a norm is at 0: add a small number under it, or explain an "
            "output before it."
        )


def _share_tokens(program: Program, resolved: ResolvedTarget) -> bool:
    """Whether two samples' targets are read from one sequence (two images against one text)."""
    seen: set[tuple[int, int]] = set()
    for readout in resolved.readouts:
        own = {
            (
                program.streams[int(program.token_stream[ref.token])].root,
                int(program.token_sample[ref.token]),
            )
            for group in readout.groups
            for ref in group
        }
        if seen & own:
            return True
        seen |= own
    return False
