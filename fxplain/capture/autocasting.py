"""Autocast: the mixed precision around a call, in which the same can be asked again later.

Its casts become operations of the captured graph, so that what is computed from values is not cast.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

__all__ = ["NO_AUTOCAST", "Autocast"]

KINDS = ("cpu", "cuda")


@dataclass(frozen=True)
class Autocast:
    """What ``torch.autocast`` makes of a call.

    Attributes
    ----------
    types
        By kind of device the type that is cast to, None where autocast is off.
    """

    types: tuple[torch.dtype | None, ...]

    @classmethod
    def now(cls) -> Autocast:
        """That of the code that runs."""
        return cls(
            tuple(
                torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
                for kind in KINDS
            )
        )

    @contextmanager
    def again(self) -> Iterator[None]:
        """The same once more, wherever this is called."""
        with ExitStack() as stack:
            for kind, own, now in zip(KINDS, self.types, Autocast.now().types, strict=True):
                if own is not now:
                    stack.enter_context(torch.autocast(kind, own, enabled=own is not None))
            yield


NO_AUTOCAST = Autocast((None,) * len(KINDS))
"""For arithmetic of one's own, in the caller's mixed precision."""
