"""Choices: which nodes, writes and tokens of a model are meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import place_in, whole
from fxplain.errors import InputError, ModalityError
from fxplain.interventions.cut import NodeName, Tokens
from fxplain.interventions.sites import Sites
from fxplain.interventions.writes import Write
from fxplain.program import Modality, ProgramNode

__all__ = ["Chooser", "called"]


def called(name: str, known: Sequence[str], what: str) -> str:
    """The one of some dotted names that a name is, begins or is a part of.

    Raises
    ------
    InputError
        When it is none of them, or several.

    Examples
    --------
    >>> called("layers.0", ["layers.0.mlp", "layers.1.mlp"], "write")
    'layers.0.mlp'
    """
    if name in known:
        return name
    found = within(name, known)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{name!r} is no one {what} but {len(found)}: {', '.join(found[:4])}.")
    if not known:
        raise InputError(f"there is no {what} {name!r}: the model has none.")
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known[:3])
    raise InputError(
        f"there is no {what} {name!r}. There are {len(known)}: {', '.join(close)}, ..."
    )


def within(name: str, known: Sequence[str]) -> list[str]:
    """Those of some dotted names that a name begins; where it begins none, those it is a part of.

    Examples
    --------
    >>> within("mlp", ["mlp.2", "block.mlp.2"]), within("block.mlp", ["mlp.2", "block.mlp.2#1"])
    (['mlp.2'], ['block.mlp.2#1'])
    """
    dotted = {k: f".{k.replace('#', '.')}." for k in known}
    inside = [k for k, path in dotted.items() if path.startswith(f".{name}.")]
    return inside or [k for k, path in dotted.items() if f".{name}." in path]


@dataclass(frozen=True, eq=False)
class Chooser:
    """Finds what cuts name.

    Attributes
    ----------
    sites
        What can be cut.
    labels
        Of each modality's tokens, by sample.
    """

    sites: Sites
    labels: Mapping[str, Sequence[Sequence[str]]]

    def nodes(self, name: NodeName) -> list[ProgramNode]:
        """The attention nodes of a name, or a place; all for None."""
        nodes = list(self.sites.program.nodes.values())
        if name is None:
            return nodes
        if whole().fits(name):
            return [nodes[place_in("node", name, len(nodes))]]
        names = [node.info.name for node in nodes]
        return [nodes[names.index(called(str(name), names, "attention node"))]]

    def heads(self, node: ProgramNode, heads: Sequence[int] | None) -> Sequence[int]:
        """Numbers of a node's heads.

        Raises
        ------
        InputError
            When the node has no such head.
        """
        count = node.info.heads
        if heads is None:
            return range(count)
        for head in heads:
            if head >= count:
                raise InputError(
                    f"there is no head {head} of {node.info.name}: it has {count}, from 0."
                )
        return heads

    def writes(self, name: str) -> list[Write]:
        """The residual write of a name: what a module adds, all of it where it is a sum of several."""
        known = {write.name: write for write in self.sites.writes}
        found = [known[each] for each in within(name, list(known))]
        if name not in known and found and len({write.stream for write in found}) == 1:
            return found
        return [known[called(name, list(known), "residual addition")]]

    def tokens(self, chosen: Tokens) -> Tensor | None:
        """Which of all tokens are chosen, (tokens,) of bool; None for all.

        Raises
        ------
        InputError
            When there is no such modality, place or word.
        """
        if chosen is None:
            return None
        members = torch.zeros(len(self.sites.program.flow.book), dtype=torch.bool)
        for modality, places in self._by_modality(chosen):
            for table in (modality.tokens, *modality.more):
                picked = table[self._picked(modality, places)]
                members[picked[picked >= 0]] = True
        return members

    def _by_modality(self, chosen: Tokens) -> list[tuple[Modality, Any]]:
        modalities = {m.name: m for m in self.sites.program.modalities}
        if isinstance(chosen, Mapping):
            return [(self.modality(name), places) for name, places in chosen.items()]
        if isinstance(chosen, tuple):
            return [(self.modality(chosen[0]), chosen[1])]
        if isinstance(chosen, str) and chosen in modalities:
            return [(modalities[chosen], None)]
        worded = [m for m in modalities.values() if self._has_words(m, chosen)]
        if len(worded) == 1:
            return [(worded[0], chosen)]
        if not worded and len(modalities) == 1:
            return [(*modalities.values(), chosen)]
        if not worded:
            raise InputError(
                f"{chosen!r} is no modality and no token of one; the modalities: "
                f"{', '.join(map(repr, modalities))}."
            )
        raise InputError(
            f"tokens {chosen!r} could be of {', '.join(map(repr, modalities))}: say which, as in "
            f"({next(iter(modalities))!r}, {chosen!r})."
        )

    def _has_words(self, modality: Modality, chosen: Any) -> bool:
        words = [
            c for c in (chosen if isinstance(chosen, list) else [chosen]) if isinstance(c, str)
        ]
        known = {label for row in self.labels[modality.name] for label in row}
        return not words or bool(known.intersection(words))

    def modality(self, name: str) -> Modality:
        """The modality of a name.

        Raises
        ------
        ModalityError
            When there is none.
        """
        for modality in self.sites.program.modalities:
            if modality.name == name:
                return modality
        known = ", ".join(m.name for m in self.sites.program.modalities)
        raise ModalityError(f"there is no modality {name!r}; there are: {known}.")

    def _picked(self, modality: Modality, places: Any) -> Tensor:
        """Which places of a modality are meant, (batch, n) of bool."""
        picked = torch.zeros(modality.tokens.shape, dtype=torch.bool)
        if places is None:
            return ~picked
        for place in places if isinstance(places, list) else [places]:
            if isinstance(place, str):
                picked |= self._worded(modality, place)
            else:
                picked[:, place_in("token", place, len(modality))] = True
        return picked

    def _worded(self, modality: Modality, word: str) -> Tensor:
        rows = self.labels[modality.name]
        found = torch.tensor([[label == word for label in row] for row in rows], dtype=torch.bool)
        if not bool(found.any()):
            seen = list(dict.fromkeys(label for row in rows for label in row))
            shown = ", ".join(map(repr, seen[:12]))
            raise InputError(f"{word!r} is no token of {modality.name}; its tokens: {shown}, ...")
        return found.expand(modality.tokens.shape) if len(found) == 1 else found
