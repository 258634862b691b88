"""Conditions: what acts on the tokens of others, all alike, and labels that others absorb."""

from __future__ import annotations

from dataclasses import replace

from torch import fx

from fxplain.tokens.book import TokenBook
from fxplain.tokens.known import Known
from fxplain.tokens.tag import Level, Tag, Tags, versions_in
from fxplain.tokens.versions import Versions

__all__ = ["Conditions", "is_single", "newborn"]


def newborn(versions: Versions, tag: Tag) -> bool:
    """Whether a tag's tokens have absorbed neither attention nor a route."""
    if tag.version is not None:
        return tag.version >= 0 and versions.newborn(tag.version)
    found = versions_in(tag.ids).unique().tolist()
    return all(v < 0 or versions.newborn(v) for v in found)


def is_single(book: TokenBook, tag: Tag) -> bool:
    """Whether a value is of one token in each sample."""
    return tag.ids.numel() <= book.batch_size


class Conditions:
    """What one walk finds of inputs that no attention carries to the tokens that they act on.

    Attributes
    ----------
    context
        The inputs that scale, shift or gate the tokens of others, all alike.
    births
        The births of what does so: of an input that has tokens besides, those of its statistics.
    pairs
        The births of what says something of every pair of tokens.
    found_labels
        The births of further labels, which this walk has united with several others.
    """

    def __init__(self, book: TokenBook, versions: Versions, known: Known) -> None:
        self._book, self._versions, self._known = book, versions, known
        self.context: dict[str, None] = {}
        self.births: set[int] = set()
        self.pairs: set[int] = set()
        self.found_labels: set[fx.Node] = set()

    def modulates(self, small: Tag, large: Tag) -> bool:
        """Whether an input's single token (a time step, a style) meets the tokens of another input.

        No attention carries what it does to all of them alike.
        """
        return is_single(self._book, small) and self._of_another_input(small, large)

    def is_absorbed(self, small: Tag, large: Tag) -> bool:
        """Whether an input's fewer tokens (a shape of each image) are part of what others are born as.

        These are made of both from the start, and hear no more of it where it is added once again.
        """
        known = bool((self._book.samples(self._book.find(small.tokens)) >= 0).all())
        if not known or not self._of_another_input(small, large):
            return False
        lineage = self._book.lineage(self._book.find(small.tokens))
        return newborn(self._versions, large) or lineage <= self.context.keys()

    def _of_another_input(self, small: Tag, large: Tag) -> bool:
        """Whether an input's tokens that have heard nothing meet the tokens of others."""
        if not newborn(self._versions, small):
            return False
        roots = [self._book.roots(self._book.find(tag.tokens)) for tag in (small, large)]
        return all(kind == "input" for kind, _ in roots[0]) and roots[0].isdisjoint(roots[1])

    def note(self, tag: Tag) -> None:
        """Remember an input that acts on the tokens of others."""
        tokens = self._book.find(tag.tokens)
        births = [self._book.births[i] for i in self._book.births_united(tokens[tokens >= 0])]
        births.sort(key=lambda birth: (birth.rank, birth.index))
        self.context.update(dict.fromkeys(birth.root for birth in births))
        self.births.update(birth.index for birth in births)

    def note_numbers(self, tags: Tags) -> None:
        """Remember inputs of one number for each sample, no token, that act on tokens, all alike.

        Such as a temperature, or the mean that a series was normalised with.
        """
        for tag in tags:
            if tag.level is not Level.RAW_INPUT or not is_single(self._book, tag):
                continue
            samples = self._book.samples(self._book.find(tag.tokens)).flatten()
            if len(samples.unique()) == len(samples):
                self.note(tag)

    def note_labels(self, a: Tag, b: Tag) -> None:
        """Remember which of two values to be united is a label: one that was united with others.

        What is added to two values (a time step to states and to actions), or to a sequence of two
        inputs' tokens (boxes to words and patches), would make them one token, or name them all; it
        is absorbed by each instead, once the walk is made again and knows.
        """
        for tag, other in ((b, a), (a, b)):
            if not tag.births or not newborn(self._versions, tag):
                continue
            united = self._book.births_united(self._book.find(tag.tokens[tag.tokens >= 0]))
            strangers = {
                i for i in united - tag.births - other.births
                if self._book.births[i].kind == "input"
            }  # fmt: skip
            if strangers or len(self._input_roots(other) - self._input_roots(tag)) > 1:
                nodes = (self._book.births[index].node for index in tag.births)
                self.found_labels.update(node for node in nodes if node is not None)
                return

    def labelled(self, tag: Tag) -> Tag:
        """An input's token, as a label if it is one."""
        nodes = {self._book.births[index].node for index in tag.births}
        label = tag.level is Level.TOKEN and nodes and nodes <= self._known.labels
        return replace(tag, level=Level.LABEL) if label else tag

    def _input_roots(self, tag: Tag) -> set[str]:
        """The inputs whose tokens a value holds."""
        return {
            root for kind, root in self._book.roots(self._book.find(tag.tokens)) if kind == "input"
        }
