"""Residual writes: the additions by which layers write to a residual stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from fxplain.capture import Capture, module_path, operation_name
from fxplain.program import Program
from fxplain.tokens import Level, TokenFlow

__all__ = ["Write", "is_float", "residual_writes"]


@dataclass(frozen=True, eq=False)
class Write:
    """What is computed from a residual stream and added to it.

    Attributes
    ----------
    name
        The path of the module whose result is added; numbered where it has several.
    term
        The node that is added.
    into
        The addition that reads it.
    stream
        The addition after which the stream holds it.
    tokens
        The token of each of the stream's elements, with size 1 along axes where it does not vary.
    """

    name: str
    term: fx.Node
    into: fx.Node
    stream: fx.Node
    tokens: Tensor


def residual_writes(capture: Capture, program: Program, flow: TokenFlow) -> tuple[Write, ...]:
    """Every addition x + f(x) of tokens, where f mixes features. Requires a `flow` with tags.

    What is added feature by feature (a rotation of queries, a polynomial in a GELU) is no write, since
    no contraction stands between the two; nor is what only queries and keys read (a position that is
    added anew in each layer), since no stream goes on from there.
    """
    carried = _carried(capture, program)
    order = {node: i for i, node in enumerate(capture.graph.nodes)}
    writes: list[Write] = []
    for top in capture.graph.nodes:
        if top not in carried or not _is_addition(top) or _in_a_longer_sum(top):
            continue
        tokens = _tokens_of(top, program, flow)
        if tokens is None:
            continue
        terms = list(_terms(top))
        bases = {
            base
            for base in (_base(term) for term, _ in terms)
            if (own := _tokens_of(base, program, flow, Level.PARAMETER)) is not None
            and bool(torch.isin(own, tokens[tokens >= 0]).any())
        }
        for term, into in terms:
            others = bases - {_base(term)}
            if not _computed_from(term, others, order):
                continue
            path = module_path(_base(term)) or _base(term).name
            writes.append(Write(path, term, into, top, tokens))
    return tuple(_numbered(writes))


def _numbered(writes: Sequence[Write]) -> Iterator[Write]:
    """Writes of one module under names of their own.

    Its first is called as the module is, but where it adds several terms to one sum (the experts of a
    mixture): these are its result together.
    """
    seen: Counter[str] = Counter()
    at_once = Counter((write.name, write.stream) for write in writes)
    for write in writes:
        seen[write.name] += 1
        first = seen[write.name] == 1 and at_once[write.name, write.stream] == 1
        yield write if first else replace(write, name=f"{write.name}#{seen[write.name]}")


def _carried(capture: Capture, program: Program) -> set[fx.Node]:
    """What reaches the model's output without being a query or a key, or weights, on the way."""
    attended = {n.site.node: n.site.values for n in program.nodes.values()}
    todo = [node for node in capture.graph.nodes if node.op == "output"]
    seen = set(todo)
    while todo:
        node = todo.pop()
        sources = [attended[node]] if node in attended else node.all_input_nodes
        fresh = [n for n in sources if n not in seen]
        seen.update(fresh)
        todo += fresh
    return seen


def _is_addition(node: fx.Node) -> bool:
    if node.op != "call_function" or operation_name(node) not in ("add", "add_"):
        return False
    operands = node.args[:2]
    return all(isinstance(x, fx.Node) and x.op == "call_function" for x in operands)


def _in_a_longer_sum(node: fx.Node) -> bool:
    users = list(node.users)
    return len(users) == 1 and _is_addition(users[0])


def _terms(node: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """The terms of a sum of several, each with the addition that reads it."""
    for operand in node.args[:2]:
        assert isinstance(operand, fx.Node)
        if _is_addition(operand) and _in_a_longer_sum(operand):
            yield from _terms(operand)
        else:
            yield operand, node


_STEPS = frozenset(
    [
        "mul", "div", "dropout", "to", "_to_copy", "view", "reshape", "_unsafe_view", "contiguous",
        "clone", "alias", "flatten", "unflatten", "transpose", "permute", "masked_fill", "index_select",
        "unsqueeze", "squeeze", "detach", "neg", "roll", "slice", "pad",
    ]
)  # fmt: skip


def _base(node: fx.Node) -> fx.Node:
    """What a term was before it was scaled, laid out or dropped in part."""
    while operation_name(node) in _STEPS:
        computed = [n for n in node.all_input_nodes if n.op == "call_function" and is_float(n)]
        if len(computed) != 1:
            break
        (node,) = computed
    return node


def is_float(node: fx.Node) -> bool:
    """Whether a node's value is a tensor of floats."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype.is_floating_point


def _computed_from(term: fx.Node, bases: set[fx.Node], order: Mapping[fx.Node, int]) -> bool:
    """Whether a term was computed from one of some values by way of a contraction."""
    earliest = min((order[base] for base in bases), default=0)
    todo, seen = [(term, False)], set[tuple[fx.Node, bool]]()
    while todo:
        node, contracted = todo.pop()
        if contracted and node in bases:
            return True
        contracted |= _contracts(node)
        for source in node.all_input_nodes:
            state = (source, contracted)
            if order[source] >= earliest and state not in seen:
                seen.add(state)
                todo.append(state)
    return False


def _contracts(node: fx.Node) -> bool:
    name = operation_name(node)
    return any(part in name for part in ("linear", "mm", "matmul", "conv", "attention", "einsum"))


def _tokens_of(
    node: fx.Node, program: Program, flow: TokenFlow, least: Level = Level.PARAMETER_TOKEN
) -> Tensor | None:
    """The token of each element, where each row is one live token."""
    for tag in flow.tags.get(node, ()):
        if tag.level < least or tag.softmax is not None:
            continue
        tokens = flow.book.find(tag.tokens)
        live = torch.as_tensor(program.token_stream)[tokens.clamp(min=0)] >= 0
        if bool(((tokens >= 0) & live).any()):
            return tokens
    return None
