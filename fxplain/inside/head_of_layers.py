"""Lens: what the model's own head says of the readout's state after each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from fxplain.capture import attribute_of, called, operation_name
from fxplain.errors import MethodError
from fxplain.explanation.explain import explain
from fxplain.inside.reading import kept_of
from fxplain.interventions.sites import sites_of
from fxplain.presentation import Tabled

if TYPE_CHECKING:
    from fxplain.explanation import Explanation
    from fxplain.explanation.kept import Kept

__all__ = ["Lens", "lens", "logit_lens"]

_CARRIES = frozenset(["layer_norm", "rms_norm", "dropout", "to", "_to_copy", "clone", "contiguous"])


@dataclass(frozen=True, eq=False)
class Lens(Tabled):
    """The explained score, and the answer, as if the model ended after each layer; printed, a table.

    Attributes
    ----------
    layers
        What was last added to the residual stream, in the order of the model; the last is the model's
        own answer.
    scores
        (layers, batch) the explained score.
    predicted
        By layer and sample the class that the head ranks first; empty where no class is explained.
    outputs
        The model's output by layer.
    """

    layers: tuple[str, ...]
    scores: Tensor
    predicted: tuple[tuple[str, ...], ...]
    outputs: tuple[Any, ...] = field(repr=False)

    def table(self) -> list[dict[str, Any]]:
        """A row for each sample and layer, as plain data."""
        return [
            {
                "sample": sample,
                "layer": layer,
                "score": float(self.scores[i, sample]),
                "predicted": self.predicted[i][sample] if self.predicted else "",
            }
            for sample in range(self.scores.shape[1])
            for i, layer in enumerate(self.layers)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the outputs as plain data."""
        return {"format": "fxplain-lens-1", "layers": list(self.layers), "rows": self.table()}

    def __repr__(self) -> str:
        return f"<Lens of {len(self.layers)} layers>"


def logit_lens(
    model: nn.Module,
    inputs: Mapping[str, Any] | Sequence[Any] | Tensor,
    target: Any = None,
    *,
    output: str | None = None,
    **options: Any,
) -> Lens:
    """The model's own head applied to the residual stream after every layer.

    The head is what the captured graph computes from the last state of the stream on: the last norm, a
    pooler, the classifier or unembedding. It is asked of the state after every earlier addition, which
    must have the same shape.

    Parameters
    ----------
    model, inputs, target, output
        As `fxplain.explain` takes them.
    **options
        ``batch_axis=``, ``tokenizer=``, ``verify=`` as `fxplain.explain` takes them.

    Returns
    -------
    Lens
        ``.scores`` (layers, batch), ``.predicted``, ``.outputs``; print it.

    Raises
    ------
    MethodError
        When there is no such head: the output draws on attention beside the last state, or nothing is
        added to a residual stream.

    References
    ----------
    nostalgebraist, "interpreting GPT: the logit lens", 2020.
    """
    return lens(explain(model, inputs, target, output=output, **options))


def lens(explanation: Explanation) -> Lens:
    """See `Explanation.lens`."""
    kept = kept_of(explanation)
    with torch.inference_mode(False), torch.no_grad():
        found = _Looking(kept).run()
        scores = [kept.resolved.value(outputs) for outputs in found.values()]
    predicted = tuple(_predicted(explanation, kept, outputs) for outputs in found.values())
    return Lens(
        tuple(found),
        torch.stack(scores),
        predicted if all(predicted) else (),
        tuple(kept.captured.output.rebuild(list(outputs)) for outputs in found.values()),
    )


def _predicted(explanation: Explanation, kept: Kept, outputs: Sequence[Tensor]) -> tuple[str, ...]:
    """The class that ranks first, where a class is explained."""
    chosen, names = kept.resolved.outputs[0], explanation.class_name
    told = []
    for sample, target in enumerate(explanation.target):
        index = target if isinstance(target, tuple) else (target,)
        if not index or not all(isinstance(i, int) for i in index):
            return ()
        best = int(outputs[chosen][sample][index[:-1]].argmax())
        told.append((names(best) if names else "") or f"class {best}")
    return tuple(told)


class _Looking:
    """One run of the captured graph, and its end once more for each state."""

    def __init__(self, kept: Kept) -> None:
        self.kept, self.graph = kept, kept.captured.graph
        (self.end,) = (node for node in self.graph.nodes if node.op == "output")
        explained = [self.end.args[0][i] for i in kept.resolved.outputs]
        above = _above(explained)
        sites = sites_of(kept.captured, kept.model, kept.inputs, kept.program)
        streams: dict[fx.Node, str] = {}
        for write in sites.writes:
            if write.stream in above:
                streams[write.stream] = write.name
        if not streams:
            raise MethodError(
                "nothing is added to a residual stream on the way to the explained output: there is no "
                "state that the model's head could be applied to."
            )
        *_, last = streams
        self.states = self._carried(streams, last)
        self.last = next(reversed(self.states))
        beside = _above(explained, without=self.last)
        attention = {node.site.node: node.info.name for node in kept.program.nodes.values()}
        drawn = [name for node, name in attention.items() if node in beside]
        if drawn:
            raise MethodError(
                f"the explained output draws on attention beside the last state of {streams[last]!r}: "
                f"on {drawn[-1]}. A head of its own stands only behind one residual stream."
            )

    def _carried(self, streams: dict[fx.Node, str], last: fx.Node) -> dict[fx.Node, str]:
        """The states: in post-norm models what the norm behind each addition makes of it."""
        steps = {stream: _steps(stream) for stream in streams}
        others = [len(own) for stream, own in steps.items() if stream is not last]
        count = min([*others, len(steps[last])]) if others else 0
        return {[stream, *steps[stream]][count]: name for stream, name in streams.items()}

    def run(self) -> dict[str, list[Tensor]]:
        """By layer, the model's outputs."""
        kept, values = self.kept, {}
        bound = kept.captured.bind(kept.model, kept.inputs)
        values = dict(zip(kept.captured.placeholders, bound, strict=True))
        with kept.captured.own_chance(kept.inputs.leaves):
            self._compute(values, set(self.graph.nodes))
            shape = values[self.last].shape
            behind = _below(self.last)
            found = {}
            for state, name in self.states.items():
                if values[state].shape != shape:
                    continue  # another stage of a pyramid: the head does not fit
                again = {**values, self.last: values[state]}
                self._compute(again, behind)
                found[name] = [again[node].detach() for node in self.end.args[0]]
        return found

    def _compute(self, values: dict[fx.Node, Any], chosen: set[fx.Node]) -> None:
        for node in self.graph.nodes:
            if node in chosen and node.op == "get_attr":
                values[node] = attribute_of(self.kept.captured.graph_module, node)
            elif node in chosen and node.op == "call_function":
                values[node] = called(node, values.__getitem__)


def _above(nodes: Sequence[fx.Node], without: fx.Node | None = None) -> set[fx.Node]:
    """All that some nodes are computed from, not looking beyond one."""
    todo, seen = list(nodes), set(nodes)
    while todo:
        node = todo.pop()
        if node is without:
            continue
        fresh = [n for n in node.all_input_nodes if n not in seen]
        seen.update(fresh)
        todo += fresh
    return seen


def _below(node: fx.Node) -> set[fx.Node]:
    """All that is computed from a node."""
    todo, seen = [node], set[fx.Node]()
    while todo:
        fresh = [n for n in todo.pop().users if n not in seen]
        seen.update(fresh)
        todo += fresh
    return seen


def _steps(stream: fx.Node) -> list[fx.Node]:
    """The norms and the like that alone read an addition, one behind the other."""
    found, node = [], stream
    while len(node.users) == 1:
        (node,) = node.users
        if operation_name(node) not in _CARRIES:
            break
        found.append(node)
    return found
