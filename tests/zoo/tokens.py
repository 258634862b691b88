"""The truth about tokens: which modalities a model has, how many tokens each, what its output reads.

A case says both in the words below, from the model's configuration and its inputs: nothing of the
library under test is involved, but for the names that it gives (an argument's, a parameter's path).

Counts are numbers, or functions of the input of that name::

    {"input_ids": length, "pixel_values": patches(8, special=1), "model.queries": 5}

A readout is a list of modalities with places in brackets: an index, a slice, several of them with
commas, or a word: `words` for those that are no placeholder of an image, `top` for the largest id of
each text, `real` for the last that the mask does not hide::

    "each of input_ids[:]"          every number of the output reads a token of its own
    "pixel_values[0]"               all numbers read these tokens together
    "of pixel_values[1:]"           together or apart: as convolutions do
    "of pixel_values"               whichever of them, as where merged tokens are read
    "each of input_ids[:] with input_ids"   and others of these were put into them in the end, as by
                                            a convolution behind the last attention
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Count", "Counts", "either", "length", "patches", "strided", "wrong_counts", "wrong_position",
    "wrong_readout",
]  # fmt: skip

Count = int | tuple[int, ...] | Callable[[Tensor], int]
Counts = Mapping[str, Count]
Inputs = Mapping[str, Any]

PLACEHOLDER = 98
"""The id of the tokens that images and recordings take the place of."""


# -- how many -------------------------------------------------------------------------------------


def length(values: Tensor) -> int:
    """One token per position: of (batch, positions, ...)."""
    return values.shape[1]


def patches(size: int, *, special: int = 0) -> Count:
    """A grid of square patches of images (..., height, width), and class tokens or registers."""
    return lambda images: (images.shape[-2] // size) * (images.shape[-1] // size) + special


def strided(*layers: tuple[int, int], axis: int = -1) -> Count:
    """What convolutions without padding leave of an axis: a (kernel, stride) each."""

    def count(values: Tensor) -> int:
        left = values.shape[axis]
        for kernel, stride in layers:
            left = (left - kernel) // stride + 1
        return left

    return count


def either(*counts: int) -> Count:
    """Counts among which the definition leaves the choice."""
    return counts


def wrong_counts(counts: Counts, inputs: Inputs, found: Mapping[str, int]) -> list[str]:
    """What differs between the modalities that are expected and those that were found."""
    wrong = []
    for name, count in counts.items():
        wanted = count(inputs[name]) if callable(count) else count
        allowed = wanted if isinstance(wanted, tuple) else (wanted,)
        if name not in found:
            wrong.append(f"no modality {name} ({' or '.join(map(str, allowed))} tokens)")
        elif found[name] not in allowed:
            wrong.append(f"{name} has {found[name]} tokens, not {' or '.join(map(str, allowed))}")
    wrong += [
        f"{name} ({size}) is no modality" for name, size in found.items() if name not in counts
    ]
    return wrong


# -- what is read ---------------------------------------------------------------------------------

_PLACES = re.compile(r"([^\s,\[\]]+)\[([^\]]*)\]")


def wrong_readout(reads: str, inputs: Inputs, counts: Mapping[str, int], found: str) -> list[str]:
    """What differs between the expected readout and the one that was found.

    Parameters
    ----------
    reads
        The expectation.
    inputs, counts
        The model's inputs; the number of tokens by modality.
    found
        What the library says of the first sample.
    """
    reads, _, beside = reads.partition(" with ")
    if beside and not reads.startswith("each of "):  # of all of them none is beside
        found, _, heard = found.partition(" with ")
        if set(_found_places(heard, counts)) != {beside}:
            return [f"reads {found} with {heard or 'nothing'}, not with {beside}"]
    if reads.startswith("each of ") != found.startswith("each of ") and not reads.startswith("of "):
        return [f"reads {found}, not {reads}"]
    wanted = reads.removeprefix("each of ").removeprefix("of ")
    places = dict(_expected_places(wanted, inputs, counts))
    read = _found_places(found, counts)
    same = set(read) == set(places) and all(
        own is None or own == read[name] for name, own in places.items()
    )
    return [] if same else [f"reads {found}, not {reads}"]


def _expected_places(
    wanted: str, inputs: Inputs, counts: Mapping[str, int]
) -> Iterator[tuple[str, set[int] | None]]:
    for name, places in _PLACES.findall(wanted):
        here = list(range(counts.get(name, 0)))
        chosen: set[int] = set()
        for place in places.split(","):
            chosen |= _chosen(place.strip(), inputs.get(name), inputs, here)
        yield name, chosen
    for name in _PLACES.sub("", wanted).split(","):
        if name.strip():
            yield name.strip(), None


def _chosen(place: str, ids: Any, inputs: Inputs, here: list[int]) -> set[int]:
    if place == "words":
        return set((ids[0] != PLACEHOLDER).nonzero().flatten().tolist())
    if place == "top":
        return set(ids.argmax(-1).tolist())
    if place == "real":
        return {int(inputs["attention_mask"][0].sum()) - 1}
    if ":" in place:
        return set(here[slice(*(int(x) if x else None for x in place.split(":")))])
    return {here[int(place)]} if here else set()


def _found_places(found: str, counts: Mapping[str, int]) -> dict[str, set[int] | None]:
    """By modality the places that a readout names, None where it names no place.

    What follows an @ tells the embeddings of one argument apart.
    """
    read: dict[str, set[int] | None] = {}
    for name, places in _PLACES.findall(found):
        runs = re.findall(r"(\d+)(?:\.\.(\d+))?", places)
        own = {place for first, last in runs for place in range(int(first), int(last or first) + 1)}
        argument = name.split("@")[0]
        read[argument] = own | (read.get(argument) or set())
    rest = {word.split("@")[0] for word in re.split(r"[\s,]+", _PLACES.sub("", found))}
    read |= {name: None for name in counts if name in rest and name not in read}
    return read


def wrong_position(
    reads: str, inputs: Inputs, target: tuple[Any, ...], readouts: tuple[str, ...]
) -> list[str]:
    """Of words of text, that at the last position that the mask does not hide is explained unasked."""
    name = reads.removeprefix("each of ").split("[")[0]
    beside = reads.partition(" with ")[2]
    ids = inputs.get(name)
    if not (
        reads.startswith("each of ") and name.endswith("input_ids") and isinstance(ids, Tensor)
    ):
        return []
    positioned = all(isinstance(of, tuple) and len(of) == 2 for of in target)
    if ids.dim() != 2 or len(ids) != len(readouts) or not positioned:
        return []
    mask = inputs.get(f"{name.removesuffix('input_ids')}attention_mask", torch.ones_like(ids))
    wanted = [f"{name}[{int(row.nonzero().max())}]" for row in mask]
    wrong = []
    for sample, (found, want) in enumerate(zip(readouts, wanted, strict=True)):
        alone, _, heard = found.partition(" with ")
        if alone != want or {of for of, _ in _PLACES.findall(heard)} != {*beside.split()}:
            wrong.append(f"explains {found} in sample {sample}, not {want}")
    return wrong
