"""Which of many like cases the quick run tries; the long run tries them all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest

__all__ = ["quickly"]


def quickly(
    cases: Iterable[Any], quick: Collection[Any], name: Callable[[Any], Any] = lambda case: case
) -> list[Any]:
    """The cases as parameters of a test, those that are not among the quick ones marked slow."""
    cases = list(cases)
    unknown = set(quick) - {name(case) for case in cases}
    assert not unknown, f"no case is called {unknown}"
    return [
        case if name(case) in quick else pytest.param(case, marks=pytest.mark.slow)
        for case in cases
    ]
