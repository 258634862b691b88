"""Merging: relevance of tokens as relevance of what people see: words, pixels, moments.

Pure functions of tensors and labels; `Explanation.words`, `.pixels` and `.timeline` call them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fxplain.arguments import checked, number, place_in
from fxplain.errors import ModalityError
from fxplain.explanation.pieces import (
    is_within_a_word,
    joined,
    whole_letters,
    without_spaces,
)

__all__ = [
    "Timeline", "Word", "WordRelevance", "bear_marks", "merge", "plain", "timeline", "upsample",
    "words_of", "words_within",
]  # fmt: skip


@dataclass(frozen=True)
class Word:
    """A word, and where its pieces are.

    Attributes
    ----------
    text
        As it is read: without the marks of a tokenizer.
    tokens
        The places of its pieces among the tokens of its modality.
    gap
        What stands between the word before it and this one, as it was written.
    special
        Whether it is no word of the text but one of the tokenizer's own (``[CLS]``, ``</s>``).
    """

    text: str
    tokens: tuple[int, ...]
    gap: str = ""
    special: bool = False


@dataclass(frozen=True)
class WordRelevance:
    """One sample's relevance by word.

    Attributes
    ----------
    words
        The words in reading order; a special token is a word of its own.
    relevance
        (words,) each the sum over its pieces.
    """

    words: tuple[Word, ...]
    relevance: Tensor

    @property
    def labels(self) -> list[str]:
        """The words' texts."""
        return [word.text for word in self.words]


@dataclass(frozen=True)
class Timeline:
    """Relevance over time.

    Attributes
    ----------
    relevance
        (batch, steps).
    edges
        (steps + 1,) where each step starts and the last one ends, in seconds.
    """

    relevance: Tensor
    edges: Tensor

    @checked(share=number(0, 1))
    def stretch(self, sample: int = 0, share: float = 0.5) -> tuple[float, float] | None:
        """The shortest stretch of time, in seconds, that holds this share of a sample's relevance.

        By size, whatever the sign; None where there is no relevance.

        Examples
        --------
        >>> relevance = torch.tensor([[0.0, 1.0, 3.0, 1.0, 1.0]])
        >>> Timeline(relevance, torch.arange(6.0)).stretch(share=0.6)
        (1.0, 3.0)
        """
        sample = place_in("sample", sample, len(self.relevance))
        sums = torch.cat([self.edges.new_zeros(1), self.relevance[sample].abs().cpu().cumsum(0)])
        wanted = share * float(sums[-1]) * (1 - 1e-6)
        if wanted <= 0:
            return None
        ends = torch.searchsorted(sums, sums + wanted)
        lengths = [(int(end) - i, i) for i, end in enumerate(ends.tolist()) if end < len(sums)]
        steps, start = min(lengths)
        return float(self.edges[start]), float(self.edges[start + steps])


# ---- words --------------------------------------------------------------------------------------

_STARTS = ("▁", "Ġ", " ")
"""What begins a piece that begins a word: SentencePiece's mark, that of byte-level BPE, a space."""

_CONTINUES = "##"
"""What begins a WordPiece that continues a word."""

_ENDS, _GOES_ON = "</w>", "@@"
"""What ends a BPE piece that ends a word, or one that does not."""


def words_of(
    labels: Sequence[str], *, together: bool = False, alone: Collection[int] = ()
) -> list[Word]:
    r"""The words that labelled pieces make up, by the marks that tokenizers leave in them.

    Where no label bears a mark, each token is a word. Tokens between angle or square brackets
    (``[CLS]``, ``</s>``, ``<|im_start|>``) stay by themselves.

    Parameters
    ----------
    labels
        The pieces.
    together
        Pieces without a mark go on with a word, even where no label bears one: see
        `fxplain.explanation.pieces.are_written_together`.
    alone
        The places of tokens that are no pieces of a text, but the model's own.

    Examples
    --------
    >>> [word.text for word in words_of(["[CLS]", "play", "##ing", "it", "[SEP]"])]
    ['[CLS]', 'playing', 'it', '[SEP]']
    >>> [word.tokens for word in words_of(["Play", "ing", "Ġit", "Ġagain"])]
    [(0, 1), (2,), (3,)]
    >>> [(word.gap, word.text) for word in words_of(["us", "er", ".\n", "it"], together=True)]
    [('', 'user.'), ('\n', 'it')]
    >>> [word.tokens for word in words_of(["<0xE6><0x88>", "<0x91>", "们"], together=True)]
    [(0, 1), (2,)]
    """
    pieces = list(map(_with_spaces, labels))
    letters, goes_on = whole_letters(pieces)
    joins = _joining(letters, together=together)
    words: list[list[int]] = []
    for place in range(len(pieces)):
        apart = place in alone or place - 1 in alone
        one = place in goes_on or (place and joins(letters[place - 1], letters[place]))
        if place and one and not apart:
            words[-1].append(place)
        else:
            words.append([place])
    return _as_words(pieces, words, marked=together or bear_marks(pieces))


def bear_marks(labels: Sequence[str]) -> bool:
    """Whether some piece bears the mark of one that begins a word."""
    return any(label.startswith(_STARTS) for label in labels)


def _with_spaces(label: str) -> str:
    """A piece with the spaces that a tokenizer writes as marks."""
    if _is_special(label):
        return label
    label = label.replace("▁", " ")
    return f" {label[1:]}" if label.startswith("Ġ") else label


def _as_words(
    pieces: Sequence[str], words: Iterable[Sequence[int]], *, marked: bool
) -> list[Word]:  # fmt: skip
    """Words of pieces, with the white space before each: its own, and what the one before ends with.

    Where no piece bears a mark, a space parts them.
    """
    made: list[Word] = []
    left = ""
    for places in words:
        first = pieces[places[0]]
        written = joined([_bare(pieces[place]) for place in places])
        text = written.strip()
        if _is_special(first) or not text:
            made.append(Word(text or written or first, tuple(places), "", _is_special(first)))
            continue
        before = written[: len(written) - len(written.lstrip())]
        if not (before or marked or without_spaces(text[0])):
            before = " "
        made.append(Word(text, tuple(places), left + before if places[0] else ""))
        left = written[len(written.rstrip()) :]
    return made


def _joining(labels: Sequence[str], *, together: bool) -> Callable[[str, str], bool]:
    """Whether a piece and the next are of one word, by the kind of marks that there are."""
    ordinary = [label for label in labels if not _is_special(label)]
    joins: Callable[[str, str], bool]
    if bear_marks(ordinary):
        joins = lambda _before, piece: not piece.startswith(_STARTS)  # noqa: E731
    elif any(label.endswith(_ENDS) for label in ordinary):
        joins = lambda before, _piece: not before.endswith(_ENDS)  # noqa: E731
    elif any(label.endswith(_GOES_ON) for label in ordinary):
        joins = lambda before, _piece: before.endswith(_GOES_ON)  # noqa: E731
    elif together:
        joins = lambda _before, _piece: True  # noqa: E731
    else:
        joins = lambda _before, piece: piece.startswith(_CONTINUES)  # noqa: E731
    return lambda before, piece: (
        not _is_special(before)
        and not _is_special(piece)
        and (_is_one_letter(before, piece) or _are_one_word(before, piece, joins))
    )


def _are_one_word(before: str, piece: str, joins: Callable[[str, str], bool]) -> bool:
    if piece[:1].isspace() or (before[-1:].isspace() and before != " "):
        return False
    if before != " " and _of_its_own(before, piece):
        return False
    return joins(before, piece)


def _is_one_letter(before: str, piece: str) -> bool:
    """Whether a piece goes on with the letter that the one before it ends in."""
    written = plain(before)
    return bool(written) and is_within_a_word(
        written + piece.removeprefix(_CONTINUES), len(written)
    )


def _is_bytes(label: str) -> bool:
    """Whether a piece begins with a part of a letter."""
    return label.startswith("<0x")


def _of_its_own(before: str, piece: str) -> bool:
    """Whether nothing joins two pieces but that their script has no spaces."""
    if piece.startswith(_CONTINUES) or before.endswith(_GOES_ON):
        return False
    return without_spaces(before[-1:]) or without_spaces(piece[:1])


def _is_special(label: str) -> bool:
    bracketed = len(label) > 2 and (label[0], label[-1]) in {("[", "]"), ("<", ">")}
    return bracketed and not _is_bytes(label)


def plain(label: str) -> str:
    """A piece without the marks of a word's beginning or end."""
    if _is_special(label):
        return label
    return _bare(_with_spaces(label).removeprefix(" "))


def _bare(piece: str) -> str:
    """A piece without marks, but with its spaces."""
    if _is_special(piece):
        return piece
    piece = piece.removeprefix(_CONTINUES)
    for mark in (_ENDS, _GOES_ON):
        piece = piece.removesuffix(mark)
    return piece


def words_within(
    words: Iterable[Word], places: Collection[int], labels: Sequence[str]
) -> Iterator[Word]:
    """The words of a part of a text; one that goes on beyond it as far as it is of that part.

    Examples
    --------
    >>> words = [Word("the", (0,)), Word("movies", (1, 2), " "), Word("!", (3,))]
    >>> [word.text for word in words_within(words, {0, 1}, ["the", "Ġmovie", "s", "!"])]
    ['the', 'movie']
    """
    for word in words:
        own = tuple(place for place in word.tokens if place in places)
        if len(own) == len(word.tokens):
            yield word
        elif own:
            pieces = {place: plain(labels[place]) for place in word.tokens}
            rest = "".join(piece for place, piece in pieces.items() if place not in places)
            text = word.text
            text = text.removesuffix(rest) if own[0] == word.tokens[0] else text.removeprefix(rest)
            if text == word.text:  # it is written otherwise than its pieces
                text = "".join(pieces[place] for place in own)
            yield replace(word, text=text, tokens=own)


def merge(relevance: Tensor, words: Sequence[Word]) -> Tensor:
    """The relevance of each word: the sum over its pieces.

    Parameters
    ----------
    relevance
        (tokens,).
    words
        Words that name places among these tokens.

    Returns
    -------
    torch.Tensor
        (words,).
    """
    sums = [relevance[list(word.tokens)].sum() for word in words]
    return torch.stack(sums) if sums else relevance.new_zeros(0)


# ---- pixels and time ----------------------------------------------------------------------------


def upsample(
    relevance: Tensor, grid: tuple[int, ...], size: tuple[int, int], mode: str = "bilinear"
) -> Tensor:
    """Relevance of the patches of a grid as a heat map of pixels.

    Each pixel has the relevance of the patch that it is in ("nearest"), or one between those of the
    nearest patches, by the distance from their centres ("bilinear"). It is not divided by the
    number of pixels: the largest value is that of the most relevant patch.

    Parameters
    ----------
    relevance
        (batch, patches), without special tokens.
    grid
        (rows, columns), or (frames, rows, columns) for a video.
    size
        (height, width) in pixels.
    mode
        "bilinear" or "nearest".

    Returns
    -------
    torch.Tensor
        (batch, height, width), or (batch, frames, height, width).

    Raises
    ------
    ModalityError
        When the tokens do not lie on such a grid.
    """
    if len(grid) not in (2, 3) or math.prod(grid) != relevance.shape[-1]:
        raise ModalityError(
            f"{relevance.shape[-1]} tokens on a grid {grid or '()'} are no patches of one image: "
            f"there is no heat map of pixels."
        )
    maps = relevance.float().reshape(-1, 1, grid[-2], grid[-1])
    smooth = {"align_corners": False} if mode == "bilinear" else {}
    drawn = F.interpolate(maps, size=size, mode=mode, **smooth)
    return drawn.reshape(len(relevance), *grid[:-2], *size)


def timeline(
    relevance: Tensor, grid: tuple[int, ...], seconds: float, axis: int | None = None
) -> Timeline:
    """Relevance of the tokens of a recording by when they are.

    Tokens are taken to lie evenly over the recording. What lies at one moment (the patches of a
    frame, the frequencies of a spectrogram) is added up.

    Parameters
    ----------
    relevance
        (batch, tokens), without special tokens.
    grid
        The grid that they lie on, () for a sequence.
    seconds
        How long the recording is.
    axis
        The axis of the grid that is time; by default the first (the frames of a video), and of
        two axes the second (a spectrogram's columns).

    Raises
    ------
    ModalityError
        When the tokens do not lie on the grid, or it has no such axis.
    """
    grid = grid or (relevance.shape[-1],)
    axis = (1 if len(grid) == 2 else 0) if axis is None else axis
    if math.prod(grid) != relevance.shape[-1] or not -len(grid) <= axis < len(grid):
        raise ModalityError(
            f"{relevance.shape[-1]} tokens on a grid {grid} have no axis {axis} that could be time."
        )
    others = [i + 1 for i in range(len(grid)) if i != axis % len(grid)]
    steps = relevance.reshape(-1, *grid)
    steps = steps.sum(others) if others else steps
    return Timeline(steps, torch.linspace(0, seconds, steps.shape[1] + 1))
