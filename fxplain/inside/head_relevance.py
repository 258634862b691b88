"""Heads: how much of an explanation's relevance comes by each attention node and each of its heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fxplain.arguments import checked, place_in, shown, whole
from fxplain.errors import ModalityError
from fxplain.inside.by_head import sums_by_head
from fxplain.inside.chains import Attended
from fxplain.inside.depth import depths
from fxplain.inside.reading import Reading, chained, columns_of, kept_of, readings_of, told_of
from fxplain.presentation import Tabled
from fxplain.program import AttentionNode

if TYPE_CHECKING:
    from fxplain.explanation import Explanation
    from fxplain.explanation.kept import Kept

__all__ = ["HeadRelevance", "HeadShare", "heads"]


@dataclass(frozen=True)
class HeadShare:
    """What one sample's target draws by one head.

    Attributes
    ----------
    node, head
        The attention node's name, and the head's number.
    module, kind
        Path of the module, kind of the attention.
    relevance
        Its part of the relevance.
    share
        The same of all that attention gives.
    through
        The relevance of all chains that pass it.
    """

    node: str
    head: int
    module: str
    kind: str
    relevance: float
    share: float
    through: float


@dataclass(frozen=True, eq=False)
class HeadRelevance(Tabled):
    r"""Relevance by attention node and head; printed, a table.

    The readout's row of R is a sum over chains of attention, readout -> (node, head) -> (node, head)
    -> ... -> token, since maps are means over heads, :math:`\bar A = \frac{1}{H} \sum_h \bar A_h`, and
    R is a sum of products of them. A chain of L heads gives each of them 1/L of what it brings:

    .. math:: r_h = \sum_{c \ni h} \frac{w_c}{|c|}
              = \int_0^1 x_t \frac{\bar A_h}{H} R_t \, dt

    with x_t the row that enters the node and R_t what the node's keys had, both with all maps times
    t. That is the Shapley value of the heads in the game "which heads may speak"; a Gauss-Legendre
    sum makes it exact, since both are polynomials in t. So heads add up to their node, and nodes,
    with what the readout is of itself, to the whole relevance. In equation 10 norm(R_ss) and the row
    sums of norm(R_qq) are held at their values.

    Attributes
    ----------
    nodes
        The attention nodes, in the order in which the model computes them.
    modalities
        The names of the modalities that relevance is drawn from.
    relevance
        By node name (batch, heads, modalities): each head's part.
    through
        By node name (batch, heads, modalities): the sum of all chains that pass a head: what the
        whole would lose without its map; chains of several heads count at each.
    identity
        (batch, modalities) what is there without any attention: the readout of itself.
    depth
        By node name how many nodes stand one above the other up to it, itself counted.
    method, in_place_of
        Whose relevance it is, and which method it stands in for, as one that ``method="auto"`` chose
        and that only scores tokens; else empty.
    """

    nodes: tuple[AttentionNode, ...]
    modalities: tuple[str, ...]
    relevance: dict[str, Tensor] = field(repr=False)
    through: dict[str, Tensor] = field(repr=False)
    identity: Tensor = field(repr=False)
    depth: dict[str, int] = field(repr=False)
    method: str = ""
    in_place_of: str = ""

    @cached_property
    def by_node(self) -> Tensor:
        """(batch, nodes, modalities) the sums over heads."""
        return torch.stack([self.relevance[node.name].sum(1) for node in self.nodes], 1)

    @cached_property
    def through_node(self) -> Tensor:
        """(batch, nodes, modalities) what passes each node: the whole less that without it."""
        return torch.stack([self.through[node.name].sum(1) for node in self.nodes], 1)

    @property
    def total(self) -> Tensor:
        """(batch, modalities) all of it with the identity: the sums of the explanation's relevance."""
        return self.by_node.sum(1) + self.identity

    @property
    def attended(self) -> Tensor:
        """(batch,) all that attention gives."""
        return self.by_node.sum((1, 2))

    def matrix(self, modality: str | None = None, sample: int = 0) -> Tensor:
        """One sample's relevance as (nodes, heads), NaN where a node has fewer heads."""
        sample, chosen = place_in("sample", sample, len(self.identity)), self._chosen(modality)
        most = max(node.heads for node in self.nodes)
        grid = torch.full((len(self.nodes), most), torch.nan, dtype=torch.float64)
        for row, node in zip(grid, self.nodes, strict=True):
            own = self.relevance[node.name][sample][:, chosen].sum(-1)
            row[: len(own)] = own
        return grid

    def _chosen(self, modality: str | None) -> list[int]:
        if modality is None:
            return list(range(len(self.modalities)))
        if modality not in self.modalities:
            known = ", ".join(map(repr, self.modalities))
            raise ModalityError(f"there is no modality {shown(modality)}; there are: {known}.")
        return [self.modalities.index(modality)]

    @checked(k=whole(1))
    def top(self, k: int = 10, *, modality: str | None = None, sample: int = 0) -> list[HeadShare]:
        """The k heads that give one sample's target most.

        Parameters
        ----------
        k
            How many.
        modality
            Of what is drawn from this modality alone.
        sample
            Which of the batch.
        """
        sample, chosen = place_in("sample", sample, len(self.identity)), self._chosen(modality)
        every = float(self.attended[sample])
        found = [
            HeadShare(
                node.name,
                head,
                node.module,
                node.kind,
                float(self.relevance[node.name][sample, head, chosen].sum()),
                _part(float(self.relevance[node.name][sample, head, chosen].sum()), every),
                float(self.through[node.name][sample, head, chosen].sum()),
            )
            for node in self.nodes
            for head in range(self.relevance[node.name].shape[1])
        ]
        return sorted(found, key=lambda head: -abs(head.relevance))[:k]

    def table(self) -> list[dict[str, Any]]:
        """A row for each sample, node, head and modality that is drawn from, as plain data."""
        return list(self._rows())

    def _rows(self) -> Iterator[dict[str, Any]]:
        every = self.attended.tolist()
        for sample, all_of_it in enumerate(every):
            for node in self.nodes:
                relevance, through = self.relevance[node.name], self.through[node.name]
                for head in range(relevance.shape[1]):
                    for m, name in enumerate(self.modalities):
                        value = float(relevance[sample, head, m])
                        yield {
                            "sample": sample,
                            "node": node.name,
                            "module": node.module,
                            "kind": node.kind,
                            "query": list(node.query),
                            "head": head,
                            "modality": name,
                            "relevance": value,
                            "share": _part(value, all_of_it),
                            "through": float(through[sample, head, m]),
                        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data: the table, and what is there without attention."""
        return {
            "format": "fxplain-heads-1",
            "method": self.method,
            "in_place_of": self.in_place_of,
            "modalities": list(self.modalities),
            "identity": self.identity.tolist(),
            "heads": self.table(),
        }

    def __repr__(self) -> str:
        heads = sum(node.heads for node in self.nodes)
        return f"<HeadRelevance of {heads} heads of {len(self.nodes)} attention nodes>"


def _part(value: float, whole: float) -> float:
    return value / whole if whole else 0.0


def heads(explanation: Explanation) -> HeadRelevance:
    """See `Explanation.heads`."""
    asked, explanation = explanation, chained(explanation)
    kept = kept_of(explanation)
    program, count = kept.program, len(kept.views)
    some = next(iter(explanation.relevance.values()))
    modalities = tuple(explanation.relevance)
    made = {
        which: {
            node.info.name: some.new_zeros(count, node.info.heads, len(modalities))
            for node in program.nodes.values()
        }
        for which in ("even", "through")
    }
    identity = some.new_zeros(count, len(modalities))
    with torch.no_grad():
        for reading in readings_of(kept, explanation.method):
            _add(kept, reading, made["even"], made["through"], identity)
    nodes = tuple(node.info for node in program.nodes.values())
    depth = {program.nodes[i].info.name: d for i, d in depths(program).items()}
    told = told_of(explanation, asked)
    return HeadRelevance(nodes, modalities, made["even"], made["through"], identity, depth, *told)


def _add(
    kept: Kept,
    reading: Reading,
    even: dict[str, Tensor],
    through: dict[str, Tensor],
    identity: Tensor,
) -> None:
    """Add what one reading finds."""
    chains, views = reading.chains, list(reading.views)
    points, weights = _quadrature(chains.longest)
    damping = chains.rules.zeros(len(points)) + torch.as_tensor(points).to(chains.rules.zeros())
    by_t = torch.as_tensor(weights).to(damping)
    columns = columns_of(kept, reading)
    entering, _ = chains.entering(damping)
    had = chains.had(columns, damping)
    for point, x in entering.items():
        node = chains.node(point)
        if node is None:
            continue
        for step in chains.steps(point):
            assert isinstance(step, Attended)
            left = chains.left(node, step, x)
            right = had.keys(node, step).unflatten(-1, (len(points), -1))
            of_node, batch = chains.rules.maps.of(node.index), len(x)
            found = sums_by_head(of_node, node, left, right, batch)
            of_views = reading.by_view(found)
            name = node.info.name
            even[name][views] += torch.einsum("vhcm,c->vhm", of_views, by_t).to(even[name])
            through[name][views] += of_views[:, :, -1].to(through[name])
    _, born = chains.entering(torch.zeros_like(damping[:1]))
    for stream, x in born.items():
        identity[views] += reading.by_view((x * columns[stream]).sum(1)).to(identity)


def _quadrature(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Points between 0 and 1 and weights that integrate t^0 to t^(degree - 1) exactly; then t = 1."""
    at, weights = np.polynomial.legendre.leggauss(max(1, (degree + 1) // 2))
    return np.append((at + 1) / 2, 1.0), np.append(weights / 2, 0.0)
