"""Random state: every run of a model draws the same numbers, and the user's state stays."""

from __future__ import annotations

import random
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from fxplain.capture.locks import chance_held

__all__ = ["RandomState", "chance_kept", "draws", "note_generator", "other_draws", "reseed"]


_own: weakref.WeakSet[torch.Generator] = weakref.WeakSet()
"""Generators that models hold: a captured graph draws from the very same."""


def note_generator(generator: torch.Generator) -> None:
    """From now on a generator's state is part of the random state."""
    _own.add(generator)


class RandomState:
    """The state of the random generators of torch (CPU and the given devices), Python and NumPy.

    Those that models hold are among torch's.
    """

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        self._generators = [(each, each.get_state()) for each in tuple(_own)]
        self._devices = sorted({t.device.index or 0 for t in tensors if t.device.type == "cuda"})
        self._torch, self._cuda, self._python, self._numpy = self._now()

    def _now(self) -> tuple[Tensor, list[Tensor], Any, Any]:
        cuda = [torch.cuda.get_rng_state(device) for device in self._devices]
        return torch.get_rng_state(), cuda, random.getstate(), np.random.get_state(legacy=False)

    def restore(self) -> None:
        """Put every generator back."""
        for generator, state in self._generators:
            if not torch.equal(generator.get_state(), state):
                generator.set_state(state)
        torch.set_rng_state(self._torch)
        for device, state in zip(self._devices, self._cuda, strict=True):
            torch.cuda.set_rng_state(state, device)
        random.setstate(self._python)
        np.random.set_state(self._numpy)

    def drawn(self) -> str:
        """Which generators were used since: "torch", "Python", "NumPy", or several of them."""
        now, cuda, python, numpy = self._now()
        used = {
            "torch": not torch.equal(now, self._torch)
            or not all(map(torch.equal, cuda, self._cuda))
            or not all(torch.equal(each.get_state(), s) for each, s in self._generators),
            "Python": python != self._python,
            "NumPy": str(numpy) != str(self._numpy),
        }
        return " and ".join(name for name, is_used in used.items() if is_used)


@fx.node.has_side_effect  # so that no pass drops the call
def reseed(seed: int) -> None:
    """The graph operation for a model that seeds the generators in its forward."""
    torch.manual_seed(seed)


def draws(node: fx.Node) -> bool:
    """Whether a graph node draws random numbers, or says which come next."""
    if node.target is reseed:
        return True
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    given = {a.name: a.default_value for a in arguments if a.has_default_value()}
    given.update(zip((a.name for a in arguments), node.args, strict=False), **node.kwargs)
    off = (("train", False), ("training", False), ("dropout_p", 0.0))  # dropout in eval mode
    return not any(name in given and given[name] == value for name, value in off)


@contextmanager
def other_draws(seed: int) -> Iterator[None]:
    """Run with other numbers from Python's and NumPy's generators, and put them back."""
    python, numpy = random.getstate(), np.random.get_state(legacy=False)
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def chance_kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Run with the random numbers that come next for the user, and leave these to the user.

    The generators belong to all threads: one thread at a time does this, and what was not drawn from
    is not put back, since another thread may draw meanwhile.
    """
    with chance_held():
        state = RandomState(tensors)
        try:
            yield
        finally:
            state.restore()
