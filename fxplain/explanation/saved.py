"""Saved explanations: one safetensors file with a JSON header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fxplain.errors import FxplainError, LoadError
from fxplain.explanation.explanation import FORMAT, ByModality, Explanation
from fxplain.explanation.files import read_file
from fxplain.explanation.highest import Highest, namer_of
from fxplain.explanation.merging import Word
from fxplain.explanation.originals import Originals
from fxplain.explanation.pictures import Picture
from fxplain.explanation.target import target_of
from fxplain.plain_data import read_as
from fxplain.program import AttentionGraph

__all__ = ["load", "read_explanation"]


@dataclass(frozen=True)
class _Header:
    """The file's header: what `Explanation.to_dict` says beside numbers, and the labels."""

    format: str
    method: str
    target: list[Any]
    readout: tuple[str, ...]
    special: dict[str, dict[int, str]]
    grids: dict[str, tuple[int, ...]]
    graph: dict[str, Any]
    modalities: list[str]
    labels: dict[str, list[list[str]]]
    options: dict[str, Any] = field(default_factory=dict)
    engine: str = "matrices"
    target_names: tuple[str, ...] = ()
    word_pieces: dict[str, list[list[list[Any]]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    tiled: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    blocks: dict[str, int] = field(default_factory=dict)
    layouts: dict[str, tuple[tuple[Picture, ...], ...]] = field(default_factory=dict)
    rate: int = 0
    placed: dict[str, list[list[list[float]]]] = field(default_factory=dict)
    chosen: str = ""
    compete: bool = True
    highest: tuple[Highest | None, ...] = ()


def load(path: str | Path) -> Explanation:
    """Load an explanation that `Explanation.save` wrote.

    Raises
    ------
    LoadError
        When the file is missing, is no saved explanation, or is damaged.
    """
    found, tensors = read_file(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        hint = ""
        if isinstance(found, dict) and "generation" in str(found.get("format")):
            hint = " It is a saved Generation: fxplain.Generation.load(path) reads it."
        raise LoadError(f"{path} is no saved explanation (its header has no {FORMAT!r}).{hint}")
    try:
        return read_explanation(found, tensors)
    except (LoadError, RecursionError) as error:
        raise LoadError(f"{path} is damaged: {error}") from error


def read_explanation(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Explanation:
    """What `Explanation.to_file` told.

    Raises
    ------
    LoadError
        When it is something else.
    """
    return _read(read_as(_Header, header, "its header"), tensors)


def _read(header: _Header, tensors: Mapping[str, Tensor]) -> Explanation:
    scores = _tensor(tensors, "scores", (None,))
    batch, names = len(scores), header.modalities
    relevance = {
        name: _tensor(tensors, f"relevance/{i}", (batch, None)) for i, name in enumerate(names)
    }
    _check_sizes(header, relevance, batch)

    def matrix(a: str, b: str) -> Tensor:
        rows, columns = (relevance[name].shape[1] for name in (a, b))
        name = f"matrix/{names.index(a)}/{names.index(b)}"
        return _tensor(tensors, name, (batch, rows, columns))

    errors = _beside(tensors, "error", relevance)
    has_matrices = any(name.startswith("matrix/") for name in tensors)
    return Explanation(
        relevance=ByModality(relevance),
        graph=AttentionGraph.from_dict(header.graph),
        method=header.method,
        options=header.options,
        engine=header.engine,
        target=tuple(map(_target, header.target)),
        readout=header.readout,
        scores=scores,
        output=_named(tensors, "output/") or None,
        labels=header.labels,
        special=header.special,
        grids=header.grids,
        matrix_of=matrix if has_matrices else None,
        target_names=header.target_names,
        word_pieces={
            name: [[_word(word, name) for word in words] for words in samples]
            for name, samples in header.word_pieces.items()
        },
        seconds=header.seconds,
        provenance=header.provenance,
        chosen=header.chosen,
        compete=header.compete,
        highest=header.highest,
        class_name=namer_of(header.highest),
        tiled=header.tiled,
        named=header.named,
        blocks=header.blocks,
        layouts=header.layouts,
        originals=Originals.read(tensors, header.rate, header.placed),
        identity=_beside(tensors, "identity", relevance),
        error=None if errors is None else ByModality(errors),
        promised=_tensor(tensors, "promised", (batch,)) if "promised" in tensors else None,
        inputs=_named(tensors, "input/"),
    )


def _named(tensors: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Those of one kind by the rest of their names."""
    return {name.removeprefix(what): t for name, t in tensors.items() if name.startswith(what)}


def _tensor(tensors: Mapping[str, Tensor], name: str, shape: tuple[int | None, ...]) -> Tensor:
    found = tensors.get(name)
    if found is None:
        raise LoadError(f"it has no tensor {name!r}.")
    fits = found.dim() == len(shape) and all(
        n in (None, own) for n, own in zip(shape, found.shape, strict=True)
    )
    if not fits or not found.is_floating_point():
        raise LoadError(f"its tensor {name!r} is {found.dtype} of shape {tuple(found.shape)}.")
    if not name.startswith("error/") and not found.isfinite().all():
        raise LoadError(f"its tensor {name!r} has numbers that are not finite.")
    return found


def _beside(
    tensors: Mapping[str, Tensor], what: str, relevance: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """What a file holds of every modality beside its relevance; None where it lacks one's."""
    found = {
        name: _tensor(tensors, f"{what}/{i}", tuple(values.shape))
        for i, (name, values) in enumerate(relevance.items())
        if f"{what}/{i}" in tensors
    }
    return found if found.keys() == relevance.keys() else None


def _check_sizes(header: _Header, relevance: Mapping[str, Tensor], batch: int) -> None:
    """One target, readout and list of labels per sample, and a label for each token."""
    if not len(header.target) == len(header.readout) == batch:
        raise LoadError(f"its targets and readouts are not those of {batch} samples.")
    if len(header.highest) not in (0, batch):
        raise LoadError(f"its highest classes are not those of {batch} samples.")
    for what in ("labels", "special", "grids"):
        named = getattr(header, what)
        if named.keys() != relevance.keys():
            raise LoadError(f"its {what} name {list(named)}, its relevance {list(relevance)}.")
    for name, values in relevance.items():
        labels, tokens = header.labels[name], values.shape[1]
        if len(labels) != batch or any(len(own) != tokens for own in labels):
            raise LoadError(f"its labels of {name!r} are not those of {tokens} tokens.")
        layouts = header.layouts.get(name)
        if layouts is not None and not (
            len(layouts) == batch and all(_lies_on(p, tokens) for own in layouts for p in own)
        ):
            raise LoadError(f"its pictures of {name!r} are not those of {tokens} tokens.")


def _lies_on(picture: Picture, tokens: int) -> bool:
    """Whether a picture has a token of those for each of its places."""
    rows, columns = picture.grid
    return len(picture.tokens) == rows * columns and all(0 <= t < tokens for t in picture.tokens)


def _word(plain: Any, name: str) -> Word:
    if len(plain) not in (2, 4):
        raise LoadError(
            f"a word of {name!r} is not its text, its tokens, and what stands before it."
        )
    text = read_as(str, plain[0], f"a word of {name!r}")
    tokens = read_as(tuple[int, ...], plain[1], f"the tokens of {text!r}")
    gap, special = plain[2:] or ("", False)
    where = f"the gap before {text!r}"
    return Word(text, tokens, read_as(str, gap, where), read_as(bool, special, where))


def _target(plain: Any) -> Any:
    try:
        return target_of(plain)
    except (KeyError, TypeError, ValueError, FxplainError) as error:
        raise LoadError(f"{plain!r} is no target.") from error
