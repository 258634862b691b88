"""Labels: a short text for every token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from fxplain.arguments import Form, blaming, shown, whole
from fxplain.capture import ModelInputs
from fxplain.errors import InputError, ModalityError
from fxplain.explanation.pieces import readable
from fxplain.program import Modality

__all__ = ["NAMES_BY_MODALITY", "check_tokenizer", "known_names", "token_labels"]


def _is_names(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(own, Iterable) and not isinstance(own, (str, bytes)) for own in value.values()
    )


NAMES_BY_MODALITY = Form(
    "a mapping from an input's name to a name for each of its tokens, {'numbers': columns}",
    _is_names,
)


_IDS = ("pad_token_id", "mask_token_id", "unk_token_id", "bos_token_id", "eos_token_id")


def check_tokenizer(tokenizer: Any) -> None:
    """Refuse what cannot say the piece of an id.

    Raises
    ------
    InputError
        When `tokenizer` is neither None nor has ``convert_ids_to_tokens``.
    """
    if tokenizer is None:
        return
    if isinstance(tokenizer, type):
        raise InputError(f"tokenizer= is the class {tokenizer.__name__}: make one of it.")
    with blaming("asking tokenizer="):
        made = getattr(tokenizer, "convert_ids_to_tokens", None)
        ids = {name: getattr(tokenizer, name, None) for name in _IDS}
        special = [*(getattr(tokenizer, "all_special_ids", None) or ())]
    if not callable(made):
        raise InputError(
            f"tokenizer= needs a method convert_ids_to_tokens(ids), as the tokenizers of transformers "
            f"have; got {type(tokenizer).__name__}."
        )
    for name, value in (*ids.items(), *(("all_special_ids", each) for each in special)):
        if value is not None and not whole().fits(value):
            raise InputError(f"tokenizer.{name} holds {shown(value)}, and ids are whole numbers.")


def known_names(
    names: Mapping[str, Iterable[Any]] | None, inputs: ModelInputs, modalities: Sequence[Modality]
) -> dict[str, list[str]]:
    """What callers call the tokens of each modality; the columns of a table are what it calls them.

    Raises
    ------
    ModalityError
        When there is no such modality.
    """
    with blaming("reading names="):
        made = {name: list(map(str, own)) for name, own in (names or {}).items()}
    counts = {m.name: len(m) - len(m.special) for m in modalities}
    for name in made:
        if name not in counts:
            known = ", ".join(map(repr, counts))
            raise ModalityError(f"names: there is no modality {name!r}; there are: {known}.")
    columns = {n: list(own) for n, own in inputs.columns.items() if counts.get(n) == len(own)}
    return columns | made


def token_labels(
    modality: Modality,
    inputs: ModelInputs,
    tokenizer: Any = None,
    names: Sequence[str] | None = None,
) -> list[list[str]]:
    """Labels by sample: given names, word pieces with a tokenizer, the input's ids or grid positions.

    Raises
    ------
    InputError
        When there are more or fewer names than tokens.
    """
    ids = _by_sample(modality.name, inputs)
    plain = len(modality) - len(modality.special)
    words: list[list[str]] | None = None
    if names is not None:
        words = [_fitting(names, modality, plain)] * len(modality.tokens)
    elif (
        ids is not None and not ids.is_floating_point() and ids.dim() == 2 and ids.shape[1] == plain
    ):
        words = [_pieces(row, tokenizer) for row in ids]
    result = []
    for sample in range(len(modality.tokens)):
        own = words[sample] if words and sample < len(words) else _places(modality, plain)
        special = modality.beside[sample] if modality.beside else modality.special
        if special == modality.special:
            result.append(_with_special(own, modality))
        else:
            here = (modality.tokens[sample] >= 0).tolist()
            own = _places(modality, sum(here) - len(special))
            result.append(_of_its_own(own, here, special))
    return result


def _fitting(names: Sequence[str], modality: Modality, plain: int) -> list[str]:
    if len(names) != plain:
        beside = f" beside {len(modality.special)} special ones" if modality.special else ""
        raise InputError(
            f"names[{modality.name!r}] has {len(names)} names, but {modality.name!r} has {plain} "
            f"tokens{beside}: one name for each, in their order."
        )
    return list(names)


def _by_sample(name: str, inputs: ModelInputs) -> Tensor | None:
    """An input with the samples along the first axis."""
    if name not in inputs.names:
        return None
    place = inputs.names.index(name)
    leaf, axis = inputs.leaves[place], inputs.batch_axis_of(place)
    if (
        axis is None and inputs.batch_size == 1
    ):  # a bare sequence, or one sequence along the first axis
        return leaf.reshape(1, -1)
    return leaf.movedim(axis, 0) if axis else leaf


def _pieces(ids: Tensor, tokenizer: Any) -> list[str]:
    if tokenizer is None:
        return [str(i) for i in ids.tolist()]
    with blaming("tokenizer.convert_ids_to_tokens(ids)"):
        pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(ids.tolist())]
        if len(pieces) != len(ids):
            raise InputError(
                f"tokenizer.convert_ids_to_tokens(ids) made {len(pieces)} pieces of {len(ids)} ids: it "
                f"must make one of each."
            )
        return readable(pieces, tokenizer)


def _places(modality: Modality, count: int) -> list[str]:
    if len(modality.grid) == 2 and modality.grid[0] * modality.grid[1] == count:
        return [f"{i // modality.grid[1]},{i % modality.grid[1]}" for i in range(count)]
    return [str(i) for i in range(count)]


def _of_its_own(labels: list[str], here: list[bool], special: dict[int, str]) -> list[str]:
    """Labels of a sample whose special tokens stand elsewhere; none where it has no token."""
    rest = iter(labels)
    return [
        special[i].rsplit(".", 1)[-1] if i in special else next(rest) if has_token else ""
        for i, has_token in enumerate(here)
    ]


def _with_special(labels: list[str], modality: Modality) -> list[str]:
    """Special tokens are labelled by their parameter's last name: "cls_token"."""
    if not modality.special and len(labels) == len(modality):
        return [*labels]
    rest = iter(labels)
    return [
        modality.special[i].rsplit(".", 1)[-1] if i in modality.special else next(rest, "")
        for i in range(len(modality))
    ]
