"""Which tokens count, and the argument of the model that each modality's tokens are made of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxplain.capture import config_of
from fxplain.errors import EvaluationError
from fxplain.explanation import Explanation, readout_place

__all__ = ["ModalityTokens", "Vocabulary", "find_tokens", "inside_argument"]


# ---- ids that mean something --------------------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary:
    """The ids of a vocabulary that are no content.

    Attributes
    ----------
    special
        Never removed: CLS, SEP, padding, places where an image goes in.
    blank
        What stands for a removed word: the mask token, else padding; None where neither is known.
    filler
        A masked language model that says what words fit in; None where there is none.
    """

    special: frozenset[int]
    blank: int | None
    filler: Any = None

    @classmethod
    def of(
        cls, model: nn.Module, tokenizer: Any, special_ids: Collection[int], filler: Any = None
    ) -> Vocabulary:
        """What the tokenizer and the model's config tell of special ids."""
        ids = list(_config_ids(config_of(model)))
        special = {*special_ids, *(i for name, i in ids if "unk" not in name)}
        if tokenizer is not None:
            unknown = getattr(tokenizer, "unk_token_id", None)
            special |= {*(getattr(tokenizer, "all_special_ids", None) or ())} - {unknown}
        mask, pad = (_named_id(tokenizer, ids, name) for name in ("mask_token_id", "pad_token_id"))
        return cls(frozenset(special), pad if mask is None else mask, filler)


def _config_ids(config: Any) -> Iterator[tuple[str, int]]:
    """Every ``..._token_id`` and ``..._token_index`` of a config and the configs in it."""
    for name, value in getattr(config, "__dict__", {}).items():
        if hasattr(value, "to_dict"):
            yield from _config_ids(value)
        elif name.endswith(("_token_id", "_token_index")):
            several = value if isinstance(value, (list, tuple)) else [value]
            yield from ((name, i) for i in several if isinstance(i, int))


def _named_id(tokenizer: Any, ids: Sequence[tuple[str, int]], name: str) -> int | None:
    found: int | None = getattr(tokenizer, name, None)
    return dict(ids).get(name) if found is None else found


# ---- tokens -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ModalityTokens:
    """The tokens of one modality in one batch.

    Attributes
    ----------
    name
        The modality and, unless `kind` is "parameter", the argument that its tokens are made of.
    kind
        "ids" (one integer a token), "features" (one vector a token), "regions" (pixels, samples or
        frames, several a token) or "parameter" (no input: object queries).
    counted
        (batch, tokens) whether a token may be removed: not padding, not special, not read from.
    plain
        (plain tokens,) the places of tokens that are not parameters among all tokens.
    grid
        Of regions: the shape in which the plain tokens lie.
    axes
        Of regions: the axes of the argument that the grid covers.
    mask
        The argument that masks these tokens in attention, or None.
    companions
        Arguments with one entry a token, the modality's own among them.
    rows
        The row of the argument that each sample's target reads, where a model compares the samples of
        its batch; () where it is the sample's own.
    """

    name: str
    kind: str
    counted: Tensor
    plain: Tensor
    grid: tuple[int, ...] = ()
    axes: tuple[int, ...] = ()
    mask: str | None = None
    companions: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()

    def row(self, sample: int) -> int:
        """The row of the argument whose tokens a sample's target reads."""
        return self.rows[sample] if self.rows else sample

    def over_elements(self, chosen: Tensor, value: Tensor) -> Tensor:
        """Which elements of the argument belong to the chosen tokens.

        Parameters
        ----------
        chosen
            (..., batch, plain tokens) bool.
        value
            The argument, (batch, ...).

        Returns
        -------
        torch.Tensor
            Bool, of shape (..., *value.shape) or broadcasting to it.
        """
        outer = chosen.shape[:-1]
        if self.kind != "regions":
            return chosen.reshape(*outer, -1, *(1,) * (value.dim() - 2))
        sizes = [value.shape[axis] for axis in self.axes]
        on_grid = chosen.reshape(-1, 1, *self.grid).float()
        spread = F.interpolate(on_grid, size=sizes, mode="nearest").bool()
        shape = [1] * (value.dim() - 1)
        for axis, size in zip(self.axes, sizes, strict=True):
            shape[axis - 1] = size
        return spread.reshape(*outer, *shape)


def inside_argument(name: str, inputs: Mapping[str, Any]) -> str:
    """What is to be said of tokens that lie inside an argument, which have to stay; "" of others."""
    argument = re.split(r"[.\[]", name)[0]
    if name in inputs or argument not in inputs:
        return ""
    return (
        f"{name!r} lies inside the argument {argument!r}, and tokens can be removed of arguments that "
        f"are tensors: wrap the model in a module that takes them one by one."
    )


def find_tokens(
    model: nn.Module, inputs: Mapping[str, Any], explanation: Explanation, vocabulary: Vocabulary
) -> dict[str, ModalityTokens]:
    """The tokens of every modality of an explanation."""
    found = {}
    for name in explanation.modalities:
        count = explanation.relevance[name].shape[1]
        special = explanation.special.get(name, {})
        plain = torch.tensor([i for i in range(count) if i not in special], dtype=torch.long)
        value = inputs.get(name)
        kind, grid, axes = _kind(value, explanation.batch_size, len(plain), explanation.grids[name])
        mask = _mask_name(model, inputs, name, len(plain)) if kind in ("ids", "features") else None
        counted = torch.zeros(explanation.batch_size, count, dtype=torch.bool)
        if kind == "regions":
            _check_places(explanation, name)
            counted[:, plain] = _real_regions(inputs, name, grid, axes)
        elif kind != "parameter" and mask is None:
            mask, counted[:, plain] = _seen_by_a_mask(inputs, name, explanation, plain)
        elif kind != "parameter":
            counted[:, plain] = _real(inputs, mask, len(plain))
        if kind == "ids" and isinstance(value, Tensor):
            ids = torch.tensor(sorted(vocabulary.special), dtype=torch.long)
            counted[:, plain] &= ~torch.isin(value.cpu(), ids)
        rows = _rows(explanation, name) if kind != "parameter" else ()
        for sample, text in enumerate(explanation.readout):
            place = readout_place(text, name)
            if place is not None:
                counted[rows[sample] if rows else sample, place] = False
        companions = _companions(inputs, explanation, name, len(plain))
        found[name] = ModalityTokens(name, kind, counted, plain, grid, axes, mask, companions, rows)
    return found


def _check_places(explanation: Explanation, name: str) -> None:
    """A batch whose samples have their special tokens in places of their own has no one grid."""
    if name not in explanation.layouts:
        return
    own = [tuple(explanation.special_in(name, i)) for i in range(explanation.batch_size)]
    if len(set(own)) > 1:
        raise EvaluationError(
            f"the model puts the regions of {name!r} in an order of its own in each sample, so that "
            f"none can be removed from several at once: give one sample at a time (batch_size=1)."
        )


def _rows(explanation: Explanation, name: str) -> tuple[int, ...]:
    """The rows that targets read, where one is not the sample's own."""
    rows = tuple(explanation.rows.get(name, ()))
    return () if rows == tuple(range(explanation.batch_size)) else rows


def _kind(
    value: Any, batch: int, count: int, grid: tuple[int, ...]
) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """(kind, grid, axes) of what the tokens are made of."""
    nothing = ("parameter", (), ())
    if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[0] != batch:
        return nothing
    if not value.is_floating_point():
        return ("ids", (), ()) if value.dim() == 2 and value.shape[1] == count else nothing
    if 2 <= len(grid) <= 3 and value.dim() > len(grid):
        last = (value.dim() - 2, value.dim() - 1)
        if len(grid) == 2:
            return "regions", grid, last
        frames = 1 if value.shape[1] % grid[0] == 0 else 2
        return "regions", grid, (frames, *last)
    if value.shape[1] == count:
        return "features", (), ()
    if value.dim() <= 3 and value.shape[1] % count == 0:
        return "regions", (count,), (1,)
    if value.dim() <= 3 and value.shape[-1] >= count:
        return "regions", (count,), (value.dim() - 1,)
    return nothing


def _real(inputs: Mapping[str, Any], mask: str | None, count: int) -> Tensor | bool:
    """(batch, plain tokens) which tokens are no padding, by a mask of known meaning."""
    given = inputs.get(mask) if mask is not None else None
    if not isinstance(given, Tensor) or given.dim() != 2 or given.shape[1] != count:
        return True
    return given.cpu() > 0


def _real_regions(
    inputs: Mapping[str, Any], name: str, grid: tuple[int, ...], axes: tuple[int, ...]
) -> Tensor | bool:
    """(batch, regions) which hold anything that is no padding.

    The mask lies along the same axes: that of a picture's pixels, that of a recording's samples.
    """
    value, prefix = inputs[name], _prefix(name)
    for argument in (f"{prefix}_mask", f"{prefix}_attention_mask".lstrip("_")):
        given = inputs.get(argument)
        if not isinstance(given, Tensor):
            continue
        if given.dim() == 3 and len(grid) == 2:
            return F.adaptive_max_pool2d(given.cpu().float(), grid).flatten(1) > 0
        if len(grid) == 1 and given.shape == (value.shape[0], value.shape[axes[0]]):
            return F.adaptive_max_pool1d(given.cpu().float(), grid[0]) > 0
    return True


def _seen_by_a_mask(
    inputs: Mapping[str, Any], name: str, explanation: Explanation, plain: Tensor
) -> tuple[str | None, Tensor | bool]:
    """A mask by another name, if it can be told, and (batch, plain tokens) which it leaves to be seen.

    Whether 1 means seen or hidden, the model itself says: what is hidden has no relevance at all. A
    mask in which 1 means hidden is not told, for it cannot be written to as others are.
    """
    relevant = explanation.relevance[name][:, plain].detach().cpu() != 0
    for argument, value in inputs.items():
        fits = isinstance(value, Tensor) and value.shape == relevant.shape and "mask" in argument
        if not fits or not bool(((value == 0) | (value == 1)).all()):
            continue
        ones = value.cpu() > 0
        for seen in (ones, ~ones):
            if bool(relevant[seen].any()) and not bool(relevant[~seen].any()):
                return (argument if seen is ones else None), seen
    return None, True


# ---- arguments that belong together -------------------------------------------------------------

_ROLES = ("input", "inputs", "ids", "feats", "features", "embeds", "values", "tokens")


def _prefix(name: str) -> str:
    """What the arguments of one sequence share: "visual" of "visual_feats", "" of "input_ids"."""
    return "_".join(word for word in name.split("_") if word not in _ROLES)


def _mask_name(model: nn.Module, inputs: Mapping[str, Any], name: str, count: int) -> str | None:
    """The attention mask of a sequence: one that is given, or one that the model would take."""
    prefix = _prefix(name)
    mask = f"{prefix}_attention_mask" if prefix else "attention_mask"
    given = inputs.get(mask)
    if isinstance(given, Tensor):
        return mask if given.dim() == 2 and given.shape[1] == count else None
    return mask if mask in inspect.signature(model.forward).parameters else None


def _companions(
    inputs: Mapping[str, Any], explanation: Explanation, name: str, count: int
) -> tuple[str, ...]:
    """Arguments along this sequence, and along no other whose name fits better."""
    batch = explanation.batch_size

    def along(value: Any, size: int) -> bool:
        return isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] == (batch, size)

    rivals = [m for m in explanation.modalities if along(inputs.get(m), count)]
    return tuple(
        argument
        for argument, value in inputs.items()
        if along(value, count)
        and argument.startswith(_prefix(name))
        and all(
            len(_prefix(rival)) <= len(_prefix(name))
            for rival in rivals
            if argument.startswith(_prefix(rival))
        )
    )
