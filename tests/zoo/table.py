"""The table: what the library finds in each architecture, against the truth."""

from __future__ import annotations

import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

import fxplain
from tests.zoo.case import Attention, Inputs, ZooCase, same_values, truth
from tests.zoo.laws import broken_laws, explained
from tests.zoo.tokens import wrong_counts, wrong_position, wrong_readout

__all__ = ["Row", "check", "summary", "table"]


@dataclass
class Row:
    """How one architecture did.

    Attributes
    ----------
    route
        How it was captured.
    found, expected
        Attention nodes per kind.
    modalities, readout
        As the graph names them.
    problems
        What is not right about the nodes, in words.
    unmatched
        Attention tensors that no node saw.
    wrong_tokens, wrong_readout
        What is not right about the modalities, and about what the output is read from, in words.
    laws
        Which laws the explanation breaks.
    error
        The exception, when there was one, and its last frames.
    """

    name: str
    family: str
    route: str = ""
    found: dict[str, int] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    modalities: dict[str, int] = field(default_factory=dict)
    readout: str = ""
    problems: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    wrong_tokens: list[str] = field(default_factory=list)
    wrong_readout: list[str] = field(default_factory=list)
    laws: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0

    @property
    def kinds_right(self) -> bool:
        return not self.problems and not self.error

    @property
    def values_right(self) -> bool:
        return not self.unmatched and not self.error

    @property
    def tokens_right(self) -> bool:
        return not self.wrong_tokens and not self.error

    @property
    def readout_right(self) -> bool:
        return not self.wrong_readout and not self.error

    @property
    def laws_kept(self) -> bool:
        return not self.laws and not self.error

    @property
    def right(self) -> bool:
        """Right in everything that is compared."""
        return not self.wrong

    @property
    def wrong(self) -> list[str]:
        """All that is not right, in words."""
        if self.error:
            return [self.error.split(" [")[0].splitlines()[0]]
        unseen = f"{len(self.unmatched)} attentions that no node saw"
        return [
            *self.problems,
            *([unseen] if self.unmatched else []),
            *self.wrong_tokens,
            *self.wrong_readout,
            *self.laws,
        ]


def check(case: ZooCase, limit: int = 60) -> Row:
    """Compare what the library finds with the truth; what goes wrong becomes a part of the row."""
    row = Row(case.name, case.family, expected=dict(case.expected))
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(), _time_limit(limit):
            warnings.simplefilter("ignore")
            _compare(case, row)
    except (Exception, TooSlow) as error:  # noqa: BLE001 - one failure must not stop the table
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        where = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(frames))
        row.error = f"{type(error).__name__}: {error} [{where}]"
    row.seconds = time.perf_counter() - start
    return row


def _compare(case: ZooCase, row: Row) -> None:
    expected = truth(case)
    if len(expected) != case.tensors:
        raise ValueError(f"the model computed {len(expected)} attentions, not {case.tensors}")
    model, inputs = case.build(None)
    graph = fxplain.inspect(model, inputs)
    row.route = graph.capture.route
    row.found = dict(Counter(node.kind for node in graph.nodes))
    row.modalities, row.readout = dict(graph.modalities), graph.readout
    row.warnings = list(graph.warnings)
    row.rejected = [f"{r.name} in {r.module}: {r.reason}" for r in graph.rejected]
    row.problems += _wrong_kinds(case, row.found)
    if not case.expected:
        row.problems += _no_error(model, inputs)
        return
    found = fxplain.attention_weights(model, inputs)
    row.unmatched = _unmatched(expected, list(found.values()), case.dead)
    row.problems += _wrong_sizes(graph.nodes, found)
    explanation = explained(model, inputs)
    row.modalities = {name: values.shape[1] for name, values in explanation.relevance.items()}
    row.wrong_tokens = wrong_counts(case.tokens, inputs, row.modalities)
    row.wrong_readout = [
        *wrong_readout(case.reads, inputs, row.modalities, graph.readout),
        *wrong_position(case.reads, inputs, explanation.target, explanation.readout),
    ]
    row.laws = broken_laws(model, inputs, explanation, found)


def _wrong_kinds(case: ZooCase, found: dict[str, int]) -> list[str]:
    """Each expected kind, and each of its alternatives, must be found as often as it says."""
    left, wrong = Counter(found), []
    dead = case.dead
    for kinds, count in sorted(case.expected.items(), key=lambda item: "|" in item[0]):
        for kind in kinds.split("|"):
            taken = min(left[kind], count)
            left[kind] -= taken
            count -= taken
        excused = min(dead, count)
        dead -= excused
        if count > excused:
            wrong.append(f"{count - excused} {kinds} missing")
    wrong += [f"{count} {kind} too many" for kind, count in left.items() if count]
    return wrong


def _no_error(model: nn.Module, inputs: Inputs) -> list[str]:
    """A model without attention has nothing to explain, and must say so."""
    try:
        fxplain.explain(model, inputs)
    except fxplain.NoAttentionError:
        return []
    return ["explain() raised no NoAttentionError"]


def _wrong_sizes(nodes: Sequence[fxplain.AttentionNode], weights: dict[str, Tensor]) -> list[str]:
    """A node's heads and lengths must multiply to whole samples of its weights."""
    wrong = []
    for node in nodes:
        numbers = weights[node.name].numel()
        of_sample = node.heads * node.q_len * node.k_len
        if of_sample == 0 or numbers % of_sample:
            wrong.append(
                f"{node.name}: {node.heads} heads of {node.q_len} x {node.k_len} do not make up "
                f"weights of {tuple(weights[node.name].shape)}"
            )
    return wrong


def _unmatched(expected: Sequence[Attention], found: list[Tensor], dead: int) -> list[str]:
    left = list(found)
    missing = []
    for attention in expected:
        match = next((i for i, w in enumerate(left) if same_values(attention.weights, w)), None)
        if match is None:
            missing.append(str(attention))
        else:
            del left[match]
    return missing if len(missing) > dead else []


class TooSlow(BaseException):
    """Raised when the time is up; no `except Exception` on the way keeps it."""


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlow(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# -- what the command prints ----------------------------------------------------------------------


def table(rows: Sequence[Row]) -> Table:
    """The rows as the command prints them."""
    made = Table(title="The zoo", title_justify="left", header_style="bold")
    for name in ("architecture", "family", "capture", "nodes found / expected", "modalities"):
        made.add_column(name, overflow="fold")
    made.add_column("readout", overflow="fold")
    for name in ("values agree", "tokens", "readout right", "laws"):
        made.add_column(name)
    made.add_column("seconds", justify="right")
    for row in rows:
        made.add_row(
            row.name,
            row.family,
            row.route,
            _nodes(row),
            ", ".join(f"{name} {size}" for name, size in row.modalities.items()),
            row.readout,
            _values(row),
            _yes(row, row.tokens_right),
            _yes(row, row.readout_right),
            _yes(row, row.laws_kept),
            f"{row.seconds:.1f}",
            style="" if row.right else "red",
        )
    return made


def _nodes(row: Row) -> str:
    if row.error:
        return f"[bold]{row.error.splitlines()[0][:160]}[/bold]"
    kinds = dict.fromkeys([*row.expected, *row.found])
    counts = [f"{kind} {row.found.get(kind, 0)} / {row.expected.get(kind, 0)}" for kind in kinds]
    return ", ".join(counts) or "none / none"


def _values(row: Row) -> str:
    if row.error:
        return "-"
    if not row.expected:
        return "none"
    return "yes" if row.values_right else f"no: {len(row.unmatched)} unmatched"


def _yes(row: Row, right: bool) -> str:
    return "-" if row.error else "yes" if right else "no"


def summary(rows: Sequence[Row]) -> str:
    """One line: how many architectures are right."""
    right = sum(row.right for row in rows)
    parts = {
        "kind and number": sum(row.kinds_right for row in rows),
        "values": sum(row.values_right for row in rows),
        "tokens": sum(row.tokens_right for row in rows),
        "readout": sum(row.readout_right for row in rows),
        "the laws": sum(row.laws_kept for row in rows),
    }
    return (
        f"{right} of {len(rows)} right in everything compared ({right / max(len(rows), 1):.1%}): "
        + ", ".join(f"{count} in {part}" for part, count in parts.items())
    )


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The rows as plain data."""
    return [{**asdict(row), "right": row.right} for row in rows]


def from_json(data: Sequence[dict[str, Any]]) -> list[Row]:
    """The rows that `as_json` made plain."""
    return [Row(**{k: v for k, v in row.items() if k != "right"}) for row in data]


def quiet() -> None:
    """One thread, and no advice from the models."""
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
