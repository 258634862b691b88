"""What one architecture under test is made of, and how A and dy/dA are taken from an eager model.

The attention weights and their gradients come from the model's own eager forward: hooks on its
attention modules, named by hand for each architecture, so that nothing of the library under test is
involved.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import signature

import numpy as np
import torch
from torch import nn

from tests.oracle import attention_map

Inputs = dict[str, torch.Tensor]
Matrices = dict[tuple[str, str], np.ndarray]
Score = Callable[[object], torch.Tensor]

QUERIES = "<object queries>"  # stands for a modality whose name is a parameter's path


@dataclass(frozen=True)
class Node:
    """One attention as detection should report it; ``dead``: never read, so it may be missing."""

    kind: str
    query: tuple[str, ...]
    key: tuple[str, ...]
    heads: int
    q_len: int
    k_len: int
    dead: bool = False

    @property
    def facts(self) -> tuple:
        return (self.kind, self.query, self.key, self.heads, self.q_len, self.k_len)


@dataclass
class Expected:
    """The numbers the library should give, with the samples of the batch stacked.

    ``relevance[modality]``: (batch, tokens). ``matrices[s, q]``: (batch, s tokens, q tokens).
    ``start`` is the relevance before any attention (eqs. 1 and 2): one for the token that is read,
    1/n each for a mean, zero elsewhere. What the attentions add to it is much smaller, and is what
    a comparison should look at.
    """

    relevance: dict[str, np.ndarray]
    matrices: Matrices
    start: dict[str, np.ndarray]


def one_target(target: list, sample: int) -> list:
    """The target of one sample that is explained alone."""
    return target[sample : sample + 1]


@dataclass(frozen=True)
class Case:
    """A tiny random model with inputs for two samples, and what explaining it should give.

    ``make(attn_implementation, dtype)`` builds model and inputs; ``oracle(model, inputs)`` takes an
    eager one; ``target`` and ``output`` are what ``fxplain.explain`` is given, ``alone(target,
    sample)`` the target where one sample makes up the batch.
    """

    name: str
    make: Callable[[str, torch.dtype], tuple[nn.Module, Inputs]]
    oracle: Callable[[nn.Module, Inputs], Expected]
    target: list
    nodes: list[Node]
    output: str | None = None
    implementations: tuple[str, ...] = ("eager", "sdpa")
    alone: Callable[[list, int], list] = one_target


class Maps:
    """The maps A-bar (eq. 5) of an eager model's attentions for one score, by module path.

    One forward and one backward of the scores' sum over the batch. A module that is called several
    times (LXMERT's shared cross-attention) has one map per call. A map is zero where ``unread``
    names the module's call as one that the score does not depend on; any other attention without a
    gradient is an error of the test.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        score: Score,
        paths: Iterable[str],
        unread: Iterable[tuple[str, int]] = (),
    ) -> None:
        self.attentions: dict[str, list[torch.Tensor]] = {path: [] for path in paths}
        self.unread = set(unread)
        handles = []
        for path, found in self.attentions.items():
            module = model.get_submodule(path)
            handles.append(module.register_forward_pre_hook(_ask_for_attentions, with_kwargs=True))
            handles.append(module.register_forward_hook(_keep_attentions(found)))
        try:
            values = score(model(**inputs))
        finally:
            for handle in handles:
                handle.remove()
        assert values.shape == (len(next(iter(inputs.values()))),), "one score per sample"
        values.sum().backward()
        model.zero_grad()

    def __call__(self, path: str, call: int = 0) -> np.ndarray:
        """A-bar of a module's ``call``-th run: (batch, s, q); windows count as a batch."""
        attention = self.attentions[path][call]
        if (path, call) in self.unread:
            assert attention.grad is None
            return np.zeros((attention.shape[0], *attention.shape[2:]))
        assert attention.grad is not None, (
            f"{path}: the recorded attention is not part of the graph"
        )
        weights = attention.detach().double().numpy()
        gradients = attention.grad.double().numpy()
        return np.stack([attention_map(a, g) for a, g in zip(weights, gradients, strict=True)])


def _ask_for_attentions(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    parameters = signature(module.forward)
    if "output_attentions" not in parameters.parameters:
        return args, kwargs
    call = parameters.bind(*args, **kwargs)
    call.arguments["output_attentions"] = True
    return call.args, call.kwargs


def _keep_attentions(found: list[torch.Tensor]) -> Callable:
    def hook(_module: nn.Module, _args: tuple, output: tuple) -> None:
        attention = output[-1]  # T5 returns its position bias in between
        attention.retain_grad()
        found.append(attention)

    return hook


def per_sample(logits: torch.Tensor, *indices: list[int]) -> torch.Tensor:
    """logits[b, i_b, j_b, ...] for every sample b."""
    return logits[(torch.arange(len(logits)), *(torch.tensor(index) for index in indices))]


def randomise(model: nn.Module, seed: int, gain: float = 1.4) -> nn.Module:
    """Weights for which attention is far from uniform, biases and norms not the trivial ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 0:
                continue
            token = "embed" in name or "cls_token" in name or "shared" in name
            if token and parameter.ndim < 4 and "norm" not in name.lower():
                parameter.copy_(0.8 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
            else:
                parameter.copy_(gain * noise / parameter[0].numel() ** 0.5)
    return model.eval()


def draw(seed: int) -> tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]:
    """Two seeded sources: ``ids(low, high, *shape)`` and ``normal(*shape)``."""
    generator = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return ids, normal


def ready(model: nn.Module, inputs: Inputs, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
    """Model and floating-point inputs in one precision."""
    cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    return model.to(dtype), cast


def collect(samples: list[Matrices], modality: str, rows: list[int]) -> Expected:
    """Stack the samples' matrices and read row ``rows[b]`` of ``modality`` in sample b."""
    matrices = {pair: np.stack([sample[pair] for sample in samples]) for pair in samples[0]}
    relevance = {
        q: np.stack([matrix[b, row] for b, row in enumerate(rows)])
        for (s, q), matrix in matrices.items()
        if s == modality
    }
    start = {q: np.zeros_like(relevance[q]) for q in relevance}
    start[modality][np.arange(len(rows)), rows] = 1.0
    return Expected(relevance, matrices, start)
