"""Explanations made by hand, of any size and with any labels, for tests of what is drawn."""

from collections.abc import Sequence

import torch

from fxplain import AttentionGraph, AttentionNode, Explanation
from fxplain.explanation.explanation import ByModality
from fxplain.program.attention_graph import CaptureInfo, StreamInfo
from fxplain.tokens import RejectedSoftmax


def made_node(layer: int, query: str = "input_ids", key: str = "input_ids") -> AttentionNode:
    module = f"model.layers.{layer}.{query}_to_{key}"
    kind = "self" if query == key else "co"
    return AttentionNode(
        module, module, kind, (query,), (key,), 4, 9, 9, "fused", query, (key,)
    )  # fmt: skip


def made_graph(
    nodes: Sequence[AttentionNode],
    modalities: dict[str, int],
    warnings: Sequence[str] = (),
    rejected: Sequence[RejectedSoftmax] = (),
    routes: Sequence = (),
    streams: Sequence[StreamInfo] = (),
    model: str = "MadeModel",
) -> AttentionGraph:
    return AttentionGraph(
        model=model,
        nodes=tuple(nodes),
        routes=tuple(routes),
        streams=tuple(streams)
        or tuple(StreamInfo(name, count, (name,)) for name, count in modalities.items()),
        modalities=modalities,
        readout="input_ids[0]",
        rejected=tuple(rejected),
        warnings=tuple(warnings),
        capture=CaptureInfo("export", ()),
    )


def made_explanation(
    words: Sequence[str], graph: AttentionGraph | None = None, **changes
) -> Explanation:
    """One text, its matrix random, read at its first word."""
    n = len(words)
    matrix = torch.eye(n) + torch.rand(n, n, generator=torch.Generator().manual_seed(n))
    facts = {
        "relevance": ByModality({"input_ids": matrix[:1]}),
        "graph": graph or made_graph([made_node(i) for i in range(3)], {"input_ids": n}),
        "method": "generic",
        "target": (1,),
        "readout": ("input_ids[0]",),
        "scores": torch.tensor([2.0]),
        "output": {"logits": torch.tensor([[0.5, 2.0, -1.0]])},
        "labels": {"input_ids": [list(words)]},
        "special": {"input_ids": {}},
        "grids": {"input_ids": ()},
        "matrix_of": lambda a, b: matrix[None],
    }
    return Explanation(**facts | changes)
