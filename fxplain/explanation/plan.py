"""Plan: how the readouts' rows of the relevancy matrices are come by, with the fewest passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fxplain.explanation import reading
from fxplain.explanation.passes import Passes
from fxplain.explanation.reading import View
from fxplain.explanation.resolved_target import ResolvedTarget
from fxplain.methods import Method, Relevancies, RelevancyRows
from fxplain.program import Program

__all__ = ["Plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """One target of a batch: ridden on the backward pass, at once, or sample by sample.

    Attributes
    ----------
    program, passes
        What runs.
    method, options
        What is made of what the passes show.
    engine
        "rows", "matrices" or "auto".
    resolved
        The target.
    """

    program: Program
    passes: Passes
    method: Method
    options: Mapping[str, Any]
    engine: str
    resolved: ResolvedTarget

    def ridden(self) -> tuple[list[View], dict[int, Tensor]] | None:
        """The readouts' rows, followed from node to node as the backward brings their gradients.

        Those of small nodes when it has brought them all.

        None where rows do not go one way, from the last node to the first.
        """
        program, passes, resolved = self.program, self.passes, self.resolved
        if self.engine == "matrices" or not passes.needs.ahead or passes.reads_weights_twice:
            return None
        promised = passes.promised()
        scores = self.method.score(promised, self.options)
        if not isinstance(scores, Relevancies) or not (scores.by_rows and scores.reach.one_way):
            return None
        views = [View.of(program, scores, r, i) for i, r in enumerate(resolved.readouts)]
        shares = reading.joint_shares(views)
        if shares is None or self.share_tokens():
            return None
        rows = RelevancyRows(scores)
        rows.begin(shares)
        if passes.are_small:
            passes.fulfilled(resolved, promised)
            scores.maps.make_alike()
            rows.advance()
        else:
            passes.ridden(resolved, promised, rows.advance)
        return views, rows.result()

    def views(self, *, more: bool, keep: bool = False) -> list[View]:
        """One view per sample; one backward for all, unless samples share tokens.

        Two targets may be read from the same tokens, and the images of all samples may be one
        sequence: relevancy matrices tell that apart by rows, scores of tokens do not. `more` says
        that further targets come, so that the forward's graph must be kept, `keep` that heads will be
        asked for.
        """
        readouts = self.resolved.readouts
        if not self._share_scores() and not self.share_tokens():
            evidence = replace(self.passes.evidence(self.resolved, None, more), kept=keep)
            scores = self.method.score(evidence, self.options)
            return [View.of(self.program, scores, r, i) for i, r in enumerate(readouts)]
        views = []
        for i, readout in enumerate(readouts):
            evidence = self.passes.evidence(self.resolved, i, more or i + 1 < len(readouts))
            scores = self.method.score(replace(evidence, kept=keep), self.options)
            views.append(View.of(self.program, scores, readout, i))
        return views

    def promised_sum(self) -> Tensor | None:
        """What the relevance of a method that keeps the negative part promises to add up to."""
        return self.passes.promised_sum(self.resolved) if self.options.get("signed") else None

    def _share_scores(self) -> bool:
        """Whether scores of tokens are asked for where there are fewer sequences than samples."""
        samples = len(self.resolved.readouts)
        births = self.passes.needs.births
        return births and any(len(m.tokens) < samples for m in self.program.modalities)

    def share_tokens(self) -> bool:
        """Whether two samples' targets are read from one sequence (two images against one text)."""
        program, seen = self.program, set[tuple[int, int]]()
        for readout in self.resolved.readouts:
            own = {(program.streams[row.stream].root, row.sample) for row in readout.rows}
            if seen & own:
                return True
            seen |= own
        return False
