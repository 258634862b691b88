"""What one entry of the wild zoo is made of: a model that nobody here wrote, and what it does.

What is expected is read in the model's code and configuration, never from what the library says.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ByHand", "Draw", "Entry", "Inputs", "made", "opened", "plain", "read_tokens"]

Inputs = Mapping[str, Any] | tuple[Any, ...]
Build = Callable[[], tuple[nn.Module, Inputs]]
Step = tuple[str, str]

MADE = "made"
"""Where a readout's tokens were made of a modality, and are not its own."""


@dataclass(frozen=True)
class ByHand:
    """How relevance follows from the recorded softmaxes, by the paper's equations.

    Attributes
    ----------
    streams
        By stream, its modalities in the order of its sequence.
    steps
        For every softmax that the score depends on, in order, the streams of its queries and keys;
        a tuple of such pairs where two read the same state.
    read
        By stream, what the score is read from: one position, or shares (tokens,) or (batch, tokens).
    heads
        From a softmax as the model has it to (batch, heads, queries, keys).
    tolerance
        Of the largest relevance.
    """

    streams: Mapping[str, tuple[str, ...]]
    steps: tuple[Step | tuple[Step, ...], ...]
    read: Mapping[str, int | Tensor]
    heads: Callable[[Tensor, int], Tensor] | None = None
    tolerance: float = 2e-3


@dataclass(frozen=True)
class Entry:
    """One tiny model with inputs, and what is right about it.

    Attributes
    ----------
    name, family
        What the table calls it.
    build
        Makes the model and its inputs: the same ones at each call.
    kinds
        Attention nodes per kind; empty for a model without attention between tokens. A kind may be
        two, as ``self|pooling``, where the definition leaves the choice.
    modalities
        Name to number of tokens; a tuple of such mappings where the definition leaves the choice.
    readout
        What the target is read from, such as ``ids[0]`` or ``ids[0..6]``; ``image[made]`` is read
        from what was made of a modality, ``image[*]`` from any of its tokens. One text, or one per
        sample; ``a | b`` where either is right.
    target
        What is explained.
    not_attention
        A pattern of module paths and shapes, as in ``gate (2, 4)``, of softmaxes that mix no tokens.
    dead
        How many of the nodes nothing reads, so that a graph may have lost them.
    unseen
        How many nodes have weights that no softmax makes.
    contracted
        From a softmax as the model computes it to the weights that meet the values, where a sink's
        column, say, is cut off between.
    by_hand
        How relevance follows, where the model is plain enough.
    """

    name: str
    family: str
    build: Build
    kinds: Mapping[str, int]
    modalities: Mapping[str, int] | tuple[Mapping[str, int], ...] = ()
    readout: str | tuple[str, ...] = ""
    target: Any = 1
    not_attention: str = ""
    dead: int = 0
    unseen: int = 0
    contracted: Callable[[Tensor], Tensor] | None = None
    by_hand: ByHand | None = None

    @property
    def alternatives(self) -> tuple[Mapping[str, int], ...]:
        """The modalities, each choice."""
        return (self.modalities,) if isinstance(self.modalities, Mapping) else self.modalities

    @property
    def recorded(self) -> int:
        """How many softmaxes of the model are attention."""
        return sum(self.kinds.values()) - self.unseen

    def but(self, **changes: Any) -> Entry:
        """The same entry with changes."""
        return replace(self, **changes)


def plain(
    modality: str,
    layers: int,
    read: int | Tensor,
    heads: Callable[[Tensor, int], Tensor] | None = None,
) -> ByHand:
    """A stack of self-attentions with residuals around them, over one modality."""
    return joint((modality,), layers, read, heads)


def joint(
    modalities: Sequence[str],
    layers: int,
    read: int | Tensor,
    heads: Callable[[Tensor, int], Tensor] | None = None,
) -> ByHand:
    """The same over one sequence of several modalities."""
    return ByHand({"all": tuple(modalities)}, (("all", "all"),) * layers, {"all": read}, heads)


def read_tokens(text: str) -> dict[str, frozenset[int] | str]:
    """The places that a readout names, by modality.

    Examples
    --------
    >>> read_tokens("mean of ids[0..2] and image[4]")
    {'ids': frozenset({0, 1, 2}), 'image': frozenset({4})}
    >>> read_tokens("mean of 36 tokens made of image")
    {'image': 'made'}
    """
    found: dict[str, frozenset[int] | str] = dict.fromkeys(
        re.findall(r"([\w.@]+)\[\*\]", text), "*"
    )
    for name, places in re.findall(r"([\w.@]+)\[([\d., ]+)\]", text):
        runs = re.findall(r"(\d+)(?:\.\.(\d+))?", places)
        numbers = {n for a, b in runs for n in range(int(a), int(b or a) + 1)}
        before = found.get(name, frozenset())
        found[name] = frozenset(numbers) | (before if isinstance(before, frozenset) else set())
    for name in re.findall(r"([\w.@]+)\[made\]|tokens? made of ([\w.@]+)", text):
        found["".join(name)] = MADE
    return found


class Draw:
    """A seeded source of inputs."""

    def __init__(self, seed: int = 3) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def floats(self, *shape: int) -> Tensor:
        """Normal numbers."""
        return torch.randn(*shape, generator=self._generator)

    def ids(self, *shape: int, low: int = 1, high: int = 30) -> Tensor:
        """Whole numbers from `low` to below `high`."""
        return torch.randint(low, high, shape, generator=self._generator)

    def images(self, size: int = 16, batch: int = 2, channels: int = 3) -> Tensor:
        """Square images."""
        return self.floats(batch, channels, size, size)


def made(
    make: Callable[[], nn.Module], inputs: Callable[[Draw], Inputs], *, seed: int = 1
) -> Build:
    """A builder: the model that `make` makes, with seeded weights and nothing closed."""

    def build() -> tuple[nn.Module, Inputs]:
        state = random.getstate()  # some packages choose by Python's own draws
        try:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                random.seed(seed)
                model = opened(make().eval(), seed)
        finally:
            random.setstate(state)
        return model, inputs(Draw())

    return build


def opened(model: nn.Module, seed: int) -> nn.Module:
    """A model whose parameters all matter, and whose attention is far from even.

    A gate of zeros, a last layer of zeros, a layer scale of 1e-5 hide what is behind them; weights
    of 0.02 make every attention an average.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.is_floating_point() or not parameter.numel():
                continue
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            first = float(parameter.flatten()[0])
            inner = parameter[0].numel() if parameter.ndim > 1 else 1
            if not bool((parameter.abs() < 1e3).all()):  # memory that nobody has set
                parameter.copy_(noise / inner**0.5)
            elif bool((parameter == first).all()):
                if parameter.ndim > 1 and abs(first) < 0.2:
                    parameter.copy_(noise / inner**0.5)
                elif abs(first) < 0.2:
                    parameter.copy_(0.5 * (first != 0 or parameter.numel() == 1) + 0.2 * noise)
                else:
                    parameter.add_(0.1 * noise)
            elif parameter.ndim > 1:
                wanted, spread = inner**-0.5, float(parameter.std())
                if spread < 0.6 * wanted:
                    parameter.mul_(wanted / max(spread, 1e-6))
    return model
