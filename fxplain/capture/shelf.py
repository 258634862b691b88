"""Shelf: the captures of one model, bounded, each with what was seen of the model when it was made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from fxplain.capture.captured import Capture
from fxplain.capture.fingerprint import Facts, changed

__all__ = ["Kept", "Shelf"]

_MOST_CAPTURES = 16
"""How many captures of one model are kept: the least recently used goes first."""


@dataclass(eq=False)
class Kept:
    """A capture on the shelf.

    Attributes
    ----------
    capture
        The capture.
    key
        The kind of input that it is for: constants and names.
    facts
        What was seen of the model when it was last known to hold.
    same
        Whether it computed what the model computes when it was made.
    uses
        How often it was used again since it was last compared with the model.
    """

    capture: Capture
    key: Any
    facts: Facts
    same: bool
    uses: int = 0


class Shelf:
    """The captures of one model; the last used is the last.

    Attributes
    ----------
    restless
        Where the model's own forward changes what is seen of it (counters, caches, what it stores).
    """

    def __init__(self) -> None:
        self._kept: list[Kept] = []
        self.restless: set[tuple[str, str]] = set()

    def fitting(
        self, model: nn.Module, key: Any, facts: Facts, leaves: Any
    ) -> Iterator[tuple[Kept, bool]]:
        """What may hold, the last used first, and whether anything looks different.

        What the model's forward changes by itself may differ; a change anywhere else is one.
        """
        for kept in reversed(tuple(self._kept)):
            if kept.key != key or not kept.capture.weights_held(model):
                continue
            if kept.capture.sizes(leaves) is not None:
                different = changed(kept.facts, facts)
                if not different:
                    kept.facts = facts  # the same object is compared at once the next time
                if different <= self.restless:
                    yield kept, bool(different)

    def used(self, kept: Kept) -> None:
        """Note a use."""
        if self._kept and self._kept[-1] is not kept:
            self.drop(kept)
            self._kept.append(kept)
        kept.uses += 1

    def add(self, kept: Kept, model: nn.Module) -> None:
        """Put one more on the shelf; those that hold for weights of before make room."""
        self._kept = [k for k in self._kept if k.capture.weights_held(model)]
        self._kept = self._kept[1 - _MOST_CAPTURES :]
        self._kept.append(kept)

    def drop(self, kept: Kept) -> None:
        """Forget one."""
        self._kept = [k for k in self._kept if k is not kept]

    def lent(self, other: Shelf, facts: Facts) -> list[Kept]:
        """What holds for any weights, while the model looks as it did, and `other` has not yet."""
        held = [kept.capture for kept in other._kept]
        return [
            kept
            for kept in self._kept
            if kept.same
            and kept.capture.only_for is None
            and not any(kept.capture is capture for capture in held)
            and changed(kept.facts, facts) <= self.restless
        ]

    def __len__(self) -> int:
        return len(self._kept)
