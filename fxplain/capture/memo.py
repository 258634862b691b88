"""Memo: a bounded memory of what was derived, the least recently used goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

__all__ = ["Memo"]


class Memo:
    """What later stages derived, by key; any number of threads may ask.

    Parameters
    ----------
    most
        How many entries are kept.
    """

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._entries: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def made(self, key: Any, make: Callable[[], Any]) -> Any:
        """The entry, made on first need; two threads may both make one, and both get the first."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        value = make()
        with self._lock:
            value = self._entries.setdefault(key, value)
            self._entries.move_to_end(key)
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)
        return value

    def drop(self, key: Any) -> None:
        """Forget an entry."""
        with self._lock:
            self._entries.pop(key, None)

    def __contains__(self, key: Any) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __getstate__(self) -> int:
        return self._most

    def __setstate__(self, most: int) -> None:
        self.__init__(most)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"<Memo of {len(self)}>"
