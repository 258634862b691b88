"""Layer-wise relevance propagation: how an operation's relevance is shared among its operands.

The rules of Chefer, Gur & Wolf, "Transformer Interpretability Beyond Attention Visualization", CVPR
2021 (arXiv 2012.09838). A rule is a function ``rule(call, R) -> relevances``: from the relevance of
a call's output to that of each of its *active* operands, those that relevance can reach. Masks,
weights and constants are not active and get none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Call",
    "added",
    "added_plainly",
    "by_share",
    "contracted",
    "contracted_apart",
    "noting",
    "passed",
    "product",
    "propagated",
    "ratio",
]

STABILIZER = 1e-9

Ledger = dict[str, tuple[Tensor, Tensor]]

LEDGER: ContextVar[Ledger | None] = ContextVar("ledger", default=None)
"""Where the runs of a context note, per node, the relevance that came in and that went out."""


@contextmanager
def noting(ledger: Ledger) -> Iterator[None]:
    """Let runs that start in this context note their conservation."""
    token = LEDGER.set(ledger)
    try:
        yield
    finally:
        LEDGER.reset(token)


def ratio(R: Tensor, Z: Tensor, stabilizer: float = STABILIZER) -> Tensor:
    """R / Z, with R / 0 = 0 and tiny denominators kept away from 0."""
    of_type = torch.finfo(Z.dtype)
    least = max(stabilizer, of_type.tiny * of_type.eps)  # half precision has nothing so small
    return (R * Z.sign()).div_(Z.abs().add_(least))


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operation, as its rule sees it.

    Attributes
    ----------
    function
        The operation as a function of its active operands alone.
    active
        The active operands.
    constants
        The other tensors among the operands, in order (weights, masks).
    with_constants
        The operation as a function of (active operands, constants).
    samples
        The sample of each element of the output, broadcastable; None for a single sample.
    traced
        The operation as it ran on the active operands, where its rule asks for that.
    by_rows
        Whether each row (all but the last axis) of the output is made of the same row of the one
        active operand, and of constants.
    """

    function: Callable[..., Tensor]
    active: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    with_constants: Callable[[Sequence[Tensor], Sequence[Tensor | None]], Any]
    samples: Tensor | None = None
    traced: Traced | None = None
    by_rows: bool = False

    @property
    def own(self) -> Traced:
        """The operation on its active operands."""
        return self.traced or Traced.of(self.function, self.active)

    def of_rows(self, rows: Tensor) -> Call:
        """The same operation on some rows alone."""
        return replace(self, active=(_rows(self.active[0])[rows],), traced=None)


Rule = Callable[[Call, Tensor], Sequence[Tensor]]


@dataclass(frozen=True, eq=False)
class Traced:
    """An operation that has run, and can be gone back through as often as asked for.

    Attributes
    ----------
    made
        All that it gave.
    output
        The value among it.
    leaves
        Its operands.
    """

    made: Any
    output: Tensor
    leaves: tuple[Tensor, ...]

    @classmethod
    def of(cls, function: Callable[..., Any], inputs: Sequence[Tensor]) -> Traced:
        """Run an operation."""
        with torch.enable_grad():
            leaves = tuple(x.detach().requires_grad_() for x in inputs)
            made = function(*leaves)
        return cls(made, made[0] if isinstance(made, (tuple, list)) else made, leaves)

    @property
    def value(self) -> Tensor:
        """The output by itself."""
        return self.output.detach()

    def back(self, S: Tensor) -> tuple[Tensor, ...]:
        """The gradient of <output, S> for each operand."""
        return torch.autograd.grad(self.output, self.leaves, S, retain_graph=True)


def passed(call: Call, R: Tensor) -> Sequence[Tensor]:
    """Softmax, norms, activations, scaling, masking: the relevance is passed on unchanged."""
    x, *others = call.active  # others lend a dtype (type_as) or a bound (clamp)
    of_copies = R if R.shape == x.shape else R.sum_to_size(x.shape)
    return [of_copies, *map(torch.zeros_like, others)]


def by_share(call: Call, R: Tensor) -> Sequence[Tensor]:
    """Means and sums: every operand element by its share in the result."""
    own = call.own
    grads = own.back(ratio(R, own.value))
    return [x * g for x, g in zip(call.active, grads, strict=True)]


def product(call: Call, R: Tensor) -> Sequence[Tensor]:
    """The product of two activations (q k^T, A v): by share, each side halved.

    A side that relevance cannot reach (values that are nothing but a bias) keeps its half.
    """
    return [share / 2 for share in by_share(call, R)]


def contracted(call: Call, R: Tensor) -> Sequence[Tensor]:
    """A contraction with weights, alpha = 1: what positive and negative parts add to the result.

    With Z = x+ W+ + x- W- (the bias left out) and S = R / Z, x gets x+ (S W+^T) + x- (S W-^T).

    Both are found of what the model computes itself, x W, and of |x| |W|:

        x+ W+ + x- W-          = (x W + |x| |W|) / 2
        x+ (S W+^T) + x- (S W-^T) = (x (S W^T) + |x| (S |W|^T)) / 2

    but where next to nothing is left of that sum, and rounding with it.
    """
    if len(call.active) != 1 or not call.constants:
        return product(call, R)
    (x,), weight = call.active, call.constants[0]
    biased = any(c.is_floating_point() for c in call.constants[1:])
    own = _with_weight(call, x, weight) if biased else call.own
    size = x.abs()
    sizes = _with_weight(call, size, weight.abs())
    twice_Z = own.value + sizes.value
    if bool(torch.sub(twice_Z, sizes.value, alpha=_CANCELLED).amin() < 0):
        return _by_signs(call, R, together=True)
    S = ratio(R, twice_Z, 2 * STABILIZER)
    return [torch.addcmul(x * own.back(S)[0], size, sizes.back(S)[0])]


_CANCELLED = 1 / 32
"""A sum that is less than such a part of what was added is found by signs: digits are lost else."""


def contracted_apart(call: Call, R: Tensor) -> Sequence[Tensor]:
    """As `contracted`, but x+ W+ and x- W- each share out all of R, by shares of their own."""
    if len(call.active) != 1 or not call.constants:
        return product(call, R)
    return _by_signs(call, R, together=False)


def _with_weight(call: Call, x: Tensor, weight: Tensor) -> Traced:
    """A contraction of x with a weight, without a bias."""
    rest = [None if c.is_floating_point() else c for c in call.constants[1:]]
    return Traced.of(lambda leaf: call.with_constants([leaf], [weight, *rest]), [x])


def _by_signs(call: Call, R: Tensor, *, together: bool) -> Sequence[Tensor]:
    (x,), weight = call.active, call.constants[0]
    parts = [x.clamp(min=0), x.clamp(max=0)]
    signed = [weight.clamp(min=0), weight.clamp(max=0)]
    both = [_with_weight(call, part, w) for part, w in zip(parts, signed, strict=True)]
    whole = [sum(each.value for each in both)] * 2 if together else [each.value for each in both]
    shares = [
        part * each.back(ratio(R, Z))[0]  # type: ignore[arg-type]
        for part, each, Z in zip(parts, both, whole, strict=True)
    ]
    return [shares[0] + shares[1]]


def added(call: Call, R: Tensor) -> Sequence[Tensor]:
    """A sum of activations: by share, each side rescaled to its part of the total, per sample.

    A side's part is ``|sum aS| / (|sum aS| + |sum bS|)``; without the rescaling shares of opposite
    sign would blow up (CVPR 2021, equations 8 to 10).
    """
    if len(call.active) == 1:  # the other side is a mask or a position, which gets nothing
        return passed(call, R)
    shares = by_share(call, R)
    totals = [_per_sample(share, call.samples) for share in shares]
    incoming = _per_sample(R, call.samples)
    whole = sum(total.abs() for total in totals)
    return [
        share * _at(ratio(ratio(total.abs(), whole) * incoming, total), share, call.samples)  # type: ignore[arg-type]
        for share, total in zip(shares, totals, strict=True)
    ]


def added_plainly(call: Call, R: Tensor) -> Sequence[Tensor]:
    """As `added`, without the rescaling."""
    return passed(call, R) if len(call.active) == 1 else by_share(call, R)


def _per_sample(x: Tensor, samples: Tensor | None) -> Tensor:
    """The sum over each sample's elements."""
    if not _spread(x, samples):
        return x.sum()
    assert samples is not None
    where = samples.to(x.device).expand(x.shape).reshape(-1)
    total: Tensor = x.new_zeros(int(samples.max()) + 1).index_add_(0, where, x.reshape(-1))
    return total


def _at(of_sample: Tensor, x: Tensor, samples: Tensor | None) -> Tensor:
    return of_sample if of_sample.dim() == 0 else of_sample[samples.to(x.device)]  # type: ignore[union-attr]


def _spread(x: Tensor, samples: Tensor | None) -> bool:
    """Whether `x` has its own elements for each of the samples."""
    if samples is None or x.dim() != samples.dim():
        return False
    return all(n in (1, size) for n, size in zip(samples.shape, x.shape, strict=True))


def _shared(rule: Rule, call: Call, R: Tensor) -> Sequence[Tensor]:
    """The relevance of each active operand; rows that none reaches are not computed."""
    rows = _reached(R) if call.by_rows and len(call.active) == 1 and R.dim() > 1 else None
    if rows is None:
        return rule(call, R)
    shares = R.new_zeros(call.active[0].shape)
    if len(rows):
        (of_rows,) = rule(call.of_rows(rows), _rows(R)[rows])
        _rows(shares).index_copy_(0, rows, of_rows)
    return [shares]


def _reached(R: Tensor) -> Tensor | None:
    """The numbers of the rows that have relevance; None where these are most of them."""
    of_rows = _rows(R)
    reached = (of_rows.amax(-1) != 0) | (of_rows.amin(-1) != 0)
    rows = reached.nonzero().squeeze(-1)
    return rows if 2 * len(rows) < len(of_rows) else None


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


class _Propagated(torch.autograd.Function):
    """A value whose "gradient" is relevance: autograd's backward pass becomes the propagation."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, rule: Rule, call: Call, name: str | None, *_active: Tensor
    ) -> Tensor:
        ctx.rule, ctx.call, ctx.name, ctx.ledger = rule, call, name, LEDGER.get()
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, R: Tensor) -> Any:
        with torch.no_grad():
            shares = _shared(ctx.rule, ctx.call, R)
        if ctx.ledger is not None and ctx.name is not None:
            ctx.ledger[ctx.name] = (R.sum(), torch.stack([share.sum() for share in shares]).sum())
        return (None, None, None, None, *shares)


def propagated(
    rule: Rule,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    samples: Tensor | None = None,
    name: str | None = None,
    *,
    by_rows: bool = False,
) -> Any:
    """``function(*args, **kwargs)``, through which relevance is propagated by `rule`.

    An operand is active where it requires a gradient. `by_rows`: see `Call`.
    """
    flat, spec = torch.utils._pytree.tree_flatten((args, kwargs))
    tensors = [i for i, x in enumerate(flat) if isinstance(x, Tensor)]
    active = [i for i in tensors if flat[i].requires_grad]
    constant = [i for i in tensors if not flat[i].requires_grad]

    def with_constants(xs: Sequence[Tensor], others: Sequence[Tensor | None]) -> Any:
        values = list(flat)
        for i, x in zip([*active, *constant], [*xs, *others], strict=True):
            values[i] = x
        called, named = torch.utils._pytree.tree_unflatten(values, spec)
        return function(*called, **named)

    if not active:
        return function(*args, **kwargs)
    xs = tuple(flat[i].detach() for i in active)
    others = tuple(flat[i] for i in constant)
    traced = None
    if rule in _TRACED:
        traced = Traced.of(lambda *ys: with_constants(ys, others), xs)
        output = torch.utils._pytree.tree_map(_detached, traced.made)
    else:
        with torch.no_grad():
            output = with_constants(xs, others)
    rest: tuple[Any, ...] | None = None
    if isinstance(output, (tuple, list)):  # statistics beside the value
        output, rest = output[0], tuple(output[1:])
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return output
    call = Call(
        *(lambda *ys: with_constants(ys, others), xs, others, with_constants),
        *(samples, traced, by_rows),
    )
    made = _Propagated.apply(output, rule, call, name, *(flat[i] for i in active))
    return made if rest is None else (made, *rest)


def _detached(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


_TRACED = frozenset({by_share, product, contracted, added, added_plainly})
"""Rules that go back through the operation itself."""
