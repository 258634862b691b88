"""Setting: a small graph with tokens in it, on which operations are called."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxplain.capture import Capture, ModelInputs, OutputLayout
from fxplain.capture.captured import InputSlot, StateSlot

__all__ = ["BATCH", "LENGTH", "STAGES", "WIDTH", "Setting", "Source", "computed"]

BATCH, LENGTH, WIDTH = 2, 6, 12
VOCABULARY = 40
STAGES = ("newborn", "attended", "uneven")
"""What the tokens have absorbed before the call: nothing, an attention, or some of them one."""

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Source:
    """A value of (batch, tokens, features) whose rows can be disturbed."""

    node: fx.Node
    attention: bool
    learned: bool = False


class _State(nn.Module):
    """The parameters of a setting."""


class Setting:
    """A graph in the making: tokens of inputs and parameters, and what is called on them.

    Operations are called on proxies, as they are on tensors: ``aten.roll(s.tokens(), [1], [1])``.
    """

    def __init__(self, stage: str = "attended", batch: int = BATCH) -> None:
        self.stage, self.batch = stage, batch
        self.graph = fx.Graph()
        self.sources: list[Source] = []
        self._tracer = fx.proxy.GraphAppendingTracer(self.graph)
        self._tracer.create_arg = self._argument  # type: ignore[method-assign]
        self._create_arg = fx.proxy.TracerBase.create_arg
        self._model = _State()
        self._state: dict[str, StateSlot] = {}
        self._given: dict[str, Tensor] = {}
        self._values: dict[fx.Node, Any] = {}
        self._chance = torch.Generator().manual_seed(0)

    # -- what operations are called on ------------------------------------------------------------

    def tokens(self, name: str = "ids", length: int = LENGTH, width: int = WIDTH) -> fx.Proxy:
        """The tokens of an input, (batch, length, width), in the stage that is tried."""
        ids = torch.randperm(VOCABULARY, generator=self._chance)[: self.batch * length]
        ids = ids.reshape(self.batch, length)
        table = self._parameter(self._numbers(VOCABULARY, width))
        x = aten.embedding.default(table, self._input(name, ids))
        self.sources.append(Source(x.node, attention=False))
        if self.stage == "newborn":
            return x
        heard = aten.scaled_dot_product_attention.default(x, x, x)
        self.sources.append(Source(heard.node, attention=True))
        attended = aten.add.Tensor(x, heard)
        if self.stage == "attended" or length < 2:
            return attended
        first = aten.slice.Tensor(x, 1, 0, length // 2)
        return aten.cat.default([first, aten.slice.Tensor(attended, 1, length // 2)], 1)

    def parameter(self, *shape: int, token: bool = False) -> fx.Proxy:
        """A parameter; with `token`, one whose rows must be followed as tokens are."""
        made = self._parameter(self._numbers(*shape))
        if token:
            self.sources.append(Source(made.node, attention=False, learned=True))
        return made

    def constant(self, value: Tensor) -> fx.Proxy:
        """A tensor that the model holds."""
        name = f"constant_{len(self._state)}"
        self._state[name] = StateSlot("constant", name, value)
        return self._placeholder(name, value)

    def numbers(self, *shape: int) -> fx.Proxy:
        """A constant of random numbers."""
        return self.constant(self._numbers(*shape))

    def given(self, value: Tensor) -> fx.Proxy:
        """One of the user's tensors: an order, a mask."""
        return self._input(f"given_{len(self._given)}", value)

    def call(self, target: Any, *args: Any) -> fx.Proxy:
        """A call that is given no value of the graph."""
        return fx.Proxy(self.graph.call_function(target, args), self._tracer)

    def shape(self, x: fx.Proxy) -> tuple[int, ...]:
        """The shape of a value."""
        self._resolve()
        return tuple(self._values[x.node].shape)

    def _numbers(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._chance, dtype=torch.float64)

    def _parameter(self, value: Tensor) -> fx.Proxy:
        name = f"weight_{len(self._state)}"
        setattr(self._model, name, nn.Parameter(value))
        self._state[name] = StateSlot("parameter", name)
        return self._placeholder(name, value)

    def _input(self, name: str, value: Tensor) -> fx.Proxy:
        name = name if name not in self._given else f"{name}_{len(self._given)}"
        self._given[name] = value
        return self._placeholder(name, value)

    def _placeholder(self, name: str, value: Tensor) -> fx.Proxy:
        with self.graph.inserting_before():  # at the beginning
            node = self.graph.placeholder(name)
        self._values[node] = value.detach()
        node.meta["val"] = self._values[node]
        return fx.Proxy(node, self._tracer)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.constant(value).node
        if isinstance(value, (tuple, list)):
            return type(value)(self._argument(part) for part in value)
        return self._create_arg(self._tracer, value)

    # -- the graph --------------------------------------------------------------------------------

    def finish(self, results: Any) -> tuple[Capture, nn.Module, ModelInputs, list[fx.Node]]:
        """The graph as a capture, with all that its call needs, and the nodes of the results."""
        self._resolve()
        nodes = []
        for made in results if isinstance(results, (tuple, list)) else (results,):
            value = self._values[made.node]
            if isinstance(value, Tensor):
                nodes.append(made.node)
                continue
            for i, part in enumerate(value):
                if isinstance(part, Tensor):
                    nodes.append(self.graph.call_function(operator.getitem, (made.node, i)))
                    nodes[-1].meta["val"] = part
        self.graph.output(tuple(nodes))
        if not self._given:  # every model has an input
            self._input("unread", torch.zeros(self.batch, 1, dtype=torch.int64))
        placeholders = [n for n in self.graph.nodes if n.op == "placeholder"]
        inputs = dict(self._given)
        ordered = [*self._state, *inputs]  # the model's state first, then the user's tensors
        for name in reversed(ordered):
            node = next(n for n in placeholders if n.name == name)
            self.graph._root.append(node)
        slots = {n: InputSlot(n, v.dtype, v.device, tuple(v.shape)) for n, v in inputs.items()}
        captured = Capture(
            SimpleNamespace(graph=self.graph),  # type: ignore[arg-type]  # a module is slow to make
            "export",
            (),
            dict(self._state),
            slots,
            OutputLayout(None, ()),
        )
        leaves = tuple(inputs.values())
        call = ModelInputs((), inputs, tuple(inputs), leaves, "", self.batch)
        return captured, self._model, call, nodes

    def _resolve(self) -> None:
        """Compute every value, and find the overload that PyTorch takes for it."""
        for node in self.graph.nodes:
            if node.op == "call_function" and node not in self._values:
                args = fx.map_arg(node.args, self._values.__getitem__)
                kwargs = fx.map_arg(node.kwargs, self._values.__getitem__)
                if isinstance(node.target, torch._ops.OpOverloadPacket):
                    packet = node.target
                    name = torch._C._jit_resolve_packet(packet._qualified_op_name, *args, **kwargs)
                    node.target = getattr(packet, name or "default")
                self._values[node] = computed(node, self._values.__getitem__)
            node.meta["val"] = self._values[node]


def computed(node: fx.Node, value: Callable[[fx.Node], Any]) -> Any:
    """The result of a call, from its operands' values; what is drawn is the same in every run."""
    torch.manual_seed(0)
    return node.target(*fx.map_arg(node.args, value), **fx.map_arg(node.kwargs, value))
