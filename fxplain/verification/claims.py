"""Claims: what tags and versions say about which rows move when some tokens are disturbed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.program import Program
from fxplain.tokens import IDENTITY, Level, Mixing, RouteSite, Tag, Tags, tokens_in, versions_in

__all__ = ["Claims", "canonical_tokens", "claimed_tags", "mixes_neighbours"]


def claimed_tags(tags: Tags) -> Tags:
    """The tags that claim a value for tokens: a bias or an input that no weight touched claims none."""
    return tuple(tag for tag in tags if tag.level >= Level.PARAMETER_TOKEN)


class Claims:
    """Which rows the tags say must move, given which tokens of which updates were disturbed.

    A row holds the sum of its version's updates, each at the row's token. So it moves exactly if its
    token is among the disturbed ones of one of them; what a route made moves exactly if something that
    it was made of does, and has a share in it.

    Parameters
    ----------
    program
        Whose tokens, versions and routes are meant.
    disturbed
        For each disturbed update (`IDENTITY` for births) which canonical tokens, (tokens,).
    """

    def __init__(self, program: Program, disturbed: Mapping[int, Tensor]) -> None:
        self._unknown = unclaimed_tokens(program)
        self._flow = program.flow
        self._births = program.births | {IDENTITY}
        self._canonical = canonical_tokens(program)
        self._none = torch.zeros(len(self._canonical), dtype=torch.bool)
        self._moved: dict[int, Tensor] = dict(disturbed)
        self._of_version: dict[int, Tensor] = {}

    def moved(self, entries: Tensor) -> Tensor:
        """Whether the rows of packed tag entries move: a boolean of the same shape."""
        tokens, versions = tokens_in(entries), versions_in(entries)
        found = torch.zeros(entries.shape, dtype=torch.bool)
        canonical = self._canonical[tokens.clamp(min=0)]
        for version in versions.unique().tolist():
            if version >= 0:
                here = versions == version
                found[here] = self._by_version(version)[canonical[here]]
        return found

    def unknown(self, tag: Tag) -> Tensor:
        """Whether a tag's rows are of tokens of which nothing is claimed: they may move, or not."""
        tokens = self.tokens_of(tag)
        return (tokens >= 0) & self._unknown[tokens.clamp(min=0)]

    def tokens_of(self, tag: Tag) -> Tensor:
        """The canonical token of each of a tag's entries, -1 where there is none."""
        return torch.where(tag.tokens < 0, -1, self._canonical[tag.tokens.clamp(min=0)])

    def _by_version(self, version: int) -> Tensor:
        if version not in self._of_version:
            moved = self._none
            for update in self._flow.versions.of(version):
                moved = moved | self._by_update(update)
            self._of_version[version] = moved
        return self._of_version[version]

    def _by_update(self, update: int) -> Tensor:
        if update in self._births:
            update = IDENTITY
        if update not in self._moved:
            site = None if update == IDENTITY else self._flow.updates[update]
            self._moved[update] = self._none  # a route that is made of itself starts with nothing
            if isinstance(site, RouteSite):
                self._moved[update] = self._routed(site)
            elif isinstance(site, Mixing):
                self._moved[update] = self._by_update(IDENTITY)
        return self._moved[update]

    def _routed(self, site: RouteSite) -> Tensor:
        reached = self.moved(site.old) & (site.weights != 0)
        moved = self._none.clone()
        moved[self._canonical[site.new[reached]]] = True
        return moved


def canonical_tokens(program: Program) -> Tensor:
    """The canonical id of every id of the book, (tokens,)."""
    book = program.flow.book
    if not len(book):
        return torch.zeros(0, dtype=torch.int64)
    return book.find(torch.arange(len(book)))


def unclaimed_tokens(program: Program) -> Tensor:
    """Tokens that a mixing of neighbours made and no modality holds, (tokens,).

    Keys that a convolution made, where the values come from another one (attention's columns are the
    values' tokens), or what a causal convolution makes of its padding: nothing is said of them.
    """
    book, canonical = program.flow.book, canonical_tokens(program)
    mixed = torch.tensor(
        [birth.node is not None and mixes_neighbours(birth.node) for birth in book.births],
        dtype=torch.bool,
    )
    unclaimed = mixed[book.births_of(canonical)]
    for modality in program.modalities:
        unclaimed[canonical[modality.tokens[modality.tokens >= 0]]] = False
    return unclaimed


def mixes_neighbours(node: fx.Node) -> bool:
    """Whether an operation is a convolution over several positions, a pooling or a resampling.

    One that leaves positions out makes a coarser grid, whose tokens are others than the finer one's.
    """
    name = operation_name(node)
    if node.op != "call_function" or not any(word in name for word in _MIXING):
        return False
    if "conv" not in name:
        return True
    weight = node.args[1]
    value = weight.meta.get("val") if isinstance(weight, fx.Node) else None
    stride = node.args[3] if len(node.args) > 3 else node.kwargs.get("stride", 1)
    coarser = stride if isinstance(stride, (list, tuple)) else [stride]
    sizes = [*coarser, *(value.shape[2:] if isinstance(value, Tensor) else [2])]
    return any(size != 1 for size in sizes)


_MIXING = ("conv", "pool", "upsample", "grid_sampler", "lstm", "gru", "stft", "im2col")
