"""Members: models that ``torch.vmap`` runs side by side, one for each set of weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import fx

from fxplain.capture.captured import operation_name

__all__ = ["members_beside_each_other"]

_ATTENTION = ("scaled_dot_product_attention", "softmax", "_softmax")
_OPENS, _CLOSES = "_vmap_increment_nesting", "_vmap_decrement_nesting"
_MEMBER = "_add_batch_dim"


def members_beside_each_other(graph: fx.Graph, inputs: Collection[fx.Node]) -> list[str]:
    """What is said of models of several layers that ``torch.vmap`` runs side by side.

    After dispatch they are one model with one more axis, as heads are. Where each has one attention
    that is what they are: heads with weights of their own. Where attention follows attention, the
    latter hears its own member alone, and the mean over heads hears them all.

    Parameters
    ----------
    graph
        As it was exported, before ``torch.vmap`` has done its work.
    inputs
        Its placeholders that are no weights.
    """
    said: dict[str, None] = {}
    for region in _regions(graph):
        weights = {
            node
            for node in region
            if _name(node) == _MEMBER and not _reached([node.args[0]], inputs)
        }
        attentions = [node for node in region if operation_name(node) in _ATTENTION]
        own = [node for node in attentions if _reached(node.all_input_nodes, weights)]
        deeper = [node for node in own if _reached(node.all_input_nodes, {*own})]
        if deeper:
            said[
                f"torch.vmap runs {region[0].args[0]} models side by side: their attentions are "
                f"followed as heads of one, layer by layer, which differs from each model by "
                f"itself; written as a loop over the models each is followed by itself"
            ] = None
    return [*said]


def _regions(graph: fx.Graph) -> Iterator[list[fx.Node]]:
    """The nodes within each call of ``torch.vmap``, its own two included."""
    open_ones: list[list[fx.Node]] = []
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        name = _name(node)
        if name == _OPENS:
            open_ones.append([])
        for region in open_ones:
            region.append(node)
        if name == _CLOSES and open_ones:
            yield open_ones.pop()


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", ""))


def _reached(nodes: Collection[object], sources: Collection[fx.Node]) -> bool:
    """Whether nodes are, or are made of, one of the sources."""
    waiting = [node for node in nodes if isinstance(node, fx.Node)]
    seen: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node in sources:
            return True
        if node not in seen:
            seen.add(node)
            waiting += node.all_input_nodes
    return False
