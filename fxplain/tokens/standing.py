"""Standing tokens: a constant that weights make queries, keys or a part of a sequence of.

A buffer of prototypes, a table of sines that asks: once a layer has mapped its rows they attend and
are attended as a parameter's rows do, and are tokens as those are. A constant that only masks, scales
or says where something is makes none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.arguments import arguments
from fxplain.tokens.op_table import moves
from fxplain.tokens.scores import is_elementwise, tensors_of
from fxplain.tokens.tag import Level, Tags
from fxplain.tokens.values import content_inputs, is_size, reached

__all__ = ["standing_constants", "standing_tokens"]

_PRODUCTS = ("matmul", "mm", "bmm", "baddbmm")


def standing_constants(a: Analysis) -> frozenset[fx.Node]:
    """The constants of which a walk has seen that they attend, are attended or stand in a sequence."""
    found: set[fx.Node] = set()
    for values in (*_attending(a), *_side_by_side(a)):
        for value in values:
            found |= _constants_in(a, value)
    return frozenset(found)


def standing_tokens(a: Analysis, node: fx.Node) -> Tags:
    """The tokens of such a constant that the model computes: one for each of its rows."""
    return a.rows_born(node, operation_name(node), "constant")


def _attending(a: Analysis) -> Iterator[list[fx.Node]]:
    """What no token is known to be in of each attention: its queries, or its keys and values."""
    for node in a.capture.graph.nodes:
        if operation_name(node) == "scaled_dot_product_attention":
            named = arguments(node)
            yield _nameless(a, [named["query"], named["key"]], named["value"])
        elif operation_name(node) in ("softmax", "_softmax"):
            for asked in _operands(a, _products_before(node.all_input_nodes[0])):
                for user in _products_behind(node):
                    for value in user.all_input_nodes:
                        if not _comes_from(value, node):
                            yield _nameless(a, asked, value)


def _nameless(a: Analysis, asked: list[fx.Node], values: fx.Node) -> list[fx.Node]:
    """Of two factors of scores and the values those that hold no token; values beside a key alone."""
    without = [node for node in asked if not _holds(a, node)]
    return [*without, values] if without and not _holds(a, values) else without


def _holds(a: Analysis, node: fx.Node) -> bool:
    """Whether a value holds tokens, or is a weight; a bias that is added to every row is no token."""
    return a.is_parameter(node) or any(
        tag.level > Level.PARAMETER or tag.axes for tag in a.tags(node)
    )


def _side_by_side(a: Analysis) -> Iterator[list[fx.Node]]:
    """What no token is known to be in of what is put beside tokens, along their axis."""
    for node in a.capture.graph.nodes:
        if operation_name(node) not in ("cat", "concatenate"):
            continue
        named = arguments(node)
        parts = [part for part in named["tensors"] if isinstance(part, fx.Node)]
        rank = len(a.shape(node))
        axis = a.value(named.get("dim", 0)) % rank
        beside = [tag for tag in a.tags(node) if tag.varies(axis) and not tag.varies(rank - 1)]
        if axis < rank - 1 and beside:
            yield [part for part in parts if not _holds(a, part)]


def _constants_in(a: Analysis, value: fx.Node) -> set[fx.Node]:
    """The constants that weights made a value of; none if anything else is in it."""
    todo, seen, found, mapped = [value], {value}, set[fx.Node](), False
    while todo:
        node = todo.pop()
        sources = _sources(a, node)
        if sources == {"constant"}:
            found |= _root(a, node)
        elif sources == {"parameter"}:
            mapped = True
        elif "input" in sources and (node.op == "placeholder" or _holds(a, node)):
            return set()
        else:
            fresh = [n for n in _contents(a, node) if n not in seen]
            seen.update(fresh)
            todo += fresh
    return found if mapped else set()


def _sources(a: Analysis, node: fx.Node) -> set[str]:
    """What a value is made of: of inputs, of parameters, of constants."""
    found = set[str]()
    for current in reached(node, lambda n: _contents(a, n)):
        if not _contents(a, current):
            state = a.capture.state.get(current.name)
            learned = state is not None and state.kind == "parameter"
            given = current.name in a.capture.inputs
            found.add("input" if given else "parameter" if learned else "constant")
    return found


def _contents(a: Analysis, node: fx.Node) -> list[fx.Node]:
    """The tensors of numbers that a value is computed from: no sizes, no places, no masks."""
    return [n for n in content_inputs(node) if a.carries_tokens(n) and not is_size(n)]


def _root(a: Analysis, node: fx.Node) -> set[fx.Node]:
    """The constant that a value was laid out or computed from; none where it has no rows."""
    current = node
    while current.name not in a.capture.state and len(_contents(a, current)) == 1:
        (current,) = _contents(a, current)
    if current.name not in a.capture.state:
        current = node
        while moves(current) and len(tensors_of(current)) == 1:
            (current,) = tensors_of(current)
    return {current} if len(a.shape(current)) > 1 else set()


# -- around a softmax -----------------------------------------------------------------------------


def _products_before(node: fx.Node) -> list[fx.Node]:
    """The products that a value is made of element by element."""
    return _products(node, _as_laid_out)


def _products_behind(node: fx.Node) -> list[fx.Node]:
    """The products of weights, laid out or scaled, with something else."""
    return _products(
        node, lambda n: list(n.users) if n is node or is_elementwise(n) or moves(n) else []
    )


def _products(node: fx.Node, further: Callable[[fx.Node], list[fx.Node]]) -> list[fx.Node]:
    """The products that are reached first."""
    todo, seen, found = [node], {node}, []
    while todo:
        current = todo.pop()
        if operation_name(current) in _PRODUCTS:
            found.append(current)
            continue
        fresh = [n for n in further(current) if n not in seen]
        seen.update(fresh)
        todo += fresh
    return found


def _operands(a: Analysis, products: list[fx.Node]) -> Iterator[list[fx.Node]]:
    """The two factors of each product of values, of which none is a weight."""
    for product in products:
        factors = product.all_input_nodes[-2:]
        if len(factors) == 2 and not any(a.is_parameter(n) for n in factors):
            yield factors


def _comes_from(value: fx.Node, node: fx.Node) -> bool:
    """Whether a value is the weights of a softmax, laid out or scaled."""
    return node in reached(value, _as_laid_out)


def _as_laid_out(node: fx.Node) -> list[fx.Node]:
    """What a value was before it was laid out or scaled."""
    return tensors_of(node) if is_elementwise(node) or moves(node) else []
