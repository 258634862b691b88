"""The truth about a random model: equations 5 to 11 on its own account of attention, row by row.

A `Row` is one token at one point of the model with the sources that it has absorbed. A source is a
birth, a token's row of one attention, or a token that a route made. What a source contributes is a
row over all born tokens; a row's relevancy is the sum over its sources, each counted once however
many residual paths carried it.
"""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

EPSILON = float(np.finfo(np.float64).eps)
"""A row of R - I whose sum is at most this part of the largest sum is zero (eq. 9)."""

Source = tuple[int, int]
"""The number of an event and a row of it."""


@dataclass(frozen=True)
class Row:
    token: tuple[str, int]
    sources: frozenset[Source]


Rows = list[Row]


@dataclass
class Attended:
    """One attention: rows of queries and keys of every sample, weights (batch, heads, s, q)."""

    queries: list[Rows]
    keys: list[Rows]
    weights: Tensor


@dataclass
class Routed:
    """Tokens mixed by fixed weights (new, old), one matrix for each sample."""

    weights: list[np.ndarray]
    old: list[Rows]


@dataclass
class Born:
    name: str
    count: int


@dataclass
class Ledger:
    """What happened in one run, in order; ``stream[name]`` is the joint sequence of a modality."""

    events: list[Born | Attended | Routed] = field(default_factory=list)
    stream: dict[str, str] = field(default_factory=dict)
    finals: list[dict[tuple[str, int], Row]] = field(default_factory=list)
    readouts: list[tuple[np.ndarray, list[Rows]]] = field(default_factory=list)

    def born(self, name: str, count: int, batch: int) -> list[Rows]:
        event = len(self.events)
        self.events.append(Born(name, count))
        self.stream.setdefault(name, name)
        rows = [Row((name, i), frozenset({(event, i)})) for i in range(count)]
        self.finals = self.finals or [{} for _ in range(batch)]
        for sample in range(batch):
            self.left(sample, rows)
        return [rows] * batch

    def left(self, sample: int, rows: Rows) -> None:
        """How tokens are left, until something else is said of them."""
        for row in rows:
            self.finals[sample][row.token] = row

    def attended(self, queries: list[Rows], keys: list[Rows], weights: Tensor) -> list[Rows]:
        event = len(self.events)
        self.events.append(Attended(queries, keys, weights))
        return [
            [Row(row.token, frozenset({(event, i)})) for i, row in enumerate(rows)]
            for rows in queries
        ]

    def routed(self, weights: list[np.ndarray], old: list[Rows], name: str) -> list[Rows]:
        event = len(self.events)
        self.events.append(Routed(weights, old))
        return [
            [Row((name, i), frozenset({(event, i)})) for i in range(len(matrix))]
            for matrix in weights
        ]


def united(first: list[Rows], second: list[Rows]) -> list[Rows]:
    """The rows of a sum: the first's tokens with the sources of both."""
    return [
        [Row(a.token, a.sources | b.sources) for a, b in zip(rows, others, strict=True)]
        for rows, others in zip(first, second, strict=True)
    ]


def normalised(square: np.ndarray, zero: float = EPSILON) -> np.ndarray:
    """Equations 8 and 9, with rows that are zero but for rounding left as I."""
    eye = np.eye(len(square))
    rest = square - eye
    sums = rest.sum(1, keepdims=True)
    least = zero * np.abs(sums).max(initial=0.0)
    rest = np.where(sums > least, rest / np.where(sums > least, sums, 1.0), 0.0)
    return rest + eye


class Account:
    """The relevancies of one sample of a ledger, after the backward.

    ``zero`` is the part of the largest sum below which a row is zero but for rounding.
    """

    def __init__(self, ledger: Ledger, sample: int, zero: float = EPSILON) -> None:
        self.ledger, self.sample, self.zero = ledger, sample, zero
        self.columns: dict[str, slice] = {}
        self.total = 0
        for event in ledger.events:
            if isinstance(event, Born):
                self.columns[event.name] = slice(self.total, self.total + event.count)
                self.total += event.count
        self.given: list[np.ndarray] = []
        for event in ledger.events:
            self.given.append(self.contribution(event))

    def contribution(self, event: Born | Attended | Routed) -> np.ndarray:
        if isinstance(event, Born):
            return np.eye(self.total)[self.columns[event.name]]
        if isinstance(event, Routed):
            return event.weights[self.sample] @ self.relevancies(event.old[self.sample])
        return self.attention(event)

    def relevance(self) -> dict[str, np.ndarray]:
        """The rows that are read, weighted and added up."""
        total = np.zeros(self.total)
        for weights, rows in self.ledger.readouts:
            total += weights[self.sample] @ self.relevancies(rows[self.sample])
        return {name: total[at] for name, at in self.columns.items()}

    def matrix(self, a: str, b: str) -> np.ndarray:
        """R[a, b] as the model leaves the tokens of a."""
        at = self.columns[a]
        finals = self.ledger.finals[self.sample]
        rows = [finals[a, i] for i in range(at.stop - at.start)]
        return self.relevancies(rows)[:, self.columns[b]]

    def relevancies(self, rows: Rows) -> np.ndarray:
        """(rows, born tokens): what every source contributes, added up."""
        result = np.zeros((len(rows), self.total))
        for i, row in enumerate(rows):
            for event, place in row.sources:
                result[i] += self.given[event][place]
        return result

    def in_stream(self, stream: str) -> np.ndarray:
        """The columns of the tokens that were born in a stream."""
        places = [
            np.arange(at.start, at.stop)
            for name, at in self.columns.items()
            if self.ledger.stream[name] == stream
        ]
        return np.concatenate(places)

    def attention(self, event: Attended) -> np.ndarray:
        queries, keys = event.queries[self.sample], event.keys[self.sample]
        delta = np.zeros((len(queries), self.total))
        if event.weights.grad is None:
            return delta
        weights = event.weights[self.sample].detach().numpy()
        gradient = event.weights.grad[self.sample].numpy()
        a_bar = np.maximum(weights * gradient, 0.0).mean(0)  # eq. 5
        asking, keyed = self.relevancies(queries), self.relevancies(keys)
        stream = self.ledger.stream[queries[0].token[0]]
        assert all(self.ledger.stream[row.token[0]] == stream for row in queries)
        for other in {self.ledger.stream[row.token[0]] for row in keys}:
            at = [i for i, row in enumerate(keys) if self.ledger.stream[row.token[0]] == other]
            block, heard = a_bar[:, at], keyed[at]
            update = block @ heard  # eqs. 6, 7 and 11, and a third modality
            if other != stream:
                own, its = self.in_stream(stream), self.in_stream(other)
                left = normalised(asking[:, own], self.zero)
                update[:, its] = left.T @ block @ normalised(heard[:, its], self.zero)  # eq. 10
            delta += update
        return delta
