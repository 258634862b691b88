"""What was asked for by name: methods and metrics, with labels and options where they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fxplain.arguments import blaming, shown
from fxplain.errors import EvaluationError

__all__ = ["labelled"]


def labelled(
    asked: Any, default: Iterable[str], kind: str
) -> dict[str, tuple[str, dict[str, Any]] | Callable[..., Any]]:
    """By label, a name with its options, or a function as it is.

    Parameters
    ----------
    asked
        A name, several, or by label a name, a pair (name, options) or a function; None for the
        default.
    default
        Names.
    kind
        "method" or "metric", for messages.

    Raises
    ------
    EvaluationError
        When it is none of these.

    Examples
    --------
    >>> labelled({"late": ("rollout", {"start_layer": 1})}, (), "method")
    {'late': ('rollout', {'start_layer': 1})}
    """
    if asked is None:
        asked = tuple(default)
    if isinstance(asked, str):
        asked = (asked,)
    if not isinstance(asked, (Mapping, list, tuple, set, frozenset)):
        raise EvaluationError(
            f"{kind}s={shown(asked)} must be names, or names with options by label."
        )
    with blaming(f"reading {kind}s=", EvaluationError):
        entries = asked.items() if isinstance(asked, Mapping) else [(name, name) for name in asked]
        return {str(label): _entry(label, entry, kind) for label, entry in entries}


def _entry(label: Any, entry: Any, kind: str) -> Any:
    if callable(entry):
        return entry
    if isinstance(entry, str):
        return entry, {}
    if _is_pair(entry):
        return entry[0], dict(entry[1])
    raise EvaluationError(
        f"{kind} {shown(label)} is given as {shown(entry)}; give a name, or by label a "
        f"name or a pair (name, options)."
    )


def _is_pair(entry: Any) -> bool:
    pair = isinstance(entry, tuple) and len(entry) == 2
    return pair and isinstance(entry[0], str) and isinstance(entry[1], Mapping)
