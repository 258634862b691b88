"""Reading: from relevancy matrices over streams to relevance and matrices over modalities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fxplain.capture import Memo
from fxplain.errors import MethodError
from fxplain.explanation.resolved_target import Readout
from fxplain.methods import Accumulation, Relevancies, RelevancyRows, RowShare, TokenScores
from fxplain.methods.baselines import Rollout
from fxplain.program import Modality, Program

__all__ = [
    "ENGINES",
    "Reading",
    "View",
    "biases_of",
    "by_position",
    "by_view",
    "choose_engine",
    "identity",
    "in_order",
    "joint_shares",
    "relevance",
    "samples_of",
    "tokens_of",
    "without_attention",
]

ENGINES = ("auto", "rows", "matrices")


@dataclass(frozen=True, eq=False)
class View:
    """One sample's target with the scores that belong to it.

    `samples` names, for each stream that the readout touches, the sample whose tokens it reads; it
    is the target's own sample unless the model compares across samples (CLIP).
    """

    scores: Accumulation | TokenScores
    readout: Readout
    sample: int
    samples: dict[int, int]

    @classmethod
    def of(
        cls, program: Program, scores: Accumulation | TokenScores, readout: Readout, sample: int
    ) -> View:
        """The view of one target."""
        samples = {program.streams[row.stream].root: row.sample for row in readout.rows}
        return cls(scores, readout, sample, samples)

    def sample_of(self, program: Program, stream: int) -> int:
        """The sample of a stream's tokens that this target concerns."""
        chosen = program.streams[stream]
        sample = self.samples.get(chosen.root, self.sample)
        return min(sample, chosen.batch - 1)


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read for one target.

    Attributes
    ----------
    views
        One per sample.
    engine
        How the readouts' rows were found.
    relevance
        (batch, tokens) by modality.
    matrix_of
        Makes matrices of R of what the passes left; None where that is gone.
    promised
        (batch,) what the relevance should add up to, where the method promises something.
    """

    views: tuple[View, ...]
    engine: str
    relevance: dict[str, Tensor]
    matrix_of: Callable[[str, str], Tensor] | None = None
    promised: Tensor | None = None


def biases_of(views: Sequence[View]) -> tuple[dict[str, Tensor], Tensor | None]:
    """(batch,) by name what biases get, and what of it is at no token; None where none were asked."""
    found: dict[str, list[float]] = {}
    beside = []
    for i, view in enumerate(views):
        biases = view.scores.biases if isinstance(view.scores, TokenScores) else None
        if biases is None:
            return {}, None
        beside.append(float(biases.beside[view.sample]))
        for name, values in biases.named.items():
            found.setdefault(name, [0.0] * len(views))[i] = float(values[view.sample])
    return {name: torch.tensor(own) for name, own in found.items()}, torch.tensor(beside)


def choose_engine(asked: str, scores: Accumulation | TokenScores, method: str) -> str:
    """How the readout's rows are found: "rows", "matrices", or "tokens" where there is no R.

    Raises
    ------
    MethodError
        When the method cannot do what was asked.
    """
    possible: tuple[str, ...]
    if isinstance(scores, TokenScores):
        possible = ("tokens",)
    else:
        possible = ("rows", "matrices") if scores.by_rows else ("matrices",)
    if asked not in ("auto", *possible):
        raise MethodError(
            f"method {method!r} cannot use engine={asked!r} with these options here; leave it out, "
            f"or use {possible[-1]!r}."
        )
    return possible[0] if asked == "auto" else asked


def relevance(
    program: Program,
    views: Sequence[View],
    engine: str,
    read: dict[int, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The readout's row of R by modality: (batch, tokens).

    `read` is the sum of all views' rows, by column stream, where that has been read already.
    """
    rows: Sequence[dict[int, Tensor] | Tensor]
    if engine == "rows":
        shares = [view.readout.rows for view in views]
        read = _read_at_once(views, shares) if read is None else read
        samples = [sorted({share.sample for share in own}) for own in shares]
        if read is not None and all(len(own) == 1 for own in samples):
            of_views = _of_views(read, [own[0] for own in samples])
            return {
                m.name: _all_by_position(program, m, views, of_views) for m in program.modalities
            }
        rows = _rows_without_matrices(views, shares, samples, read)
    else:
        rows = [_readout_row(view) for view in views]
    return {
        modality.name: torch.stack(
            [
                by_position(program, modality, view, row)
                for view, row in zip(views, rows, strict=True)
            ]
        )
        for modality in program.modalities
    }


def identity(
    program: Program, views: Sequence[View], relevance: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """How much of a relevance is the identity that R starts from: what is left without any attention.

    Where rows are normalised with it (rollout) it is not told apart, but at tokens that alone are
    read. None where it is not found without the matrices.
    """
    first = views[0].scores
    if isinstance(first, TokenScores) or not first.with_identity:
        return {name: torch.zeros_like(values) for name, values in relevance.items()}
    found = without_attention(program, views)
    if found is None:
        return None
    if isinstance(first, Rollout):
        found = {name: torch.where(own >= 1 - 1e-4, own, 0.0) for name, own in found.items()}
    return {name: own.to(relevance[name]) for name, own in found.items()}


def without_attention(program: Program, views: Sequence[View]) -> dict[str, Tensor] | None:
    """What the targets are read from if no attention gave anything, (batch, tokens) by modality.

    1 of a token that alone is read, 1/n of each in a mean over n. None where that is not found without
    the matrices.
    """
    read = tuple((view.readout.groups, view.sample) for view in views)
    found: dict[str, Tensor] | None = program.memo.made(
        ("identity", read), lambda: _bare(program, views)
    )
    return found


def _bare(program: Program, views: Sequence[View]) -> dict[str, Tensor] | None:
    """The readouts' rows where no node gives anything; None where rows are not found by themselves."""
    nothing = Relevancies(program, dict.fromkeys(program.nodes))
    if not nothing.by_rows:
        return None
    with torch.no_grad():
        return relevance(program, [replace(view, scores=nothing) for view in views], "rows")


def joint_shares(views: Sequence[View]) -> list[RowShare] | None:
    """What all views read, where one reading serves them: each from a sample of its own."""
    return _joint(views, [view.readout.rows for view in views])


def _joint(views: Sequence[View], shares: Sequence[Sequence[RowShare]]) -> list[RowShare] | None:
    samples = [{share.sample for share in own} for own in shares]
    one_each = all(len(own) == 1 for own in samples)
    distinct = len(set().union(*samples)) == len(views)
    if not one_each or not distinct or len({id(view.scores) for view in views}) > 1:
        return None
    return [share for own in shares for share in own]


def _read_at_once(
    views: Sequence[View], shares: Sequence[Sequence[RowShare]]
) -> dict[int, Tensor] | None:
    """The readouts' rows, together where each is read from a sample of its own."""
    joint = _joint(views, shares)
    return None if joint is None else _engine(views[0]).read(joint)


def _of_views(rows: dict[int, Tensor], samples: Sequence[int]) -> dict[int, Tensor]:
    """Each view's own sample of rows, (views, columns)."""
    found = {}
    for column, x in rows.items():
        if [*range(len(x))] == samples:
            found[column] = x
            continue
        own = torch.tensor(samples, device=x.device)
        there = (own < len(x)).unsqueeze(-1)  # an only image beside several texts
        found[column] = torch.where(there, x[own.clamp(max=len(x) - 1)], 0)
    return found


def _rows_without_matrices(
    views: Sequence[View],
    shares: Sequence[Sequence[RowShare]],
    samples: Sequence[list[int]],
    read: dict[int, Tensor] | None,
) -> list[dict[int, Tensor]]:
    """The readouts' rows, one after the other where they have not been read together."""
    if read is not None:
        found = [read] * len(views)
    else:
        found = [_engine(view).read(own) for view, own in zip(views, shares, strict=True)]
    return [
        # a readout of two towers may read its second text and its only image
        {column: x[[i for i in own if i < len(x)]].sum(0) for column, x in rows.items()}
        for rows, own in zip(found, samples, strict=True)
    ]


def _engine(view: View) -> RelevancyRows:
    assert isinstance(view.scores, Relevancies)
    return RelevancyRows(view.scores)


def by_position(
    program: Program, modality: Modality, view: View, row: dict[int, Tensor] | Tensor
) -> Tensor:
    """Rows, (..., columns), by position of a modality: what stands at one position is added up."""
    of_tables = [
        _gathered(program, tokens, row) if isinstance(row, dict) else _of_tokens(tokens, row)
        for tokens in tokens_of(program, modality, view)
    ]
    return of_tables[0] if len(of_tables) == 1 else torch.stack(of_tables).sum(0)


def _all_by_position(
    program: Program, modality: Modality, views: Sequence[View], rows: dict[int, Tensor]
) -> Tensor:
    """The same for all views at once, (views, positions), of rows (views, columns) each."""
    some = next(iter(rows.values()), torch.zeros(len(views), 1))
    values = some.new_zeros(len(views), len(modality))
    for table in (modality.tokens, *modality.more):
        of_views = tuple(samples_of(program, table, views))
        known: Memo = program.memo.made("places of tokens", Memo)
        places = known.made(
            (modality.name, id(table), of_views),
            lambda: _places(program, table[[*of_views]]),  # noqa: B023
        )
        for stream, at, here in places:
            if stream in rows and at is None:
                values += rows[stream]
            elif stream in rows:
                picked = rows[stream].gather(1, at.to(values.device))
                values += torch.where(here.to(values.device), picked, 0)
    return values


def _places(program: Program, tokens: Tensor) -> list[tuple[int, Tensor | None, Tensor]]:
    """By stream where tokens, (views, positions), stand in it, and which do.

    No places where all of them do, in the stream's order.
    """
    real = tokens >= 0
    streams = torch.as_tensor(program.token_stream[tokens.clamp(min=0).numpy()])
    positions = torch.as_tensor(program.token_index[tokens.clamp(min=0).numpy()])
    found: list[tuple[int, Tensor | None, Tensor]] = []
    for stream in streams[real].unique().tolist():
        here = (streams == stream) & real
        at = torch.where(here, positions, 0)
        whole = tokens.shape[1] == len(program.streams[stream]) and bool(here.all())
        alike = whole and all(in_order(row, tokens.shape[1]) for row in at)
        found.append((stream, None if alike else at, here))
    return found


def _of_tokens(tokens: Tensor, scores: Tensor) -> Tensor:
    """Scores by token, in the order of some tokens."""
    tokens = tokens.to(scores.device)
    return torch.where(tokens >= 0, scores[tokens.clamp(min=0)], 0)


def _readout_row(view: View) -> dict[int, Tensor] | Tensor:
    """By column stream, the readout tokens' rows of the matrices.

    Of a method without matrices the scores of all tokens.
    """
    if isinstance(view.scores, TokenScores):
        return view.scores.scores
    total: dict[int, Tensor] = {}
    for share in view.readout.rows:
        for column, R in view.scores.at(share.stream, share.version).full.items():
            row = R[share.sample, share.position] * share.share
            total[column] = total[column] + row if column in total else row
    return total


def _gathered(program: Program, tokens: Tensor, row: dict[int, Tensor]) -> Tensor:
    """Values by stream position, (..., columns), in the order of some tokens."""
    some = next(iter(row.values()), torch.zeros(1))
    streams = torch.as_tensor(program.token_stream[tokens.clamp(min=0).numpy()])
    positions = torch.as_tensor(program.token_index[tokens.clamp(min=0).numpy()])
    of_streams = {stream: (streams == stream) & (tokens >= 0) for stream in row}
    for stream, here in of_streams.items():
        if here.all() and in_order(positions, row[stream].shape[-1]):
            return row[stream]  # the modality is the stream
    values = some.new_zeros(*some.shape[:-1], len(tokens))
    for stream, here in of_streams.items():
        if here.any():
            places = here.nonzero().flatten().to(values.device)
            values[..., places] = row[stream][..., positions[here].to(values.device)]
    return values


def tokens_of(program: Program, modality: Modality, view: View) -> list[Tensor]:
    """The modality's tokens, by table, in the sample that the view concerns."""
    tables = (modality.tokens, *modality.more)
    return [table[_sample(program, table, view)] for table in tables]


def _sample(program: Program, table: Tensor, view: View) -> int:
    return samples_of(program, table, [view])[0]


def samples_of(program: Program, table: Tensor, views: Sequence[View]) -> list[int]:
    """The row of a table of tokens, (samples, positions), that each view concerns."""
    stream = program.streams[program.stream_of(table)]
    last = min(stream.batch, table.shape[0]) - 1
    return [min(view.samples.get(stream.root, view.sample), last) for view in views]


def by_view(
    program: Program, views: Sequence[View], modality: Modality, rows: Sequence[list[str]]
) -> list[list[str]]:
    """For each target, the row of its sample (the text that an image is compared with)."""
    return [rows[sample] for sample in samples_of(program, modality.tokens, views)]


def in_order(places: Tensor, count: int) -> bool:
    """Whether places are 0, 1, ... count - 1."""
    return len(places) == count and bool((places == torch.arange(count)).all())
