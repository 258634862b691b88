"""Matrices: R between two modalities, from what an explanation's runs left behind."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fxplain.errors import MethodError
from fxplain.explanation.reading import View, by_position, in_order, tokens_of
from fxplain.methods import Accumulation, TokenScores
from fxplain.program import Modality, Program

__all__ = ["Matrices"]

LARGE = 2**30
"""Bytes of matrices that deserve a warning."""


@dataclass(frozen=True, eq=False)
class Matrices:
    """R[a, b] after the last update of a's tokens, by the names of modalities, from what was kept."""

    program: Program
    views: Sequence[View]

    def __call__(self, a: str, b: str) -> Tensor:
        """(batch, tokens of a, tokens of b).

        Raises
        ------
        MethodError
            When the method scores tokens and has no matrices.
        """
        if any(isinstance(view.scores, TokenScores) for view in self.views):
            raise MethodError("this method scores tokens and has no relevancy matrices.")
        distinct = {
            id(v.scores): v.scores for v in self.views if isinstance(v.scores, Accumulation)
        }
        size = sum(scores.bytes_of_matrices() for scores in distinct.values())
        if size > LARGE:
            warnings.warn(
                f"the matrices at all points of the model take about {size / 2**30:.1f} GiB; "
                f"`relevance` is there without them.",
                stacklevel=3,
            )
        of = {m.name: m for m in self.program.modalities}
        return torch.stack([_matrix(self.program, view, of[a], of[b]) for view in self.views])


def _matrix(program: Program, view: View, a: Modality, b: Modality) -> Tensor:
    tables = tokens_of(program, a, view)
    rows = _rows_meant(program, view, torch.stack(tables))
    parts = [part for own in rows for part in _matrix_rows(program, view, own, b)]
    result: Tensor | None = None
    for places, values in parts:
        if len(parts) == 1 and in_order(places, len(tables[0])):
            return values
        if result is None:
            result = values.new_zeros(len(tables[0]), len(b))
        result.index_add_(0, places.to(values.device), values)
    return torch.zeros(len(tables[0]), len(b)) if result is None else result


def _rows_meant(program: Program, view: View, tokens: Tensor) -> Tensor:
    """Of several tokens at a position, those of the streams that the target is read from.

    All of them, added up, where it is read from none: in the other tables, (tables, positions), -1.
    """
    if len(tokens) == 1:
        return tokens
    ends = {int(program.token_stream[r.token]) for group in view.readout.groups for r in group}
    read = set().union(*(program.lineage(stream, len(program.flow.updates)) for stream in ends))
    streams = torch.as_tensor(program.token_stream[tokens.clamp(min=0).numpy()])
    here = torch.isin(streams, torch.tensor(sorted(read), dtype=streams.dtype)) & (tokens >= 0)
    return torch.where(here | ~here.any(0), tokens, -1)


def _matrix_rows(
    program: Program, view: View, rows: Tensor, b: Modality
) -> Iterator[tuple[Tensor, Tensor]]:
    """The last rows of some tokens over the positions of a modality, with their places."""
    assert isinstance(view.scores, Accumulation)
    streams = torch.as_tensor(program.token_stream[rows.clamp(min=0).numpy()])
    positions = torch.as_tensor(program.token_index[rows.clamp(min=0).numpy()])
    for stream in streams[rows >= 0].unique().tolist():
        blocks = view.scores.final(stream).full
        sample = view.sample_of(program, stream)
        here = ((streams == stream) & (rows >= 0)).nonzero().flatten()
        of_rows = {c: _picked(R[sample], positions[here]) for c, R in blocks.items()}
        yield here, by_position(program, b, view, of_rows)


def _picked(R: Tensor, rows: Tensor) -> Tensor:
    """Some rows, in their order; R itself where these are all."""
    return R if in_order(rows, len(R)) else R[rows.to(R.device)]
