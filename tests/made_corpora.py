"""Explained corpora with rows that were made up, so that what is summed up is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fxplain
from fxplain.corpora.job import Manifest
from fxplain.corpora.schema import COLUMNS, empty_columns, failed_row
from fxplain.corpora.shards import write_shard


def row(
    name: str, text: str, relevance: Sequence[float], target_name: str = "good", **more: Any
) -> dict[str, Any]:
    """A row whose tokens are a CLS and the words of the text."""
    words, starts = text.split(), []
    for word in words:
        starts.append(text.index(word, starts[-1] + 1 if starts else 0))
    ends = [start + len(word) for start, word in zip(starts, words, strict=True)]
    return {
        **dict.fromkeys(COLUMNS),
        "id": name,
        "text": text,
        "modality": ["input_ids"] * (len(words) + 1),
        "tokens": ["[CLS]", *words],
        "starts": [None, *starts],
        "ends": [None, *ends],
        "relevance": [1.0, *relevance],
        "special": [True] + [False] * len(words),
        "grids": "{}",
        "target": json.dumps(1),
        "target_name": target_name,
        "predicted": target_name,
        "score": 1.0,
        "probability": 0.75,
        "method": "generic",
        "options": "{}",
        "readout": "input_ids[0]",
        **more,
    }


def failed(name: str, text: str, error: str) -> dict[str, Any]:
    return failed_row({"id": name, "text": text, "method": "generic", "options": "{}"}, error)


def write(
    folder: Path, rows: Sequence[Mapping[str, Any]], shard_rows: int = 1000
) -> fxplain.Corpus:
    folder.mkdir()
    facts = {"model": "Bert", "method": "generic", "columns": '{"text": "text"}'}
    Manifest(facts, {"name": "made up"}, shard_rows, complete=True).write(folder)
    for number, start in enumerate(range(0, len(rows), shard_rows)):
        part = rows[start : start + shard_rows]
        columns = empty_columns()
        for one in part:
            for name in COLUMNS:
                columns[name].append(one[name])
        write_shard(folder, number, columns, len(part), {"format": "fxplain-corpus-1"})
    return fxplain.load_corpus(folder)
