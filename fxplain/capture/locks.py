"""Locks: capturing patches the process and borrows the model, so it is done by one thread at a time.

Who needs several takes them in this order: that of capturing, a model's, that of chance.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["borrowed", "capturing", "chance_held", "lock_of"]


class _Locks:
    """Those of one process."""

    def __init__(self) -> None:
        self.table = threading.Lock()
        self.capturing = threading.RLock()
        self.chance = threading.RLock()
        self.of_models: MutableMapping[nn.Module, Any] = WeakIdKeyDictionary()

    def of(self, model: nn.Module) -> Any:
        with self.table:
            return self.of_models.setdefault(model, threading.RLock())


_locks = _Locks()


def _renew() -> None:
    """After a fork: a thread that held a lock is not there any more to release it."""
    global _locks
    _locks = _Locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def lock_of(model: nn.Module) -> Any:
    """The lock of one model's tensors."""
    return _locks.of(model)


@contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """Within, no other thread captures the model (which puts traced tensors in its weights' places)."""
    with _locks.of(model):
        yield


@contextmanager
def capturing(model: nn.Module) -> Iterator[None]:
    """Within, no other thread captures any model, and none reads the tensors of this one."""
    with _locks.capturing, _locks.of(model):
        yield


@contextmanager
def chance_held() -> Iterator[None]:
    """Within, no other thread puts random generators back."""
    with _locks.chance:
        yield
