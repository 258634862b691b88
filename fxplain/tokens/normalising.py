"""Normalisation: where scores become weights, with a softmax or by hand."""

from __future__ import annotations

from dataclasses import replace

from torch import fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.mapping import weights_of
from fxplain.tokens.mixing import united_along
from fxplain.tokens.pointwise import pointwise
from fxplain.tokens.reductions import single_key, weighs_itself
from fxplain.tokens.scores import (
    OVER_STATES,
    computes_the_same,
    elementwise_origin,
    is_pair,
    is_positive,
    made_of_tokens,
    tokens_of,
)
from fxplain.tokens.tag import Level, Tags, without_askers

__all__ = ["exponential", "logarithm", "quotient", "softmax"]

_TRANSPARENT = frozenset(
    [
        "view",
        "reshape",
        "unsqueeze",
        "squeeze",
        "expand",
        "expand_as",
        "broadcast_to",
        "clone",
        "contiguous",
        "detach",
        "to",
        "_to_copy",
        "add",
        "clamp",
        "clamp_min",
        "maximum",
        "where",
        "masked_fill",
        "nan_to_num",
    ]
)


def softmax(a: Analysis, node: fx.Node) -> Tagged:
    """Normalisation: along tokens it may make attention weights, along anything else it does not."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    tags = tokens_of(a, source)
    axis = int(arguments(node)["dim"]) % max(len(a.shape(source)), 1)
    if not tags:
        a.softmaxes[node] = (
            _over_features(a, node, axis)
            if made_of_tokens(a, source)
            else "it normalises values that belong to no token"
        )
        return ()
    if _is_learned(tags):
        a.softmaxes[node] = "it normalises learned weights, not over tokens"
        return ()
    united = tuple(united_along(a, tag, axis) for tag in tags)
    if not any(tag.varies(axis) for tag in united):
        if any(tag.varies(axis) for tag in tags):
            a.softmaxes[node] = OVER_STATES
            return without_askers(united)
        a.softmaxes[node] = _over_features(a, node, axis)
        if a.shape(node)[axis] > 1:
            return without_askers(tags)
        a.softmaxes[node] = "it normalises over a single element that belongs to no key token"
        return _marked(tags, node)
    a.softmaxes[node] = None
    return _marked(tags, node)


def _is_learned(tags: Tags) -> bool:
    """Whether a value is a bare parameter's: normalised, it is weights, and no sequence of tokens."""
    return all(tag.level is Level.PARAMETER for tag in tags)


def _over_features(a: Analysis, node: fx.Node, axis: int) -> str:
    size = a.shape(node)[axis]
    return f"it normalises over {size} features, classes or experts, not over tokens"


def _over_keys(a: Analysis, value: fx.Node, tags: Tags, axis: int) -> bool:
    """Whether `axis` runs over tokens, if only one; not over states of a token (layers, streams)."""
    alone = a.shape(value)[axis] == 1
    return alone or any(united_along(a, tag, axis).varies(axis) for tag in tags)


def _marked(tags: Tags, node: fx.Node) -> Tags:
    return tuple(replace(tag, softmax=node) for tag in tags)


def exponential(a: Analysis, node: fx.Node) -> Tagged:
    """``exp``: of log-probabilities along tokens, it makes weights."""
    tags = pointwise(a, node)
    for step in elementwise_origin(a, node.all_input_nodes[0]):
        logarithm_of = step.all_input_nodes[:1] if operation_name(step) == "log" else []
        weights = weights_of([tag for n in logarithm_of for tag in a.tags(n)])
        if weights is not None:
            return tuple(replace(tag, softmax=weights) for tag in tags)
        axis = _log_normalised(a, step)
        if axis is not None and _is_learned(tags):
            return ()
        if axis is not None:
            return _marked(tags, node) if _over_keys(a, step, tags, axis) else without_askers(tags)
        if operation_name(step) not in _TRANSPARENT:
            break
    return tags


def logarithm(a: Analysis, node: fx.Node) -> Tagged:
    """``log``: of weights it makes none (a divergence, an entropy), as long as they stay logarithms."""
    return tuple(replace(tag, softmax=None) for tag in pointwise(a, node))


def _log_normalised(a: Analysis, node: fx.Node) -> int | None:
    """The axis along which a value's exponentials sum to 1, if it was made so."""
    named = arguments(node)
    if "log_softmax" in operation_name(node):
        return int(named["dim"]) % len(a.shape(node))
    if operation_name(node) != "sub" or not isinstance(named.get("other"), fx.Node):
        return None
    total = _statistic(named["other"], ("logsumexp",))
    return None if total is None else _axis_of(a, total, named["input"])


def quotient(a: Analysis, node: fx.Node) -> Tagged:
    """Products and quotients: what is divided by its own sum along tokens becomes weights."""
    apart = single_key(a, node)
    if apart is not None and weighs_itself(a, *apart):
        return tuple(replace(tag, softmax=None) for tag in pointwise(a, node))
    if apart is not None:
        return (*apart[0], *apart[1])
    tags = pointwise(a, node)
    parts = [n for n in node.args[:2] if isinstance(n, fx.Node)]
    if len(parts) != 2 or any(tag.softmax for tag in tags):
        return tags
    divided = operation_name(node) in ("div", "divide", "true_divide")
    for value, divisor in [parts] if divided else [parts, parts[::-1]]:
        total = _statistic(divisor, ("sum", "linalg_vector_norm", "norm"), inverse=not divided)
        axis = None if total is None else _axis_of(a, total, value)
        if axis is not None and _is_learned(tags):
            return ()
        if axis is not None:
            return _marked(tags, node) if _over_keys(a, value, tags, axis) else without_askers(tags)
    return tags


def _statistic(node: fx.Node, names: tuple[str, ...], *, inverse: bool = False) -> fx.Node | None:
    """The reduction that a divisor comes from, through views, small constants and a lower bound."""
    steps: list[fx.Node] = [node]
    inverted = not inverse
    while steps:
        step = steps.pop()
        name = operation_name(step)
        if name in names:
            return step if inverted and _is_sum(step) else None
        if name == "reciprocal" or (name in ("div", "pow", "rsub") and _inverts(step)):
            inverted = True
        elif name not in _TRANSPARENT and not _by_a_number(step):
            continue
        steps += step.all_input_nodes
    return None


def _by_a_number(node: fx.Node) -> bool:
    return operation_name(node) in ("mul", "div") and not isinstance(node.args[1], fx.Node)


def _inverts(node: fx.Node) -> bool:
    """Whether a node is ``1 / x`` or ``x ** -1``."""
    return bool(node.args[1] == -1) or isinstance(node.args[0], (int, float))


def _is_sum(node: fx.Node) -> bool:
    """Whether a reduction sums (a norm of order 1 sums magnitudes)."""
    if operation_name(node) in ("sum", "logsumexp"):
        return True
    named = arguments(node)
    return bool(named.get("ord", named.get("p")) == 1)


def _axis_of(a: Analysis, total: fx.Node, value: fx.Node) -> int | None:
    """The axis along which `total` was taken of `value` itself; None if it was of something else."""
    source = total.all_input_nodes[0]
    dims = arguments(total).get("dim")
    dims = [dims] if isinstance(dims, int) else list(dims or [])
    if len(dims) != 1 or len(a.shape(source)) != len(a.shape(value)):
        return None
    own = list(elementwise_origin(a, value))
    repeated = any(computes_the_same(step, source) for step in own)
    if not repeated and value not in elementwise_origin(a, source):
        return None
    # of a single key nothing varies, but what its own logsumexp is taken off is log-weights
    weights = (
        operation_name(total) == "logsumexp"
        or is_pair(a.tags(value))
        or any(is_positive(n) or "softmax" in operation_name(n) for n in own)
    )
    return int(dims[0]) % len(a.shape(source)) if weights else None
