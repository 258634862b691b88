"""The values: what somebody may give by mistake where another kind of thing is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["VALUES"]


class Thing:
    """Nothing in particular."""


class Angry:
    """A value that fails when it is looked at."""

    def __repr__(self) -> str:
        return "<Angry>"

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare me")

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        raise RuntimeError("do not count me")

    def __iter__(self) -> Any:
        raise RuntimeError("do not open me")


class Mute:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("do not show me")


def _of_itself() -> list[Any]:
    held: list[Any] = []
    held.append(held)
    return held


def _deep() -> list[Any]:
    held: list[Any] = []
    for _ in range(3000):
        held = [held]
    return held


VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "0": lambda: 0,
    "-1": lambda: -1,
    "huge": lambda: 10**30,
    "1.5": lambda: 1.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "complex": lambda: 1j,
    "no text": lambda: "",
    "text": lambda: "nonsense",
    "odd text": lambda: "\ud800[b]\x00\n%s{}",
    "bytes": lambda: b"nonsense",
    "no list": lambda: [],
    "list": lambda: ["nonsense", None, 3],
    "nested": lambda: [[[[[1]]]]],
    "tuple": lambda: (None, 10**9),
    "no dict": lambda: {},
    "dict": lambda: {"nonsense": 1},
    "odd dict": lambda: {None: object(), 3: "x"},
    "set": lambda: {1, 2},
    "generator": lambda: (x for x in (object(), 2)),
    "function": lambda: lambda *args, **kwargs: None,
    "raising": lambda: _raising,
    "class": lambda: Thing,
    "object": lambda: Thing(),
    "angry": lambda: Angry(),
    "mute": lambda: Mute(),
    "of itself": _of_itself,
    "deep": _deep,
    "tensor": lambda: torch.full((3, 7), 0.5),
    "no tensor": lambda: torch.ones(0),
    "complex tensor": lambda: torch.ones(2, 6, dtype=torch.complex64),
    "sparse tensor": lambda: torch.ones(2, 6).to_sparse(),
    "meta tensor": lambda: torch.ones(2, 6, device="meta"),
    "array": lambda: np.array(["a", None], dtype=object),
    "path": lambda: Path("/nowhere/at/all"),
    "folder": lambda: Path("/"),
    "module": lambda: torch.nn.Linear(2, 3).eval(),
}


def _raising(*args: Any, **kwargs: Any) -> Any:
    raise KeyError("a fault of the user's own")
