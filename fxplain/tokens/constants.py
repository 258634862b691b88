"""Constants that are tokens: buffers, or zeros, that stand in a sequence."""

from __future__ import annotations

from torch import fx

from fxplain.capture import module_path, operation_name
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.scores import is_fixed
from fxplain.tokens.tag import Level, Tags
from fxplain.tokens.values import content_inputs, is_size

__all__ = ["constant_tokens"]


def constant_tokens(
    a: Analysis,
    part: fx.Node,
    operands: list[tuple[Tags, tuple[int, ...]]],
    axis: int,
    *,
    first: bool,
) -> Tags:
    """A buffer in a sequence of tokens, or zeros before it: they attend and are attended like tokens.

    Zeros behind other tokens are padding.
    """
    beside = [tag for tags, _ in operands for tag in tags]
    shape = a.shape(part)
    sequence = all(tag.varies(axis) and not tag.varies(len(shape) - 1) for tag in beside)
    if axis == len(shape) - 1 or not sequence or not is_fixed(a, part):
        return ()
    if any(tag.softmax for tag in beside) or max(len(tags) for tags, _ in operands) > 1:
        return ()
    name, stored = _name(a, part)
    if not (stored or first):
        return ()
    ids = a.book.add("constant", name, shape[:-1], module=module_path(part), node=part)
    return (a.born(ids.unsqueeze(-1), Level.PARAMETER_TOKEN),)


def _name(a: Analysis, node: fx.Node) -> tuple[str, bool]:
    """What a constant is called, a buffer's path or the operation that made it, and which it is."""
    while made_of := [n for n in content_inputs(node) if not is_size(n)]:
        node = made_of[0]
    state = a.capture.state.get(node.name)
    return (operation_name(node), False) if state is None else (state.path, True)
