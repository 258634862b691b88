"""Cuts: attention whose influence on the explained output passes operations without a gradient.

Rounding, integers and ``detach`` let values through and no gradient. What only such a way leads to
gets no relevance, although the output depends on it, so it must be said.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence

from torch import Tensor, fx

from fxplain.capture import Capture, module_path, operation_name
from fxplain.errors import NoGradientError
from fxplain.explanation.undifferentiable import is_unknown
from fxplain.program import Program

__all__ = ["cut_attention"]

_FLAT = frozenset(["round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside", "detach"])
"""Operations on floats whose derivative is 0 wherever there is one, or that drop it."""

_OF_ITS_SHAPE = frozenset(
    ["new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like",
     "empty_like", "rand_like", "randn_like"]
)  # fmt: skip

_MOST_NAMED = 2


def cut_attention(capture: Capture, program: Program, outputs: Sequence[int]) -> tuple[str, ...]:
    """Warnings about attention that reaches some outputs through cuts only; found once a program.

    Raises
    ------
    NoGradientError
        When that is all attention that reaches them.
    """
    key = ("cuts", tuple(outputs))
    told, nothing_left = program.memo.made(key, lambda: _Ways(capture, program, outputs).told())
    if nothing_left:
        raise NoGradientError(
            f"{told}. Explain the model as it was before it was quantised or rounded, or by a method "
            f"that needs no gradient (raw_attention, rollout)."
        )
    return (told,) if told else ()


class _Ways:
    """What leads to some outputs: with a gradient, or at all."""

    def __init__(self, capture: Capture, program: Program, outputs: Sequence[int]) -> None:
        self._program = program
        final = next(node for node in capture.graph.nodes if node.op == "output")
        results = [n for n in final.args[0] if isinstance(n, fx.Node)]
        self._leads: set[fx.Node] = {results[i] for i in outputs}
        self._differentiable = set(self._leads)
        for node in reversed(list(capture.graph.nodes)):
            for user in node.users:
                if user in self._leads and _reads_content(user, node):
                    self._leads.add(node)
                    if user in self._differentiable and not _cuts(user, node):
                        self._differentiable.add(node)

    def told(self) -> tuple[str, bool]:
        """What to say (nothing: ""), and whether no attention has a gradient."""
        reaching = [n for n in self._program.nodes.values() if n.site.node in self._leads]
        cut = [n for n in reaching if n.site.node not in self._differentiable]
        if not cut:
            return "", False
        places = list(dict.fromkeys(place for n in cut for place in self._cuts_behind(n.site.node)))
        named = ", ".join(places[:_MOST_NAMED])
        more = f" and {len(places) - _MOST_NAMED} more" if places[_MOST_NAMED:] else ""
        names = [n.info.name for n in cut]
        which = ", ".join(names[:_MOST_NAMED]) + (
            f" and {len(names) - _MOST_NAMED} more" if names[_MOST_NAMED:] else ""
        )
        return (
            f"no gradient comes through {named}{more}, and the attention {which} reaches the "
            f"explained output that way only: what it carries is not in the explanation"
        ), len(cut) == len(reaching)

    def _cuts_behind(self, node: fx.Node) -> Iterator[str]:
        """The first operations on each way from a node to the outputs that drop its gradient."""
        seen, todo = {node}, [node]
        while todo:
            current = todo.pop()
            for user in current.users:
                if user in seen or user not in self._leads or not _reads_content(user, current):
                    continue
                seen.add(user)
                if _cuts(user, current):
                    made = current if user.target is operator.getitem else user  # topk's indices
                    name = str(made.target).removesuffix(".default")
                    yield f"{name} in {module_path(made) or 'the model'}"
                else:
                    todo.append(user)


def _reads_content(user: fx.Node, node: fx.Node) -> bool:
    """Whether what `user` makes depends on a value, and not on its shape alone."""
    if user.op == "output":
        return False
    if not _tensors(node.meta.get("val")):
        return False
    made = user.meta.get("val")
    if made is not None and not _tensors(made):
        return False  # a size
    return operation_name(user) not in _OF_ITS_SHAPE or node not in user.args[:1]


def _cuts(user: fx.Node, node: fx.Node) -> bool:
    """Whether an operation drops the gradient of one of its operands."""
    if not _differentiable_type(node.meta.get("val")):
        return False  # it had none
    made = user.meta.get("val")
    if isinstance(made, Tensor) and not _differentiable_type(made):
        return True
    return operation_name(user) in _FLAT or is_unknown(user)


def _tensors(value: object) -> bool:
    return isinstance(value, (Tensor, tuple, list))


def _differentiable_type(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_differentiable_type(each) for each in value)
    return isinstance(value, Tensor) and (value.dtype.is_floating_point or value.dtype.is_complex)
