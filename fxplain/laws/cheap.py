"""The cheaper laws, each a line to state and to try on any model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture import Capture, ModelInputs, chance_kept, draws
from fxplain.errors import FxplainError
from fxplain.explanation import Explanation, explain
from fxplain.methods.maps import attention
from fxplain.methods.node_evidence import NodeEvidence
from fxplain.methods.node_maps import NodeMap
from fxplain.program import Program, ProgramNode
from fxplain.run import forward
from fxplain.verification import Fault, LawResult

__all__ = [
    "BATCH",
    "ORDER",
    "PADDING",
    "READINGS",
    "batch_independence",
    "map_sums",
    "padding_independence",
    "same_output",
    "token_order",
    "two_readings",
]

BATCH = "samples do not depend on each other"
READINGS = "matrices and rows agree"
PADDING = "what is hidden changes nothing"
ORDER = "tokens in another order have their relevance in that order"

_RTOL, _ATOL = 1e-2, 1e-4
"""How far two ways to the same relevance may be apart in float32, relative to the largest number."""


def same_output(captured: Capture, model: nn.Module, bound: ModelInputs, inputs: Any) -> LawResult:
    """The captured graph's output is the model's output now."""
    law = "the captured output is the model's"
    values = captured.bind(model, bound)
    with torch.no_grad(), chance_kept(bound.leaves):
        found = captured.graph_module.forward(*values)
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
        if matrix.shape[:2] != node.rows.shape:
            continue
        sums = node.shared(matrix.detach().double()).sum(-1).cpu()  # of several rows of one token
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
    other = "matrices" if explained.engine == "rows" else "rows"
    try:
        second = explain(model, inputs, engine=other, verify="off")
    except FxplainError as error:
        return LawResult(READINGS, "not checked", reason=str(error))
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
    return LawResult.of(READINGS, faults, 6)


def _differ(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return True
    scale = float(a.detach().abs().max()) if a.numel() else 0.0
    return bool(((a - b).abs() > _RTOL * scale + _ATOL).any())


def _differ_by_place(
    of_all: Explanation, of_some: Explanation, name: str, change: Callable[[Tensor], Tensor]
) -> bool:
    """Whether relevance differs; of learned tokens that stand elsewhere in each sample, the sum counts.

    Each place that one of them has in some sample is a column of the batch.
    """
    first, second = change(of_all.relevance[name]), of_some.relevance[name]
    if first.shape[1] != second.shape[1]:
        first, second = _learned_summed(of_all, name, first), _learned_summed(of_some, name, second)
    return _differ(first, second)


def _learned_summed(e: Explanation, name: str, relevance: Tensor) -> Tensor:
    learned = list(e.special[name])
    plain = [i for i in range(relevance.shape[1]) if i not in e.special[name]]
    return torch.cat([relevance[:, plain], relevance[:, learned].sum(1, keepdim=True)], 1)


def batch_independence(
    captured: Capture,
    model: nn.Module,
    inputs: Any,
    bound: ModelInputs,
    explained: Explanation,
) -> LawResult:
    """A sample's explanation depends neither on its place in the batch nor on the samples beside it."""
    size = bound.batch_size
    batched = [leaf.dim() > 0 and leaf.shape[0] == size for leaf in bound.leaves]
    if any(map(draws, captured.graph.nodes)):
        reason = "the model draws other numbers for each place"
        return LawResult(BATCH, "not checked", reason=reason)
    if size < 2 or not all(batched):
        reason = "the batch has one sample" if size < 2 else "an input is not one per sample"
        return LawResult(BATCH, "not checked", reason=reason)
    changes = {
        "samples in another order": partial(_each, size=size, change=lambda x: x.flip(0)),
        "a sample alone": partial(_each, size=size, change=lambda x: x[:1]),
    }
    try:
        others = {w: explain(model, c(inputs), verify="off") for w, c in changes.items()}
    except FxplainError as error:
        return LawResult(BATCH, "not checked", reason=str(error))
    # a `squeeze()` makes of one sample another output, of which something else is explained
    changes = {
        what: change
        for what, change in changes.items()
        if _shapes(others[what].output) == _shapes(change(explained.output))
    }
    faults = []
    for name, value in explained.relevance.items():
        if value.shape[0] != size:
            detail = f"{size} samples have {value.shape[0]} explanations"
            faults.append(Fault("", "", (name,), detail=detail))
            continue
        for what, change in changes.items():
            second = others[what].relevance.get(name)
            if second is None or _differ_by_place(explained, others[what], name, change):
                faults.append(Fault("", "", (name,), detail=f"{what} gets other numbers"))
    return LawResult.of(BATCH, tuple(faults), 6)


def _each(inputs: Any, *, size: int, change: Callable[[Tensor], Tensor]) -> Any:
    """Inputs with every tensor of one entry per sample changed."""
    if isinstance(inputs, Tensor):
        return change(inputs) if inputs.dim() and inputs.shape[0] == size else inputs
    if isinstance(inputs, Mapping):
        return {name: _each(value, size=size, change=change) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(_each(value, size=size, change=change) for value in inputs)
    return inputs


def padding_independence(model: nn.Module, inputs: Any, explained: Explanation) -> LawResult:
    """What a mask hides changes nothing: two more positions that are hidden.

    Only where the model itself says so, too: one that reads its last position reads another one then.
    """
    mask = _mask_of(inputs)
    if mask is None:
        return LawResult(PADDING, "not checked", reason="no input is the mask of all others")
    padded = {
        name: torch.cat([value, _unlike_the_last(value).repeat(1, 2) * (name != mask)], 1)
        for name, value in inputs.items()
    }
    other = _said_alike(model, padded, explained, PADDING, "a longer input")
    if isinstance(other, LawResult):
        return other
    faults = [
        Fault("", "", (name,), detail="what is hidden changes its numbers")
        for name, value in explained.relevance.items()
        if name in padded
        and (
            name not in other.relevance
            or _differ(nn.functional.pad(value, (0, 2)), other.relevance[name])
        )
    ]
    return LawResult.of(PADDING, tuple(faults), 3)


def token_order(model: nn.Module, inputs: Any, explained: Explanation) -> LawResult:
    """Tokens that are turned about have the same relevance, turned about.

    Only where the model itself does not mind, one without positions that reads all tokens alike.
    """
    tensors = list(_tensors(inputs))
    first = tensors[0] if tensors else None
    if first is None or any(x.dim() < 2 or x.shape[:2] != first.shape[:2] for x in tensors):
        return LawResult(ORDER, "not checked", reason="the inputs are not of the same tokens")
    turned = _each(inputs, size=first.shape[0], change=lambda x: x.flip(1))
    other = _said_alike(model, turned, explained, ORDER, "tokens in another order")
    if isinstance(other, LawResult):
        return other
    faults = []
    for name, value in explained.relevance.items():
        special = explained.special.get(name, {})
        plain = [i for i in range(value.shape[1]) if i not in special]
        if len(plain) != first.shape[1]:
            continue
        second = other.relevance.get(name)
        if second is None or second.shape != value.shape:
            faults.append(Fault("", "", (name,), detail="turned about, they are other tokens"))
        elif _differ(value[:, plain].flip(1), second[:, plain]):
            faults.append(Fault("", "", (name,), detail="turned about, they get other numbers"))
    return LawResult.of(ORDER, tuple(faults), 3)


def _said_alike(
    model: nn.Module, inputs: Any, explained: Explanation, law: str, what: str
) -> Explanation | LawResult:
    """The explanation of changed inputs that the model says the same of, or why nothing is checked."""
    try:
        other = explain(model, inputs, verify="off")
    except FxplainError as error:
        return LawResult(law, "not checked", reason=str(error))
    if explained.target != other.target or _differ(explained.scores, other.scores):
        reason = f"the model itself says something else of {what}"
        return LawResult(law, "not checked", reason=reason, forwards=3)
    return other


def _tensors(inputs: Any) -> Iterator[Tensor]:
    """The tensors of inputs, however they lie in one another."""
    if isinstance(inputs, Tensor):
        yield inputs
    elif isinstance(inputs, (Mapping, tuple, list)):
        for value in inputs.values() if isinstance(inputs, Mapping) else inputs:
            yield from _tensors(value)


def _shapes(outputs: Any) -> list[torch.Size]:
    return [output.shape for output in _tensors(outputs)]


def _unlike_the_last(value: Tensor) -> Tensor:
    """Of each sample (batch, length) one entry that is not the last: (batch, 1).

    A model that reads its last position would say the same of a copy of it.
    """
    return value.gather(1, (value != value[:, -1:]).int().argmax(1, keepdim=True))


def _mask_of(inputs: Any) -> str | None:
    """The name of the 0-1 mask, (batch, length), where all inputs have these sizes."""
    if not isinstance(inputs, Mapping) or len(inputs) < 2:
        return None
    tensors = list(inputs.values())
    if not all(
        isinstance(x, Tensor) and x.dim() == 2 and x.shape == tensors[0].shape for x in tensors
    ):
        return None
    masks = [
        name
        for name, value in inputs.items()
        if "mask" in name and bool(((value == 0) | (value == 1)).all())
    ]
    return masks[0] if len(masks) == 1 else None
