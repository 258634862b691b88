"""An explained corpus, opened without being read: rows, tables, each row again in full."""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from operator import index
from pathlib import Path
from typing import Any

from fxplain.arguments import MAPPING, NAMES, PATH, optional, place_in, shown, whole
from fxplain.corpora.arrow import arrow
from fxplain.corpora.job import Manifest
from fxplain.corpora.schema import COLUMNS
from fxplain.corpora.shards import batches_in, metadata_of, opened_shard, shards, table_in
from fxplain.errors import InputError, LoadError
from fxplain.explanation import Explanation
from fxplain.explanation.target import target_of
from fxplain.pipelines import Explainer
from fxplain.plain_data import from_json

__all__ = ["Corpus", "CorpusRow", "load_corpus"]

OF_TOKENS = ("modality", "tokens", "starts", "ends", "relevance", "special")


@dataclass(frozen=True)
class CorpusRow:
    """One explained row: what docs/corpus-format.md calls its columns.

    Attributes
    ----------
    id, text, label, predicted
        What was explained, and what the model says of it.
    modality, tokens, starts, ends, relevance, special
        One entry per token.
    grids
        By modality, the grid that its plain tokens lie on.
    target, target_name, score, probability, method, options, readout
        What was explained of it, and how.
    error
        Why it was not; None where it was.
    """

    id: str
    text: str | None
    label: str | None
    predicted: str | None
    modality: Sequence[str]
    tokens: Sequence[str]
    starts: Sequence[int | None]
    ends: Sequence[int | None]
    relevance: Sequence[float]
    special: Sequence[bool]
    grids: Mapping[str, Sequence[int]]
    target: Any
    target_name: str | None
    score: float | None
    probability: float | None
    method: str
    options: Mapping[str, Any]
    readout: str | None
    error: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> CorpusRow:
        """From the columns as they are stored.

        Raises
        ------
        LoadError
            When they are none.
        """
        MAPPING.raising(LoadError).check("row", row)
        if missing := [name for name in COLUMNS if name not in row]:
            raise LoadError(f"a row of a corpus has a column {missing[0]!r}; this one has not.")
        try:
            read = {name: tuple(row[name] or ()) for name in OF_TOKENS}
            target = None if row["target"] is None else target_of(json.loads(row["target"]))
        except (TypeError, ValueError, KeyError, RecursionError) as error:
            raise LoadError(f"row {shown(row['id'])} of the corpus is damaged: {error}") from error
        plain = {
            name: from_json(form, row[name] or "{}", f"the {name} of row {shown(row['id'])}")
            for name, form in (("grids", dict[str, list[int]]), ("options", dict[str, Any]))
        }
        return cls(**{name: row[name] for name in COLUMNS} | read | plain | {"target": target})

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The tokens with the most relevance, special ones left out."""
        whole(0).check("count", count)
        plain = [
            (token, value)
            for token, value, special in zip(self.tokens, self.relevance, self.special, strict=True)
            if not special
        ]
        return sorted(plain, key=lambda pair: -abs(pair[1]))[:count]

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.id}: {self.error}"
        said = ", ".join(f"{token} {value:.3g}" for token, value in self.top())
        sure = "" if self.probability is None else f" ({self.probability:.0%})"
        return f"{self.id}: {self.target_name}{sure}: {said}"


class Corpus:
    """A folder that `fxplain.explain_corpus` wrote; files are read when rows are asked for.

    Attributes
    ----------
    folder
        Where it is.
    manifest
        What is true of all rows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self.files = shards(folder)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __repr__(self) -> str:
        state = "" if self.manifest.complete else ", incomplete"
        return f"<Corpus of {len(self)} rows in {str(self.folder)!r}{state}>"

    @cached_property
    def _ends(self) -> list[int]:
        counts = []
        for file in self.files:
            with opened_shard(file) as opened:
                counts.append(opened.metadata.num_rows)
        return list(accumulate(counts))

    @cached_property
    def warnings(self) -> list[str]:
        """What the explanations warned of: parts of the model that no rule follows, ..."""
        said = (metadata_of(file).get("warnings", "[]") for file in self.files)
        lists = (from_json(list[str], each, "the warnings of a file") for each in said)
        return list(dict.fromkeys(chain.from_iterable(lists)))

    @cached_property
    def failed(self) -> int:
        """How many rows hold an error in the place of an explanation."""
        tables = (table_in(file, ["error"]) for file in self.files)
        return sum(len(table) - table.column(0).null_count for table in tables)

    def dataset(self) -> Any:
        """The files as a pyarrow.dataset.Dataset, to filter and scan."""
        arrow()
        import pyarrow.dataset

        return pyarrow.dataset.dataset([str(file) for file in self.files], format="parquet")

    def to_table(self, columns: Sequence[str] | None = None) -> Any:
        """All rows, of all or some columns, as a pyarrow.Table."""
        chosen = _checked(columns)
        tables = [table_in(file, chosen) for file in self.files]
        pa = arrow()
        tables = [table.replace_schema_metadata(None) for table in tables]
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})

    def to_pandas(self, columns: Sequence[str] | None = None) -> Any:
        """All rows, of all or some columns, as a pandas table.

        Raises
        ------
        MissingExtraError
            When pandas is not installed.
        """
        return self.to_table(columns).to_pandas()

    def batches(
        self, columns: Sequence[str] | None = None, size: int = 1000
    ) -> Iterator[dict[str, list[Any]]]:
        """Rows in columns, a batch at a time, in the data's order."""
        whole(1, 1 << 31).check("size", size)
        chosen = _checked(columns)
        for file in self.files:
            for batch in batches_in(file, chosen, size):
                yield batch.to_pydict()

    def __iter__(self) -> Iterator[CorpusRow]:
        for batch in self.batches():
            for i in range(len(batch["id"])):
                yield CorpusRow.of({name: batch[name][i] for name in COLUMNS})

    def __getitem__(self, place: int) -> CorpusRow:
        whole().check("row", place)
        place = index(place)
        place = place + len(self) if place < 0 else place
        if not 0 <= place < len(self):
            raise IndexError(f"there are {len(self)} rows, and no row {place}")
        file = bisect_right(self._ends, place)
        table = table_in(self.files[file])
        before = self._ends[file - 1] if file else 0
        return CorpusRow.of(table.slice(place - before, 1).to_pylist()[0])

    def explain(self, place: int, explainer: Explainer, **raw: Any) -> Explanation:
        """A row explained again in full, with matrices, graph and reports.

        Parameters
        ----------
        place
            Which row.
        explainer
            Of the same model.
        **raw
            What the row was made of, where its text does not say it: ``image=``, ``pair=``.

        Raises
        ------
        InputError
            When the row was an error.
        FxplainError
            As the explainer raises.
        """
        if not isinstance(explainer, Explainer):
            raise InputError(f"explainer={shown(explainer)} must be a fxplain.Explainer.")
        row = self[place_in("row", place, len(self))]
        if row.error is not None:
            raise InputError(f"row {place} ({row.id}) was not explained: {row.error}")
        given = raw or self._raw(row)
        truncation = self.manifest.facts.get("truncation")
        # what a function explained is stored by its name only, and so explained by default
        target = row.target if isinstance(row.target, (int, tuple)) else None
        found: Explanation = explainer(
            **{"truncation": truncation, "target": target, **given, "method": row.method},
            **row.options,
        )
        return found

    def _raw(self, row: CorpusRow) -> dict[str, Any]:
        columns = self.manifest.columns
        kinds = [kind for kind in ("text", "pair", "image", "audio") if kind in columns]
        if kinds == ["text", "pair"] and row.text is not None and row.text.count("\n") == 1:
            return dict(zip(kinds, row.text.split("\n"), strict=True))
        if len(kinds) != 1 or row.text is None:
            raise InputError(f"say what row {row.id} was made of: {', '.join(kinds)}.")
        return {kinds[0]: row.text}


def _checked(columns: Sequence[str] | None) -> list[str] | None:
    optional(NAMES).check("columns", columns)
    unknown = [name for name in columns or () if name not in COLUMNS]
    if unknown:
        raise InputError(f"a corpus has no column {unknown[0]!r}; it has {', '.join(COLUMNS)}.")
    return None if columns is None else list(columns)


def load_corpus(folder: str | Path) -> Corpus:
    """Open what `fxplain.explain_corpus` wrote, or has written so far.

    Raises
    ------
    LoadError
        When the folder is no explained corpus.
    MissingExtraError
        Without pyarrow (``pip install 'fxplain[corpus]'``).
    """
    arrow()
    PATH.raising(LoadError).check("folder", folder)
    path = Path(folder)
    if not os.path.isdir(path):
        raise LoadError(f"there is no folder {str(folder)!r}.")
    return Corpus(path)
