"""The corpus explainer: a batch of columns in, a batch of columns out. Every engine calls it."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fxplain.arguments import YES_NO, blaming, one_of, optional, whole
from fxplain.capture import config_of, first_parameter
from fxplain.corpora.batches import Batch, alone, halves, in_order, planned, unpadded
from fxplain.corpora.cells import target_in
from fxplain.corpora.job import Job
from fxplain.corpora.layout import Layout, check_columns, rows_in
from fxplain.corpora.prepared import Prepared, prepared
from fxplain.corpora.schema import COLUMNS, Columns, empty_columns, failed_row
from fxplain.corpora.shapes import Shapes
from fxplain.corpora.told import Padding, label_named, told
from fxplain.errors import (
    CaptureError,
    ChangedModelError,
    FxplainError,
    InputError,
    MethodError,
    MissingExtraError,
    NoAttentionError,
    NoGradientError,
    TargetError,
    TaskError,
    TrainingModeError,
    VerificationError,
)
from fxplain.explanation import Explanation
from fxplain.explanation.naming import class_labels
from fxplain.methods import resolve_method
from fxplain.pipelines import Explainer, from_pretrained
from fxplain.pipelines.encoding import reads_padding, text_limit
from fxplain.pipelines.task import Classification

__all__ = ["ACCELERATOR_TOKENS", "BATCH_TOKENS", "CorpusExplainer"]

BATCH_TOKENS = 1024
"""The quickest on a processor: what is computed stays in its caches."""

ACCELERATOR_TOKENS = 8192
"""What keeps a GPU busy; where its memory is less, batches are halved."""

OF_EXPLAIN = ("output", "verify", "strict", "recompute")
"""Options that `fxplain.explain` takes itself."""

OF_THE_MODEL = (
    CaptureError,
    ChangedModelError,
    MethodError,
    MissingExtraError,
    NoAttentionError,
    NoGradientError,
    TaskError,
    TrainingModeError,
    VerificationError,
)
"""What no other row would be spared: it ends the run."""


class CorpusExplainer:
    """Explains batches of columns: what a pool, Ray Data or ``datasets.map`` calls.

    Inside, texts are sorted by length, padded to few lengths and explained in batches of a power of
    two, never one sample; pictures and recordings are explained with those of their shape. Out of
    memory halves the batch; a row that cannot be explained becomes a cell in ``error``.

    Parameters
    ----------
    model
        A `fxplain.Explainer`, or what `fxplain.from_pretrained` loads.
    text, pair, image, audio, id, label
        Names of the columns; by default told by their headings. Without ids rows are numbered from
        0 in each batch.
    target
        What is explained of every row: None (what the model predicts), a class or label, the name of
        a column that holds one for each row, or a list: a row of the result for each.
    method
        One of `fxplain.methods()`; by default "auto", which chooses by the kind of model, as an
        explainer does. Each row says what that was.
    truncation
        As an explainer takes it.
    batch_tokens
        How many tokens a batch holds at most, padding included; by default 1,024, and 8,192 on a GPU.
    on_error
        "record" or "raise".
    load
        For `fxplain.from_pretrained`: ``task``, ``device``, ``dtype``, ...
    **options
        Of the task, of the method, and ``output``, ``verify``, ``strict`` and ``recompute`` as
        `fxplain.explain` takes them. What is detected is checked once for each doubling of the texts'
        length.

    Attributes
    ----------
    job
        What was asked for.
    explainer
        What explains.
    warnings
        Those of all explanations so far.

    Raises
    ------
    FxplainError
        When the model cannot be loaded or the method is unknown.
    """

    def __init__(
        self,
        model: Explainer | str | Path,
        *,
        text: str | None = None,
        pair: str | None = None,
        image: str | None = None,
        audio: str | None = None,
        id: str | None = None,
        label: str | None = None,
        target: Any = None,
        method: str = "auto",
        truncation: bool | None = None,
        batch_tokens: int | None = None,
        on_error: str = "record",
        load: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        one_of(("record", "raise")).check("on_error", on_error)
        optional(whole(1)).check("batch_tokens", batch_tokens)
        optional(YES_NO).check("truncation", truncation)
        if not isinstance(model, Explainer):
            model = from_pretrained(model, **load or {})
        self.explainer = model
        others = (*self.explainer.task.options, *OF_EXPLAIN)
        own = {k: v for k, v in options.items() if k not in others}
        resolve_method(method, own)
        if isinstance(target, list) and not target:
            raise TargetError("target=[] names no target; leave it out for what the model answers.")
        if any(map(callable, target if isinstance(target, list) else [target])):
            raise TargetError(
                "target= of a corpus is a class, a label, or the name of a column, and no function: "
                "what is explained is written beside each row."
            )
        with blaming("writing down target=", TargetError):  # by which a later run knows the job
            repr(target)
        layout = Layout(text, pair, image, audio, id, label)
        self.job = Job(layout, target, method, truncation, on_error, batch_tokens, options)
        self.batch_tokens = batch_tokens or _quickest(self.explainer)
        self._shapes = Shapes(model)
        self.warnings: dict[str, None] = {}
        self._verified: set[int] = set()
        self._fits: int | None = None  # the largest batch that is tried, once one was too large
        # of a model that takes one sample at a time, it is found out once that it does
        self._several = self._failed_together = self._one_by_one = False

    def __repr__(self) -> str:
        return f"<CorpusExplainer of {self.explainer!r} by {self.job.method!r}>"

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> Columns:
        """Explain a batch.

        Parameters
        ----------
        batch
            By column name, one entry per row (lists or arrays).

        Returns
        -------
        dict of list
            The columns that docs/corpus-format.md describes: one row for each row and target, in the
            rows' order.

        Raises
        ------
        FxplainError
            When a column is missing or of another length, the model cannot be explained at all, or,
            with ``on_error="raise"``, the first of a row.
        """
        result = empty_columns()
        found: dict[int, list[dict[str, Any]]] = {}
        for place, told_row in self.steps(batch):
            found.setdefault(place, []).append(told_row)
        for place in range(rows_in(batch)):
            for told_row in found[place]:
                for name in COLUMNS:
                    result[name].append(told_row[name])
        return result

    def steps(self, batch: Mapping[str, Sequence[Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """A batch as it is explained: places and rows, those of one call of the model together."""
        check_columns(batch)
        layout = self.layout_of(batch)
        rows = prepared(self.explainer.loaded, layout, batch, rows_in(batch), self.job.truncation)
        for target in self._targets():
            wanted = [target] * len(rows)
            if self._is_column(target, batch):
                wanted = [target_in(cell, self._labels) for cell in batch[target]]
            yield from self._rows(rows, wanted)

    def layout_of(self, columns: Collection[str]) -> Layout:
        """Which column is what, of those that there are.

        Raises
        ------
        InputError
            When one is missing that was named, or that the model needs.
        TargetError
            When the target is neither a column nor what the model calls one of its classes.
        """
        task, reads = self.explainer.task, self.explainer.loaded.reads
        read = {*reads, *(("pair",) if "text" in reads else ())}
        takes = [kind for kind in task.needs + task.may if kind in read]
        needs = [kind for kind in self.explainer.wants if kind in task.needs]
        if "video" in needs:
            raise TaskError(
                f"{task.name} needs videos, and a corpus is of texts, images and recordings: explain "
                f"them one by one, by a call of the explainer."
            )
        found = self.job.layout.found_in(columns, takes, needs)
        for target in self._targets():
            if isinstance(target, str) and self._labels and target not in {*columns, *self._labels}:
                raise TargetError(
                    f"target={target!r} is neither a column of the data nor a label of the model; its "
                    f"labels: {', '.join(map(repr, self._labels[:10]))}."
                )
        return found

    @property
    def _labels(self) -> list[str]:
        """What the model calls its classes, where it says which of them it sees."""
        if not isinstance(self.explainer.task, Classification):
            return []
        return list(getattr(config_of(self.explainer.model), "label2id", None) or ())

    @property
    def _names(self) -> list[str]:
        """What rows call its classes, by number; nothing where nobody named them."""
        classifies = isinstance(self.explainer.task, Classification)
        labels = class_labels(self.explainer.model) if classifies else {}
        return [str(labels.get(i, "")) for i in range(len(labels))]

    def _targets(self) -> list[Any]:
        target = self.job.target
        return target if isinstance(target, list) else [target]

    def _is_column(self, target: Any, batch: Mapping[str, Any]) -> bool:
        return isinstance(target, str) and target in batch

    def _rows(
        self, rows: Sequence[Prepared], targets: Sequence[Any]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in rows:
            if row.error is not None:
                yield row.place, self._failed(row, InputError(row.error))
        waiting = list(reversed(self._planned([row for row in rows if row.error is None])))
        while waiting:
            batch = waiting.pop()
            if self._one_by_one and len(batch.rows) > 1:
                waiting += reversed(alone(batch))
                continue
            if self._fits is not None and batch.size > self._fits and len(batch.rows) > 1:
                waiting += reversed(halves(batch) or alone(batch))
                continue
            chosen = [rows[i] for i in batch.rows]
            try:
                explanation = self._explained(
                    chosen, [targets[i] for i in batch.rows], batch.length
                )
            except OF_THE_MODEL:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a row does to a processor or model
                parts = self._parts(batch, error)
                waiting += reversed(parts)
                if not parts:
                    yield chosen[0].place, self._failed(chosen[0], error)
                continue
            self._several |= len(set(batch.rows)) > 1
            self._one_by_one |= len(batch.rows) == 1 and not self._several and self._failed_together
            told_rows = told(explanation, self.explainer.model, chosen, self._padding())
            yield from zip(dict.fromkeys(batch.rows), told_rows, strict=True)

    def _planned(self, rows: Sequence[Prepared]) -> list[Batch]:
        """Batches of rows of which none is padded in more than its text."""
        groups: dict[Hashable, list[Prepared]] = {}
        for row in rows:
            groups.setdefault(self._shapes.of(row), []).append(row)
        return [
            batch for group in groups.values() for batch in self._batches(group, len(groups) > 1)
        ]

    def _batches(self, rows: Sequence[Prepared], varied: bool) -> Iterator[Batch]:
        places = [row.place for row in rows]
        if any(row.pieces is None for row in rows):
            # where sizes differ, most rows are alone, and twice would be twice the time
            yield from [Batch((places[0],))] if varied and len(rows) == 1 else in_order(places)
            return
        loaded = self.explainer.loaded
        limit = text_limit(loaded) if loaded.tokenizer is not None else None
        lengths = [len(row.pieces.ids) for row in rows if row.pieces is not None]
        # of a processor that pads to its own length all texts are as long as each other
        read = loaded.tokenizer is not None and reads_padding(loaded)
        batches = (
            unpadded(lengths, self.batch_tokens)
            if read
            else planned(lengths, self.batch_tokens, limit)
        )
        for batch in batches:
            yield Batch(tuple(places[i] for i in batch.rows), batch.length)

    def _explained(
        self, rows: Sequence[Prepared], targets: Sequence[Any], length: int | None
    ) -> Explanation:
        raw: dict[str, Any] = {kind: [row.raw[kind] for row in rows] for kind in rows[0].raw}
        target = None if all(target is None for target in targets) else list(targets)
        found: Explanation = self.explainer(
            **raw,
            pad_to=length,
            truncation=self.job.truncation,
            target=target,
            method=self.job.method,
            **{**self.job.options, "verify": self._verification(length)},
        )
        self._verified.add(_magnitude(length))
        self.warnings |= dict.fromkeys(found.graph.warnings)
        return found

    def _verification(self, length: int | None) -> str:
        """Once for each doubling of the length, where every length would cost a batch's time more."""
        level = str(self.job.options.get("verify", "light"))
        return "off" if level == "light" and _magnitude(length) in self._verified else level

    def _padding(self) -> Padding:
        loaded = self.explainer.loaded
        if loaded.tokenizer is None:
            return Padding()
        return Padding(loaded.tokenizer.padding_side, reads_padding(loaded))

    def _parts(self, batch: Batch, error: Exception) -> tuple[Batch, ...]:
        """What is tried instead of a batch that failed; nothing where one row is to blame."""
        if is_out_of_memory(error):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._fits = max(1, batch.size // 2)
            self.batch_tokens = min(self.batch_tokens, self._fits)
        self._failed_together |= len(set(batch.rows)) > 1
        if len(set(batch.rows)) == 1 and len(batch.rows) == 2:
            return alone(batch)
        return halves(batch)

    def _failed(self, row: Prepared, error: Exception) -> dict[str, Any]:
        if self.job.on_error == "raise":
            raise error
        said = str(error) if row.error else f"{type(error).__name__}: {error}"
        constants = {"method": self.job.method, "options": "{}"}
        label = label_named(row.row["label"], self._names)
        return failed_row({**row.row, "label": label, **constants}, said)


def _quickest(explainer: Explainer) -> int:
    weights = first_parameter(explainer.model)
    on_cpu = weights is None or weights.device.type == "cpu"
    return BATCH_TOKENS if on_cpu else ACCELERATOR_TOKENS


def _magnitude(length: int | None) -> int:
    return 0 if length is None else length.bit_length()


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, is want of memory."""
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(error, RuntimeError) and not isinstance(error, FxplainError):
            message = str(error).lower()
            if "out of memory" in message or "can't allocate memory" in message:
                return True
        error = error.__cause__
    return False
