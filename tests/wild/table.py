"""The table: what the library says of each model, against what the model does."""

from __future__ import annotations

import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

import fxplain
from tests.wild.case import Entry, Inputs, read_tokens
from tests.wild.recorder import Attention, attentions, relevance_by_hand, same_values

__all__ = ["OUTCOMES", "Row", "check", "summary", "table"]

OUTCOMES = ("right", "warned", "silent", "refused", "crashed", "undeclared")
"""Wrong with a warning to the point is warned, wrong without one silent; undeclared: an entry whose
own expectation does not fit its model."""

BESIDE_THE_POINT = (
    "draws random numbers",
    "holds for these inputs only",
    "recorded on these inputs",
    "one sample at a time",
)
"""Warnings that do not say that nodes, tokens or relevance may be wrong."""


@dataclass
class Row:
    """How one entry did."""

    name: str
    family: str
    outcome: str = ""
    route: str = ""
    found: dict[str, int] = field(default_factory=dict)
    modalities: dict[str, int] = field(default_factory=dict)
    readout: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    error: str = ""
    compared: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        """Whether all that was compared is as declared."""
        return self.outcome == "right"


def check(entry: Entry, limit: int = 60) -> Row:
    """Compare what the library says with what the model does; what goes wrong is in the row."""
    row = Row(entry.name, entry.family)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(), _time_limit(limit):
            warnings.simplefilter("ignore")
            _judge(entry, row)
    except (Exception, TooSlow) as error:  # noqa: BLE001 - one failure must not stop the table
        row.outcome, row.error = "crashed", _told(error)
    row.seconds = time.perf_counter() - start
    return row


def _told(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__}: {error} [{where}]"


def _judge(entry: Entry, row: Row) -> None:
    try:
        truth = attentions(entry)
        if len(truth) != entry.recorded:
            seen = "; ".join(map(str, truth))
            raise ValueError(f"{len(truth)} softmaxes, not {entry.recorded}: {seen}")
        by_hand = relevance_by_hand(entry) if entry.by_hand else None
    except Exception as error:  # noqa: BLE001 - the entry is wrong, or its package is
        row.outcome, row.error = "undeclared", _told(error)
        return
    try:
        if entry.kinds:
            _compare(entry, row, truth, by_hand)
        else:
            _must_refuse(entry, row)
    except fxplain.FxplainError as error:
        row.outcome, row.error = "refused", _told(error)
        return
    pointed = [w for w in row.warnings if not any(text in w for text in BESIDE_THE_POINT)]
    row.outcome = ("warned" if pointed else "silent") if row.problems else "right"


def _must_refuse(entry: Entry, row: Row) -> None:
    """A model without attention between tokens has nothing to explain, and must say so."""
    row.compared.append("refusal")
    try:
        explanation = fxplain.explain(*entry.build(), target=entry.target)
    except fxplain.NoAttentionError:
        return
    graph = explanation.graph
    row.found, row.modalities = _kinds(graph.nodes), dict(graph.modalities)
    row.warnings = list(graph.warnings)
    row.problems.append("answers, though there is no attention between tokens")


def _compare(
    entry: Entry, row: Row, truth: list[Attention], by_hand: dict[str, np.ndarray] | None
) -> None:
    model, inputs = entry.build()
    explanation = fxplain.explain(model, inputs, target=entry.target)
    graph = explanation.graph
    row.route = graph.capture.route
    row.found, row.modalities = _kinds(graph.nodes), dict(graph.modalities)
    row.readout, row.warnings = list(explanation.readout), [str(w) for w in graph.warnings]
    row.rejected = [f"{r.name} in {r.module}: {r.reason}" for r in graph.rejected]
    weights = fxplain.attention_weights(model, inputs)
    row.compared += ["kinds", "sizes", "weights"]
    row.problems += _wrong_kinds(entry.kinds, row.found, entry.dead)
    row.problems += _wrong_sizes(graph.nodes, weights)
    row.problems += _wrong_weights(truth, weights, entry)
    if entry.alternatives:
        row.compared.append("modalities")
        row.problems += _wrong_modalities(entry, explanation)
    if entry.readout:
        row.compared.append("readout")
        row.problems += _wrong_readout(entry.readout, explanation.readout)
    if by_hand is not None:
        row.compared.append("relevance")
        row.problems += _wrong_relevance(entry, by_hand, explanation.relevance)
    row.problems += _broken_laws(model, inputs, row)


def _kinds(nodes: Sequence[fxplain.AttentionNode]) -> dict[str, int]:
    return dict(Counter(node.kind for node in nodes))


def _wrong_kinds(expected: Mapping[str, int], found: Mapping[str, int], dead: int) -> list[str]:
    """Each kind, or one of its alternatives, as often as declared; the dead may be missing."""
    left, wrong = Counter(found), []
    for kinds, count in sorted(expected.items(), key=lambda item: "|" in item[0]):
        for kind in kinds.split("|"):
            taken = min(left[kind], count)
            left[kind] -= taken
            count -= taken
        excused = min(dead, count)
        dead -= excused
        if count > excused:
            wrong.append(f"{count - excused} {kinds} missing")
    return wrong + [f"{count} {kind} too many" for kind, count in left.items() if count]


def _wrong_sizes(
    nodes: Sequence[fxplain.AttentionNode], weights: Mapping[str, Tensor]
) -> list[str]:
    """A node's heads and lengths must multiply to whole samples of its weights."""
    return [
        f"{node.name}: {node.heads} heads of {node.q_len} x {node.k_len} do not make up "
        f"{tuple(weights[node.name].shape)}"
        for node in nodes
        if not (size := node.heads * node.q_len * node.k_len) or weights[node.name].numel() % size
    ]


def _wrong_weights(truth: list[Attention], found: Mapping[str, Tensor], entry: Entry) -> list[str]:
    left, wrong = dict(found), []
    for attention in truth:
        match = next((n for n, w in left.items() if same_values(attention.weights, w)), None)
        if match is None:
            wrong.append(f"no node has the weights of {attention}")
        else:
            del left[match]
    if len(wrong) <= entry.dead:
        wrong = []
    if len(left) != entry.unseen:
        wrong.append(f"{len(left)} nodes with weights of no softmax, not {entry.unseen}")
    return wrong


def _wrong_modalities(entry: Entry, explanation: fxplain.Explanation) -> list[str]:
    found = {name: values.shape[-1] for name, values in explanation.relevance.items()}
    if any(found == dict(wanted) for wanted in entry.alternatives):
        return []
    wanted = " or ".join(str(dict(one)) for one in entry.alternatives)
    return [f"modalities {found}, not {wanted}"]


def _wrong_readout(wanted: str | tuple[str, ...], found: tuple[str, ...]) -> list[str]:
    each = wanted if isinstance(wanted, tuple) else (wanted,) * len(found)
    if len(each) != len(found):
        return [f"{len(found)} samples, not {len(each)}"]
    return [
        f"read from {text!r}, not {right}"
        for text, right in dict(zip(found, each, strict=True)).items()
        if not any(_same_places(read_tokens(text), read_tokens(c)) for c in right.split(" | "))
    ]


def _same_places(found: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    same_names = found.keys() == wanted.keys()
    return same_names and all(places in ("*", found[name]) for name, places in wanted.items())


def _wrong_relevance(
    entry: Entry, by_hand: Mapping[str, np.ndarray], found: Mapping[str, Tensor]
) -> list[str]:
    assert entry.by_hand is not None
    largest = max(float(np.abs(values).max()) for values in by_hand.values())
    wrong = []
    for name, want in by_hand.items():
        got = found[name].detach().double().numpy() if name in found else np.zeros(0)
        if got.shape != want.shape:
            wrong.append(f"relevance of {name}: {got.shape}, not {want.shape}")
        elif (off := float(np.abs(got - want).max())) > entry.by_hand.tolerance * largest:
            wrong.append(f"relevance of {name} off by {off:.2g} of {largest:.2g}")
    return wrong


def _broken_laws(model: nn.Module, inputs: Inputs, row: Row) -> list[str]:
    """The laws that the library itself can check, where it can."""
    verify = getattr(fxplain, "verify", None)
    if verify is None:
        return []
    row.compared.append("laws")
    broken = verify(model, inputs).broken
    return [f"law broken: {law.law}: {law.faults[0]}" for law in broken]


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
    made = Table(title="The wild zoo", title_justify="left", header_style="bold")
    for name in ("model", "family", "outcome", "nodes", "modalities", "readout", "what differs"):
        made.add_column(name, overflow="fold")
    made.add_column("seconds", justify="right")
    for row in rows:
        texts = (
            row.name,
            row.family,
            row.outcome,
            ", ".join(f"{kind} {count}" for kind, count in row.found.items()),
            ", ".join(f"{name} {size}" for name, size in row.modalities.items()),
            "; ".join(dict.fromkeys(row.readout)),
            row.error.splitlines()[0][:200] if row.error else "; ".join(row.problems),
        )
        style = "" if row.right else "red"
        made.add_row(*map(escape, texts), f"{row.seconds:.1f}", style=style)
    return made


def summary(rows: Sequence[Row]) -> str:
    """One line: how many are right, and how the others are wrong."""
    counts = Counter(row.outcome for row in rows)
    right = counts["right"] / max(len(rows), 1)
    others = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES[1:] if counts[name])
    return f"{counts['right']} of {len(rows)} right ({right:.1%})" + (f", {others}" * bool(others))


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The rows as plain data."""
    return [asdict(row) for row in rows]


def from_json(data: Sequence[dict[str, Any]]) -> list[Row]:
    """The rows that `as_json` made plain."""
    return [Row(**row) for row in data]
