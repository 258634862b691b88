"""Saved generations: one safetensors file with the explanation of every target in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fxplain.errors import FxplainError, LoadError
from fxplain.explanation.files import read_file, write_file
from fxplain.explanation.saved import read_explanation
from fxplain.explanation.target import plain_target, target_of
from fxplain.generation.outputs import Span
from fxplain.plain_data import read_as

if TYPE_CHECKING:
    from fxplain.generation.generation import Generation

__all__ = ["read_generation", "write_generation"]

FORMAT = "fxplain-generation-file-1"

SHARED = ("input/", "photo/", "sound/")
"""What all targets have in common is written once."""


@dataclass(frozen=True)
class _Header:
    """The file's header."""

    format: str
    text: tuple[str, ...]
    targets: list[Any]
    names: tuple[tuple[str, ...], ...]
    score: str
    text_input: str
    explanations: list[dict[str, Any]]


def write_generation(generation: Generation, path: str | Path) -> None:
    """Write a generation."""
    tensors = {"ids": generation.ids, "written": generation.written, "real": generation.real}
    headers = []
    for number, explanation in enumerate(generation.explanations):
        header, own = explanation.to_file()
        headers.append(header)
        for name, value in own.items():
            if not name.startswith(SHARED):
                tensors[f"{number}/{name}"] = value
            elif not number:
                tensors[name] = value
    header = {
        "format": FORMAT,
        "text": list(generation.text),
        "targets": [_plain(target) for target in generation.targets],
        "names": [list(names) for names in generation.names],
        "score": generation.score,
        "text_input": generation.text_input,
        "explanations": headers,
    }
    write_file(path, header, tensors)


def read_generation(path: str | Path) -> dict[str, Any]:
    """The fields of a generation that `write_generation` wrote.

    Raises
    ------
    LoadError
        When the file is missing, is no saved generation, or is damaged.
    """
    found, tensors = read_file(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise LoadError(f"{path} is no saved generation (its header has no {FORMAT!r}).")
    try:
        return _read(read_as(_Header, found, "its header"), tensors)
    except (FxplainError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} is damaged: {error}") from error


def _read(header: _Header, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    shared = {name: value for name, value in tensors.items() if name.startswith(SHARED)}
    explanations = []
    for number, own in enumerate(header.explanations):
        prefix = f"{number}/"
        mine = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        explanations.append(read_explanation(own, {**shared, **mine}))
    if not explanations or not len(explanations) == len(header.targets) == len(header.names):
        raise LoadError("its targets, names and explanations are not of equal number.")
    first = explanations[0]
    if header.text_input not in first.modalities:
        raise LoadError(f"its text is written into {header.text_input!r}, which it does not have.")
    _check_sizes(header, tensors, first.batch_size, first.relevance[header.text_input].shape[1])
    return {
        "text": header.text,
        "ids": tensors["ids"],
        "written": tensors["written"],
        "targets": tuple(_target(target) for target in header.targets),
        "names": header.names,
        "real": tensors["real"],
        "explanations": tuple(explanations),
        "score": header.score,
        "text_input": header.text_input,
    }


def _check_sizes(header: _Header, tensors: Mapping[str, Tensor], batch: int, tokens: int) -> None:
    """A text, a row of ids and a name for each target, of each sample."""
    if len(header.text) != batch or any(len(names) != batch for names in header.names):
        raise LoadError(f"its texts and names are not those of {batch} samples.")
    ids, written, real = (tensors[name] for name in ("ids", "written", "real"))
    fits = ids.dim() == 2 and len(ids) == batch and ids.shape[1] <= tokens
    if not fits or ids.is_floating_point() or ids.is_complex():
        raise LoadError(f"its tensor 'ids' is {ids.dtype} of shape {tuple(ids.shape)}.")
    shapes = {"written": (written, ids.shape), "real": (real, (batch, len(header.targets)))}
    for name, (found, shape) in shapes.items():
        if found.shape != shape or found.dtype != torch.bool:
            raise LoadError(f"its tensor {name!r} is {found.dtype} of shape {tuple(found.shape)}.")


def _plain(target: Any) -> Any:
    if isinstance(target, Span):
        return {"span": [target.start, target.stop]}
    return plain_target(target)


def _target(plain: Any) -> Any:
    if isinstance(plain, dict) and "span" in plain:
        return Span(*plain["span"])
    return target_of(plain)
