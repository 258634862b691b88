"""Masks: which elements of which values of the graph a cut replaces, and by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fxplain.capture import operation_name
from fxplain.errors import InputError
from fxplain.interventions.choice import Chooser
from fxplain.interventions.cut import Births, Cut, Edges, Heads, Stream, Writes
from fxplain.interventions.edits import HIDE, ZERO, Point
from fxplain.interventions.geometry import NodeGeometry, as_operand
from fxplain.interventions.sites import is_softmax
from fxplain.program import ProgramNode, head_numbers, laid_out
from fxplain.tokens.tag import narrowed

__all__ = ["Masking", "Masks", "row_heads", "rows_that_ask"]

Masks = Mapping[tuple[Point, str], Tensor]
"""By point and by what takes the place of its value: the replaced elements, which broadcast to it."""


def by_point(masks: Masks) -> dict[Point, dict[str, Tensor]]:
    """Masks by point, then by what takes a value's place."""
    found: dict[Point, dict[str, Tensor]] = {}
    for (point, source), mask in masks.items():
        found.setdefault(point, {})[source] = mask
    return found


def row_heads(node: ProgramNode, geometry: NodeGeometry) -> Tensor | None:
    """The head of each element of a node's output; None where an output is of several heads."""
    numbers = head_numbers(node)
    if geometry.rows is None or numbers.shape[-1] > 1:
        return None
    return laid_out(node, numbers).flatten()[geometry.rows]


def rows_that_ask(node: ProgramNode, geometry: NodeGeometry) -> Tensor:
    """Which elements of a node's output are of a token's query, and not of what fills a window up."""
    assert geometry.rows is not None
    asking = _by_group(node, node.rows >= 0)[:, None, :, None]
    return laid_out(node, asking).flatten()[geometry.rows]


@dataclass(eq=False)
class Masking:
    """Turns cuts into masks."""

    chooser: Chooser
    made: dict[tuple[Point, str], Tensor] = field(default_factory=dict)

    def of(self, cut: Cut) -> Masks:
        """The masks of a cut.

        Raises
        ------
        InputError
            When it names what is not there, cuts nothing, or cannot be cut.
        """
        self.made = {}
        kinds: Mapping[type, Callable[..., None]] = {
            Heads: self._heads,
            Edges: self._edges,
            Births: self._births,
            Writes: self._writes,
            Stream: self._writes,
        }
        for part in cut.parts:
            before = sum(int(mask.sum()) for mask in self.made.values())
            kinds[type(part)](part)
            if before == sum(int(mask.sum()) for mask in self.made.values()) and not self._again(
                cut
            ):
                raise InputError(f"there is nothing to cut: {part} touches no token of the model.")
        return self.made

    def _again(self, cut: Cut) -> bool:
        """Whether other parts of the same cut took all that a part would take."""
        return len(cut.parts) > 1 and any(bool(mask.any()) for mask in self.made.values())

    def _add(self, point: Point, source: str, mask: Tensor) -> None:
        mask = narrowed(mask)
        before = self.made.get((point, source))
        self.made[point, source] = mask if before is None else before | mask

    # -- heads ------------------------------------------------------------------------------------

    def _heads(self, part: Heads) -> None:
        members = self.chooser.tokens(part.tokens)
        for node in self.chooser.nodes(part.node):
            heads = torch.tensor(list(self.chooser.heads(node, part.heads)))
            geometry = self.chooser.sites.geometry[node.index]
            wanted = torch.isin(head_numbers(node), heads)
            asking = self._asking(node, members)
            if members is None and part.to != "mean":
                asking = torch.ones_like(asking)  # also what fills a window up, as a hook does
            wanted = wanted & asking.unsqueeze(1).unsqueeze(-1)
            if row_heads(node, geometry) is not None:
                of_rows = laid_out(node, wanted).flatten()[geometry.rows]
                self._add(("output", node.info.name), part.to, of_rows)
            elif part.to == ZERO and node.site.form != "fused":
                framed = laid_out(node, wanted.expand(*wanted.shape[:-1], node.site.shape[-1]))
                operand = as_operand(node, framed, geometry.weights_shape)
                self._add(("weights", node.info.name), ZERO, operand)
            else:
                raise InputError(
                    f"the heads of {node.info.name} are summed up as soon as they are computed, so "
                    f"that none has an output of its own to be replaced: to='zero' works."
                )

    def _asking(self, node: ProgramNode, members: Tensor | None) -> Tensor:
        """Which queries of each group are of some tokens, (groups, queries)."""
        return _by_group(node, self._are(node, node.rows, node.stream, members))

    def _heard(self, node: ProgramNode, members: Tensor | None) -> Tensor:
        """Which keys of each group are of some tokens, (groups, keys)."""
        found = torch.zeros_like(node.blocks[0].columns, dtype=torch.bool)
        for block in node.blocks:
            found |= self._are(node, block.columns, block.stream, members)
        return _by_group(node, found)

    def _are(
        self, node: ProgramNode, places: Tensor, stream: int, members: Tensor | None
    ) -> Tensor:
        real = places >= 0
        if members is None:
            return real
        tokens = self.chooser.sites.program.streams[stream].tokens
        tokens = tokens[node.samples.unsqueeze(1), places.clamp(min=0)]
        return real & (tokens >= 0) & members[tokens.clamp(min=0)]

    # -- edges ------------------------------------------------------------------------------------

    def _edges(self, part: Edges) -> None:
        queries, keys = self.chooser.tokens(part.queries), self.chooser.tokens(part.keys)
        for node in self.chooser.nodes(part.node):
            asking, heard = self._asking(node, queries), self._heard(node, keys)
            if not bool(asking.any() and heard.any()):
                continue
            heads = torch.tensor(list(self.chooser.heads(node, part.heads)))
            wanted = torch.isin(head_numbers(node), heads)
            wanted = wanted & asking[:, None, :, None] & heard[:, None, None, :]
            framed = laid_out(node, wanted)
            if node.site.form == "fused":
                source = HIDE if part.renormalize else ZERO
                self._add(("scores", node.info.name), source, framed)
                continue
            geometry = self.chooser.sites.geometry[node.index]
            weights = as_operand(node, framed, geometry.weights_shape)
            if part.renormalize and not _each_by_itself(node):
                self._add(*_hidden(node, geometry, weights))
            else:
                self._add(("weights", node.info.name), ZERO, weights)

    # -- tokens and what is added to them ---------------------------------------------------------

    def _births(self, part: Births) -> None:
        members = self.chooser.tokens((self.chooser.modality(part.modality).name, part.tokens))
        assert members is not None
        for i, birth in enumerate(self.chooser.sites.births):
            of_site = (birth.tokens >= 0) & members[birth.tokens.clamp(min=0)]
            if bool(of_site.any()):
                self._add(("birth", str(i)), part.to, of_site)

    def _writes(self, part: Writes | Stream) -> None:
        members = self.chooser.tokens(part.tokens)
        for write in self.chooser.writes(part.name):
            kind = "write" if isinstance(part, Writes) else "stream"
            known = write.tokens >= 0
            chosen = known if members is None else known & members[write.tokens.clamp(min=0)]
            self._add((kind, write.name), part.to, chosen)


def _by_group(node: ProgramNode, values: Tensor) -> Tensor:
    """Values by token group, by group: heads that are folded into the batch axis are groups."""
    return values if node.layout.fold is None else values[node.layout.fold]


def _each_by_itself(node: ProgramNode) -> bool:
    """Whether a weight does not depend on the other keys (a sigmoid, a decay): nothing to share out."""
    named = operation_name(node.site.softmax)
    return not is_softmax(node) and node.site.division is None and named not in ("div", "mul")


def _hidden(
    node: ProgramNode, geometry: NodeGeometry, weights: Tensor
) -> tuple[Point, str, Tensor]:
    """The mask of what a softmax makes for a mask of weights.

    Raises
    ------
    InputError
        When weights are not what one softmax made, each by itself.
    """
    known = geometry.scores is not None and (is_softmax(node) or node.site.division is not None)
    if known:
        assert geometry.scores is not None
        weights = weights.expand(geometry.weights_shape)
        mask = torch.zeros(geometry.scores_shape, dtype=torch.bool).flatten()
        scores = geometry.scores.cpu()
        mask[scores[weights]] = True
        known = bool((mask[scores] == weights).all())
    if not known:
        raise InputError(
            f"the weights of {node.info.name} are mixed or shared out after they are normalised, so "
            f"that edges cannot be masked before: renormalize=False sets them to 0 where they are used."
        )
    source = HIDE if is_softmax(node) else ZERO
    return ("scores", node.site.softmax.name), source, mask.reshape(geometry.scores_shape)
