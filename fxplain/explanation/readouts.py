"""Where a target is read, found in the text that says so."""

from __future__ import annotations

import re

__all__ = ["readout_place"]


def readout_place(readout: str, modality: str) -> int | None:
    """The place of the one token of a modality that the target is read from, if it is one.

    Such a token's relevance to itself starts from 1, the identity, which would drown all others in
    shades and shares. A mean over many tokens spreads it evenly and does no harm.

    Examples
    --------
    >>> readout_place("input_ids[0] and pixel_values[0]", "pixel_values")
    0
    >>> readout_place("mean of pixel_values[0..48]", "pixel_values")
    """
    for part in readout.split(" and "):
        found = re.fullmatch(r"(.+)\[(\d+)\]", part)
        if found and found[1] == modality:
            return int(found[2])
    return None
