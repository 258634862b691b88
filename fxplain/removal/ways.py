"""Ways to remove tokens from a model's inputs, and which one suits what kind of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fxplain.arguments import TEXT, optional
from fxplain.errors import EvaluationError
from fxplain.removal.filling import filled
from fxplain.removal.imputation import imputed
from fxplain.removal.tokens import ModalityTokens, Vocabulary

__all__ = ["MASKING", "REMOVALS", "Removal", "choose_removal"]

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Removal:
    """A way to remove tokens.

    Attributes
    ----------
    name, about
        What it is called and does.
    suits
        The kinds of tokens that it can remove: "ids", "features", "regions".
    apply
        From inputs by argument name (batch, ...), a modality's tokens, which plain tokens go
        (copies, batch, plain tokens) and the vocabulary, to the changed arguments
        (copies * batch, ...), copies before samples.
    lacks
        What is missing to remove these tokens, or "".
    keeps_length
        Whether the sequence keeps its length; otherwise all rows must lose equally many tokens.
    """

    name: str
    about: str
    suits: tuple[str, ...]
    apply: Callable[[Mapping[str, Any], ModalityTokens, Tensor, Vocabulary], Arguments]
    lacks: Callable[[ModalityTokens, Vocabulary], str] = lambda _tokens, _vocabulary: ""
    keeps_length: bool = True

    def obstacle(self, tokens: ModalityTokens, vocabulary: Vocabulary) -> str:
        """Why these tokens cannot be removed in this way, or ""."""
        if tokens.kind not in self.suits:
            made_of = "of no input" if tokens.kind == "parameter" else f"of {tokens.kind}"
            return (
                f"{tokens.name!r} is made {made_of}, {self.name!r} is for {', '.join(self.suits)}"
            )
        return self.lacks(tokens, vocabulary)


def choose_removal(
    tokens: ModalityTokens, vocabulary: Vocabulary, asked: str | None = None
) -> Removal:
    """The removal that was asked for, or the first of the table that suits the tokens.

    Raises
    ------
    EvaluationError
        When there is no such removal, or it cannot remove these tokens.
    """
    optional(TEXT).raising(EvaluationError).check("removal", asked)
    if asked is not None and asked not in REMOVALS:
        raise EvaluationError(f"unknown removal {asked!r}; there are: {', '.join(REMOVALS)}.")
    wanted = list(REMOVALS.values()) if asked is None else [REMOVALS[asked]]
    obstacles = [removal.obstacle(tokens, vocabulary) for removal in wanted]
    for removal, obstacle in zip(wanted, obstacles, strict=True):
        if not obstacle:
            return removal
    possible = [r.name for r in REMOVALS.values() if not r.obstacle(tokens, vocabulary)]
    hint = f" Possible: {', '.join(possible)}." if possible else ""
    raise EvaluationError(
        f"tokens of {tokens.name!r} cannot be removed: {'; '.join(filter(None, obstacles))}.{hint}"
    )


# ---- out of the attention -----------------------------------------------------------------------


def _masked(
    inputs: Mapping[str, Any], tokens: ModalityTokens, removed: Tensor, vocabulary: Vocabulary
) -> Arguments:
    """Mask tokens; where none would be left, blank them instead.

    A softmax over nothing but masked keys is even over all of them, or NaN.
    """
    assert tokens.mask is not None
    value = inputs[tokens.name]
    given = inputs.get(tokens.mask)
    if given is None:
        given = torch.ones(value.shape[:2], dtype=torch.long, device=value.device)
    removed = removed.to(given.device)
    mask = given * ~removed
    emptied = (mask == 0).all(-1, keepdim=True)
    mask = torch.where(emptied, given, mask)
    blank = torch.zeros_like(value)
    if tokens.kind == "ids":
        blank += value if vocabulary.blank is None else vocabulary.blank
    replaced = torch.where(tokens.over_elements(removed & emptied, value), blank, value)
    return {tokens.mask: mask.flatten(0, 1), tokens.name: replaced.flatten(0, 1)}


def _without_mask(tokens: ModalityTokens, _vocabulary: Vocabulary) -> str:
    if tokens.mask is None:
        return (
            f"the model takes no attention mask for {tokens.name!r}, or reads its output where that "
            f"mask says"
        )
    return ""


# ---- out of the sequence ------------------------------------------------------------------------


def _dropped(
    inputs: Mapping[str, Any], tokens: ModalityTokens, removed: Tensor, _vocabulary: Vocabulary
) -> Arguments:
    """Sequences of the tokens that are left, in their order, with positions that go on counting."""
    rows = removed.flatten(0, 1)
    kept = (~rows).sum(-1)
    assert (kept == kept[0]).all()
    places = (~rows).nonzero()[:, 1].reshape(len(rows), -1)
    samples = torch.arange(len(rows))[:, None] % removed.shape[1]
    counted = torch.arange(places.shape[1])[None].expand_as(places)
    return {
        name: inputs[name][samples, counted if name.endswith("position_ids") else places]
        for name in tokens.companions
    }


# ---- replaced -----------------------------------------------------------------------------------

Replacement = Callable[[Tensor, ModalityTokens, Vocabulary], Tensor]


def _replaced_by(
    replacement: Replacement,
) -> Callable[[Mapping[str, Any], ModalityTokens, Tensor, Vocabulary], Arguments]:
    def apply(
        inputs: Mapping[str, Any], tokens: ModalityTokens, removed: Tensor, vocabulary: Vocabulary
    ) -> Arguments:
        value = inputs[tokens.name]
        chosen = tokens.over_elements(removed.to(value.device), value)
        replaced = torch.where(chosen, replacement(value, tokens, vocabulary), value)
        return {tokens.name: replaced.flatten(0, 1)}

    return apply


def _blank(value: Tensor, _tokens: ModalityTokens, vocabulary: Vocabulary) -> Tensor:
    assert vocabulary.blank is not None
    return torch.full_like(value, vocabulary.blank)


def _without_mask_token(_tokens: ModalityTokens, vocabulary: Vocabulary) -> str:
    known = vocabulary.blank is not None
    return "" if known else "no mask token or padding is known (give the tokenizer)"


def _drawn(
    inputs: Mapping[str, Any], tokens: ModalityTokens, removed: Tensor, vocabulary: Vocabulary
) -> Arguments:
    """Words that a masked language model draws."""
    assert vocabulary.blank is not None
    value = inputs[tokens.name]
    copies = value.expand(len(removed), *value.shape).flatten(0, 1)
    attended = inputs.get(tokens.mask) if tokens.mask is not None else None
    if attended is not None:
        attended = attended.expand(len(removed), *attended.shape).flatten(0, 1)
    chosen = removed.to(value.device).flatten(0, 1)
    never = vocabulary.special | {vocabulary.blank}
    return {
        tokens.name: filled(copies, chosen, attended, vocabulary.filler, never, vocabulary.blank)
    }


def _without_filler(tokens: ModalityTokens, vocabulary: Vocabulary) -> str:
    if vocabulary.filler is None:
        return "no masked language model is given (filler=)"
    return _without_mask_token(tokens, vocabulary)


def _zero(value: Tensor, _tokens: ModalityTokens, _vocabulary: Vocabulary) -> Tensor:
    return torch.zeros_like(value)


def _mean(value: Tensor, tokens: ModalityTokens, _vocabulary: Vocabulary) -> Tensor:
    """The sample's mean feature over its counted tokens, or its mean colour."""
    counted = tokens.counted[:, tokens.plain].to(value.device)
    weights = tokens.over_elements(counted, value).to(value.dtype)
    axes = tokens.axes if tokens.kind == "regions" else (1,)
    total = weights.sum(axes, keepdim=True).clamp(min=1)
    return (value * weights).sum(axes, keepdim=True) / total


def _blur(value: Tensor, tokens: ModalityTokens, _vocabulary: Vocabulary) -> Tensor:
    """A Gaussian of a token's own size, along each axis of the grid."""
    for axis, count in zip(tokens.axes, tokens.grid, strict=True):
        size = value.shape[axis]
        sigma = size / count
        radius = min(int(3 * sigma), size - 1)
        places = torch.arange(-radius, radius + 1, device=value.device)
        kernel = torch.exp(-(places**2) / (2 * sigma**2)).to(value.dtype)
        lines = value.movedim(axis, -1)
        padded = F.pad(lines.reshape(-1, 1, size), (radius, radius), mode="reflect")
        smooth = F.conv1d(padded, (kernel / kernel.sum())[None, None])
        value = smooth.reshape(lines.shape).movedim(-1, axis)
    return value


def _patch_mean(value: Tensor, tokens: ModalityTokens, _vocabulary: Vocabulary) -> Tensor:
    """Each region by its own mean: its colour stays, its structure goes."""
    for axis, count in zip(tokens.axes, tokens.grid, strict=True):
        size = value.shape[axis]
        lines = value.movedim(axis, -1)
        means = F.adaptive_avg_pool1d(lines.reshape(-1, 1, size), count)
        spread = F.interpolate(means, size=size, mode="nearest")
        value = spread.reshape(lines.shape).movedim(-1, axis)
    return value


def _imputed(
    inputs: Mapping[str, Any], tokens: ModalityTokens, removed: Tensor, _vocabulary: Vocabulary
) -> Arguments:
    """Regions from what is around them; frames of a video each by itself."""
    value = inputs[tokens.name]
    copies = value.expand(len(removed), *value.shape)
    chosen = tokens.over_elements(removed.to(value.device), value).expand_as(copies)
    axes = [axis + 1 - copies.dim() for axis in tokens.axes[-2:]]
    pictures, missing = (x.movedim(axes, (-2, -1)) for x in (copies, chosen))
    shape = pictures.shape
    flat = pictures.reshape(-1, 1, *shape[-2:])
    filled = imputed(flat, missing.reshape(len(flat), *shape[-2:]))
    result = filled.reshape(shape).movedim((-2, -1), axes)
    return {tokens.name: result.flatten(0, 1)}


def _not_flat(tokens: ModalityTokens, _vocabulary: Vocabulary) -> str:
    flat = len(tokens.grid) >= 2 and tokens.kind == "regions"
    return "" if flat else f"{tokens.name!r} is no picture, whose pixels have others around them"


MASKING = Removal(
    "attention_mask",
    "masked in attention (blanked where nothing else would be left)",
    ("ids", "features"),
    _masked,
    _without_mask,
)

REMOVALS = {
    removal.name: removal
    for removal in (
        MASKING,
        Removal(
            "mask_token",
            "replaced by the mask token, or padding where there is none",
            ("ids",),
            _replaced_by(_blank),
            _without_mask_token,
        ),
        Removal(
            "filled",
            "replaced by words that a masked language model draws (filler=)",
            ("ids",),
            _drawn,
            _without_filler,
        ),
        Removal(
            "mean",
            "replaced by the sample's mean feature or colour",
            ("features", "regions"),
            _replaced_by(_mean),
        ),
        Removal("zero", "replaced by zeros", ("features", "regions"), _replaced_by(_zero)),
        Removal(
            "blur", "blurred by a Gaussian as wide as a token", ("regions",), _replaced_by(_blur)
        ),
        Removal(
            "patch_mean",
            "each replaced by its own mean colour",
            ("regions",),
            _replaced_by(_patch_mean),
        ),
        Removal(
            "road",
            "each pixel replaced by the mean of those around it, with some noise (ROAD)",
            ("regions",),
            _imputed,
            _not_flat,
        ),
        Removal(
            "drop",
            "cut out of the sequence",
            ("ids", "features"),
            _dropped,
            keeps_length=False,
        ),
    )
}
"""Every way to remove tokens; by default the first that suits them."""
