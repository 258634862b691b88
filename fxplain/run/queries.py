"""Queries and keys of an attention that is written out: what its scores are the products of."""

from __future__ import annotations

import torch
from torch import fx

from fxplain.capture import operation_name
from fxplain.tokens import AttentionSite, is_elementwise

__all__ = ["queries_and_keys"]

_PRODUCTS = {"matmul": 0, "bmm": 0, "mm": 0, "baddbmm": 1}
"""Operations that contract queries with keys, and which of their arguments the queries are."""

_STATISTICS = frozenset(["amax", "max", "sum", "logsumexp", "getitem"])
"""What a softmax that is written out reads of its scores beside themselves."""


def queries_and_keys(site: AttentionSite) -> tuple[fx.Node, fx.Node] | None:
    """The nodes of queries, (..., queries, d), and transposed keys, (..., d, keys), of a site.

    None where there is no one product that its scores are computed from, element by element: of
    scores that are a sum of two products (relative positions that ask back), neither is meant.
    """
    if site.form != "product" or not site.weights_on_left:
        return None
    found: set[fx.Node] = set()
    seen: set[fx.Node] = set()
    ahead = list(site.softmax.all_input_nodes)
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        if operation_name(node) in _PRODUCTS:
            found.add(node)
        elif _leads_back(node):
            ahead.extend(node.all_input_nodes)
    if len(found) != 1:
        return None
    (product,) = found
    first = _PRODUCTS[operation_name(product)]
    queries, keys = product.args[first : first + 2]
    assert isinstance(queries, fx.Node)
    assert isinstance(keys, fx.Node)
    return queries, keys


def _leads_back(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    is_softmax = node.target in (torch.ops.aten.softmax.int, torch.ops.aten._softmax.default)
    return is_softmax or is_elementwise(node) or operation_name(node) in _STATISTICS
