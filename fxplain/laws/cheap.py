"""The cheaper laws, each a line to state and to try on any model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture import Capture, ModelInputs, chance_kept
from fxplain.errors import FxplainError
from fxplain.explanation import Explanation, explain
from fxplain.methods.maps import attention
from fxplain.methods.node_evidence import NodeEvidence
from fxplain.methods.node_maps import NodeMap
from fxplain.program import Program, ProgramNode
from fxplain.run import forward
from fxplain.verification import Fault, LawResult

__all__ = ["batch_independence", "map_sums", "same_output", "two_readings"]

_RTOL, _ATOL = 1e-2, 1e-4
"""How far two ways to the same relevance may be apart in float32, relative to the largest number."""


def same_output(captured: Capture, model: nn.Module, bound: ModelInputs, inputs: Any) -> LawResult:
    """The captured graph's output is the model's output now."""
    law = "the captured output is the model's"
    values = captured.bind(model, bound)
    with torch.no_grad(), chance_kept(bound.leaves):
        found = captured.graph_module(*values)
    with torch.no_grad(), chance_kept(bound.leaves):
        if isinstance(inputs, Mapping):
            said = model(**inputs)
        else:
            said = model(*([inputs] if isinstance(inputs, Tensor) else inputs))
    _, tensors = type(captured.output).of(said)
    if len(tensors) != len(found):
        return LawResult(law, "not checked", reason="the model returns other tensors", forwards=2)
    faults = [
        Fault("", "", detail=f"{name or 'the output'} differs by {_distance(a, b):.2g}")
        for name, a, b in zip(captured.output.names, tensors, found, strict=True)
        if a.shape != b.shape or _distance(a, b) > 1e-3
    ]
    return LawResult.of(law, tuple(faults), 2)


def _distance(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest number."""
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    a, b = (x.detach().double().nan_to_num() for x in (a, b))
    return float((a - b).abs().max() / a.abs().max().clamp(min=1e-12))


def map_sums(
    captured: Capture, model: nn.Module, bound: ModelInputs, program: Program
) -> LawResult:
    """A query's map, summed over keys and over all its rows, is no more than its weights sum to."""
    law = "a query's map sums to its weights"
    if not program.nodes:
        return LawResult(law, "not checked", reason="no attention over tokens")
    totals: dict[tuple[int, ...], Tensor] = {}
    own: dict[tuple[int, ...], float] = {}
    first: dict[tuple[int, ...], ProgramNode] = {}
    for run in forward(captured, model, bound, program).nodes:
        node, weights = run.node, run.weights().detach()
        matrix = NodeMap(NodeEvidence(node, run), attention).matrix()
        if matrix is None:
            continue
        sums = matrix.detach().double().sum(-1).cpu().reshape(-1, node.rows.shape[-1])
        if sums.shape != node.rows.shape:
            continue
        table = torch.zeros_like(program.streams[node.stream].tokens, dtype=torch.float64)
        real = node.rows >= 0
        samples = node.samples.unsqueeze(1).expand(node.rows.shape)
        table.index_put_((samples[real], node.rows[real]), sums[real], accumulate=True)
        totals[node.family] = totals.get(node.family, 0) + table
        own[node.family] = max(own.get(node.family, 0.0), float(weights.sum(-1).max()))
        first.setdefault(node.family, node)
    faults = []
    for family, total in totals.items():
        if bool((total > 1.01 * max(own[family], 1.0)).any()):
            info = first[family].info
            detail = f"maps sum to {float(total.max()):.3g} where weights sum to {own[family]:.3g}"
            faults.append(Fault(info.form, info.module, info.query, detail=detail))
    return LawResult.of(law, tuple(faults), 1)


def two_readings(model: nn.Module, inputs: Any, explained: Explanation) -> LawResult:
    """Rows that are followed from the readout, and whole matrices, say the same."""
    law = "matrices and rows agree"
    other = "matrices" if explained.engine == "rows" else "rows"
    try:
        second = explain(model, inputs, engine=other, verify="off")
    except FxplainError as error:
        return LawResult(law, "not checked", reason=str(error))
    faults = tuple(
        Fault(
            "",
            "",
            (name,),
            detail=f"the two differ by {_distance(value, second.relevance[name]):.2g}",
        )
        for name, value in explained.relevance.items()
        if _differ(value, second.relevance[name])
    )
    return LawResult.of(law, faults, 3)


def _differ(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return True
    scale = float(a.detach().abs().max()) if a.numel() else 0.0
    return bool(((a - b).abs() > _RTOL * scale + _ATOL).any())


def batch_independence(model: nn.Module, inputs: Any, bound: ModelInputs) -> LawResult:
    """A sample's explanation does not depend on its place among the others of its batch."""
    law = "samples do not depend on each other"
    size = bound.batch_size
    batched = [leaf.dim() > 0 and leaf.shape[0] == size for leaf in bound.leaves]
    if size < 2 or not all(batched):
        reason = "the batch has one sample" if size < 2 else "an input is not one per sample"
        return LawResult(law, "not checked", reason=reason)
    try:
        explained = explain(model, inputs, verify="off")
        turned = explain(model, _turned(inputs, size), verify="off")
    except FxplainError as error:
        return LawResult(law, "not checked", reason=str(error))
    faults = []
    for name, value in explained.relevance.items():
        second = turned.relevance.get(name)
        if second is None or second.shape != value.shape or value.shape[0] != size:
            faults.append(Fault("", "", (name,), detail=f"it has {tuple(value.shape)} numbers"))
        elif _differ(value, second.flip(0)):
            faults.append(
                Fault("", "", (name,), detail="samples in another order get other numbers")
            )
    return LawResult.of(law, tuple(faults), 6)


def _turned(inputs: Any, size: int) -> Any:
    """Inputs with the samples in reverse order."""
    if isinstance(inputs, Tensor):
        return inputs.flip(0) if inputs.dim() and inputs.shape[0] == size else inputs
    if isinstance(inputs, Mapping):
        return {name: _turned(value, size) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(_turned(value, size) for value in inputs)
    return inputs
