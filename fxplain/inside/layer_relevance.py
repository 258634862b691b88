"""Layers: relevance by attention node, from the first to the last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fxplain.arguments import place_in
from fxplain.extras import data_frame
from fxplain.inside.head_relevance import heads
from fxplain.presentation import Presentable
from fxplain.program import AttentionNode

if TYPE_CHECKING:
    from fxplain.explanation import Explanation

__all__ = ["LayerRelevance", "layers"]


@dataclass(frozen=True, eq=False)
class LayerRelevance(Presentable):
    """Relevance by attention node in the order of depth; printed, a table.

    Attributes
    ----------
    nodes
        The attention nodes, by depth and then in the order in which the model computes them.
    depth
        (nodes,) how many nodes stand one above the other up to each, itself counted.
    modalities
        The names of the modalities that relevance is drawn from.
    relevance, through
        (batch, nodes, modalities) as `HeadRelevance` has them, summed over heads; through of a node is
        what the whole would lose without it.
    identity
        (batch, modalities) what is there without any attention.
    method, in_place_of
        As `HeadRelevance` has them.
    """

    nodes: tuple[AttentionNode, ...]
    depth: tuple[int, ...]
    modalities: tuple[str, ...]
    relevance: Tensor = field(repr=False)
    through: Tensor = field(repr=False)
    identity: Tensor = field(repr=False)
    method: str = ""
    in_place_of: str = ""

    @property
    def total(self) -> Tensor:
        """(batch, modalities) all of it with the identity: the sums of the explanation's relevance."""
        return self.relevance.sum(1) + self.identity

    @property
    def share(self) -> Tensor:
        """(batch, nodes) each node's part of all that attention gives."""
        by_node = self.relevance.sum(-1)
        whole = by_node.sum(1, keepdim=True)
        return by_node / whole.where(whole != 0, 1)

    def table(self, sample: int | None = None) -> list[dict[str, Any]]:
        """A row for each sample, or one of them, and each node, as plain data."""
        batch = len(self.relevance)
        samples = range(batch) if sample is None else [place_in("sample", sample, batch)]
        return [row for one in samples for row in self._rows(one)]

    def _rows(self, sample: int) -> Iterator[dict[str, Any]]:
        of_sample = zip(
            self.relevance[sample].tolist(),
            self.share[sample].tolist(),
            self.through[sample].sum(-1).tolist(),
            strict=True,
        )
        for node, depth, (relevance, share, through) in zip(
            self.nodes, self.depth, of_sample, strict=True
        ):
            yield {
                "sample": sample,
                "depth": depth,
                "node": node.name,
                "module": node.module,
                "kind": node.kind,
                "relevance": dict(zip(self.modalities, relevance, strict=True)),
                "share": share,
                "through": through,
            }

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "format": "fxplain-layers-1",
            "method": self.method,
            "in_place_of": self.in_place_of,
            "modalities": list(self.modalities),
            "identity": self.identity.tolist(),
            "layers": self.table(),
        }

    def to_frame(self) -> Any:
        """`table` as a pandas data frame, with a column for each modality's relevance.

        Raises
        ------
        MissingExtraError
            When pandas is not installed.
        """
        return data_frame(self.table(), flattened=True)

    def __repr__(self) -> str:
        return f"<LayerRelevance of {len(self.nodes)} attention nodes>"


def layers(explanation: Explanation) -> LayerRelevance:
    """See `Explanation.layers`."""
    found = heads(explanation)
    order = sorted(range(len(found.nodes)), key=lambda i: found.depth[found.nodes[i].name])
    nodes = tuple(found.nodes[i] for i in order)
    return LayerRelevance(
        nodes,
        tuple(found.depth[node.name] for node in nodes),
        found.modalities,
        found.by_node[:, order],
        found.through_node[:, order],
        found.identity,
        found.method,
        found.in_place_of,
    )
