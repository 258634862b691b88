"""What a model itself computes: its softmaxes, and relevance by the paper's equations from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tests.oracle import Oracle
from tests.wild.case import ByHand, Entry, Inputs

__all__ = ["Attention", "attentions", "relevance_by_hand", "same_values"]


@dataclass(frozen=True)
class Attention:
    """Weights (..., queries, keys) as the model computed them, and in which module."""

    weights: Tensor
    where: str

    def __str__(self) -> str:
        return f"{self.where} {tuple(self.weights.shape)}"


class Recorder(TorchDispatchMode):
    """Records every softmax of a run, those of fused attention too, with the module it ran in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Attention] = []
        self._stack: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten._softmax, torch.ops.aten._safe_softmax):
            where = self._stack[-1] if self._stack else ""
            self.seen.append(Attention(result.detach().movedim(args[1], -1), where))
        return result

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        """While it lasts, the model's softmaxes are recorded."""

        def enter(path: str) -> Callable[..., None]:
            return lambda *_: self._stack.append(path)

        def leave(*_: object) -> None:
            self._stack.pop()

        with ExitStack() as stack:
            for path, module in model.named_modules():
                stack.callback(module.register_forward_pre_hook(enter(path)).remove)
                stack.callback(module.register_forward_hook(leave, always_call=True).remove)
            stack.enter_context(_every_step())
            with torch.no_grad(), self:
                yield


@contextmanager
def _every_step() -> Iterator[None]:
    """Fused attention taken apart, so that autograd sees its softmax."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def run(model: nn.Module, inputs: Inputs) -> Any:
    """The model's output."""
    return model(*inputs) if isinstance(inputs, tuple) else model(**inputs)


def attentions(entry: Entry) -> list[Attention]:
    """The attention weights that the plain model computes, in no particular order."""
    model, inputs = entry.build()
    recorder = Recorder()
    with recorder.on(model):
        run(model, inputs)
    other = re.compile(entry.not_attention or "(?!)")
    contracted = entry.contracted or (lambda weights: weights)
    return [
        Attention(contracted(seen.weights), seen.where)
        for seen in recorder.seen
        if not other.search(str(seen))
    ]


# -- relevance by hand ----------------------------------------------------------------------------


def score_of(output: Any, target: Any) -> Tensor:
    """The explained numbers, summed over the samples."""
    if callable(target):
        return target(output).sum()
    first = next(leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor))
    index = target if isinstance(target, tuple) else (target,)
    return first[(slice(None), *index)].sum()


def maps_of(entry: Entry) -> list[Tensor]:
    """Equation 5's positive products of every softmax that the score depends on, in order."""
    model, inputs = entry.build()
    with _every_step(), torch.enable_grad():
        score = score_of(run(model, inputs), entry.target)
        softmaxes = sorted(_softmaxes_behind(score), key=lambda node: node._sequence_nr())
        weights = [_weights_of(node) for node in softmaxes]
        gradients: dict[int, Tensor] = {}

        def keep(number: int) -> Callable[[tuple[Tensor, ...]], None]:
            return lambda grads: gradients.__setitem__(number, grads[0].detach())

        for number, node in enumerate(softmaxes):
            node.register_prehook(keep(number))
        torch.autograd.grad(score, list(model.parameters()), allow_unused=True)
    return [
        (kept * gradients[number].movedim(dim, -1)).clamp(min=0)
        for number, (kept, dim) in enumerate(weights)
    ]


def _softmaxes_behind(score: Tensor) -> list[Any]:
    seen, left, found = set(), [score.grad_fn], []
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if "SoftmaxBackward" in node.name() and "Log" not in node.name():
            found.append(node)
        left += [following for following, _ in node.next_functions]
    return found


def _weights_of(node: Any) -> tuple[Tensor, int]:
    result, dim = node._saved_result.detach(), node._saved_dim
    dim = dim - 2**64 if dim > result.dim() else dim
    return result.movedim(dim, -1), dim


def relevance_by_hand(entry: Entry) -> dict[str, np.ndarray]:
    """(batch, tokens) by modality, as the equations give it."""
    assert entry.by_hand is not None
    hand: ByHand = entry.by_hand
    sizes = entry.alternatives[0]
    lengths = {s: sum(sizes[m] for m in names) for s, names in hand.streams.items()}
    maps = maps_of(entry)
    steps = [step if isinstance(step[0], tuple) else (step,) for step in hand.steps]
    if sum(map(len, steps)) != len(maps):
        raise ValueError(f"the score depends on {len(maps)} softmaxes, not {len(steps)} steps")
    batch = _batch(maps, hand, steps, lengths)
    found: dict[str, list[np.ndarray]] = {m: [] for names in hand.streams.values() for m in names}
    placed = [(hand.heads or _leading)(m, batch).mean(1).double().numpy() for m in maps]
    for sample in range(batch):
        oracle = Oracle(lengths)
        number = 0
        for step in steps:
            made = [(s, q, placed[number + i][sample]) for i, (s, q) in enumerate(step)]
            number += len(step)
            if len(made) == 1 and made[0][0] == made[0][1]:
                oracle.self_attention(made[0][0], made[0][2])
            else:
                oracle.bi_modal(*made)
        for stream, names in hand.streams.items():
            row = sum(_row(oracle.R[s, stream], shares, sample) for s, shares in hand.read.items())
            start = 0
            for name in names:
                found[name].append(row[start : start + sizes[name]])
                start += sizes[name]
    return {name: np.stack(rows) for name, rows in found.items()}


def _batch(maps: list[Tensor], hand: ByHand, steps: list[Any], lengths: dict[str, int]) -> int:
    """The number of samples: of the first map's four axes, or two where heads are folded."""
    return maps[0].shape[0] if maps[0].ndim == 4 else 2


def _leading(weights: Tensor, batch: int) -> Tensor:
    """Heads behind the samples, as axes of their own or folded into them."""
    return weights.reshape(batch, -1, *weights.shape[-2:])


def _row(matrix: np.ndarray, shares: int | Tensor, sample: int) -> np.ndarray:
    if isinstance(shares, int):
        return matrix[shares]
    own = shares[sample] if shares.ndim > 1 else shares
    return own.double().numpy() @ matrix


# -- comparing ------------------------------------------------------------------------------------


def same_values(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors hold the same weights, in the same order or, folded otherwise, in any.

    Where one of them repeats nothing and drops what is masked, the weights above `tolerance` count.
    """
    a, b = _without_masked_rows(a), _without_masked_rows(b)
    if a.numel() == b.numel():
        if a.shape[-2:] == b.shape[-2:] and _close(a.flatten(), b.flatten(), tolerance):
            return True
        return _close(a.flatten().sort().values, b.flatten().sort().values, tolerance)
    a, b = a[a > tolerance].sort().values, b[b > tolerance].sort().values
    return a.numel() == b.numel() and _close(a, b, tolerance)


def _without_masked_rows(weights: Tensor) -> Tensor:
    """A query that may attend to nothing: one way of writing gives even weights, another zeros."""
    weights = weights.detach().float()
    even = weights.amax(-1, keepdim=True) - weights.amin(-1, keepdim=True) < 1e-7
    return weights.masked_fill(even, 0.0)


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return bool((a - b).abs().max() <= tolerance) if a.numel() else True
