"""Fields: single tokens, such as a table's columns, that stand one behind the other or side by side."""

from __future__ import annotations

from torch import fx

from fxplain.tokens.book import TokenBook
from fxplain.tokens.conditions import is_single, newborn
from fxplain.tokens.known import Known
from fxplain.tokens.tag import Tags
from fxplain.tokens.versions import Versions

__all__ = ["Fields"]


class Fields:
    """The single tokens that one walk has seen in a sequence."""

    def __init__(self, book: TokenBook, versions: Versions, known: Known) -> None:
        self._book, self._versions, self._known = book, versions, known
        self._sequences: list[Tags] = []

    def note_sequence(self, tags: Tags) -> None:
        """Remember single tokens (a table's fields) that are put one behind the other."""
        if all(is_single(self._book, tag) and newborn(self._versions, tag) for tag in tags):
            self._sequences.append(tags)

    @property
    def found_apart(self) -> set[fx.Node]:
        """The births of tokens that stand in one sequence, and were one where they are side by side."""
        found: set[fx.Node] = set()
        for tags in self._sequences:
            names = [set(self._book.find(tag.tokens).flatten().tolist()) for tag in tags]
            for tag, own in zip(tags, names, strict=True):
                others = (n for t, n in zip(tags, names, strict=True) if t.births != tag.births)
                if any(not own.isdisjoint(other) for other in others):
                    nodes = (self._book.births[index].node for index in tag.births)
                    found.update(node for node in nodes if node is not None)
        return found

    def kept_apart(self, tags: Tags) -> bool:
        """Whether single tokens whose features are put side by side stay tokens of their own."""
        return len(tags) > 1 and all(
            tag.births
            and {self._book.births[index].node for index in tag.births} <= self._known.apart
            for tag in tags
        )
