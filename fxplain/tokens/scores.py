"""Scores on their way to weights: what a value was computed from, and what it is used for.

Weights are made in many ways. These walks over the graph tell what a value is by its neighbours:
elementwise steps lead back from weights to the scores they were made of, and forward from a
statistic of the scores (their maximum, their sum) to the division that it is there for.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.arguments import arguments
from fxplain.tokens.tag import Level, Tag, Tags
from fxplain.tokens.values import content_inputs, is_size

__all__ = [
    "FIXED_VALUES",
    "OF_A_GROUP",
    "OVER_STATES",
    "asks",
    "becomes_scores",
    "computes_the_same",
    "elementwise_origin",
    "is_elementwise",
    "is_exponential",
    "is_extreme",
    "is_fixed",
    "is_pair",
    "is_positive",
    "late_division",
    "less_a_threshold",
    "made_of_tokens",
    "normalised_along",
    "only_scales",
    "positive_scores",
    "tensors_of",
    "tokens_of",
]

FIXED_VALUES = "its weights are contracted against fixed values, not against tokens"
OVER_STATES = "it normalises over layers or states of one token, not over tokens"
OF_A_GROUP = "each of its weights is shared by a group of tokens"
_VIEWS = frozenset(
    [
        "view",
        "reshape",
        "_unsafe_view",
        "flatten",
        "unflatten",
        "transpose",
        "permute",
        "t",
        "mT",
        "unsqueeze",
        "squeeze",
        "expand",
        "expand_as",
        "broadcast_to",
        "alias",
        "contiguous",
        "clone",
        "detach",
        "to",
        "_to_copy",
        "dropout",
        "slice",
        "view_as",
        "lift_fresh_copy",
    ]
)
_LAID_OUT_ANEW = frozenset(["view", "reshape", "_unsafe_view", "flatten", "unflatten", "view_as"])
_AS_THEY_ARE = frozenset(
    ["alias", "contiguous", "clone", "detach", "to", "_to_copy", "dropout", "lift_fresh_copy"]
)
_POINTWISE = frozenset(  # overloads of these lack PyTorch's own mark
    [
        "where", "masked_fill", "subtract", "multiply", "divide", "true_divide", "floor_divide",
        "rsub", "prelu", "hardswish", "log_sigmoid", "tril", "triu",
    ]
)  # fmt: skip
_PRODUCTS = frozenset(["matmul", "bmm", "mm", "baddbmm"])
_POSITIVE = frozenset(["relu", "sigmoid", "exp", "exp2", "square", "softplus", "hardsigmoid"])
_MAY_BE_POSITIVE = frozenset(["pow", "clamp", "clamp_min"])
_EXTREMES = frozenset(["max", "amax", "min", "amin", "logsumexp"])
_NEAR = 12  # steps between the sum of a query and a key and their score


def is_pair(tags: Tags) -> bool:
    """Whether a value has an element for every pair of tokens, as scores do."""
    axes = {tag.axes for tag in tags}
    return len(axes) > 1


def is_elementwise(node: fx.Node) -> bool:
    """Whether each element of the result is computed from one element of each operand."""
    if operation_name(node) in _VIEWS | _POINTWISE:
        return True
    return torch.Tag.pointwise in getattr(node.target, "tags", ())


def elementwise_origin(a: Analysis, node: fx.Node) -> Iterator[fx.Node]:
    """`node` and what it was computed from element by element, back to the last contraction.

    Of several operands the walk follows the one that names the most tokens, and inputs' before
    parameters': a mask, a bias or a row's statistic does not stand in its way; another value of the
    kind does.
    """
    yield node
    while is_elementwise(node):
        operands = [n for n in node.all_input_nodes if a.tags(n)]
        if less_a_threshold(a, node):
            operands = operands[:1]
        if not operands:
            return
        sizes = [_names_of_tokens(a.tags(n)) for n in operands]
        largest = [n for n, size in zip(operands, sizes, strict=True) if size == max(sizes)]
        if len(largest) > 1:
            return
        node = largest[0]
        yield node


def _names_of_tokens(tags: Tags) -> tuple[Level, int]:
    """How strongly a value names tokens, and how many."""
    return max(tag.level for tag in tags), sum(tag.ids.numel() for tag in tags)


def computes_the_same(one: fx.Node, other: fx.Node) -> bool:
    """Whether two nodes are one value, written once or twice."""
    if one is other:
        return True
    if one.target is not other.target or one.op != "call_function" or one.kwargs != other.kwargs:
        return False
    pairs = list(zip(one.args, other.args, strict=False))
    return len(one.args) == len(other.args) and all(
        computes_the_same(x, y)
        if isinstance(x, fx.Node) and isinstance(y, fx.Node)
        else not isinstance(x, fx.Node) and not isinstance(y, fx.Node) and x == y
        for x, y in pairs
    )


def positive_scores(a: Analysis, node: fx.Node) -> fx.Node | None:
    """Where scores (queries against keys) went through a function that leaves none negative.

    Weights that nothing normalises are made so: sigmoid attention, (squared) ReLU attention.
    """
    positive: fx.Node | None = None
    for step in elementwise_origin(a, node):
        if operation_name(step) in _PRODUCTS:
            return positive if _is_score(a, step) else None
        if positive is None and is_positive(step):
            positive = step
    return None


def _is_score(a: Analysis, product: fx.Node) -> bool:
    """Whether a product has an element for each query and key: one, where there is one of both."""
    tags = a.tags(product)
    alone = len(tags) > 1 and a.shape(product)[-2:] == (1, 1)
    return is_pair(tags) or (alone and all(a.tags(n) for n in tensors_of(product)))


def normalised_along(a: Analysis, node: fx.Node, axis: int) -> fx.Node | None:
    """The softmax that made a value sum to 1 along `axis`, whatever that axis was to its operand.

    A query may say by itself how much each place weighs (outlook attention, a synthesizer, dynamic
    convolution): nothing tells that its features are places, but what they are contracted with.
    """
    steps: list[fx.Node] = []
    while "softmax" not in operation_name(node):
        if operation_name(node) not in _VIEWS or len(tensors_of(node)) != 1:
            return None
        steps.append(node)
        node = node.all_input_nodes[0]
    own = int(arguments(node)["dim"]) % len(a.shape(node))
    places = _numbered(a, node, own)
    for step in reversed(steps):
        places = _moved(a, step, places)
    along = places.axes == {axis % len(a.shape(steps[0] if steps else node))}
    whole = along and torch.equal(places.ids.flatten(), torch.arange(a.shape(node)[own]))
    return node if whole else None


def asks(a: Analysis, node: fx.Node, axis: int) -> bool:
    """Whether what runs along `axis` of scores are queries: a softmax is taken along another one.

    Not where the scores are added to others before, as those of relative places are.
    """
    places = _numbered(a, node, axis % len(a.shape(node)))
    while len(node.users) == 1:
        (user,) = node.users
        if "softmax" in operation_name(user):
            return int(arguments(user)["dim"]) % len(a.shape(node)) not in places.axes
        if operation_name(user) in _VIEWS and len(tensors_of(user)) == 1:
            places = _moved(a, user, places)
        elif not is_elementwise(user) or any(a.tags(n) for n in tensors_of(user) if n is not node):
            return False
        node = user
    return False


def _numbered(a: Analysis, node: fx.Node, axis: int) -> Tag:
    """The places along one axis of a value."""
    shape = a.shape(node)
    sizes = [n if i == axis else 1 for i, n in enumerate(shape)]
    return Tag(torch.arange(shape[axis]).reshape(sizes))


def _moved(a: Analysis, step: fx.Node, places: Tag) -> Tag:
    """Places where a view moves them to."""
    shape = a.shape(step.all_input_nodes[0])
    if operation_name(step) in _LAID_OUT_ANEW:
        return places.reshaped(shape, a.shape(step))
    if operation_name(step) in _AS_THEY_ARE:
        return places
    target: Any = step.target
    rest, kwargs = a.value(step.args[1:]), a.value(step.kwargs)
    return places.moved(lambda ids: target(ids, *rest, **kwargs), shape)


def tensors_of(node: fx.Node) -> list[fx.Node]:
    """The tensors that an operation is given: no sizes, no lists."""
    return [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]


def is_positive(node: fx.Node) -> bool:
    """Whether an operation leaves nothing negative."""
    name = operation_name(node)
    if name in _MAY_BE_POSITIVE:
        named = arguments(node)
        power, low = named.get("exponent"), named.get("min")
        even = isinstance(power, (int, float)) and power > 0 and power % 2 == 0
        return even or (isinstance(low, (int, float)) and low >= 0)
    return name in _POSITIVE


def is_fixed(a: Analysis, node: fx.Node) -> bool:
    """Whether a value is computed from neither inputs nor parameters (a grid of places)."""
    todo, seen = [node], {node}
    while todo:
        current = todo.pop()
        slot = a.capture.state.get(current.name)
        if a.tags(current) or a.origins(current) or (slot and slot.kind == "parameter"):
            return False
        fresh = [n for n in content_inputs(current) if n not in seen and not is_size(n)]
        seen.update(fresh)
        todo += fresh
    return True


def made_of_tokens(a: Analysis, node: fx.Node) -> bool:
    """Whether a value was computed from an input's tokens, whether or not it still carries them."""
    todo, seen = [node], {node}
    while todo:
        current = todo.pop()
        if any(tag.level in (Level.RAW_INPUT, Level.TOKEN) for tag in a.tags(current)):
            return True
        fresh = [n for n in content_inputs(current) if n not in seen and _is_content(n)]
        seen.update(fresh)
        todo += fresh
    return False


def _is_content(node: fx.Node) -> bool:
    """Whether a node holds numbers that tokens may be in: not a size, an index or a mask."""
    return _carries(node) and not is_size(node)


def tokens_of(a: Analysis, node: fx.Node) -> Tags:
    """The tags of a value, but for a parameter's that only scales or shifts it.

    Scores of features against features (channel attention) carry no token any more; the temperature
    that they are multiplied by does not lend them its own.
    """
    tags = a.tags(node)
    bare = bool(tags) and all(tag.level is Level.PARAMETER for tag in tags)
    return () if bare and made_of_tokens(a, node) else tags


def less_a_threshold(a: Analysis, node: fx.Node) -> bool:
    """Whether a number for each row of scores, made of these scores alone, is taken off them.

    Weights that are projected onto a simplex are made so (sparsemax, entmax): the threshold says
    nothing that the scores do not.
    """
    parts = [n for n in node.args[:2] if isinstance(n, fx.Node)]
    if operation_name(node) not in ("sub", "subtract") or len(tensors_of(node)) != 2:
        return False
    scores, threshold = parts
    shape, other = a.shape(scores), a.shape(threshold)
    if not is_pair(a.tags(scores)) or len(shape) != len(other) or not other[-1] == 1 < shape[-1]:
        return False
    todo, seen = [threshold], {threshold}
    for current in todo:
        made_of = [n for n in content_inputs(current) if n is not scores and n not in seen]
        if any(n < scores and a.tags(n) for n in made_of):
            return False
        seen.update(made_of)
        todo += made_of
    return any(scores in n.all_input_nodes for n in seen)


def is_exponential(node: fx.Node) -> bool:
    """Whether a node exponentiates: what it makes are weights once they are divided by their sum."""
    return operation_name(node) in ("exp", "exp2")


def becomes_scores(a: Analysis, node: fx.Node) -> bool:
    """Whether all that a value is for are scores: its features are contracted to one number each.

    Scores are written so where a query meets its keys element by element (additive attention).
    """
    todo = [(node, a.shape(node)[-1:] == (1,))]
    for current, contracted in todo:
        if not current.users or len(todo) > _NEAR:
            return False
        for user in current.users:
            if contracted and _makes_weights(user):
                continue
            one = not contracted and _contracts_features(a, user, current)
            kept = contracted and (_passes_on(user) or is_extreme(user))
            if not (one or kept or is_elementwise(user)):
                return False
            todo.append((user, contracted or one))
    return True


def _makes_weights(node: fx.Node) -> bool:
    """Whether a node is a softmax, or a step of one that is written out."""
    name = operation_name(node)
    return "softmax" in name or name == "logsumexp" or is_exponential(node)


def _contracts_features(a: Analysis, user: fx.Node, source: fx.Node) -> bool:
    """Whether `user` makes one number of each token's features (a head may have its own)."""
    name = operation_name(user)
    if name == "sum":
        dims = arguments(user).get("dim")
        last = len(a.shape(source)) - 1
        return dims in ([-1], [last], -1, last)
    if name in ("linear", "matmul"):
        return user.args[0] is source and a.shape(user)[-1:] == (1,)
    return False


def is_extreme(node: fx.Node) -> bool:
    """Whether a reduction picks the largest or the smallest, if only smoothly."""
    return operation_name(node) in _EXTREMES


# -- statistics -----------------------------------------------------------------------------------


def only_scales(a: Analysis, node: fx.Node, source: fx.Node) -> bool:
    """Whether a reduction of `source` is a statistic: all that it does is to shift or scale others.

    The maximum that is taken off the scores before they are exponentiated and the sum that they are
    divided by carry nothing from token to token that the weights themselves do not say. A maximum
    that is taken off nothing is a pooling, whatever it is multiplied by.
    """
    extreme = is_extreme(node)
    weights = any(tag.softmax for tag in a.tags(source)) or is_pair(a.tags(source))
    if not extreme and not weights:
        weights = any(is_positive(step) for step in elementwise_origin(a, source))
        if not weights:
            return False
    todo, seen = [node], {node}
    scales = set() if extreme else {node}  # what may be a factor of others, not only taken off them
    while todo:
        current = todo.pop()
        for user in current.users:
            if _shifts(user, current, seen) or not _carries(user) or _only_ranks(user):
                continue
            if current in scales and _scales(user, current, seen):
                continue
            shares = operation_name(node) == "logsumexp" and "softmax" in operation_name(user)
            if not (shares or _passes_on(user)):  # chunks of keys have shares by their sums
                return False
            factor = shares or current in scales or is_exponential(user) or _gates(node, user)
            if user not in seen or (factor and user not in scales):
                seen.add(user)
                scales |= {user} if factor else set()
                todo.append(user)
    return len(seen) > 1 or bool(node.users)


def _gates(statistic: fx.Node, user: fx.Node) -> bool:
    """Whether a sigmoid makes a share of two parts' log sums: it is a softmax over both."""
    return operation_name(statistic) == "logsumexp" and operation_name(user) == "sigmoid"


def _passes_on(node: fx.Node) -> bool:
    return (
        is_elementwise(node)
        or node.target is operator.getitem
        or operation_name(node) in ("stack", "cat")
    )


def _only_ranks(node: fx.Node) -> bool:
    """Whether a node sorts, and only the order is used: it picks tokens, by its concrete values."""
    if operation_name(node) not in ("topk", "sort"):
        return False
    return all(user.target is operator.getitem and user.args[1] == 1 for user in node.users)


def _carries(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return not isinstance(value, Tensor) or value.dtype.is_floating_point


def _other_operand(user: fx.Node, statistic: fx.Node, seen: set[fx.Node]) -> fx.Node | None:
    """What meets the statistic in `user`, if that is no statistic itself."""
    tensors = user.all_input_nodes
    if len(tensors) != 2:
        return None
    other = tensors[0] if tensors[1] is statistic else tensors[1]
    return None if other in seen else other


def _shifts(user: fx.Node, statistic: fx.Node, seen: set[fx.Node]) -> bool:
    """Whether the statistic is taken off another value, or divides it."""
    if operation_name(user) not in ("sub", "subtract", "div", "divide", "true_divide"):
        return False
    other = _other_operand(user, statistic, seen)
    return other is not None and user.all_input_nodes[1] is statistic


def _scales(user: fx.Node, statistic: fx.Node, seen: set[fx.Node]) -> bool:
    """Whether another value is multiplied by the statistic, or two are weighed by it."""
    if operation_name(user) == "lerp":
        return user.args[2] is statistic and seen.isdisjoint(tensors_of(user)[:2])
    if operation_name(user) not in ("mul", "multiply"):
        return False
    return _other_operand(user, statistic, seen) is not None


# -- division after the contraction ---------------------------------------------------------------


def late_division(a: Analysis, node: fx.Node, weights: fx.Node) -> fx.Node | None:
    """The division that normalises ``weights @ values`` after it was computed, if there is one.

    Attention over chunks of keys is written so: exponentiated scores are contracted, and their sums
    are kept beside; what has been summed up is divided by the sums at the end.
    """
    origin = set(elementwise_origin(a, weights))
    sums = [user for step in origin for user in step.users if operation_name(user) == "sum"]
    contracted = _reached(node)
    for divisor in sorted(_reached(*sums)):
        for user in divisor.users:
            if operation_name(user) not in ("div", "divide") or user.args[1] is not divisor:
                continue
            if user.args[0] in contracted and user.args[0] is not divisor:
                return user
    return None


def _reached(*nodes: fx.Node) -> set[fx.Node]:
    """What is computed from `nodes` element by element."""
    found, todo = set(nodes), list(nodes)
    while todo:
        for user in todo.pop().users:
            if user not in found and is_elementwise(user):
                found.add(user)
                todo.append(user)
    return found
