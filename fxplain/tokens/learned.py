"""Learned tokens: one for each copy of a parameter, one for each sample that it is put into."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from fxplain.tokens.book import TokenBook
from fxplain.tokens.elements import completed
from fxplain.tokens.known import Known
from fxplain.tokens.tag import Level, Tag, pack, tokens_in, versions_in
from fxplain.tokens.versions import Versions

__all__ = ["LearnedTokens"]

_LARGEST_COPY = 4_000_000  # entries; a parameter this large is a bias table, not a sequence


class LearnedTokens:
    """The parameters' tokens of one walk.

    Attributes
    ----------
    found_shared
        Parameters of which one token was put into several samples' sequences, one by one: further
        ones than are known, which this walk has met.
    """

    def __init__(self, book: TokenBook, known: Known) -> None:
        self._book, self._known = book, known
        self.found_shared: set[fx.Node] = set()
        self._told: dict[int, int] = {}

    def copied(self, tag: Tag, axis: int, copies: int) -> Tag:
        """Separate tokens for the copies of a parameter along `axis` (the batch, mask positions)."""
        if len(tag.axes) > 2 or tag.ids.numel() * copies > _LARGEST_COPY:
            return tag
        over_samples = axis in self._book.batch_axes and copies in self._book.batches
        tokens = self._book.find(tag.tokens)
        known = bool((self._book.samples(tokens.clamp(min=0)) >= 0).all())
        if (known and self._book.batch_size > 1) or (
            tag.level is Level.PARAMETER_TOKEN and (known or not over_samples)
        ):
            return tag
        made = self._book.copy(tokens.squeeze(axis), copies, over_samples=over_samples)
        made = made.movedim(-1, axis)
        return tag.with_ids(pack(made, versions_in(tag.ids).clamp(min=0)))

    def heard_by(self, rows: Tensor, columns: Tensor, versions: Versions) -> Tensor:
        """Entries (..., 1, keys), each sample's own where samples hear different learned tokens.

        Those that have attended themselves are of a sequence, and stay what they are in it.
        """
        if self._book.batch_size == 1 or columns.dim() < 3:
            return columns
        tokens, queries = (self._book.find(tokens_in(entries)) for entries in (columns, rows))
        asking = self._book.samples(queries).amax((-2, -1), keepdim=True)
        samples = asking.expand(torch.broadcast_shapes(asking.shape, columns.shape))
        differ = any(size > 1 for size in columns.shape[:-2])
        here = self._book.learned(tokens) & (self._book.samples(tokens) < 0)
        of_keys = versions_in(columns)
        attended = [v for v in of_keys.unique().tolist() if v >= 0 and not versions.newborn(v)]
        here &= ~torch.isin(of_keys.contiguous(), torch.tensor(attended, dtype=torch.int64))
        here &= ~torch.isin(tokens.contiguous(), queries.unique())
        if not (differ and bool(here.any()) and samples.shape == columns.shape):
            return columns
        here &= samples >= 0
        copies = self._book.copy(tokens[here], self._book.batch_size, over_samples=True)
        made = tokens.clone()
        made[here] = copies.gather(-1, samples[here].unsqueeze(-1)).squeeze(-1)
        return pack(made, versions_in(columns).clamp(min=0))

    def of_each_sample(self, tag: Tag) -> Tag:
        """Learned tokens that were put into several samples' sequences are a token of each."""
        if self._book.batch_size == 1:
            return tag
        tokens = self._book.find(tag.tokens)
        learned = self._book.learned(tokens)
        if not bool(learned.any()) or bool((learned | (tokens < 0)).all()):
            return tag
        own = self._book.samples(tokens)
        company = torch.where(learned, -1, own)
        for axis in range(company.dim()):
            company = completed(company, axis)
        here = learned & (company >= 0) & (own != company)
        births = [self._book.births[i] for i in self._book.births_of(tokens[here]).tolist()]
        apart = torch.tensor(
            [birth.node in self._known.shared for birth in births], dtype=torch.bool
        )
        of_others = zip(
            tokens[here].tolist(), own[here].tolist(), company[here].tolist(), strict=True
        )
        for (token, known, sample), birth in zip(of_others, births, strict=True):
            before = self._told.setdefault(token, known if known >= 0 else sample)
            if before != sample and birth.node is not None:
                self.found_shared.add(birth.node)
        if not bool(apart.any()):
            return tag
        here[here.clone()] = apart
        copies = self._book.copy(tokens[here], self._book.batch_size, over_samples=True)
        made = tokens.clone()
        made[here] = copies.gather(-1, company[here].unsqueeze(-1)).squeeze(-1)
        return tag.with_ids(pack(made, versions_in(tag.ids).clamp(min=0)))
