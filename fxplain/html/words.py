"""Words: how tokens of a text are written."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["written"]

WORD_STARTS = ("\u2581", "\u0120")
"""What SentencePiece and byte-level BPE put before a piece that starts a word."""

_NEW_LINE = "\u010a"  # byte-level BPE's character for a line feed


def written(labels: Sequence[str]) -> list[tuple[str, bool]]:
    """Each token as it is written, and whether it goes on with the word before it.

    Examples
    --------
    >>> written(["un", "##break", "##able"])
    [('un', False), ('break', True), ('able', True)]
    >>> written(["\u2581two", "\u2581word", "s"])
    [('two', False), ('word', False), ('s', True)]
    >>> written(["101", "7"])
    [('101', False), ('7', False)]
    """
    marked = any(label.startswith(WORD_STARTS) for label in labels)
    return [_written(label, marked, first=i == 0) for i, label in enumerate(labels)]


def _written(label: str, marked: bool, *, first: bool) -> tuple[str, bool]:
    """One token; where word starts are marked, a piece without the mark goes on with its word."""
    if label.startswith("##") and len(label) > 2:
        return label[2:], not first
    if label.startswith(WORD_STARTS):
        return _visible(label[1:]) or " ", False
    special = label.startswith(("[", "<")) and label.endswith(("]", ">"))
    return _visible(label), marked and not first and not special


def _visible(text: str) -> str:
    """The text with its control characters as escapes, which a page would swallow."""
    text = text.replace(_NEW_LINE, "\n")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
