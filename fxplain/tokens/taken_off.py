"""Taking off: sums of tokens of which some are taken away again.

``x.sum(1) - x``, leave one out; ``c[:, k:] - c[:, :-k]`` of a running sum, a sliding window: nothing of
what cancels is left. All between the rows and the difference is linear, so its gradient, which is the
same for any rows, says how much of each is in the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.arguments import arguments
from fxplain.tokens.mixing import mix
from fxplain.tokens.tag import NO_TOKEN, Level, Tag, Tags, broadcast_shape, tokens_in

__all__ = ["sum_of_differences", "weighed_sum", "what_is_left"]

_SUMS = ("sum", "mean", "cumsum", "avg_pool1d", "avg_pool2d")
_TAKES_OFF = ("sub", "subtract", "rsub", "neg", "negative", "diff")
_AS_IT_IS = ("to", "_to_copy", "clone", "contiguous", "dropout")
_MOVES = (
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "expand", "transpose", "permute",
    "slice", "select", "squeeze", "unsqueeze", "narrow", "flip", "roll", "pad", "constant_pad_nd",
    "cat", "stack", "movedim", "index_select", "index", "gather", "repeat", "chunk", "split",
    "getitem",
)  # fmt: skip
_ADDS = ("add", "lerp")
_FACTORS = ("mul", "multiply", "div", "divide", "true_divide")
_LINEAR = frozenset(("add", *_TAKES_OFF, *_SUMS, *_AS_IT_IS, *_MOVES))
_SCALES = frozenset((*_FACTORS, "masked_fill"))
_NEAR = 40
"""Operations between the rows and the difference."""
_MOST = 100_000_000
"""Numbers in all gradients: more than that, and what cancels is not looked for."""
_NOTHING = 1e-9


def weighed_sum(a: Analysis, node: fx.Node, operands: Sequence[fx.Node]) -> Tag | None:
    """The tag of rows and others of the same tokens that are added by numbers; None for any else.

    ``.1 * x[:, :1] + .9 * x.mean(1)``, ``torch.lerp(x, x.roll(1, 1), .9)``: each has its share. So it
    has in a sum of more than two slices, a moving one.
    """
    if len(operands) != 2 or operation_name(node) not in _ADDS:
        return None
    steps, shown = _linear_steps(a, node, operands, _scales_some), _shown(a, node, operands)
    if steps is None or shown is None:
        return None
    return _left(a, node, steps, shown, stays=True, weighed=True)


def what_is_left(a: Analysis, node: fx.Node, operands: Sequence[fx.Node]) -> Tag | None:
    """The tag of a difference in which some tokens cancel; None where none do."""
    if len(operands) != 2 or operation_name(node) not in ("add", *_TAKES_OFF):
        return None
    steps, shown = _linear_steps(a, node, operands, _takes_off_sums), _shown(a, node, operands)
    return None if steps is None or shown is None else _left(a, node, steps, shown, stays=True)


def sum_of_differences(
    a: Analysis, node: fx.Node, source: fx.Node, axes: Sequence[int], *, keepdim: bool
) -> Tag | None:
    """The tag of a sum of differences in which some tokens cancel; None where none do."""
    tags = a.tags(source)
    if operation_name(node) not in ("sum", "mean") or len(tags) != 1 or not _names(tags):
        return None
    steps = _linear_steps(a, node, [source], _takes_off_sums)
    if steps is None:
        return None
    return _left(a, node, steps, tags[0].ids.amax(list(axes), keepdim=keepdim), stays=False)


def _left(
    a: Analysis,
    node: fx.Node,
    steps: _Steps,
    shown: Tensor,
    *,
    stays: bool,
    weighed: bool = False,
) -> Tag | None:
    """The tag of what is left of rows; `shown` names the new ones, which may be some of the old."""
    (tag,) = a.tags(steps.base)
    old, new = _Rows.of(a, tag.ids), _Rows.of(a, shown)
    if old is None or new is None or not _is_small(a, steps.base, new.count):
        return None
    shares = _shares(a, steps, old, new, weighed=weighed)
    if shares is None:
        return None
    entries = torch.full((int(old.sample.max()) + 1, old.count), NO_TOKEN)
    entries[old.sample, old.place] = tag.ids
    groups = torch.where(shares > 0, entries[new.sample], NO_TOKEN)
    tokens = a.book.find(tokens_in(shown))
    stays &= new.count > 1 and len(tokens.unique()) == tokens.numel()  # spans may end alike
    stay = stays and bool(torch.isin(tokens, a.book.find(tag.tokens).flatten()).all())
    return mix(a, node, tag, groups, weights=lambda: shares, keep=shown if stay else None)


@dataclass(frozen=True)
class _Steps:
    """What lies between rows and a difference that is linear in them.

    Attributes
    ----------
    base
        The rows.
    between
        The operations, in order; the last one is the difference.
    operands
        What it is the difference of.
    """

    base: fx.Node
    between: list[fx.Node]
    operands: Sequence[fx.Node]


@dataclass(frozen=True)
class _Rows:
    """Tag entries as rows of samples: which sample each is of, its number there, and how many."""

    sample: Tensor
    place: Tensor
    count: int

    @classmethod
    def of(cls, a: Analysis, ids: Tensor) -> _Rows | None:
        """None where an entry has no token, or none of one sample."""
        samples = a.book.samples(a.book.find(tokens_in(ids).clamp(min=0)))
        if bool((ids < 0).any()) or bool((samples < 0).any()):
            return None
        order = samples.flatten().argsort(stable=True)
        counts = samples.flatten().bincount()
        place = torch.empty_like(order)
        first = (counts.cumsum(0) - counts)[samples.flatten()[order]]
        place[order] = torch.arange(len(order)) - first
        return cls(samples, place.reshape(samples.shape), int(counts.max()))


def _shown(a: Analysis, node: fx.Node, operands: Sequence[fx.Node]) -> Tensor | None:
    """The packed entries of the operand that names the difference's rows: that of most of them."""
    tags = [a.tags(n) for n in operands]
    if not all(map(_names, tags)):
        return None
    rank = len(a.shape(node))
    ids = [own[0].ids.reshape((1,) * (rank - own[0].ids.dim()) + own[0].ids.shape) for own in tags]
    most = max(ids, key=Tensor.numel)
    for other in ids:  # where nothing was left of one, the other names the row
        most = torch.where(most < 0, other, most) if other.shape == most.shape else most
    return most if most.shape == broadcast_shape([each.shape for each in ids]) else None


def _names(tags: Tags) -> bool:
    """Whether tags are of tokens alone: one for each row, and no weights."""
    return len(tags) == 1 and not tags[0].softmax and tags[0].level is Level.TOKEN


def _is_small(a: Analysis, base: fx.Node, rows: int) -> bool:
    return rows * torch.Size(a.shape(base)).numel() <= _MOST


def _linear_steps(
    a: Analysis,
    node: fx.Node,
    operands: Sequence[fx.Node],
    enough: Callable[[Analysis, Sequence[fx.Node]], bool],
) -> _Steps | None:
    """The rows that both operands are linear in, if what is asked of the steps happens on the way."""
    frontier, between = set(operands), [node]
    while len(frontier) > 1 or not enough(a, between):
        latest = max(frontier)
        made_of = _linear_in(a, latest)
        if not made_of or len(between) > _NEAR:
            return None
        between.append(latest)
        frontier = (frontier - {latest}) | set(made_of)
    (base,) = frontier
    return _Steps(base, sorted(between), operands) if _names(a.tags(base)) else None


def _takes_off_sums(a: Analysis, steps: Sequence[fx.Node]) -> bool:
    """Whether some step takes off, and tokens are summed: along an axis, or one with another twice."""
    names = [operation_name(step) for step in steps]
    added = sum(name in ("add", *_TAKES_OFF) for name in names)
    takes_off = any(name in _TAKES_OFF for name in names)
    return takes_off and (added > 1 or any(_sums_tokens(a, step) for step in steps))


def _scales_some(a: Analysis, steps: Sequence[fx.Node]) -> bool:
    """Whether a number other than 1 weighs a value on the way, or three slices are added."""
    return any(number != 1 for step in steps for number in _numbers(a, step)) or _slices(steps)


def _slices(steps: Sequence[fx.Node]) -> bool:
    """Whether steps add more than two slices of the same rows, and do nothing else."""
    names = [operation_name(step) for step in steps]
    sums = [step for step, name in zip(steps, names, strict=True) if name == "add"]
    of_slices = all(n in steps for step in sums for n in step.all_input_nodes)
    return len(sums) > 1 and of_slices and {*names} <= {"add", "slice", "narrow", *_AS_IT_IS}


def _numbers(a: Analysis, node: fx.Node) -> Iterator[float]:
    """The numbers that the operands of an operation are weighed by, where it weighs any."""
    name = operation_name(node)
    number = arguments(node).get("alpha", 1) if name in ("add", "sub") else 1
    if name == "lerp":
        number = node.args[2]
    elif name in _FACTORS and len(node.args) > 1:
        (number,) = [n for n in node.args[:2] if not _carries(a, n)][:1] or (1,)
    number = a.value(number)
    if isinstance(number, Tensor) and number.numel() == 1 and not number.is_complex():
        number = number.item()
    if isinstance(number, (int, float)):
        yield abs(float(number))


def _carries(a: Analysis, argument: Any) -> bool:
    return any(tag.level > Level.RAW_INPUT for tag in a.tags(argument))


def _linear_in(a: Analysis, node: fx.Node) -> list[fx.Node]:
    """The values with tokens that a node is linear in; none where it is not."""
    name, inputs = operation_name(node), node.all_input_nodes
    if name not in _LINEAR | _SCALES | {"lerp"} or any(map(a.is_lost, inputs)):
        return []
    tagged = [n for n in inputs if any(tag.level > Level.RAW_INPUT for tag in a.tags(n))]
    if name == "lerp":
        return tagged if tagged == list(node.args[:2]) and any(_numbers(a, node)) else []
    if name in ("mul", "multiply"):
        return tagged if sum(n in tagged for n in node.args[:2]) == 1 else []
    return tagged if name in _LINEAR or tagged == [node.args[0]] else []


def _sums_tokens(a: Analysis, node: fx.Node) -> bool:
    """Whether an operation sums along an axis of tokens."""
    if operation_name(node) not in _SUMS:
        return False
    source, dims = node.all_input_nodes[0], arguments(node).get("dim")
    rank = len(a.shape(source))
    axes = [dims] if isinstance(dims, int) else dims or range(rank)
    return any(tag.varies(axis % rank) for tag in a.tags(source) for axis in axes)


def _shares(a: Analysis, steps: _Steps, old: _Rows, new: _Rows, *, weighed: bool) -> Tensor | None:
    """How much of each row of its sample is in each new row, (*new rows, old rows of a sample).

    None where nothing cancels, all that is in one operand being in the difference (of what numbers
    have `weighed`, where each new row is made of one), or where samples are mixed.
    """
    rows = torch.zeros(a.shape(steps.base), dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        made, apart = _run(a, steps, rows)
    samples = int(old.sample.max()) + 1
    result = torch.zeros(*new.sample.shape, old.count, dtype=torch.float64)
    cancelled = False
    for place in range(new.count):
        one = new.place == place
        found = torch.zeros(2, samples, old.count, dtype=torch.float64)
        for i, value in enumerate((made, apart)):
            found[i, old.sample, old.place] = _felt(value, rows, one, old)
        found[found < _NOTHING * found.max()] = 0
        cancelled |= bool(((found[0] == 0) & (found[1] > 0)).any())
        result[one] = found[0][new.sample[one]]
    wanted = bool(((result > 0).sum(-1) > 1).any()) if weighed else cancelled
    return result if wanted and not _mixes_samples(made, rows, old, new) else None


def _run(a: Analysis, steps: _Steps, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The difference of other rows, and what it would be if nothing in its operands cancelled."""
    known: dict[fx.Node, Any] = {steps.base: rows}
    apart: dict[fx.Node, Any] = {}

    def of(n: fx.Node) -> Any:
        return known[n] if n in known else a.value(n)

    def other(n: fx.Node) -> Any:
        return apart[n] if n in apart else of(n)

    for step in steps.between:
        if operation_name(step) in _AS_IT_IS:
            known[step] = of(step.all_input_nodes[0])
        else:
            target: Any = step.target
            known[step] = target(*fx.map_arg(step.args, of), **fx.map_arg(step.kwargs, of))
    generator = torch.Generator().manual_seed(0)
    for n in steps.operands:
        noise = torch.rand(known[n].shape, generator=generator, dtype=torch.float64) + 1
        apart[n] = known[n] * noise
    last = steps.between[-1]
    target = last.target
    apart[last] = target(*fx.map_arg(last.args, other), **fx.map_arg(last.kwargs, other))
    return known[last], apart[last]


def _felt(value: Tensor, rows: Tensor, of: Tensor, old: _Rows) -> Tensor:
    """How much each old row says to some new rows: the mean over its features."""
    wanted = of.double().expand(value.shape)
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        value, rows, wanted, retain_graph=True, allow_unused=True
    )
    gradient = found[0]
    if gradient is None:
        return torch.zeros(old.sample.shape, dtype=torch.float64)
    features = [axis for axis, n in enumerate(old.sample.shape) if n == 1]
    return gradient.abs().mean(features, keepdim=True) if features else gradient.abs()


def _mixes_samples(made: Tensor, rows: Tensor, old: _Rows, new: _Rows) -> bool:
    """Whether the new rows of a sample hear of another one's."""
    for sample in new.sample.unique().tolist():
        felt = _felt(made, rows, new.sample == sample, old)
        if bool((felt[old.sample != sample] > 0).any()):
            return True
    return False
