"""Pyramids: grids of several strides that a backbone makes of one another before any attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fxplain.program.groups import Groups
from fxplain.tokens import AttentionSite, Mixing, TokenFlow, tokens_in

__all__ = ["Pyramids"]


class Pyramids:
    """Which newborn tokens were made of which, and how those of several grids follow each other.

    Parameters
    ----------
    flow
        The token analysis.
    """

    def __init__(self, flow: TokenFlow) -> None:
        self._flow, self._book, self._grids = flow, flow.book, Groups()
        every = torch.arange(len(flow.book))
        own, canonical = (self._book.births_of(t) for t in (every, self._book.find(every)))
        for pair in set(zip(own.tolist(), canonical.tolist(), strict=True)):
            self._grids.unify(pair)
        mixings = [update for update in flow.updates if isinstance(update, Mixing)]
        made = {i for u in mixings for i in self._book.births_of(u.new).unique().tolist()}
        for update in mixings:
            of = torch.cat([update.new.flatten(), update.old.flatten()])
            births = self._book.births_of(of).unique().tolist()
            self._grids.unify([birth for birth in births if birth in made])  # pixels are no grid

    def connected(self, a: Sequence[int], b: Sequence[int]) -> bool:
        """Whether some of the tokens `a` and `b` are of grids that were made of one another."""
        roots = [
            {self._grids.find(i) for i in self._book.births_of(torch.tensor(t)).unique().tolist()}
            for t in (a, b)
        ]
        return not roots[0].isdisjoint(roots[1])

    def in_sequence(self, tokens: Sequence[int]) -> list[int]:
        """Tokens in the order of a sequence that has them all, else in that of their births."""
        wanted = torch.tensor(sorted(tokens))
        births = len(self._book.births_of(wanted).unique())
        for row in self._sequences():
            found = row[torch.isin(row, wanted)]
            if len(self._book.births_of(found).unique()) == births and len(found.unique()) == len(
                wanted
            ):
                order = dict.fromkeys(found.tolist())
                return list(order)
        return sorted(tokens)

    def _sequences(self) -> list[torch.Tensor]:
        """The tokens of every attention's queries and keys, and of every output, in their order."""
        sites = [u for u in self._flow.updates if isinstance(u, AttentionSite)]
        held = [ids for site in sites for ids in (site.rows, site.columns)]
        held += [tag.ids for tags in self._flow.outputs for tag in tags]
        return [self._book.find(tokens_in(ids)).flatten() for ids in held]
