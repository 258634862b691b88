"""The schema of an explained corpus: the one place where its columns are named and typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fxplain.corpora.arrow import arrow

__all__ = ["COLUMNS", "FORMAT", "Columns", "empty_columns", "failed_row", "misfit", "table_of"]

FORMAT = "fxplain-corpus-1"
"""In each file's metadata and in the manifest; another form of the columns gets another number."""

Columns = dict[str, list[Any]]
"""A batch: by column name, one entry per row."""

COLUMNS: Mapping[str, str] = {
    "id": "text",
    "text": "text",
    "label": "text",
    "predicted": "text",
    "modality": "texts",
    "tokens": "texts",
    "starts": "places",
    "ends": "places",
    "relevance": "numbers",
    "special": "flags",
    "grids": "text",
    "target": "text",
    "target_name": "text",
    "score": "number",
    "probability": "number",
    "method": "constant",
    "options": "constant",
    "readout": "text",
    "error": "text",
}
"""By column, what is in it; docs/corpus-format.md says what it means."""


def empty_columns() -> Columns:
    """A batch without rows."""
    return {name: [] for name in COLUMNS}


def failed_row(row: Mapping[str, Any], error: str) -> dict[str, Any]:
    """The row of something that could not be explained: what it was, and why."""
    known = {name: row.get(name) for name in ("id", "text", "label", "method", "options")}
    return {**dict.fromkeys(COLUMNS), **known, "error": error}


def table_of(columns: Mapping[str, Sequence[Any]], metadata: Mapping[str, str]) -> Any:
    """A batch as a pyarrow.Table, with constants in the schema's metadata."""
    return arrow().table(
        {name: _array(columns[name], kind) for name, kind in COLUMNS.items()},
        metadata=dict(metadata),
    )


def _array(values: Sequence[Any], kind: str) -> Any:
    made = arrow().array(values, _types()[kind])
    return made.dictionary_encode() if kind == "constant" else made


def misfit(schema: Any) -> str:
    """What of a pyarrow.Schema is not as that of an explained corpus; "" where nothing is.

    Strings may be stored in any way that pyarrow has for them.
    """
    types = _types()
    for name, kind in COLUMNS.items():
        place = schema.get_field_index(name)
        if place < 0:
            return f"it has no column {name!r}"
        if _plain(schema.field(place).type) != types[kind]:
            return f"its column {name!r} is of {schema.field(place).type}, not of {types[kind]}"
    return ""


def _plain(kind: Any) -> Any:
    """A type without the ways to store it that say the same."""
    pa = arrow()
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return pa.string() if pa.types.is_large_string(kind) else kind


def _types() -> dict[str, Any]:
    """By what is in a column, its type."""
    pa = arrow()
    return {
        "constant": pa.string(),
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "places": pa.list_(pa.int32()),
        "numbers": pa.list_(pa.float32()),
        "flags": pa.list_(pa.bool_()),
        "number": pa.float32(),
    }
