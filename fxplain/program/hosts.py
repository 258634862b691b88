"""Hosts: the modality in whose sequence a learned token stands, and at which place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fxplain.tokens import AttentionSite, RouteSite, TokenFlow, tokens_in

__all__ = ["Hosts", "Rank", "Wholes"]

Wholes = tuple[list[list[AttentionSite]], list[list[AttentionSite]]]

Rank = tuple[float, float, int]


class Hosts:
    """The sequences that learned tokens (a CLS, registers, object queries) stand in.

    Parameters
    ----------
    flow, sample
        The token analysis, and the sample of every token.
    names
        The modality of every token of an input.
    wholes
        The attention sites whose queries are one sequence, and those whose keys are.
    """

    def __init__(
        self, flow: TokenFlow, sample: np.ndarray, names: dict[int, str], wholes: Wholes
    ) -> None:
        self._book, self._sample = flow.book, sample
        self._birth = flow.book.births_of(torch.arange(len(flow.book))).numpy()
        learned = [b.index for b in flow.book.births if b.learned]
        self._learned = np.isin(self._birth, learned)
        self._names = dict(names)
        self._name_routed(flow)
        self._sequences: dict[int, list[list[int]]] = {}
        self._longest: dict[int, list[int]] = {}
        for of_queries in wholes[0]:
            self._note_sequences([site.rows.squeeze(-1) for site in of_queries])
        for of_keys in wholes[1]:
            self._note_sequences([site.columns.squeeze(-2) for site in of_keys])

    def _name_routed(self, flow: TokenFlow) -> None:
        """What was merged of an input's tokens is that input's, where learned tokens join it."""
        for update in flow.updates:
            if not isinstance(update, RouteSite):
                continue
            new, old = self._book.find(update.new), self._book.find(tokens_in(update.old))
            for made, of in zip(new.tolist(), old.tolist(), strict=True):
                if of in self._names and self._kind(made) == "route":
                    self._names.setdefault(made, self._names[of])

    def of(self, token: int) -> str | None:
        """The modality in whose sequence a learned token lives, judged where it first attends.

        A sequence of learned tokens that all live in one (the CLS of each frame) is that modality's.
        """
        return self._of(token, frozenset())

    def _of(self, token: int, asked: frozenset[str]) -> str | None:
        asked |= {self._root(token)}
        for sequence in self._sequences.get(token, ()):
            position = self._first_copy(sequence, token)
            neighbours = sequence[position + 1 :] + sequence[:position][::-1]
            named = (self._names.get(t) for t in neighbours if t >= 0)
            found = next((name for name in named if name is not None), None)
            if found is not None:
                return found
            if not self._copies_of_one(sequence):
                others = (t for t in neighbours if t >= 0 and self._root(t) not in asked)
                hosts = (self._of(t, asked) for t in others if self._learned[t])
                return next((name for name in hosts if name is not None), None)
        return None

    def _first_copy(self, sequence: Sequence[int], token: int) -> int:
        """Where a token stands: of copies of one (the end of each row of an image), the first."""
        root = self._root(token)
        if self._rows_of(root, self._kind(token)) > 1:
            return list(sequence).index(token)
        return next(i for i, t in enumerate(sequence) if t >= 0 and self._root(t) == root)

    def _rows_of(self, root: str, kind: str) -> int:
        """How many tokens a parameter or constant has, before any copy of them."""
        return next(b.count for b in self._book.births if b.root == root and b.kind == kind)

    def _root(self, token: int) -> str:
        return str(self._book.births[self._birth[token]].root)

    def _copies_of_one(self, sequence: Sequence[int]) -> bool:
        """Whether one learned token stands there several times: the CLS of each frame."""
        births = [self._book.births[self._birth[t]] for t in sequence if t >= 0]
        root = births[0].root
        rows = self._rows_of(root, births[0].kind)
        return rows == 1 and all(birth.root == root for birth in births)

    def _kind(self, token: int) -> str:
        return str(self._book.births[self._birth[token]].kind)

    def _note_sequences(self, parts: Sequence[Tensor]) -> None:
        lead = parts[0].shape[:-1]
        together = [part for part in parts if part.shape[:-1] == lead]
        tokens = self._book.find(tokens_in(torch.cat(together, -1)))
        if tokens.shape[-1] > 1:
            rows = tokens.reshape(-1, tokens.shape[-1]).tolist()
        else:  # queries one by one: those of a sample are its sequence
            by_sample: dict[int, dict[int, None]] = {}
            for token in tokens.flatten().tolist():
                by_sample.setdefault(int(self._sample[token]), {})[token] = None
            rows = [list(row) for row in by_sample.values() if len(row) > 1]
        for row in (list(dict.fromkeys(row)) for row in rows):  # heads are no further tokens
            for token in row:
                if token < 0 or not self._learned[token]:
                    continue
                if len(row) > len(self._longest.get(token, ())):
                    self._longest[token] = row
                known = self._sequences.setdefault(token, [])
                if len(known) < _MOST_SEQUENCES and (not known or known[-1] != row):
                    known.append(row)

    # -- order ------------------------------------------------------------------------------------

    def ranks(self, special: Sequence[int], plain: dict[int, Rank]) -> dict[int, Rank]:
        """Where special tokens stand among plain ones: where the longest attended sequence has them."""
        return {token: self._rank(token, plain) for token in special}

    def _rank(self, token: int, plain: dict[int, Rank]) -> Rank:
        sequence = self._longest.get(token, [token])
        position = sequence.index(token)
        after = next((t for t in sequence[position + 1 :] if t in plain), None)
        before = next((t for t in sequence[:position][::-1] if t in plain), None)
        if after is not None:
            return plain[after][0] - 0.5, float(position), 0
        if before is not None:
            return plain[before][0] + 0.5, float(position), 0
        return -1.0, float(position), 0


_MOST_SEQUENCES = 8  # of one token that are remembered
