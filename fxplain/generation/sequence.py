"""Sequence: the inputs of one forward over a prompt and all that was generated after it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.arguments import blaming, shown
from fxplain.errors import InputError
from fxplain.generation.writing import Writing

__all__ = ["inputs_by_name", "text_input", "whole_sequence", "with_padding_mask"]


def text_input(model: nn.Module) -> str:
    """The argument that a text is written into: a decoder's own, or the one that holds the prompt."""
    names = inspect.signature(model.forward).parameters
    return "decoder_input_ids" if "decoder_input_ids" in names else "input_ids"


def inputs_by_name(model: nn.Module, inputs: Any) -> dict[str, Any]:
    """A processor's output, or positional arguments, as a dict."""
    if isinstance(inputs, Mapping):
        with blaming("reading inputs"):
            return dict(inputs.items())
    positional = (inputs,) if isinstance(inputs, Tensor) else inputs
    if not isinstance(positional, (list, tuple)):
        raise InputError(
            f"inputs={shown(inputs)} must be a mapping of argument names, or a tuple of arguments."
        )
    try:
        return dict(inspect.signature(model.forward).bind_partial(*positional).arguments)
    except TypeError as error:
        raise InputError(f"inputs do not fit {type(model).__name__}.forward: {error}.") from error


def with_padding_mask(
    model: nn.Module, inputs: dict[str, Any], pad: int | None, ends: Sequence[int]
) -> dict[str, Any]:
    """The inputs with the mask that ``generate`` infers from padding where none is given."""
    ids = inputs.get("input_ids")
    takes_one = "attention_mask" in inspect.signature(model.forward).parameters
    if ids is None or "attention_mask" in inputs or not takes_one or pad is None or pad in ends:
        return inputs
    mask = ids != pad
    return inputs if bool(mask.all()) else {**inputs, "attention_mask": mask.long()}


def whole_sequence(model: nn.Module, inputs: dict[str, Any], writing: Writing) -> dict[str, Any]:
    """The inputs with the generated ids after the prompt, and what belongs to its tokens lengthened.

    What has a value for each token of the prompt (a mask, the tokens' types) goes on with its last
    one, and positions go on counting.

    Raises
    ------
    InputError
        When a prompt that the text goes on from is padded at its end.
    """
    name = text_input(model)
    ids = torch.cat([writing.prompt, writing.ids], 1)
    prefix = name.removesuffix("input_ids")
    given = inputs.get(name)
    whole = dict(inputs)
    if given is not None:
        for key, value in inputs.items():
            if key != name and key.startswith(prefix) and _by_token(value, given):
                whole[key] = _lengthened(key, value[:, : writing.prompt.shape[1]], ids.shape[1])
    whole[name] = ids
    mask = whole.get("attention_mask")
    if name == "input_ids" and isinstance(mask, Tensor) and mask.shape == ids.shape:
        _check_padding(mask, writing.prompt.shape[1])
        whole |= _positions(model, whole, mask)
    return whole


def _by_token(value: Any, ids: Tensor) -> bool:
    return (
        isinstance(value, Tensor)
        and not value.is_floating_point()
        and value.shape[:2] == ids.shape[:2]
    )


def _lengthened(name: str, value: Tensor, length: int) -> Tensor:
    """(batch, tokens, ...) up to a length."""
    more = length - value.shape[1]
    last = value[:, -1:].expand(-1, more, *value.shape[2:])
    if name.endswith("position_ids"):
        last = last + torch.arange(1, more + 1, device=value.device)
    return torch.cat([value, last], 1)


def _check_padding(mask: Tensor, prompt: int) -> None:
    padded = (mask[:, prompt - 1] == 0).nonzero().flatten().tolist()
    if padded:
        raise InputError(
            f"the prompt of sample {padded[0]} is padded at its end, where the text goes on: pad "
            f"prompts on the left (tokenizer.padding_side = 'left')."
        )


def _positions(model: nn.Module, inputs: dict[str, Any], mask: Tensor) -> dict[str, Tensor]:
    """Where prompts are padded: the positions as ``generate`` counts them, from each first token."""
    takes_them = "position_ids" in inspect.signature(model.forward).parameters
    if bool(mask.all()) or not takes_them or "position_ids" in inputs:
        return {}
    own = getattr(model, "_prepare_position_ids_for_generation", None)  # by rows and columns, too
    if own is not None:
        return {"position_ids": own(inputs["input_ids"], dict(inputs))}
    return {"position_ids": (mask.long().cumsum(1) - 1).clamp(min=0)}
