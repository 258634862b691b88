"""Cuts: what is taken out of a model's computation, or put in its place, as users say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from fxplain.arguments import NAME, TEXT, YES_NO, Form, checked, one_of, optional, whole

__all__ = ["Births", "Cut", "Edges", "Heads", "Part", "Stream", "Tokens", "Writes"]

Source = Literal["zero", "mean", "reference"]

SOURCES = ("zero", "mean", "reference")

Tokens = Any
"""None for all; a modality's name; places or words; (modality, places or words); a mapping of these."""

NodeName = str | int | None


@dataclass(frozen=True)
class Heads:
    """Outputs of attention heads, of all tokens that ask or of some."""

    node: NodeName
    heads: tuple[int, ...] | None
    tokens: Tokens
    to: str

    def __str__(self) -> str:
        what = "all heads" if self.heads is None else _numbers("head", self.heads)
        return f"{what} of {_named(self.node)}{_at(self.tokens)}{_put(self.to)}"


@dataclass(frozen=True)
class Edges:
    """What some tokens hear of others."""

    node: NodeName
    queries: Tokens
    keys: Tokens
    heads: tuple[int, ...] | None
    renormalize: bool

    def __str__(self) -> str:
        within = "" if self.heads is None else f", {_numbers('head', self.heads)}"
        edges = f"{_said(self.queries)} to {_said(self.keys)}"
        return f"attention of {edges} in {_named(self.node)}{within}"


@dataclass(frozen=True)
class Births:
    """Tokens as they are born."""

    modality: str
    tokens: Tokens
    to: str

    def __str__(self) -> str:
        return f"{_said((self.modality, self.tokens))}{_put(self.to)}"


@dataclass(frozen=True)
class Writes:
    """What a module adds to the residual stream."""

    name: str
    tokens: Tokens
    to: str

    def __str__(self) -> str:
        return f"what {self.name} adds{_at(self.tokens)}{_put(self.to)}"


@dataclass(frozen=True)
class Stream:
    """The residual stream after a module's addition."""

    name: str
    tokens: Tokens
    to: str

    def __str__(self) -> str:
        return f"the stream after {self.name}{_at(self.tokens)}{_put(self.to)}"


Part = Heads | Edges | Births | Writes | Stream

_PARTS = Form(
    "what Cut.heads, edges, tokens, write and stream make",
    lambda value: (
        isinstance(value, tuple) and value != () and all(isinstance(x, Part) for x in value)
    ),
)

_TO = one_of(SOURCES)
_NODE = Form(
    "the name of an attention node, its place in graph.nodes, or None for all",
    lambda value: value is None or whole().fits(value) or (isinstance(value, str) and value != ""),
)
_HEADS = Form(
    "a head's number, a list of these, or None for all",
    lambda value: value is None or whole(0).fits(value) or _are(whole(0), value),
)
_TOKENS = Form(
    "None for all tokens, a modality's name, places or words, (modality, places or words), or a "
    "mapping of these",
    lambda value: _is_choice(value),
)
_PLACES = Form("None for all tokens, or places or words", lambda value: _are_places(value))
_NAMED = Form("the name of a module", NAME.fits)
_MODALITY = Form("the name of a modality", NAME.fits)


@dataclass(frozen=True)
class Cut:
    """One thing to cut: what is taken out of a model's computation, or put in its place.

    Made by `Cut.heads`, `Cut.edges`, `Cut.tokens`, `Cut.write` and `Cut.stream`; ``a + b`` cuts both
    at once.

    Attributes
    ----------
    parts
        What is cut together.
    name
        What it is called in results; what it does where it is "".

    Notes
    -----
    *Tokens* are chosen by ``None`` (all), a modality's name (all of it), places or words (where one
    modality is meant), ``("input_ids", [3, 4])``, ``("input_ids", "not")`` or a mapping of these. Words
    are compared with the labels that `fxplain.explain` gives (of a tokenizer's pieces, or ids).

    What takes the place of a value, ``to=``: "zero"; "mean", the mean over the samples and tokens of
    the reference, or of the inputs where there is none; "reference", what the same place has for the
    inputs that are given to `fxplain.intervene` as ``reference=`` (patching, resampling).

    Examples
    --------
    >>> print(Cut.heads("encoder.layer.0.attention", [1, 2]))
    heads 1, 2 of encoder.layer.0.attention to zero
    >>> print(Cut.edges(queries=("input_ids", -1), keys="pixel_values"))
    attention of input_ids[-1] to pixel_values in all nodes
    """

    parts: tuple[Part, ...]
    name: str = ""

    def __post_init__(self) -> None:
        _PARTS.check("parts", self.parts)

    @classmethod
    @checked(node=_NODE, heads=_HEADS, tokens=_TOKENS, to=_TO)
    def heads(
        cls,
        node: NodeName = None,
        heads: int | Sequence[int] | None = None,
        *,
        tokens: Tokens = None,
        to: Source = "zero",
    ) -> Cut:
        """Heads of an attention node: what they say, to all tokens that ask or to some.

        Parameters
        ----------
        node
            Name in the attention graph, or a part of it that no other has (``layer.0``); place in
            ``graph.nodes``; or None for every node. A module that attends several times has a node for
            each: its name is the first, ``name#2`` the second.
        heads
            Numbers from 0; None for the whole node.
        tokens
            The tokens that ask.
        to
            What takes the place of a head's output.
        """
        return cls((Heads(node, _whole_numbers(heads), _frozen(tokens), to),))

    @classmethod
    @checked(queries=_TOKENS, keys=_TOKENS, node=_NODE, heads=_HEADS, renormalize=YES_NO)
    def edges(
        cls,
        queries: Tokens = None,
        keys: Tokens = None,
        *,
        node: NodeName = None,
        heads: int | Sequence[int] | None = None,
        renormalize: bool = True,
    ) -> Cut:
        """Attention knock-out: tokens that ask hear nothing of some others.

        Parameters
        ----------
        queries, keys
            The tokens that ask, and those that they no longer hear.
        node, heads
            Where; None for everywhere.
        renormalize
            Mask before the softmax, so that the other keys get the weight; otherwise the weights become
            0 and the others stay what they were.
        """
        return cls(
            (Edges(node, _frozen(queries), _frozen(keys), _whole_numbers(heads), renormalize),)
        )

    @classmethod
    @checked(modality=_MODALITY, tokens=_PLACES, to=_TO)
    def tokens(cls, modality: str, tokens: Tokens = None, *, to: Source = "zero") -> Cut:
        """Tokens as they are born: an embedding (with all that is added to it then), a patch.

        Parameters
        ----------
        modality
            Their modality, as `Explanation.relevance` names it.
        tokens
            Places or words; None for all.
        to
            What takes the place of the embedding.
        """
        return cls((Births(modality, _frozen(tokens), to),))

    @classmethod
    @checked(name=_NAMED, tokens=_TOKENS, to=_TO)
    def write(cls, name: str, tokens: Tokens = None, *, to: Source = "zero") -> Cut:
        """What a module adds to the residual stream, such as a feed-forward layer's output.

        Parameters
        ----------
        name
            Path of the module whose result is added to the stream, or a part of it that no other has.
        tokens
            The tokens whose stream it is.
        to
            What is added instead.
        """
        return cls((Writes(name, _frozen(tokens), to),))

    @classmethod
    @checked(name=_NAMED, tokens=_TOKENS, to=_TO)
    def stream(cls, name: str, tokens: Tokens = None, *, to: Source = "reference") -> Cut:
        """The residual stream after a module added to it, for all that comes after.

        Parameters
        ----------
        name, tokens
            As `Cut.write` takes them.
        to
            What takes the stream's place.
        """
        return cls((Stream(name, _frozen(tokens), to),))

    @checked(name=optional(TEXT))
    def named(self, name: str) -> Cut:
        """The same cut under a name of its own."""
        NAME.check("name", name)
        return replace(self, name=name)

    def __add__(self, other: Cut) -> Cut:
        if not isinstance(other, Cut):
            return NotImplemented
        names = [cut.name for cut in (self, other) if cut.name]
        return Cut((*self.parts, *other.parts), " and ".join(names) if len(names) == 2 else "")

    def __str__(self) -> str:
        return self.name or " and ".join(map(str, self.parts))


# ---- what may be given ----------------------------------------------------------------------------


def _are(form: Form, value: Any) -> bool:
    several = isinstance(value, (list, tuple, range, set, frozenset, np.ndarray, Tensor))
    return several and len(value) > 0 and all(map(form.fits, value))


def _are_places(value: Any) -> bool:
    one = Form("", lambda each: whole().fits(each) or isinstance(each, str))
    return value is None or one.fits(value) or _are(one, value)


def _is_choice(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(k, str) for k in value) and _all_places(value)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        return _are_places(value[1])
    return _are_places(value)


def _all_places(value: Mapping[str, Any]) -> bool:
    return all(map(_are_places, value.values()))


def _whole_numbers(heads: Any) -> tuple[int, ...] | None:
    if heads is None:
        return None
    return (int(heads),) if whole().fits(heads) else tuple(int(head) for head in heads)


def _frozen(tokens: Any) -> Any:
    """A choice of tokens that later changes of the caller's do not reach."""
    if isinstance(tokens, Mapping):
        return {name: _frozen(places) for name, places in tokens.items()}
    if tokens is None or isinstance(tokens, str):
        return tokens
    if whole().fits(tokens):
        return int(tokens)
    if isinstance(tokens, tuple) and len(tokens) == 2 and isinstance(tokens[0], str):
        return tokens[0], _frozen(tokens[1])
    return [place if isinstance(place, str) else int(place) for place in tokens]


# ---- in words -------------------------------------------------------------------------------------


def _numbers(kind: str, numbers: Sequence[int]) -> str:
    return f"{kind}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _named(node: NodeName) -> str:
    if node is None:
        return "all nodes"
    return node if isinstance(node, str) else f"node {node}"


def _said(tokens: Tokens) -> str:
    if tokens is None:
        return "all tokens"
    if isinstance(tokens, Mapping):
        return " and ".join(_said((name, places)) for name, places in tokens.items())
    if isinstance(tokens, tuple):
        name, places = tokens
        return str(name) if places is None else f"{name}[{_places(places)}]"
    return tokens if isinstance(tokens, str) else f"[{_places(tokens)}]"


def _places(places: Any) -> str:
    return ", ".join(map(str, places)) if isinstance(places, list) else str(places)


def _at(tokens: Tokens) -> str:
    return "" if tokens is None else f" at {_said(tokens)}"


def _put(to: str) -> str:
    return (
        " from the reference" if to == "reference" else f" to {'the mean' if to == 'mean' else to}"
    )
