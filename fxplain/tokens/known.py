"""What earlier walks over the graph have found, and the next one goes by."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import fx

__all__ = ["Known"]

Nodes = frozenset[fx.Node]


@dataclass(frozen=True)
class Known:
    """Facts that only a whole walk shows, and that change how values are followed from the start.

    Attributes
    ----------
    labels
        The nodes of births that are labels: absorbed by what they are added to.
    shared
        The parameters of which one token was put into several samples' sequences, one by one.
    apart
        The nodes of births that stay tokens of their own where their features are side by side.
    repeating
        The operations that lay out tokens at several places of a sequence that attends.
    standing
        The constants that attend, are attended, or stand in a sequence once weights mapped them.
    """

    labels: Nodes = field(default_factory=frozenset)
    shared: Nodes = field(default_factory=frozenset)
    apart: Nodes = field(default_factory=frozenset)
    repeating: Nodes = field(default_factory=frozenset)
    standing: Nodes = field(default_factory=frozenset)

    def __or__(self, other: Known) -> Known:
        return Known(
            self.labels | other.labels,
            self.shared | other.shared,
            self.apart | other.apart,
            self.repeating | other.repeating,
            self.standing | other.standing,
        )
