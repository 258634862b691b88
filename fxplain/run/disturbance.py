"""Disturbance: a run whose tokens are born with noise, and whose heads may be silent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from zlib import crc32

import torch
from torch import Tensor

from fxplain.program import BirthSite

__all__ = ["UNDISTURBED", "Disturbance", "Noise", "disturbed", "loudness", "noisy"]


@dataclass(frozen=True)
class Noise:
    """Gaussian noise in tokens as they are born, drawn by a seed and a number.

    Attributes
    ----------
    level
        The deviation of the noise in a token, as a part of the root mean square of its numbers.
    seed, draw, purpose
        Of what is drawn: the same for every sample, so that it does not depend on a batch.
    """

    level: float
    seed: int = 0
    draw: int = 0
    purpose: str = ""

    def of(self, x: Tensor, site: BirthSite, place: int) -> Tensor:
        """The noise of one value, 0 where no token is born.

        Parameters
        ----------
        x
            The value.
        site
            Which token each element is of.
        place
            The site's number among all.
        """
        new = site.tokens >= 0
        samples = torch.where(new, site.samples, -1).expand(x.shape)
        drawn = torch.zeros(x.shape)
        seed = crc32(repr((self.seed, self.purpose, self.draw, place)).encode())
        for sample in samples.unique().tolist():
            if sample >= 0:
                own = samples == sample
                drawn[own] = _normal(int(own.sum()), seed)
        return self.level * _size(x, site) * drawn.to(x)


_BLOCK = 16


def _normal(count: int, seed: int) -> Tensor:
    """Numbers that more of them would begin with: torch draws them in blocks."""
    blocks = -(-count // _BLOCK)
    return torch.randn(blocks * _BLOCK, generator=torch.Generator().manual_seed(seed))[:count]


def _size(x: Tensor, site: BirthSite) -> Tensor:
    """The root mean square of each token's numbers, which broadcasts to the value."""
    along = [i for i, size in enumerate(site.tokens.shape) if size == 1 and x.shape[i] > 1]
    squares = x.detach().square()
    return (squares.mean(along, keepdim=True) if along else squares).sqrt()


@dataclass(frozen=True, eq=False)
class Disturbance:
    """What is changed in a run.

    Attributes
    ----------
    noises
        In tokens as they are born, added up.
    loudness
        By attention node, a factor for its output that broadcasts to it: 0 for silent heads.
    """

    noises: tuple[Noise, ...] = ()
    loudness: Mapping[str, Tensor] = field(default_factory=dict)

    def with_noise(self, noise: Noise) -> Disturbance:
        """The same with one noise more."""
        return Disturbance((*self.noises, noise), self.loudness)


UNDISTURBED = Disturbance()

_NOW: ContextVar[Disturbance] = ContextVar("disturbance", default=UNDISTURBED)


@contextmanager
def disturbed(by: Disturbance) -> Iterator[None]:
    """Let runs in this context be disturbed, where their graphs are made for it."""
    token = _NOW.set(by)
    try:
        yield
    finally:
        _NOW.reset(token)


def noisy(x: Tensor, site: BirthSite, place: int) -> Tensor:
    """A value at which tokens are born, with the noise of the run."""
    for noise in _NOW.get().noises:
        x = x + noise.of(x, site, place)
    return x


def loudness(output: Tensor, name: str) -> Tensor:
    """An attention node's output, as loud as the run says."""
    factor = _NOW.get().loudness.get(name)
    return output if factor is None else output * factor.to(output)
