"""Modalities: the tokens that users see, one modality for each argument, one place for each position.

An argument may be embedded in several places, or cut into chunks or frames that are embedded one by
one. Relevancy is kept for every token that is born; what users read has the input's positions: tokens
of one position stand at one place, those of different positions in the positions' order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fxplain.capture import module_path
from fxplain.program.hosts import Hosts, Rank, Wholes
from fxplain.program.places import Place, Places, agree, grid_of
from fxplain.program.pyramids import Pyramids
from fxplain.tokens import AttentionSite, Birth, RouteSite, TokenFlow, tokens_in, versions_in

__all__ = ["Modality", "ModalityTable"]

ADDED = "added"
"""What the tokens are called that the model adds to an argument's words, which are at no position of
it: a start token, padding to a window's size."""


@dataclass(frozen=True)
class Modality:
    """Tokens of one origin, in sequence order, with the special tokens that live among them.

    Attributes
    ----------
    name
        The forward argument's name, or the path of the parameter whose tokens they are.
    tokens
        Canonical token ids, (batch, n); -1 where a sample has fewer.
    special
        Labels of the special tokens by position.
    beside
        The same of each sample, whose special tokens may stand elsewhere than another's.
    grid
        The shape of the token grid before flattening, for drawing; () if it is a sequence. Of grids of
        several strides, one behind the other: rows, columns, rows, columns, ...
    more
        Where a position is embedded in several places, its further tokens: tables like `tokens`.
    """

    name: str
    tokens: Tensor
    special: dict[int, str]
    grid: tuple[int, ...]
    more: tuple[Tensor, ...] = ()
    beside: tuple[dict[int, str], ...] = ()

    def __len__(self) -> int:
        return int(self.tokens.shape[1])

    @property
    def every(self) -> Tensor:
        """All tokens at each position, (tables, batch, n)."""
        return torch.stack([self.tokens, *self.more])


@dataclass(frozen=True)
class _Part:
    """Tokens of one argument in one component of streams, and where it is said that they were born."""

    argument: int
    module: str
    tokens: list[int]


class ModalityTable:
    """Names the tokens of a flow and puts them in the order in which users read them.

    Parameters
    ----------
    flow
        The token analysis.
    roots
        The root stream of every live token, in the tokens' order.
    sample, birth
        Of every token of the book.
    wholes
        See `Hosts`.

    Attributes
    ----------
    modalities
        What users see.
    special
        The labels of special tokens.
    parts
        The name of each token's part of a modality: the modality's own for the first one.
    """

    def __init__(
        self,
        flow: TokenFlow,
        roots: dict[int, int],
        sample: np.ndarray,
        birth: np.ndarray,
        wholes: Wholes,
    ) -> None:
        self._flow, self._roots, self._sample, self._birth = flow, roots, sample, birth
        self._births = flow.book.births
        self._places, self._pyramids = Places(flow), Pyramids(flow)
        self._names = self._called()
        self.special: dict[int, str] = {}
        self.parts: dict[int, str] = {}
        self._placed: dict[str, dict[int, Place]] = {}
        self._hosting: dict[int, str] = {}
        named = self._of_inputs()
        self._hosts = Hosts(flow, sample, self._hosting, wholes)
        of_inputs = bool(named)
        self._add_learned(named)
        if named and not of_inputs and flow.arguments:
            flow.warnings.append(
                f"no token of the inputs attends, is attended to or is read: relevance is of the "
                f"model's own tokens alone ({', '.join(named)}), and says nothing of the inputs"
            )
        self.modalities = [self._modality(name, tokens) for name, tokens in named.items()]

    # -- which tokens -----------------------------------------------------------------------------

    def _of_inputs(self) -> dict[str, list[int]]:
        """The inputs' tokens by name of the modality."""
        named: dict[str, list[int]] = {}
        by_argument: dict[int, list[_Part]] = {}
        for part in self._parts():
            by_argument.setdefault(part.argument, []).append(part)
        for argument, parts in by_argument.items():
            root = self._name(argument, parts[0])
            clusters = self._clusters(self._read(parts))
            for cluster in clusters:
                name = root if root not in named else _apart(root, cluster[0], named)
                for part in cluster:
                    own = name if part is cluster[0] else _apart(root, part, self.parts.values())
                    self.parts.update(dict.fromkeys(part.tokens, own))
                self._hosting.update({t: name for part in cluster for t in part.tokens})
                for own, tokens in self._merged(name, cluster).items():
                    named[own] = tokens
            if len(clusters) > 1:
                self._warn_of_several(root, list(named)[-len(clusters) :])
        return named

    def _called(self) -> dict[int, int]:
        """By birth the rank of the argument that names it, where its tokens are made of several each.

        If possible it is one that no other sequence is made of: a decoder's window reaches back from
        what the decoder is given into the encoder's series.
        """
        ranks = {argument.name: i for i, argument in enumerate(self._flow.arguments)}
        live = {int(self._birth[token]) for token in self._roots}
        several = [birth for birth in self._births if birth.arguments and birth.index in live]
        found: dict[int, int] = {}
        for birth in several:
            others = {n for b in several if b.index != birth.index for n in b.arguments}
            name = next((n for n in birth.arguments if n not in others), birth.arguments[0])
            found[birth.index] = ranks[name]
            made_of = sorted(birth.made_of & ranks.keys(), key=ranks.__getitem__)
            if made_of[0] != name:
                also = ", ".join(other for other in made_of if other != name)
                self._flow.warnings.append(
                    f"tokens of {name} are made of {also} as well: their relevance is of all"
                )
        return found

    def _parts(self) -> list[_Part]:
        """The inputs' tokens by argument and component, in the arguments' order."""
        attending = self._attending_roots()
        inputs = [t for t in self._roots if self._born(t).kind == "input"]
        apart = {t: self._roots[t] not in attending for t in inputs}
        argument = {t: self._argument(t) for t in inputs}
        inputs.sort(key=lambda t: (argument[t], apart[t], t))
        found: dict[tuple[int, int], _Part] = {}
        for token in inputs:
            # grids that only stand in the output (levels of a pyramid) are one modality
            key = (argument[token], -1 if apart[token] else self._roots[token])
            if key not in found:
                taken = {part.module for part in found.values()}
                found[key] = _Part(argument[token], _module(self._born(token), taken), [])
            found[key].tokens.append(token)
        return list(found.values())

    def _born(self, token: int) -> Birth:
        birth: Birth = self._births[self._birth[token]]
        return birth

    def _argument(self, token: int) -> int:
        """The rank of the argument that a token belongs to: that of its elements, else its birth's."""
        called = self._names.get(int(self._birth[token]))
        if called is not None:
            return called
        argument = self._places.argument(token)
        return self._born(token).rank if argument is None else self._flow.arguments.index(argument)

    def _name(self, argument: int, part: _Part) -> str:
        known = self._flow.arguments
        return known[argument].name if argument < len(known) else self._born(part.tokens[0]).root

    def _attending_roots(self) -> set[int]:
        """The roots of all streams that attend or are attended to."""
        return {self._roots[t] for t in self._attending if t in self._roots}

    @property
    def _attending(self) -> set[int]:
        sites = [u for u in self._flow.updates if isinstance(u, AttentionSite)]
        return self._canonical([tokens_in(x) for site in sites for x in (site.rows, site.columns)])

    def _canonical(self, tokens: Sequence[Tensor]) -> set[int]:
        if not tokens:
            return set()
        found = self._flow.book.find(torch.cat([each.flatten() for each in tokens])).unique()
        return set(found[found >= 0].tolist())

    def _read(self, parts: list[_Part]) -> list[_Part]:
        """Without parts that no attention and no output reads, but statistics that are returned."""
        if len(parts) == 1:
            return parts
        read = self._attending | self._canonical(self._attended_outputs())
        for update in reversed(self._flow.updates):
            if isinstance(update, RouteSite):
                new = self._flow.book.find(update.new)
                known = torch.isin(new, torch.tensor(sorted(read), dtype=torch.int64))
                read |= self._canonical([tokens_in(update.old[known])])
        read |= self._canonical([tag.tokens for tags in self._flow.outputs for tag in tags])
        return [part for part in parts if not read.isdisjoint(part.tokens)] or parts

    def _attended_outputs(self) -> list[Tensor]:
        """The tokens of outputs that attention has a part in."""
        versions = self._flow.versions
        attended: set[int] = set()
        for update in self._flow.updates:  # attention, and what routes make of what has attended
            made_of = versions_in(update.old).unique() if isinstance(update, RouteSite) else []
            if isinstance(update, AttentionSite) or any(
                not attended.isdisjoint(versions.of(int(v))) for v in made_of if v >= 0
            ):
                attended.add(update.index)
        heard = [i for i in range(len(versions)) if not attended.isdisjoint(versions.of(i))]
        told = torch.tensor(heard, dtype=torch.int64)
        return [
            tag.tokens
            for tags in self._flow.outputs
            if any(bool(torch.isin(versions_in(tag.ids), told).any()) for tag in tags)
            for tag in tags
        ]

    def _clusters(self, parts: list[_Part]) -> list[list[_Part]]:
        """Parts whose tokens' places are the same or apart are one modality, and so is a pyramid."""
        clusters: list[list[_Part]] = []
        known: list[list[set[Place]]] = []
        for part in parts:
            own = self._places_by_birth(part)
            for cluster, places in zip(clusters, known, strict=True):
                alike = own and places and agree([*places, *own])
                if alike or any(self._of_one_pyramid(part, other) for other in cluster):
                    cluster.append(part)
                    places += own
                    break
            else:
                clusters.append([part])
                known.append(own)
        return clusters

    def _of_one_pyramid(self, part: _Part, other: _Part) -> bool:
        """Whether parts are grids of several strides that a backbone made of one another."""
        words = any(self._places.words(each.tokens) for each in (part, other))
        return not words and self._pyramids.connected(part.tokens, other.tokens)

    def _places_by_birth(self, part: _Part) -> list[set[Place]]:
        """In the first sample; none where a place is not known, but of words that the model adds."""
        places = self._places.of(part.tokens)
        words = self._places.words(part.tokens)
        if not places or (len(places) < len(part.tokens) and not words):
            return []
        first = min(self._sample[token] for token in places)
        found: dict[int, set[Place]] = {}
        for token, place in places.items():
            if self._sample[token] == first:
                found.setdefault(int(self._birth[token]), set()).add(place)
        return list(found.values())

    def _warn_of_several(self, root: str, names: list[str]) -> None:
        self._flow.warnings.append(
            f"{root} is read in several ways, and their tokens do not lie on the same positions: its "
            f"relevance is that of {', '.join(names)}, which do not add up by position"
        )

    def _add_learned(self, named: dict[str, list[int]]) -> None:
        """Learned tokens: special ones where they stand in an input's sequence, else on their own."""
        for token in self._roots:
            birth = self._born(token)
            if birth.learned:
                host = self._hosts.of(token)
                label = birth.root.removesuffix(".weight")
                named.setdefault(label if host is None else host, []).append(token)
                if host is not None:
                    self.special[token] = label
                self.parts[token] = label if host is None else host

    # -- in which order ---------------------------------------------------------------------------

    def _merged(self, name: str, cluster: list[_Part]) -> dict[str, list[int]]:
        """The tokens of a modality, and of one for what the model adds to words, by name.

        Notes the places of tokens where these, and not their births, tell the order.
        """
        tokens = [token for part in cluster for token in part.tokens]
        places = self._places.of(tokens)
        births = {int(self._birth[token]) for token in tokens}
        words = self._places.words(tokens)
        if not places or not (words or (len(births) > 1 and len(places) == len(tokens))):
            return {name: tokens}
        if not words and not agree([p for part in cluster for p in self._places_by_birth(part)]):
            return {name: tokens}
        self._placed[name] = places
        added = [token for token in tokens if token not in places]
        placed = {name: [token for token in tokens if token in places]}
        return {**placed, f"{name}@{ADDED}": added} if added else placed

    def _modality(self, name: str, tokens: list[int]) -> Modality:
        special = [t for t in tokens if t in self.special]
        plain = sorted(t for t in tokens if t not in self.special)
        places = self._placed.get(name)
        at_birth = self._places_at_birth(plain) if places is None else None
        rank = self._ranks(plain, places) if at_birth is None else at_birth
        rank |= self._hosts.ranks(special, rank)
        by_place = places is not None and self._places.by_sample(plain)
        whole = self._packed_from(plain) if by_place else 0
        rows = self._rows(rank, aligned=by_place or at_birth is not None, whole=whole)
        depth = max(len(slot) for row in rows for slot in row)
        tables = torch.full((depth, len(rows), max(map(len, rows))), -1, dtype=torch.int64)
        for i, row in enumerate(rows):
            for column, slot in enumerate(row):
                tables[: len(slot), i, column] = torch.tensor(slot, dtype=torch.int64)
        beside = tuple(
            {
                column: self.special[slot[0]]
                for column, slot in enumerate(row)
                if slot and slot[0] in self.special
            }
            for row in rows
        )
        labels = {column: label for own in beside for column, label in own.items()}
        grid = self._grid(plain, places)
        return Modality(name, tables[0], labels, grid, tuple(tables[1:]), beside)

    def _ranks(self, plain: list[int], places: dict[int, Place] | None) -> dict[int, Rank]:
        """Where plain tokens stand: in the order of their births, or of their places."""
        if places is None:
            ordered = self._pyramids.in_sequence(plain) if self._several_grids(plain) else plain
            return {token: (float(i), 0.0, 0) for i, token in enumerate(ordered)}
        if self._packed_from(plain):
            return {token: (float(places[token][0]), 0.0, 0) for token in plain}
        order = {place: float(i) for i, place in enumerate(self._in_order(plain, places))}
        return {token: (order[places[token]], 0.0, 0) for token in plain}

    def _packed_from(self, plain: list[int]) -> int:
        """How many words a sample was given of which some were packed into one row; 0 for any else.

        Those that were left out (padding) keep their positions, alone as beside other samples.
        """
        argument = self._places.argument(plain[0]) if plain else None
        if argument is None or len(argument.shape) != 2 or not self._places.words(plain):
            return 0
        packed = all(len(self._births[self._birth[token]].shape) == 1 for token in plain)
        axis = argument.batch_axis
        return argument.shape[1 - axis] if packed and axis is not None else 0

    def _places_at_birth(self, plain: list[int]) -> dict[int, Rank] | None:
        """Where tokens of one birth stood in it, where some samples lost more of them than others.

        None where that is not so: what is left then stands in its order.
        """
        births = {int(self._birth[token]) for token in plain}
        left = np.bincount(self._sample[plain]) if plain else np.zeros(1)
        if len(births) != 1 or left.min() == left.max():
            return None
        born = np.flatnonzero(self._birth == births.pop())
        by_sample = np.bincount(self._sample[born])
        if by_sample.min() != by_sample.max():
            return None
        order = np.argsort(self._sample[born], kind="stable")
        place = dict(zip(born[order].tolist(), np.arange(len(born)) % by_sample[0], strict=True))
        return {token: (float(place[token]), 0.0, 0) for token in plain}

    def _in_order(self, plain: list[int], places: dict[int, Place]) -> list[Place]:
        """Distinct places; in the order of one birth that has them all, where one has (a grid's)."""
        distinct = sorted({places[token] for token in plain})
        if self._places.words(plain):
            return distinct
        by_birth: dict[int, dict[Place, None]] = {}
        for token in plain:
            by_birth.setdefault(int(self._birth[token]), {})[places[token]] = None
        whole = (list(own) for own in by_birth.values() if len(own) == len(distinct))
        return next(whole, distinct)

    def _rows(
        self, rank: dict[int, Rank], *, aligned: bool, whole: int = 0
    ) -> list[list[list[int]]]:
        """By sample, the tokens at each position; `aligned` where a sample may lack a position.

        Of `whole` positions all samples may lack some.
        """
        samples = max(int(self._sample[token]) for token in rank) + 1
        slots: list[dict[Rank, list[int]]] = [{} for _ in range(samples)]
        for token in sorted(rank):
            row, (among, position, number) = slots[self._sample[token]], rank[token]
            while token in self.special and (among, position, number) in row:
                number += 1  # two special tokens at one place (each tower's own) are two
            rank[token] = (among, position, number)
            row.setdefault(rank[token], []).append(token)
        if aligned:
            columns = sorted({*rank.values(), *((float(i), 0.0, 0) for i in range(whole))})
            return [[row.get(column, []) for column in columns] for row in slots]
        return [[row[column] for column in sorted(row)] for row in slots]

    def _grid(self, plain: list[int], places: dict[int, Place] | None) -> tuple[int, ...]:
        births = {int(self._birth[token]) for token in plain}
        if places is not None and len(births) > 1:
            text = self._places.words(plain)
            return () if text else grid_of(self._in_order(plain, places))
        if self._several_grids(plain):
            return self._levels(plain)
        shapes = {self._births[birth].shape for birth in births}
        shape = next(iter(shapes)) if len(shapes) == 1 else ()
        grid = tuple(n for n in shape[1:] if n > 1) if len(shape) > 2 else ()
        return grid if len(grid) > 1 else ()

    def _several_grids(self, plain: Sequence[int]) -> bool:
        return len({self._births[self._birth[token]].shape for token in plain}) > 1

    def _levels(self, plain: Sequence[int]) -> tuple[int, ...]:
        """Rows and columns of grids that stand one behind the other; () where they do not."""
        first = min(self._sample[token] for token in plain)
        ordered = [t for t in self._pyramids.in_sequence(plain) if self._sample[t] == first]
        levels: list[int] = []
        for birth, group in itertools.groupby(ordered, lambda token: int(self._birth[token])):
            own, grid = list(group), [n for n in self._births[birth].shape[1:] if n > 1]
            if len(grid) != 2 or own != sorted(own) or math.prod(grid) != len(own):
                return ()
            levels += grid
        return tuple(levels)


def _module(birth: Birth, taken: Collection[str]) -> str:
    """The path of the module where tokens were born: of an input as it is, one that reads it."""
    if birth.module or birth.node is None:
        return birth.module
    readers = (module_path(user) for user in birth.node.users)
    return next((path for path in readers if path and path not in taken), "input")


def _apart(root: str, part: _Part, taken: object) -> str:
    """A name for a further part of an argument."""
    name = f"{root}@{part.module}"
    known = set(taken)  # type: ignore[call-overload]
    number = 2
    unique = name
    while unique in known:
        unique, number = f"{name}#{number}", number + 1
    return unique
