"""Roots: streams that routes made of one sequence are that sequence still."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from fxplain.tokens import AttentionSite, RouteSite, Update, tokens_in

__all__ = ["roots_of"]


def roots_of(
    updates: Iterable[Update], labels_of: Callable[[Tensor], list[int]], born: set[int]
) -> dict[int, int]:
    """The root of each stream that a route made.

    What routes make of one root is that root's still. What they make of several is a sequence of
    its own, and those that it was made of stay apart.

    Parameters
    ----------
    updates
        In program order: what a stream is made of counts until the stream is used.
    labels_of
        The labels of the streams that some tokens are in.
    born
        Labels of streams with tokens of their own, which no route made.
    """
    root: dict[int, int] = {}
    sources: dict[int, set[int]] = {}
    used: set[int] = set()
    for update in updates:
        if isinstance(update, AttentionSite):
            used.update(labels_of(tokens_in(update.rows)), labels_of(tokens_in(update.columns)))
        if not isinstance(update, RouteSite):
            continue
        old = labels_of(tokens_in(update.old))
        for made in labels_of(update.new):
            if made in used or made in old:
                continue
            own = {made} if made in born else set()
            found = sources.setdefault(made, own)
            found.update(root.get(label, label) for label in old)
            root[made] = next(iter(found)) if len(found) == 1 else made
        used.update(old)
    return root
