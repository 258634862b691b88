"""The capture: one model's computation, for one kind of input, as a functional ATen graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from fxplain.capture.autocasting import Autocast
from fxplain.capture.chance import chance_kept, draws
from fxplain.capture.elsewhere import ELSEWHERE
from fxplain.capture.inputs import ModelInputs
from fxplain.capture.locks import borrowed
from fxplain.capture.memo import Memo
from fxplain.capture.seen import tensors_now
from fxplain.capture.state import AsItWas
from fxplain.capture.structure import leaves_of, with_leaves
from fxplain.capture.unpacked import Asked, unpacked_weights

if TYPE_CHECKING:
    import sympy

__all__ = [
    "Capture", "InputSlot", "OutputLayout", "StateSlot", "attribute_of", "called",
    "module_path", "operation_name",
]  # fmt: skip

MODULE_PATH = "fxplain_module"  # key in fx.Node.meta


def module_path(node: fx.Node) -> str:
    """The dotted path of the module in which `node` was captured ('' for the model itself)."""
    return str(node.meta.get(MODULE_PATH, ""))


def attribute_of(module: nn.Module, node: fx.Node) -> Any:
    """What a ``get_attr`` node of a module's graph reads: a tensor, or a graph inside of it."""
    found: Any = module
    for part in str(node.target).split("."):
        found = getattr(found, part)
    return found


def called(node: fx.Node, value_of: Callable[[fx.Node], Any]) -> Any:
    """The value of a call, for those of its operands, however these are laid out."""
    target = ELSEWHERE.get(node.target, node.target)
    assert callable(target)
    return target(*fx.map_arg(node.args, value_of), **fx.map_arg(node.kwargs, value_of))


def operation_name(node: fx.Node) -> str:
    """The name of a node's ATen operation, without namespace and overload: "view"."""
    return str(node.target).removeprefix("aten.").split(".")[0]


@dataclass(frozen=True)
class StateSlot:
    """A graph input that holds the model's own state.

    `kind` is "parameter", "buffer" or "constant"; a constant's tensor is kept in `tensor`.
    """

    kind: str
    path: str
    tensor: Tensor | None = None


@dataclass(frozen=True)
class InputSlot:
    """A graph input that is one of the user's tensors, with the shape it was captured for.

    An entry of `shape` is an int (fixed) or a sympy expression (free).
    """

    name: str
    dtype: torch.dtype
    device: torch.device
    shape: tuple[int | sympy.Expr, ...]


@dataclass(frozen=True)
class OutputLayout:
    """How the graph's flat outputs make up the model's output.

    Attributes
    ----------
    skeleton
        The output with a mark in the place of each tensor.
    names
        The path of each tensor: ``logits``, ``hidden_states[0]``.
    """

    skeleton: Any
    names: tuple[str, ...]

    @classmethod
    def of(cls, output: Any) -> tuple[OutputLayout, list[Tensor]]:
        """Flatten `output` into its layout and its tensors; caches and other objects are dropped."""
        found = [(path, leaf) for path, leaf in leaves_of(output) if isinstance(leaf, Tensor)]
        names = tuple(path.lstrip(".") for path, _ in found)
        return cls(with_leaves(output, _emptied), names), [leaf for _, leaf in found]

    def rebuild(self, tensors: Sequence[Tensor]) -> Any:
        """The model's output with `tensors` as its tensor leaves."""
        flat = iter(tensors)
        return with_leaves(self.skeleton, lambda x: next(flat) if x is _TENSOR else x)


_TENSOR = object()
"""What stands for a tensor in an output's skeleton."""


def _emptied(leaf: Any) -> Any:
    """A leaf without data: flags stay, tensors leave their place, other objects are dropped."""
    if isinstance(leaf, Tensor):
        return _TENSOR
    return leaf if isinstance(leaf, (int, float, str, bool)) else None


@dataclass
class Capture:
    """A model's computation as a `torch.fx.GraphModule` of functional ATen calls.

    The placeholders are the model's state, then the user's tensors; the outputs are the tensor
    leaves of the model's output. Every call node carries its module path (`module_path`).

    Attributes
    ----------
    graph_module
        The graph. It holds no weights: they are passed in from the live model at each run.
    route
        "export", "export-static", "transformers" or "recorded".
    failures
        Why the routes that were tried before failed.
    state, inputs
        What each placeholder stands for.
    output
        The layout of the model's output.
    guards
        Conditions on the free sizes under which the capture holds.
    lower_bounds
        The smallest value of each free size.
    only_for
        The input values that the capture holds for; None when it holds for any.
    held_weights
        The weights that a recording depends on, by path, as they were.
    memo
        What later stages derived from the graph and may use again.
    warnings
        What a user must know, for example outputs that differ from the model's own.
    autocast
        The mixed precision in which it was captured; the graph has its casts.
    packed
        By path, how layers are asked for their weights that are packed in what no graph holds.
    """

    graph_module: fx.GraphModule
    route: str
    failures: tuple[str, ...]
    state: dict[str, StateSlot]
    inputs: dict[str, InputSlot]
    output: OutputLayout
    guards: tuple[sympy.Basic, ...] = ()
    lower_bounds: dict[sympy.Symbol, int] = field(default_factory=dict)
    only_for: tuple[Tensor, ...] | None = None
    held_weights: dict[str, AsItWas] = field(default_factory=dict)
    memo: Memo = field(default_factory=Memo, repr=False)
    warnings: list[str] = field(default_factory=list)
    autocast: Autocast = field(default_factory=Autocast.now)
    packed: Mapping[str, Asked] = field(default_factory=dict)

    @property
    def placeholders(self) -> list[fx.Node]:
        """The graph's inputs: the model's state, then the user's tensors."""
        return [node for node in self.graph.nodes if node.op == "placeholder"]

    @property
    def graph(self) -> fx.Graph:
        """The graph of `graph_module`."""
        return self.graph_module.graph

    def sizes(self, leaves: Sequence[Tensor]) -> dict[sympy.Symbol, int] | None:
        """The value of each free size for these tensors; None if the capture does not hold for them."""
        import sympy  # here, since it takes a while to import

        if len(leaves) != len(self.inputs):
            return None
        if self.only_for is not None and not all(map(_identical, leaves, self.only_for)):
            return None
        values: dict[sympy.Symbol, int] = {}
        later: list[tuple[sympy.Expr, int]] = []
        for slot, leaf in zip(self.inputs.values(), leaves, strict=True):
            if leaf.dtype != slot.dtype or leaf.device != slot.device:
                return None
            if leaf.dim() != len(slot.shape):
                return None
            for expected, size in zip(slot.shape, leaf.shape, strict=True):
                if isinstance(expected, int):
                    if expected != size:
                        return None
                elif isinstance(expected, sympy.Symbol):
                    if values.setdefault(expected, size) != size:
                        return None
                else:
                    later.append((expected, size))
        known = {symbol: sympy.Integer(size) for symbol, size in values.items()}
        if any(expr.xreplace(known) != size for expr, size in later):
            return None
        if any(values.get(s, low) < low for s, low in self.lower_bounds.items()):
            return None
        for guard in self.guards:
            if guard.free_symbols <= known.keys() and guard.xreplace(known) == sympy.false:
                return None
        return values

    def own_chance(self, tensors: Iterable[Tensor]) -> AbstractContextManager[None]:
        """A run within draws what comes next for the user; nothing where the graph draws nothing."""
        return chance_kept(tensors) if self.draws else nullcontext()

    @property
    def draws(self) -> bool:
        """Whether the graph draws random numbers."""
        drawing: bool = self.memo.made("draws", lambda: any(map(draws, self.graph.nodes)))
        return drawing

    def weights_held(self, model: nn.Module) -> bool:
        """Whether the weights that a recording depends on are what they were."""
        if not self.held_weights:
            return True
        now = {path: tensor for of in tensors_now(model) for path, tensor in of.items()}
        held = self.held_weights.items()
        return now.keys() == self.held_weights.keys() and all(w.still(now[p]) for p, w in held)

    def sized(self, inputs: ModelInputs) -> ModelInputs:
        """`inputs` with a batch size that the model's outputs confirm.

        The first axis of an input need not be the batch (one image of a list, a bare sequence): where
        no output has that size, but one has another input's, or 1, that is the batch.
        """
        values = self.sizes(inputs.leaves) or {}
        output = next(n for n in self.graph.nodes if n.op == "output")
        found: set[Any] = set()
        for node in output.all_input_nodes:
            value = node.meta.get("val")
            if isinstance(value, Tensor) and value.dim():
                size: Any = value.shape[0]
                found.add(size if isinstance(size, int) else size.node.expr.xreplace(values))
        if not found or inputs.batch_size in found:
            return inputs
        candidates = {1, *(leaf.shape[0] for leaf in inputs.leaves if leaf.dim())} & found
        return replace(inputs, batch_size=int(max(candidates))) if candidates else inputs

    def bind(self, model: nn.Module, inputs: ModelInputs) -> list[Tensor]:
        """The values of all placeholders: the model's live state (detached), then the inputs."""
        live = self.live(model)
        held = [
            slot.tensor if slot.kind == "constant" else live[slot.kind][slot.path]
            for slot in self.state.values()
        ]
        given = [*map(_ordinary, held), *map(_ordinary, inputs.leaves)]
        values = dict(zip((*self.state, *self.inputs), given, strict=True))
        return [*map(values.__getitem__, self._order)]

    def live(self, model: nn.Module) -> dict[str, dict[str, Tensor]]:
        """The model's tensors as they are now, by kind and path, packed ones as plain matrices."""
        parameters, buffers = tensors_now(model)
        if self.packed:
            with borrowed(
                model
            ):  # they are asked, which puts other tensors in their weights' places
                parameters = {**parameters, **unpacked_weights(model, self.packed)}
        return {"parameter": parameters, "buffer": buffers}

    @property
    def _order(self) -> list[str]:
        """The names of the placeholders."""
        order: list[str] = self.memo.made("order", lambda: [n.name for n in self.placeholders])
        return order


def _ordinary(leaf: Tensor | None) -> Any:
    """A tensor that needs no gradient and that autograd may save, also one of inference mode."""
    if leaf is None:
        return None
    if leaf.is_inference():
        return leaf.detach().clone()
    return leaf.detach() if leaf.requires_grad else leaf


def _identical(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)
