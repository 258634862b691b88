"""Scratch: memory for tensors that are needed for a moment only, used again for the next ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Scratch"]


class Scratch:
    """One block of memory per name, as large as the largest tensor that was asked for.

    On a processor, a tile of some megabytes that is allocated anew costs more than its arithmetic:
    the system hands out each page zeroed. Other devices keep what was freed, so nothing is kept for
    them here.

    Parameters
    ----------
    lends
        Whether there is any to be had; tensors of `torch.vmap` cannot be made in given memory.
    """

    def __init__(self, *, lends: bool = True) -> None:
        self._lends = lends
        self._blocks: dict[str, Tensor] = {}

    def take(self, name: str, shape: Sequence[int], like: Tensor, room: int = 0) -> Tensor | None:
        """Memory of that shape, of `like`'s type; it holds what was last left there.

        Taken again under the same name, it is the same memory. None on devices that need none. `room`
        is how many numbers will be asked for: blocks that grow and grow are each new to the system.
        """
        if not self._lends or like.device.type != "cpu":
            return None
        size, block = math.prod(shape), self._blocks.get(name)
        if block is None or block.numel() < size or block.dtype != like.dtype:
            self._blocks.pop(name, None)  # before the larger one is made
            block = self._blocks[name] = torch.empty(max(size, room), dtype=like.dtype)
        return block[:size].view(tuple(shape))
