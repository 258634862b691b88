"""What one architecture of the zoo is made of, and the truth about its attention and its tokens.

The truth comes from the model's own eager attention: the tensors that it returns with
`output_attentions`, and for what it does not return, the softmaxes that its attention modules
compute, recorded while it runs. Nothing of the library under test is involved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from tests.zoo.tokens import Counts

Inputs = dict[str, Any]
Build = Callable[[str | None], tuple[nn.Module, Inputs]]
"""Takes the attention implementation (None: what a user would get)."""

COMMON = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""What most text configurations call their sizes."""


@dataclass(frozen=True)
class ZooCase:
    """One tiny architecture with inputs, and what detection should find in it.

    Attributes
    ----------
    name, family
        What the table calls it.
    build
        Makes the model and its inputs: the same ones at each call.
    expected
        Attention nodes per kind, read in the model's code; empty for a model without attention. A
        kind may be two, as ``self|co``, where the definition leaves the choice.
    returned
        Whether the attentions in the model's output are (part of) the truth. False where the model
        rearranges them, or leaves some out.
    recorded
        A pattern of module paths, or of paths and shapes as in ``self (2, 4, 4, 16)``, whose
        softmaxes are attention, though the model does not return them.
    dead
        How many of the nodes nothing reads, so that a graph may have lost them.
    unseen
        How many nodes there are beyond the eager model's attention tensors: weights that no softmax
        makes, or one attention that the default implementation computes in two calls.
    eager
        Whether the truth is the eager implementation's; False where the model computes something
        else with it (a mask that is added as it is) than with its default one.
    tokens
        How many tokens each modality has, as `tests.zoo.tokens` says it; empty for a model without
        attention, which has nothing to explain.
    reads
        The tokens that the main output of the first sample is computed from, as `tests.zoo.tokens`
        says it.
    note
        What a reader of the table should know.
    """

    name: str
    family: str
    build: Build
    expected: Mapping[str, int]
    returned: bool = True
    recorded: str = ""
    dead: int = 0
    unseen: int = 0
    eager: bool = True
    tokens: Counts = field(default_factory=dict)
    reads: str = ""
    note: str = ""

    @property
    def tensors(self) -> int:
        """How many attention tensors the eager model computes."""
        return sum(self.expected.values()) - self.unseen


class Draw:
    """A seeded source of inputs."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def floats(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._generator)

    def ids(self, *shape: int, low: int = 5, high: int = 99) -> Tensor:
        return torch.randint(low, high, shape, generator=self._generator)

    def text(self, *lengths: int, high: int = 99, prefix: str = "") -> Inputs:
        """Word pieces of one length per sample, padded on the right."""
        longest = max(lengths)
        mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
        ids = self.ids(len(lengths), longest, high=high) * mask
        return {f"{prefix}input_ids": ids, f"{prefix}attention_mask": mask}

    def pixels(self, height: int, width: int = 0, *, batch: int = 2, channels: int = 3) -> Inputs:
        return {"pixel_values": self.floats(batch, channels, height, width or height)}

    def boxes(self, *shape: int) -> Tensor:
        """Boxes (x0, y0, x1, y1) on a page of 64 by 64."""
        low = self.ids(*shape, 2, low=0, high=30)
        return torch.cat([low, low + self.ids(*shape, 2, low=1, high=30)], -1)


def tiny(
    model: str | type[nn.Module],
    config: Mapping[str, Any],
    inputs: Callable[[Draw], Inputs],
    *,
    seed: int = 7,
    configure: Callable[[Any], object] | None = None,
) -> Build:
    """A builder of `model` (a class of `transformers`, by name) with random weights."""

    def build(implementation: str | None = None) -> tuple[nn.Module, Inputs]:
        torch.manual_seed(seed)
        cls: Any = getattr(transformers, model) if isinstance(model, str) else model
        made_config = cls.config_class(**config)
        if configure is not None:
            configure(made_config)
        if implementation is not None:
            made_config._attn_implementation = implementation
        made = cls(made_config)
        randomise(made, seed)
        return made.eval(), inputs(Draw(seed))

    return build


def randomise(model: nn.Module, seed: int) -> None:
    """Weights for which attention is far from uniform, and gates that are open."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)

    with torch.no_grad():
        for module in model.modules():
            is_table = isinstance(module, nn.Embedding)
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.is_floating_point() or name in ("A_log", "dt_bias", "D"):
                    continue
                if is_table:
                    parameter.copy_(0.8 * noise(parameter))
                elif parameter.ndim > 1:
                    inner = parameter[0].numel() if name == "weight" else parameter.shape[-1]
                    scale = (2.0 if parameter.ndim > 3 else 1.4) / inner**0.5
                    parameter.copy_(scale * noise(parameter))
                elif parameter.ndim == 1 and bool((parameter == parameter[0]).all()):
                    parameter.add_(0.1 * noise(parameter))
                elif parameter.ndim == 0 and parameter == 0:
                    parameter.fill_(0.5)


# -- the truth ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attention:
    """Attention weights (..., queries, keys) as eager attention computed them, and where."""

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

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if str(function) in ("aten._softmax.default", "aten._safe_softmax.default"):
            where = self._stack[-1] if self._stack else ""
            self.seen.append(Attention(result.detach().movedim(args[1], -1), where))
        return result

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        def enter(path: str) -> Callable[..., None]:
            return lambda *_: self._stack.append(path)

        def leave(*_: object) -> None:
            self._stack.pop()

        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        with ExitStack() as stack:
            stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
            for path, module in model.named_modules():
                stack.callback(module.register_forward_pre_hook(enter(path)).remove)
                stack.callback(module.register_forward_hook(leave, always_call=True).remove)
            with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), self:
                yield


def truth(case: ZooCase) -> list[Attention]:
    """The attention weights of the model's own eager run, in no particular order."""
    model, inputs = case.build("eager" if case.eager else None)
    recorder = Recorder()
    with recorder.on(model):
        output = _run(model, inputs, case.returned)
    found = [Attention(t, where) for where, t in _attentions_in(output)] if case.returned else []
    if not case.recorded:
        return found
    wanted = re.compile(case.recorded)
    unreturned = [
        seen
        for seen in recorder.seen
        if (wanted.search(seen.where) or wanted.search(str(seen)))
        and not any(same_values(seen.weights, known.weights) for known in found)
    ]
    return found + unreturned


def _run(model: nn.Module, inputs: Inputs, attentions: bool) -> Any:
    if not attentions:
        return model(**inputs)
    for part in model.modules():
        config = getattr(part, "config", None)
        if config is not None and hasattr(config, "output_attentions"):
            config.output_attentions = True
    return model(**inputs, output_attentions=True)


def _attentions_in(output: Any, where: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(output, Mapping):
        for key, value in output.items():
            if "attentions" in key or isinstance(value, Mapping):
                yield from _attentions_in(value, f"{where}.{key}".strip("."))
    elif "attentions" in where and isinstance(output, (tuple, list)):
        for i, value in enumerate(output):
            yield from _attentions_in(value, f"{where}[{i}]")
    elif "attentions" in where and isinstance(output, Tensor):
        yield where, output


# -- comparing ------------------------------------------------------------------------------------


def same_values(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors hold the same weights, in the same order or, folded otherwise, in any."""
    a, b = _without_masked_rows(a), _without_masked_rows(b)
    if a.numel() == b.numel():
        if a.shape[-2:] == b.shape[-2:] and _close(a.flatten(), b.flatten(), tolerance):
            return True
        return _close(a.flatten().sort().values, b.flatten().sort().values, tolerance)
    a, b = a[a > tolerance].sort().values, b[b > tolerance].sort().values
    return a.numel() == b.numel() and _close(a, b, tolerance)


def _without_masked_rows(weights: Tensor) -> Tensor:
    """A query that may attend to nothing: eager attention is even there, the fused one is 0."""
    weights = weights.detach().float()
    even = weights.amax(-1, keepdim=True) - weights.amin(-1, keepdim=True) < 1e-7
    return weights.masked_fill(even, 0.0)


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return bool((a - b).abs().max() <= tolerance) if a.numel() else True
