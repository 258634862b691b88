"""Arguments: what a public parameter may be is said once, as a form; all else is refused by name."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from fxplain.errors import FxplainError, InputError, PlotError

__all__ = [
    "AXES", "FUNCTION", "MAPPING", "NAME", "NAMES", "PATH", "TEXT", "TOKENIZER",
    "YES_NO", "Form", "as_numbers", "blaming", "checked", "first_line", "instance", "number", "one_of",
    "only_known", "optional", "place_in", "shown", "whole",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])

_MOST_SHOWN = 60
_MOST_SAID = 600


@dataclass(frozen=True)
class Form:
    """What an argument may be.

    Attributes
    ----------
    said
        In words, as what follows "must be".
    fits
        Whether a value is that; it fails on none.
    error
        What is raised where it is not.
    """

    said: str
    fits: Callable[[Any], bool]
    error: type[FxplainError] = InputError

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that is of another form.

        Raises
        ------
        FxplainError
            Of the form's own class.

        Examples
        --------
        >>> whole(1).check("workers", 0)
        Traceback (most recent call last):
        fxplain.errors.InputError: workers=0 must be a whole number from 1 on.
        """
        if not self.fits(value):
            raise self.error(f"{name}={shown(value)} must be {self.said}.")

    def raising(self, error: type[FxplainError]) -> Form:
        """The same form, refused by another error."""
        return replace(self, error=error)


def checked(**forms: Form) -> Callable[[F], F]:
    """A function whose arguments are refused where they are not of these forms, before it runs."""

    def decorated(function: F) -> F:
        named = inspect.signature(function).parameters.values()
        order = [p.name for p in named if p.kind is not p.KEYWORD_ONLY]

        @functools.wraps(function)
        def door(*args: Any, **kwargs: Any) -> Any:
            for name, value in (*zip(order, args, strict=False), *kwargs.items()):
                if name in forms:
                    forms[name].check(name, value)
            return function(*args, **kwargs)

        return cast("F", door)

    return decorated


def only_known(
    function: Callable[..., Any], options: Iterable[str], door: str, but: Collection[str] = ()
) -> None:
    """Refuse options that a function, to which they are handed on, does not have.

    Parameters
    ----------
    options
        Their names.
    but
        What the function has and is given already.

    Raises
    ------
    InputError
        Naming the first, and those that there are.

    Examples
    --------
    >>> only_known(sorted, {"revers": True}, "sorted")
    Traceback (most recent call last):
    fxplain.errors.InputError: sorted has no option 'revers'; its options: key, reverse.
    """
    named = inspect.signature(function).parameters.values()
    every = [p.name for p in named if p.kind is p.KEYWORD_ONLY or p.default is not p.empty]
    known = [name for name in every if name not in but]
    for name in options:
        if name not in known:
            said = ", ".join(known) or "none"
            raise InputError(f"{door} has no option {name!r}; its options: {said}.")


def place_in(name: str, value: Any, count: int) -> int:
    """One of some places, of which a negative one counts from the end, from the start.

    Raises
    ------
    InputError
        When there is no such place.

    Examples
    --------
    >>> place_in("sample", -1, 3)
    2
    """
    whole().check(name, value)
    place = operator.index(value)
    if not -count <= place < count:
        raise InputError(f"there is no {name} {place}: there are {count}, from 0.")
    return place % count


def shown(value: Any) -> str:
    """A value in a message: as Python writes it, or only its type where that is long or fails."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the user's own
        text = ""
    if text and len(text) <= _MOST_SHOWN and "\n" not in text:
        return text
    return f"(a {type(value).__name__})"


def first_line(error: BaseException) -> str:
    r"""What an error says, on one line, by its kind; however it is made.

    Examples
    --------
    >>> first_line(ValueError("no such\nthing")), first_line(StopIteration())
    ('ValueError: no such', 'StopIteration')
    """
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the user's own
        text = ""
    said = text.strip().partition("\n")[0].rstrip("\r")
    said = f"{said[:_MOST_SAID]} ..." if len(said) > _MOST_SAID else said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


@contextmanager
def blaming(what: str, error: type[FxplainError] = InputError) -> Iterator[None]:
    """Within, something of the user's is asked or called; where it fails, it is named.

    What ends a process (``sys.exit``) is no answer either; an interrupt goes through.

    Raises
    ------
    FxplainError
        Of the class `error`.

    Examples
    --------
    >>> with blaming("the function 'f'"):
    ...     {}["a"]
    Traceback (most recent call last):
    fxplain.errors.InputError: the function 'f' fails with KeyError: 'a'.
    """
    try:
        yield
    except FxplainError:
        raise
    except (Exception, SystemExit, GeneratorExit) as caught:
        raise error(f"{what} fails with {first_line(caught)}.") from caught


def as_numbers(returned: Any) -> Tensor:
    """What a function of the user's returned, as a tensor: from a tensor, an array, or a list.

    Whatever calls itself an array (a data frame's column) is one, and what yields numbers is a list.

    Examples
    --------
    >>> as_numbers([1, 0.1]), as_numbers(x > 1 for x in (1, 2))
    (tensor([1.0000, 0.1000], dtype=torch.float64), tensor([0., 1.], dtype=torch.float64))
    """
    if isinstance(returned, Tensor):
        return returned.detach()
    if hasattr(type(returned), "__array__"):
        array = np.array(returned)
        return torch.from_numpy(array.astype(float) if array.dtype == object else array)
    if isinstance(returned, Iterator):
        returned = list(returned)
    return torch.as_tensor(returned, dtype=torch.double)


# ---- the forms ----------------------------------------------------------------------------------


def whole(low: int | None = None, high: int | None = None) -> Form:
    """A whole number in a range; True and False, also those of a mask, are none."""

    def fits(value: Any) -> bool:
        try:
            found = operator.index(value)
        except Exception:  # noqa: BLE001 - what a tensor, or an object of the user's, raises
            return False
        if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
            return False
        return (low is None or found >= low) and (high is None or found <= high)

    return Form(f"a whole number{_range(low, high)}", fits)


def number(low: float | None = None, high: float | None = None, *, inside: bool = False) -> Form:
    """A finite number in a range, whose ends are no part of it where `inside` says so."""

    def fits(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            return False
        try:
            if not (np.isreal(value) and math.isfinite(value)):
                return False
        except OverflowError:  # an int that no float can hold
            return False
        below = low is not None and (value <= low if inside else value < low)
        above = high is not None and (value >= high if inside else value > high)
        return not below and not above

    if inside and high is None:
        return Form(f"a number above {low}", fits)
    return Form(f"a number{_range(low, high)}{' (both excluded)' if inside else ''}", fits)


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return "" if high is None else f" up to {high}"
    return f" from {low} on" if high is None else f" from {low} to {high}"


def one_of(choices: Iterable[str]) -> Form:
    """One of some names."""
    known = tuple(choices)
    return Form(
        f"one of {', '.join(map(repr, known))}",
        lambda value: isinstance(value, str) and value in known,
    )


def instance(*kinds: type) -> Form:
    """An object of one of some classes."""
    names = [f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}" for kind in kinds]
    return Form(" or ".join(names), lambda value: isinstance(value, kinds))


def optional(form: Form) -> Form:
    """A form, or None."""
    return Form(
        f"{form.said}, or None", lambda value: value is None or form.fits(value), form.error
    )


def _is_axes(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("plot", "imshow", "figure"))


def _is_tokenizer(value: Any) -> bool:
    kind = ("convert_ids_to_tokens", "all_special_ids", "mask_token_id", "pad_token_id")
    return any(hasattr(value, name) for name in kind)


def _are_names(value: Any) -> bool:
    several = isinstance(value, (list, tuple, set, frozenset))
    return several and all(isinstance(each, str) for each in value)


AXES = Form("axes of matplotlib", _is_axes, PlotError)
FUNCTION = Form("a function", callable)
MAPPING = Form("a mapping", lambda value: isinstance(value, Mapping))
NAMES = Form("a list of names", _are_names)
PATH = Form(
    "a text or a pathlib.Path",
    lambda value: isinstance(value, (str, os.PathLike)) and str(value) != "",
)
TEXT = Form("a text", lambda value: isinstance(value, str))
NAME = Form("a name", lambda value: isinstance(value, str) and value != "")
TOKENIZER = Form("a tokenizer", _is_tokenizer)
YES_NO = Form("True or False", lambda value: isinstance(value, bool))
