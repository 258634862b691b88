"""Parts: which tokens of an input are removed together, words, regions, or what else is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, prod

import torch
from torch import Tensor

from fxplain.errors import MethodError
from fxplain.explanation import Explanation, Units
from fxplain.explanation.merging import Word, plain
from fxplain.explanation.units import REST, own_units, units_of
from fxplain.methods import Place
from fxplain.removal.perturbation import Removed
from fxplain.removal.tokens import ModalityTokens

__all__ = ["NOTHING", "Part", "parts_of", "removed_by"]

NOTHING = "no token can be removed: each is special, padding, or what the target is read from."


@dataclass(frozen=True)
class Part:
    """Tokens that are kept or removed together.

    Attributes
    ----------
    modality, tokens
        Whose they are, and their places.
    place
        Where it lies among those of its modality.
    text
        As people read it.
    """

    modality: str
    tokens: tuple[int, ...]
    place: Place
    text: str = ""


def parts_of(
    structure: Explanation,
    tokens: Mapping[str, ModalityTokens],
    sample: int,
    units: Units,
    regions: int,
    *,
    rest: bool = True,
) -> list[Part]:
    """The parts of all of a sample's inputs; tokens that do not count are in none.

    Parameters
    ----------
    structure
        Any explanation of the inputs: it knows the words.
    tokens
        By modality: those that can be removed.
    units
        How texts are cut, as `Explanation.units` takes them. Parts of a text that one modality lacks
        are another's.
    regions
        How many parts a grid is cut into at most.
    rest
        Whether what no given part of a text holds is one part more.

    Raises
    ------
    MethodError
        When no text has the parts that are asked for, or no token can be removed.
    """
    found: list[Part] = []
    refused: list[MethodError] = []
    for name, own in tokens.items():
        try:
            groups = _groups(structure, own, sample, units, regions)
            if not (rest or isinstance(units, str)) and structure.is_text(name):
                groups = [group for group in groups if group[2] != REST]
        except MethodError as error:
            if isinstance(units, str):
                raise
            refused.append(error)
            continue
        counted = own.counted[own.row(sample)]
        for place, group, text in groups:
            kept = tuple(token for token in group if counted[token])
            if kept:
                whole = len(kept) == len(group) or not structure.is_text(name)
                text = text if whole else _text_of(structure, name, sample, kept)
                found.append(Part(name, kept, (name, place), text))
    if refused and len(refused) == sum(structure.is_text(name) for name in tokens):
        raise refused[0]
    if not found:
        raise MethodError(NOTHING)
    return [_renumbered(part, found) for part in found]


def removed_by(
    parts: Sequence[Part],
    kept: Tensor,
    tokens: Mapping[str, ModalityTokens],
    size: int,
    sample: int,
) -> Removed:
    """The tokens that go with the parts that are not kept, one copy of the batch for each row.

    Parameters
    ----------
    parts, kept
        Parts of a sample, and (rows, parts) which of them are kept.
    tokens, size, sample
        The batch's tokens, its size, and which of it the sample is: tokens go of the row that it reads.
    """
    removed = {
        name: torch.zeros(len(kept), size, t.counted.shape[1], dtype=torch.bool)
        for name, t in tokens.items()
    }
    for i, part in enumerate(parts):
        row = tokens[part.modality].row(sample)
        removed[part.modality][:, row, list(part.tokens)] |= ~kept[:, i, None]
    return removed


def _text_of(structure: Explanation, name: str, sample: int, kept: Sequence[int]) -> str:
    """What some tokens of a unit say."""
    words = structure.words_in(name)[sample]
    pieces = units_of(words, structure.labels[name][sample], "token")
    return "".join(p.gap + plain(p.text) for p in pieces if p.tokens[0] in kept).strip()


def _groups(
    structure: Explanation, own: ModalityTokens, sample: int, units: Units, regions: int
) -> list[tuple[tuple[int, ...], tuple[int, ...], str]]:
    """(place, tokens, text) of each."""
    units = own_units(structure, own.name, units)
    if not (structure.is_text(own.name) or isinstance(units, str)):
        asked = structure.cut(own.name, sample, units)
        return [((i,), unit.tokens, unit.text) for i, unit in enumerate(asked)]
    if own.kind == "regions" and len(own.plain) == prod(own.grid):
        return [
            (place, tokens, f"region {', '.join(map(str, place))}")
            for place, tokens in _regions(own.grid, own.plain.tolist(), regions)
        ]
    if structure.is_text(own.name):
        words: Sequence[Word] = structure.words_in(own.name)[sample]
        made = units_of(words, structure.labels[own.name][sample], units)
        return [((i,), unit.tokens, unit.text) for i, unit in enumerate(made)]
    named = structure.named_tokens(own.name, sample)
    return [((i,), (place,), named[place]) for i, place in enumerate(own.plain.tolist())]


def _regions(
    grid: tuple[int, ...], plain: Sequence[int], most: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Blocks of a grid, all as wide along each axis, so that there are not too many."""
    width = next(
        w for w in range(1, max(grid) + 1) if prod(ceil(n / w) for n in grid) <= max(1, most)
    )
    blocks: dict[tuple[int, ...], list[int]] = {}
    for token, place in zip(plain, product(*map(range, grid)), strict=True):
        blocks.setdefault(tuple(at // width for at in place), []).append(token)
    yield from ((place, tuple(own)) for place, own in blocks.items())


def _renumbered(part: Part, found: Sequence[Part]) -> Part:
    """The same, with words numbered without those that cannot be removed."""
    name, place = part.place
    if len(place) > 1:
        return part
    before = sum(other.modality == name and other.place[1] < place for other in found)
    return replace(part, place=(name, (before,)))
