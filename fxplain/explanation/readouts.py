"""Where a target is read, found in the text that says so."""

from __future__ import annotations

import re

from torch import Tensor

__all__ = ["identity_of", "read_places", "readout_place"]


def readout_place(readout: str, modality: str) -> int | None:
    """The place of the one token of a modality that the target is read from, if it is one.

    Such a token's relevance to itself starts from 1, the identity, which would drown all others in
    shades and shares. A mean over many tokens spreads it evenly and does no harm.

    Examples
    --------
    >>> readout_place("input_ids[0] and pixel_values[0]", "pixel_values")
    0
    >>> readout_place("mean of pixel_values[0..48]", "pixel_values")
    >>> readout_place("nodes[2] with mean of nodes[0..5]", "nodes")
    2
    """
    for part in readout.split(" and "):
        found = re.fullmatch(r"(.+)\[(\d+)\]", _alone(part))
        if found and found[1] == modality:
            return int(found[2])
    return None


def read_places(readout: str, modality: str) -> set[int]:
    """The places of all tokens of a modality that the target is read from.

    Examples
    --------
    >>> sorted(read_places("mean of input_ids[3..5, 8]", "input_ids"))
    [3, 4, 5, 8]
    """
    lists = re.findall(rf"(?<![\w.]){re.escape(modality)}\[([\d., ]+)\]", readout)
    runs = re.findall(r"(\d+)(?:\.\.(\d+))?", ", ".join(lists))
    return {place for first, last in runs for place in range(int(first), int(last or first) + 1)}


def identity_of(readout: str, modality: str, values: Tensor, *, tokens: bool = False) -> Tensor:
    """(tokens,) how much of one sample's relevance is the identity, as far as the readout tells.

    Parameters
    ----------
    values
        (tokens,) its relevance.
    tokens
        Whether the method scores tokens, and starts from none.
    """
    identity = values.new_zeros(values.shape)
    alone = " and ".join(map(_alone, readout.split(" and ")))
    places = [] if tokens else sorted(read_places(alone, modality))
    if places and places[-1] < len(values):
        identity[places] = 1 / len(places)
    return identity


def _alone(part: str) -> str:
    """A part of a readout without what was put into its tokens since they last attended."""
    return part.split(" with ")[0]
