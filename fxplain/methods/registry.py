"""The registry: methods by name, with their options checked."""

from __future__ import annotations

from typing import Any

from fxplain.arguments import TEXT, shown
from fxplain.errors import MethodError
from fxplain.methods.catalogue import AUTOMATIC, METHODS, PRESETS
from fxplain.methods.method import Method, Options
from fxplain.methods.unit_methods import UNIT_METHODS, UnitMethod

__all__ = [
    "AnyMethod",
    "every_method",
    "methods",
    "register_method",
    "resolve_method",
    "unit_methods",
]

_METHODS = dict(METHODS)

AnyMethod = Method | UnitMethod


def methods() -> dict[str, Method]:
    """The explanation methods that follow attention or gradients, by name.

    Those that run the model without units of its inputs are `fxplain.unit_methods`.

    Examples
    --------
    >>> import fxplain
    >>> fxplain.methods()["generic"].cost
    'one forward, one backward'
    """
    return dict(_METHODS)


def unit_methods() -> dict[str, UnitMethod]:
    """The explanation methods that run the model without units of its inputs, by name.

    Examples
    --------
    >>> import fxplain
    >>> list(fxplain.unit_methods())[:3]
    ['leave_one_out', 'occlusion', 'permutation_shap']
    """
    return dict(UNIT_METHODS)


def every_method() -> dict[str, AnyMethod]:
    """All of both kinds, by name."""
    return {**_METHODS, **UNIT_METHODS}


def register_method(method: Method) -> None:
    """Make a method known by its name, to `explain` and to the command line of this process.

    Raises
    ------
    MethodError
        When there is a method of that name.
    """
    if not isinstance(method, Method):
        raise MethodError(f"a method is a fxplain.methods.Method, not {shown(method)}.")
    if method.name in (*every_method(), AUTOMATIC.name):
        raise MethodError(f"there is a method {method.name!r} already.")
    _METHODS[method.name] = method


def resolve_method(name: str, given: Options) -> tuple[AnyMethod, dict[str, Any]]:
    """The method of that name with all its options; `preset` names published code.

    Raises
    ------
    MethodError
        When the method, the preset or one of the options is unknown.
    """
    TEXT.raising(MethodError).check("method", name)
    given = dict(given)
    preset = given.pop("preset", None)
    if preset is not None:
        TEXT.raising(MethodError).check("preset", preset)
        if preset not in PRESETS:
            raise MethodError(f"unknown preset {preset!r}; there are: {', '.join(PRESETS)}.")
        name, options = PRESETS[preset]
        given = {**options, **given}
    every = {**every_method(), AUTOMATIC.name: AUTOMATIC}
    method = every.get(name)
    if method is None:
        known = ", ".join(every)
        raise MethodError(f"unknown method {name!r}; there are: {known}.")
    return method, method.with_options(given)
