"""A method: which passes it needs, how it scores what they leave behind, and its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fxplain.arguments import Form, shown
from fxplain.errors import MethodError
from fxplain.methods.accumulation import Accumulation
from fxplain.methods.evidence import Evidence, Needs
from fxplain.methods.tokens import TokenScores

if TYPE_CHECKING:
    from fxplain.methods.smoothing import Smoothing

__all__ = ["HasOptions", "Method", "Option", "Options", "Scores"]

Options = Mapping[str, Any]
Scores = Accumulation | TokenScores


@dataclass(frozen=True)
class Option:
    """An option of a method: its default, what it may be, and what it does."""

    default: Any
    about: str
    choices: tuple[Any, ...] | None = None
    form: Form | None = None

    def checked(self, name: str, value: Any) -> Any:
        """The value, if the option may have it."""
        if self.form is not None:
            self.form.raising(MethodError).check(f"option {name}", value)
            return value
        if self.choices is not None and not self._is_choice(value):
            known = ", ".join(map(repr, self.choices))
            raise MethodError(f"option {name}={shown(value)} is none of {known}.")
        if self.choices is None and type(value) is not type(self.default):
            kind = type(self.default).__name__
            raise MethodError(f"option {name}={shown(value)} must be of type {kind}.")
        return value

    def _is_choice(self, value: Any) -> bool:
        return any(type(value) is type(each) and value == each for each in self.choices or ())


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def options(self) -> Mapping[str, Option]: ...


class HasOptions:
    """What has options by name, that are checked."""

    def with_options(self: _Named, given: Options) -> dict[str, Any]:
        """All options, with those that were given checked.

        Raises
        ------
        MethodError
            When one is unknown or out of range.
        """
        for name in given:
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise MethodError(
                    f"method {self.name!r} has no option {name!r}; its options: {known}."
                )
        return {
            name: option.checked(name, given[name]) if name in given else option.default
            for name, option in self.options.items()
        }


@dataclass(frozen=True)
class Method(HasOptions):
    """An explanation method.

    Attributes
    ----------
    name
        What `explain(..., method=...)` calls it.
    source
        The paper.
    cost
        What it costs beside the model's own forward.
    needs
        From options to the passes that it asks for.
    score
        From what the passes left behind, and options, to relevancy matrices or scores of tokens.
    options
        Its options by name.
    about
        One sentence.
    smoothing
        What is made of many of its answers, each with noise in the tokens; None where it is asked once.
    equation
        What a token gets, as the source has it: A a node's attention, y the explained number.
    """

    name: str
    source: str
    cost: str
    needs: Callable[[Options], Needs]
    score: Callable[[Evidence, Options], Scores]
    options: Mapping[str, Option] = field(default_factory=dict)
    about: str = ""
    smoothing: Smoothing | None = None
    equation: str = ""
