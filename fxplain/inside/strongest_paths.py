"""Paths: the chains of attention that bring an explanation most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from fxplain.arguments import place_in
from fxplain.inside.best_chains import BestChains, Found
from fxplain.inside.reading import chained, columns_of, kept_of, reading_of, told_of
from fxplain.inside.token_names import Token, TokenNames
from fxplain.presentation import Presentable

if TYPE_CHECKING:
    from fxplain.explanation import Explanation

__all__ = ["Hop", "Path", "Paths", "paths"]


@dataclass(frozen=True)
class Hop:
    """One step of a path, from the token that asks to the one that it heard.

    Equation 10 weighs the rows of a node by norm(R_ss) first: there the token that asks is another of
    the same modality than the one that the step before heard, and that weight is in the path's.

    Attributes
    ----------
    node
        The attention node's name, or a route's.
    head
        The number of the head; None of a route, whose weights are the model's own.
    query, key
        The tokens.
    weight
        What the step is multiplied with.
    """

    node: str
    head: int | None
    query: Token
    key: Token
    weight: float


@dataclass(frozen=True)
class Path:
    """One chain of attention from a token to what is read.

    Attributes
    ----------
    hops
        From the readout down to the token, the last node of the model first.
    readout, token
        Where it ends, and the token that it begins with.
    relevance
        The product of its weights: its part of the token's relevance.
    share
        The same of all that attention gives; all paths' shares add up to 1.
    """

    hops: tuple[Hop, ...]
    readout: Token
    token: Token
    relevance: float
    share: float

    def __str__(self) -> str:
        def told(hop: Hop) -> str:
            return hop.node if hop.head is None else f"{hop.node}, head {hop.head}"

        steps = (f" → ({told(hop)}) → {hop.query.label}" for hop in reversed(self.hops))
        return f"{self.token.label}{''.join(steps)}"


@dataclass(frozen=True, eq=False)
class Paths(Presentable):
    """The strongest paths of one sample, the strongest first; printed, a table.

    Attributes
    ----------
    paths
        The paths.
    sample
        Which of the batch.
    attended
        All that attention gives to the sample's target.
    method, in_place_of
        As `HeadRelevance` has them.
    """

    paths: tuple[Path, ...]
    sample: int
    attended: float = field(repr=False)
    method: str = ""
    in_place_of: str = ""

    def __iter__(self) -> Iterator[Path]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Path:
        return self.paths[index]

    @property
    def share(self) -> float:
        """What these paths bring, of all that attention gives."""
        return sum(path.share for path in self.paths)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "format": "fxplain-paths-1",
            "method": self.method,
            "in_place_of": self.in_place_of,
            "sample": self.sample,
            "attended": self.attended,
            "paths": [
                {
                    "relevance": path.relevance,
                    "share": path.share,
                    "token": path.token._asdict(),
                    "readout": path.readout._asdict(),
                    "hops": [
                        {
                            "node": hop.node,
                            "head": hop.head,
                            "query": hop.query._asdict(),
                            "key": hop.key._asdict(),
                            "weight": hop.weight,
                        }
                        for hop in path.hops
                    ],
                }
                for path in self.paths
            ],
        }

    def __repr__(self) -> str:
        return f"<{len(self.paths)} Paths of sample {self.sample}, {self.share:.1%} of all>"


def paths(explanation: Explanation, k: int, sample: int) -> Paths:
    """See `Explanation.paths`."""
    asked, explanation = explanation, chained(explanation)
    kept = kept_of(explanation)
    sample = place_in("sample", sample, len(kept.views))
    reading = reading_of(kept, explanation.method, sample)
    beyond = explanation.beyond_identity().values()
    attended = sum(float(values[sample].double().sum()) for values in beyond)
    names = TokenNames(explanation, kept, sample)
    with torch.no_grad():
        best = BestChains(reading.chains, columns_of(kept, reading))
        made = [_path(names, found, attended) for found in best.strongest(k)]
    return Paths(tuple(made), sample, attended, *told_of(explanation, asked))


def _path(names: TokenNames, found: Found, attended: float) -> Path:
    hops = tuple(
        Hop(step.name, step.head, names.of(*step.query), names.of(*step.key), step.weight)
        for step in found.steps
    )
    share = found.weight / attended if attended else 0.0
    return Path(hops, names.of(*found.start), names.of(*found.end), found.weight, share)
