"""Token sets: which tokens' rows are read, followed from node to node as a fact of the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from fxplain.capture import Memo
from fxplain.program import KeyBlock, Program, ProgramNode

__all__ = ["QuerySet", "TokenSet"]

T = TypeVar("T")


class TokenSet:
    """Some tokens of a stream; what follows from them is found once, and no warm call asks a tensor.

    Parameters
    ----------
    mask
        Which they are, (batch, n), on the processor.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._on: dict[torch.device, Tensor] = {}
        self._known: dict[object, object] = {}

    @classmethod
    def of(cls, program: Program, mask: Tensor) -> TokenSet:
        """The one set of these tokens that a program knows."""
        known: Memo = program.memo.made("token sets", Memo)
        found: TokenSet = known.made(
            (mask.shape, mask.numpy().tobytes()), lambda: cls(mask.clone())
        )
        return found

    def kept(self, x: Tensor) -> Tensor:
        """Values of the stream's tokens, (batch, n, c), those of others 0."""
        mask = self._on.get(x.device)
        if mask is None:
            mask = self._on[x.device] = self.mask.unsqueeze(-1).to(x.device)
        return torch.where(mask, x, 0)

    def among(self, others: TokenSet) -> TokenSet | None:
        """Those that are in both; None for no token."""

        def found() -> TokenSet | None:
            both = self.mask & others.mask
            return TokenSet(both) if bool(both.any()) else None

        return self._once(("among", others), found)

    def with_others(self, others: TokenSet) -> TokenSet:
        """Those that are in either."""
        if others is self:
            return self
        return self._once(("with", others), lambda: TokenSet(self.mask | others.mask))

    def queries_of(self, node: ProgramNode) -> QuerySet:
        """The queries of a node that they are."""

        def found() -> QuerySet:
            rows = node.rows.cpu()
            of_rows = self.mask[node.samples.cpu().unsqueeze(1), rows.clamp(min=0)]
            return QuerySet(node, of_rows & (rows >= 0))

        return self._once(node, found)

    def _once(self, key: object, find: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = find()
        found: T = self._known[key]  # type: ignore[assignment]
        return found


class QuerySet:
    """Some queries of a node.

    Attributes
    ----------
    numbers
        Which they are, in any token group.
    """

    def __init__(self, node: ProgramNode, mask: Tensor) -> None:
        self._node = node
        self._groups = mask.any(1)
        self.numbers = torch.as_tensor(np.flatnonzero(mask.any(0).numpy()))
        self._attended: dict[KeyBlock, TokenSet | None] = {}

    def attended(self, block: KeyBlock, sizes: tuple[int, int]) -> TokenSet | None:
        """The tokens of a block's stream that they attend to; None for all of them.

        `sizes` are (batch, n) of the stream.
        """
        if block not in self._attended:
            self._attended[block] = self._tokens_of(block, sizes)
        return self._attended[block]

    def _tokens_of(self, block: KeyBlock, sizes: tuple[int, int]) -> TokenSet | None:
        node, groups = self._node, self._groups
        if node.are_all(block.positions, sizes) and bool(groups.all()):
            return None
        columns = block.columns.cpu()
        real = (columns >= 0) & groups.unsqueeze(1)
        found = torch.zeros(sizes, dtype=torch.bool)
        samples = node.samples.cpu().unsqueeze(1).expand(columns.shape)
        found[samples[real], columns[real]] = True
        return TokenSet(found)
