"""A door: one parameter of something public, with all others as they should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bad_input.values import VALUES

__all__ = ["OWN", "Door", "each", "named"]

OWN = frozenset({"raising", "class", "module", "angry"})


@dataclass(frozen=True)
class Door:
    """One parameter of something public.

    Attributes
    ----------
    name
        As it is written: ``explain(target=)``.
    call
        Calls it with a value for that parameter.
    fine
        The names of the values that it may take.
    own
        The names of the values whose own errors come through: functions that are called to tell how
        far a run is may end it, and a data set may fail.
    values
        What it is given, by name.
    """

    name: str
    call: Callable[[Any], Any]
    fine: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    values: Mapping[str, Callable[[], Any]] = field(default_factory=lambda: VALUES)


def each(
    owner: str, function: Callable[..., Any], settings: dict[str, Any], fine: dict[str, str]
) -> Iterator[Door]:
    """A door for each parameter that `fine` names, with the values (by words) that are right."""
    for name, right in fine.items():

        def call(value: Any, name: str = name) -> Any:
            return function(**{**settings, name: value})

        own = OWN if name in ("progress", "data", "score") else frozenset()
        yield Door(f"{owner}({name}=)", call, named(right), own)


def named(names: str) -> frozenset[str]:
    """Names of values; what stands for a space is "_", and what for several is spelt out."""
    several = {"CLASS": "None True 0 -1", "PARTS": "no_list no_dict", "FILE": "None text"}
    spelt = " ".join(several.get(name, name) for name in names.split())
    return frozenset(name.replace("_", " ") for name in spelt.split())
