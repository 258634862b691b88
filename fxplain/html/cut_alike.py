"""Cutting alike: one text that two tokenizers cut differently, in words that can be compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import accumulate

from fxplain.explanation import Shown

__all__ = ["cut_alike", "signed"]


def cut_alike(
    first: Sequence[Shown], second: Sequence[Shown], texts: Collection[str]
) -> tuple[list[Shown], list[Shown]]:
    """Words of texts that two tokenizers cut differently, put together up to where both part them.

    Special tokens, which two tokenizers do not share, are left out; nothing is left where some input
    is no text, or none that both were given.
    """
    made: tuple[list[Shown], list[Shown]] = ([], [])
    names = {e.modality for e in (*first, *second)}
    for name in sorted(names):
        words = [
            [e for e in own if e.modality == name and not e.special] for own in (first, second)
        ]
        ends = [_ends(own) for own in words]
        if name not in texts or not all(ends) or len({_written(own) for own in words}) > 1:
            return [], []
        shared = set(ends[0]) & set(ends[1])
        parts = [_parts(own, at, shared) for own, at in zip(words, ends, strict=True)]
        for number, (one, two) in enumerate(zip(*parts, strict=True)):
            if not any(e.apart for e in (*one, *two)):
                for kept, part in zip(made, (one, two), strict=True):
                    kept.append(_as_one(part, number))
    return made


def _written(words: Sequence[Shown]) -> str:
    return "".join(e.gap + e.text for e in words).strip()


def _ends(words: Sequence[Shown]) -> list[int]:
    """Where each word ends in the text that they make up."""
    return [*accumulate(len(e.text) + (len(e.gap) if i else 0) for i, e in enumerate(words))]


def _parts(
    words: Sequence[Shown], ends: Sequence[int], shared: Collection[int]
) -> list[list[Shown]]:  # fmt: skip
    parts: list[list[Shown]] = [[]]
    for word, end in zip(words, ends, strict=True):
        parts[-1].append(word)
        if end in shared:
            parts.append([])
    return parts[:-1]


def _as_one(part: Sequence[Shown], number: int) -> Shown:
    text = part[0].text + "".join(e.gap + e.text for e in part[1:])
    relevance, share = sum(e.relevance for e in part), sum(map(signed, part))
    return replace(part[0], text=text, tokens=(number,), relevance=relevance, share=abs(share))


def signed(entry: Shown) -> float:
    """A share with the sign of its relevance."""
    return entry.share if entry.relevance >= 0 else -entry.share
