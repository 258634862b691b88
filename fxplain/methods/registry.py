"""The registry: methods by name, with their options checked."""

from __future__ import annotations

from typing import Any

from fxplain.arguments import TEXT, shown
from fxplain.errors import MethodError
from fxplain.methods.catalogue import AUTOMATIC, METHODS, PRESETS
from fxplain.methods.method import Method, Options
from fxplain.methods.smoothing import SMOOTHING_METHODS, Smoothing
from fxplain.methods.unit_methods import UNIT_METHODS, UnitMethod

__all__ = [
    "AnyMethod",
    "every_method",
    "method_named",
    "methods",
    "register_method",
    "resolve_method",
    "smoothing_methods",
    "split_options",
    "unit_methods",
]

_METHODS = dict(METHODS)

AnyMethod = Method | UnitMethod | Smoothing


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


def smoothing_methods() -> dict[str, Smoothing]:
    """The explanation methods that ask another one many times, with noise in the tokens, by name.

    Examples
    --------
    >>> import fxplain
    >>> list(fxplain.smoothing_methods())
    ['smoothgrad', 'vargrad']
    """
    return dict(SMOOTHING_METHODS)


def every_method() -> dict[str, AnyMethod]:
    """All of every kind, by name, "auto" last: whatever may be asked for."""
    return {**_METHODS, **UNIT_METHODS, **SMOOTHING_METHODS, AUTOMATIC.name: AUTOMATIC}


def method_named(name: str, options: Options) -> AnyMethod | None:
    """The method that an explanation was made by, with all of its options; None of an unknown one."""
    found = every_method().get(name)
    if isinstance(found, Smoothing) and options.get("of") in _METHODS:
        return found.around(_METHODS[options["of"]])
    return found


def register_method(method: Method) -> None:
    """Make a method known by its name, to `explain` and to the command line of this process.

    Raises
    ------
    MethodError
        When there is a method of that name.
    """
    if not isinstance(method, Method):
        raise MethodError(f"a method is a fxplain.methods.Method, not {shown(method)}.")
    if method.name in every_method():
        raise MethodError(f"there is a method {method.name!r} already.")
    _METHODS[method.name] = method


def resolve_method(name: str, given: Options) -> tuple[Method | UnitMethod, dict[str, Any]]:
    """The method of that name with all its options; `preset` names published code.

    Raises
    ------
    MethodError
        When the method, the preset or one of the options is unknown.
    """
    method, given = _found(name, given)
    return method, method.with_options(given)


def split_options(name: str, given: Options) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the method, or of the method that it asks, and what is given for someone else.

    Raises
    ------
    MethodError
        When the method, or the preset, is unknown.
    """
    method, _ = _found(name, given)
    own = {k: v for k, v in given.items() if k in method.options or k == "preset"}
    return own, {k: v for k, v in given.items() if k not in own}


def _found(name: str, given: Options) -> tuple[Method | UnitMethod, dict[str, Any]]:
    """The method that is meant, and its options where a preset stands for some."""
    TEXT.raising(MethodError).check("method", name)
    given = dict(given)
    preset = given.pop("preset", None)
    if preset is not None:
        TEXT.raising(MethodError).check("preset", preset)
        if preset not in PRESETS:
            raise MethodError(f"unknown preset {preset!r}; there are: {', '.join(PRESETS)}.")
        name, options = PRESETS[preset]
        given = {**options, **given}
    every = every_method()
    if name not in every:
        known = ", ".join(every)
        raise MethodError(f"unknown method {name!r}; there are: {known}.")
    found = every[name]
    return (_around_another(found, given) if isinstance(found, Smoothing) else found), given


def _around_another(smoothing: Smoothing, given: Options) -> Method:
    """A smoothing method with the method that it asks."""
    of = given.get("of", smoothing.options["of"].default)
    TEXT.raising(MethodError).check("option of", of)
    if of not in _METHODS:
        known = ", ".join(_METHODS)
        raise MethodError(f"option of={of!r} is none of: {known}. These are asked with noise.")
    return smoothing.around(_METHODS[of])
