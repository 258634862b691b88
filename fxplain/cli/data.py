"""Data sets: the rows of a file as examples that a model reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from torch import nn

import fxplain
from fxplain.cli.terminal import note
from fxplain.corpora.layout import UNREADABLE
from fxplain.corpora.reading import open_data
from fxplain.errors import FxplainError, LoadError
from fxplain.evaluation import REMOVALS

__all__ = [
    "Evaluated",
    "check_factory_data",
    "check_filler",
    "examples",
    "parse_removals",
    "read_rows",
]

COLUMNS = {
    "text": ("text", "texts", "sentence", "question"),
    "pair": ("pair", "text_pair"),
    "image": ("image", "images", "image_path"),
    "video": ("video", "videos", "video_path"),
    "audio": ("audio", "recording", "audio_path"),
    "label": ("label", "labels", "target"),
    "group": ("group", "slice"),
}
"""What a column is taken for, by its heading."""

RAW = ("text", "pair", "image", "video", "audio")

TWO_TEXTS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question1", "question2"),
    ("question", "context"),
    ("query", "passage"),
    ("query", "document"),
)
"""Headings of a text and its pair, where a file has both."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """The file's lines by what their columns are taken for, as `COLUMNS` and `TWO_TEXTS` say.

    Raises
    ------
    LoadError
        When it cannot be read, or nothing in it could be a model's input.
    """
    raw = list(open_data(path).rows())
    for row in raw:
        if UNREADABLE in row:
            raise LoadError(f"{path}: {row[UNREADABLE].partition(': ')[2]}")
    rows = [_known(row) for row in raw]
    if not rows:
        raise LoadError(f"{path} has no lines of data.")
    for number, (row, whole) in enumerate(zip(rows, raw, strict=True), 1):
        for name in row.keys() ^ rows[0].keys():
            raise LoadError(
                f"{path}: line {number} of the data has other columns than the first: {name!r} is "
                f"empty or missing in one of them."
            )
        _check_texts(path, number, whole)
    if not rows[0].keys() & {"text", "image", "video", "audio"}:
        headings = ", ".join(map(str, raw[0])) or "none"
        raise LoadError(
            f"{path} has no column 'text', 'image', 'video' or 'audio'; its columns: {headings}."
        )
    return rows


def _check_texts(path: Path, number: int, row: Mapping[str, Any]) -> None:
    """What a model reads is text, or the name of a file."""
    read = {heading for name in RAW for heading in COLUMNS[name]}
    for heading, value in row.items():
        named = str(heading).strip().lower()
        if named in read and not isinstance(value, (str, type(None))):
            raise LoadError(
                f"{path}: line {number} of the data has a {type(value).__name__} for {heading!r}, "
                f"and no text."
            )


def _known(row: Mapping[str, Any]) -> dict[str, str]:
    """What a line's columns are taken for; two texts by their own headings are a text and its pair.

    Examples
    --------
    >>> row = {"Premise": "a dog runs", "hypothesis": "an animal moves", "label": 0, "id": 7}
    >>> sorted(_known(row).items())
    [('label', '0'), ('pair', 'an animal moves'), ('text', 'a dog runs')]
    """
    lowered = {str(heading).strip().lower(): value for heading, value in row.items()}
    given = {heading: str(v) for heading, v in lowered.items() if v not in (None, "")}
    found = {
        name: given[heading]
        for name, headings in COLUMNS.items()
        for heading in headings
        if heading in given
    }
    two = next((two for two in TWO_TEXTS if given.keys() >= {*two}), None)
    plain = {"text", "texts"} & given.keys() or found.keys() & {"pair", "image", "video", "audio"}
    if two is None or plain:
        return found
    return {**found, "text": given[two[0]], "pair": given[two[1]]}


@dataclass(frozen=True)
class Evaluated:
    """Some rows, and what their model's task explains.

    Attributes
    ----------
    model
        The model that is explained.
    example
        Its inputs; the target is what the task asks for, or else the true classes.
    output
        The name of the explained output field, where the task says it.
    is_asked
        Whether the task asks for a target of its own, and not for the predicted class.
    """

    model: nn.Module
    example: fxplain.Example
    output: str | None
    is_asked: bool


def examples(
    explainer: fxplain.Explainer,
    rows: Sequence[Mapping[str, str]],
    folder: Path,
    batch_size: int,
    truncation: bool | None = None,
) -> Iterator[Evaluated]:
    """What the model's task explains of the rows; one that cannot be read is left out, and said.

    Parameters
    ----------
    explainer
        The model and what reads its inputs.
    rows
        From `read_rows`.
    folder
        Where paths of images and recordings start.
    batch_size
        How many rows at most become one example.
    truncation
        Whether texts that are too long are cut; None is for the tokenizer to say.

    Raises
    ------
    FxplainError
        When the model needs a column that is missing, takes none of those that are there, or can read
        none of the first rows.
    """
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        try:
            asked = explainer.question(**_raw(part, folder, truncation))
        except FxplainError as together:
            errors = [_error_of(explainer, row, folder, truncation) for row in part]
            first = errors[0]
            if start == 0 and first is not None and None not in errors:
                raise type(first)(_of_columns(first)) from first
            if not any(errors):
                said = f"{_of_columns(together)} Rows are read one at a time by --batch-size 1."
                raise type(together)(said) from together
            for number, error in enumerate(errors, start + 1):
                if error is not None:
                    note(f"row {number} is left out: {_of_columns(error)}")
            part = [row for row, error in zip(part, errors, strict=True) if error is None]
            if not part:
                continue
            asked = explainer.question(**_raw(part, folder, truncation))
        target, groups = asked.target, [row.get("group") for row in part]
        if target is None:
            target = [_label(row["label"]) for row in part if "label" in row] or None
        elif isinstance(target, int):
            target = [target] * len(part)
        example = fxplain.Example(asked.inputs, target, group=groups)
        yield Evaluated(asked.model, example, asked.output, asked.target is not None)


def _error_of(
    explainer: fxplain.Explainer, row: Mapping[str, str], folder: Path, truncation: bool | None
) -> FxplainError | None:
    """Why a row cannot be read, if it cannot."""
    try:
        explainer.question(**_raw([row], folder, truncation))
    except FxplainError as error:
        return error
    return None


def _raw(
    rows: Sequence[Mapping[str, str]], folder: Path, truncation: bool | None
) -> dict[str, Any]:
    """What a call of the explainer takes of some rows."""
    raw: dict[str, Any] = {
        kind: [row[kind] if kind in ("text", "pair") else folder / row[kind] for row in rows]
        for kind in rows[0]
        if kind not in ("label", "group")
    }
    return raw if truncation is None else {**raw, "truncation": truncation}


def _of_columns(error: FxplainError) -> str:
    """What an error says, of columns in the place of arguments."""
    return re.sub(r"\b(text|pair|image|video|audio)=", r"a column '\1'", str(error))


def _label(text: str) -> int | str:
    return int(text) if re.fullmatch(r"\d+", text) else text


def check_factory_data(name: str, data: Path | None, *, is_factory: bool) -> None:
    """Whether a data file is given where one is needed.

    Raises
    ------
    typer.BadParameter
        When it is missing or too much.
    """
    if is_factory and data is not None:
        raise typer.BadParameter(f"{name} brings its own data set.", param_hint="--data")
    if not is_factory and data is None:
        raise typer.BadParameter(
            "it is needed: a CSV, TSV, JSON Lines or Parquet file with those columns that the model "
            "reads of text, "
            "pair, image, video and audio, and perhaps label.",
            param_hint="--data",
        )


def parse_removals(given: Sequence[str]) -> str | dict[str, str] | None:
    """One removal for all modalities, or some by modality.

    Examples
    --------
    >>> parse_removals(["drop"]), parse_removals(["pixel_values=blur"]), parse_removals([])
    ('drop', {'pixel_values': 'blur'}, None)
    """
    if not given:
        return None
    pairs = [text.partition("=") for text in given]
    for name in (name if separator else first for first, separator, name in pairs):
        if name not in REMOVALS:
            raise typer.BadParameter(
                f"unknown removal {name!r}; there are: {', '.join(REMOVALS)}.",
                param_hint="--removal",
            )
    if len(given) == 1 and not pairs[0][1]:
        return given[0]
    if not all(separator for _, separator, _ in pairs):
        raise typer.BadParameter(
            "give one for all modalities, or MODALITY=NAME for each.", param_hint="--removal"
        )
    return {modality: name for modality, _, name in pairs}


def check_filler(filler: str | None, removals: str | Mapping[str, str] | None) -> None:
    """Whether a masked language model is given where words are drawn, and nowhere else.

    Raises
    ------
    typer.BadParameter
        When it is missing or too much.
    """
    names = removals.values() if isinstance(removals, Mapping) else (removals,)
    if ("filled" in names) == (filler is not None):
        return
    if filler is None:
        message = "filled needs --filler, a masked language model with the model's vocabulary."
        raise typer.BadParameter(message, param_hint="--removal")
    raise typer.BadParameter("it serves --removal filled: give both.", param_hint="--filler")
