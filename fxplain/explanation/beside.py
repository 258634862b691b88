"""Beside the identity: what relevance is apart from the 1 that every token is to itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from fxplain.arguments import place_in
from fxplain.explanation.by_modality import ByModality
from fxplain.explanation.readouts import identity_of

__all__ = ["BesideIdentity", "of_sample"]


F = TypeVar("F", bound=Callable[..., Any])


def of_sample(method: F) -> F:
    """A method of an explanation that is asked of a modality and a sample, which must be there.

    A sample may be given from the batch's end, as -1.
    """

    @functools.wraps(method)
    def asked(
        self: BesideIdentity, modality: str, sample: int = 0, *args: Any, **kwargs: Any
    ) -> Any:
        self.relevance[modality]  # an unknown one is answered with the known
        place = place_in("sample", sample, len(self.scores))
        return method(self, modality, place, *args, **kwargs)

    return cast("F", asked)


class BesideIdentity:
    """The part of an `Explanation` that knows its relevance from the identity that it starts from."""

    relevance: ByModality
    readout: tuple[str, ...]
    engine: str
    scores: Tensor
    identity: Mapping[str, Tensor] | None
    promised: Tensor | None

    @of_sample
    def starts(self, modality: str, sample: int = 0) -> list[int]:
        """The places whose relevance has a part of the identity: those that the target is read from."""
        own = self._identity[modality][sample]
        return [int(place) for place in (own > 0).nonzero().flatten()]

    def beyond_identity(self) -> ByModality:
        """Relevance without the identity that R starts from: what displays shade, rank and share out.

        Every token is relevant to itself from its birth. A target that is read from one token has that
        1 at it, and one that is read from a mean over n tokens 1/n at each, which would make them all
        look alike. `relevance` has it, as the rules say.

        Returns
        -------
        dict
            By modality name, (batch, tokens).
        """
        return ByModality(
            {name: values - self._identity[name] for name, values in self.relevance.items()}
        )

    @of_sample
    def apart(self, modality: str, sample: int = 0) -> list[int]:
        """The places that displays leave out: a token that alone is read, and is all of itself.

        What such a token adds beside its own 1 is not measured apart from it.
        """
        whole = self._identity[modality][sample] >= 1 - 1e-4
        found = [int(place) for place in whole.nonzero().flatten()]
        return found if len(found) == 1 else []

    @of_sample
    def is_mean_readout(self, modality: str, sample: int = 0) -> bool:
        """Whether the target is read from many tokens, which each carry a share of the identity."""
        return bool(self.starts(modality, sample)) and not self.apart(modality, sample)

    @cached_property
    def _identity(self) -> Mapping[str, Tensor]:
        if self.identity is not None:
            return self.identity
        return {
            name: torch.stack([
                identity_of(self.readout[i], name, values[i], tokens=self.engine == "tokens")
                for i in range(len(values))
            ])
            for name, values in self.relevance.items()
        }  # fmt: skip

    @property
    def is_signed(self) -> bool:
        """Whether some tokens speak against the target: negative relevance."""
        return any(bool((values < 0).any()) for values in self.beyond_identity().values())

    def completeness(self) -> Tensor | None:
        """How much of what the method promises to share out its relevance adds up to.

        Integrated gradients promise the score less that of the baseline, layer-wise relevance
        propagation the whole of the score.

        Returns
        -------
        torch.Tensor or None
            (batch,) 1 where it adds up; None for a method that promises no sum.
        """
        if self.promised is None:
            return None
        total = sum(values.double().sum(1).cpu() for values in self.relevance.values())
        return torch.as_tensor(total) / self.promised.double().cpu()
