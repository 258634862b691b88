"""Readings: the rows that an explanation reads, and the tokens that people see in their columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fxplain.errors import MethodError
from fxplain.explanation.companion import chained_companion
from fxplain.explanation.reading import View, joint_shares, samples_of
from fxplain.inside.chains import Chains
from fxplain.methods import Relevancies, RowShare, smoothing_methods

if TYPE_CHECKING:
    from fxplain.explanation import Explanation
    from fxplain.explanation.kept import Kept

__all__ = ["Reading", "chained", "columns_of", "kept_of", "reading_of", "readings_of", "told_of"]


@dataclass(frozen=True, eq=False)
class Reading:
    """One walk over the chains of one sample, or of all where each reads tokens of its own.

    Attributes
    ----------
    chains
        The expansion.
    views
        The samples' places in the batch.
    own
        For each view the samples whose tokens it reads.
    """

    chains: Chains
    views: tuple[int, ...]
    own: tuple[tuple[int, ...], ...]

    def by_view(self, by_sample: Tensor) -> Tensor:
        """Numbers by sample, (samples, ...), of each view: all of them where there is one view."""
        if len(self.views) == 1:
            return by_sample.sum(0, keepdim=True)
        return by_sample[[own[0] for own in self.own]]


def kept_of(explanation: Explanation) -> Kept:
    """What the passes of an explanation leave behind, from another run of the model.

    Raises
    ------
    MethodError
        When the explanation was loaded from a file.
    """
    if explanation.asked is None:
        raise MethodError(
            "this explanation was loaded or came from another process: what goes on inside the model "
            "is asked where the model is. Explain again."
        )
    return explanation.asked.kept()


def chained(explanation: Explanation) -> Explanation:
    """The explanation that chains of attention are told of.

    Where `method="auto"` chose one that only scores tokens, it is a companion by the generic rules.
    """
    if explanation.chosen and explanation.engine == "tokens" and explanation.asked is not None:
        return chained_companion(explanation)
    return explanation


def told_of(explanation: Explanation, asked: Explanation) -> tuple[str, str]:
    """The method that something is told of, and the one that was asked for where that is another."""
    return explanation.method, "" if explanation is asked else asked.method


def readings_of(kept: Kept, method: str) -> Iterator[Reading]:
    """The readings of all samples.

    Raises
    ------
    MethodError
        When the method does not sum over chains of attention.
    """
    views = kept.views
    joint = joint_shares(views)
    if joint is not None:
        yield _reading(views, range(len(views)), joint, method)
        return
    for sample in range(len(views)):
        yield reading_of(kept, method, sample)


def reading_of(kept: Kept, method: str, sample: int) -> Reading:
    """The reading of one sample.

    Raises
    ------
    MethodError
        When the method does not sum over chains of attention.
    """
    view = kept.views[sample]
    return _reading([view], [sample], list(view.readout.rows), method)


def _reading(
    views: Sequence[View],
    places: Sequence[int],
    shares: list[RowShare],
    method: str,
) -> Reading:
    scores = views[0].scores
    if not isinstance(scores, Relevancies) or method in smoothing_methods():
        raise MethodError(
            f"method {method!r} is no sum over chains of attention, so that it has no heads, layers, "
            f"paths and flow: explain with method='generic', gradients='corrected' (or "
            f"'weighted_accumulation'). What each head adds to the score, `contributions()` tells of "
            f"any method."
        )
    own = tuple(tuple(sorted({row.sample for row in view.readout.rows})) for view in views)
    return Reading(Chains(scores, shares), tuple(places), own)


def columns_of(kept: Kept, reading: Reading) -> dict[int, Tensor]:
    """By stream, which modality counts each token, (batch, tokens, modalities), and how often."""
    program = kept.program
    scores = kept.views[0].scores
    assert isinstance(scores, Relevancies)
    found = {
        i: scores.zeros(*stream.tokens.shape, len(program.modalities))
        for i, stream in enumerate(program.streams)
    }
    views = [kept.views[i] for i in reading.views]
    for m, modality in enumerate(program.modalities):
        for table in (modality.tokens, *modality.more):
            rows = table[samples_of(program, table, views)]
            for own, row in zip(reading.own, rows, strict=True):
                tokens = row[row >= 0]
                streams = torch.as_tensor(program.token_stream[tokens.numpy()])
                places = torch.as_tensor(program.token_index[tokens.numpy()])
                for stream in streams.unique().tolist():
                    here = places[streams == stream]
                    for sample in own:
                        if sample < program.streams[stream].batch:
                            at = torch.full_like(here, sample)
                            one = found[stream].new_ones(())
                            where = (at, here, torch.full_like(here, m))
                            found[stream].index_put_(where, one, accumulate=True)
    return found
