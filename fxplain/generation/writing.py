"""Writing: the ids that a model generates after a prompt, or that it is said to have generated."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fxplain.arguments import blaming, shown, whole
from fxplain.capture import config_of
from fxplain.capture.preserve import preserved
from fxplain.errors import InputError

__all__ = [
    "Writing", "decoder_start", "positions", "settings", "take", "write", "written_behind",
]  # fmt: skip


_IDS = whole(0, (1 << 63) - 1)


@dataclass(frozen=True)
class Writing:
    """A prompt, and what was written after it.

    Attributes
    ----------
    prompt
        (batch, prompt tokens) ids: a prompt, or what a decoder starts with.
    ids
        (batch, tokens) generated ids, padded to the longest.
    real
        (batch, tokens) which of them were generated: up to the one that ends a text, included.
    """

    prompt: Tensor
    ids: Tensor
    real: Tensor


class _FirstStep:
    """A logits processor that changes nothing and notes which ids the first step starts from.

    Some models put ids of their own before a text, or cut their prompt; some return it with the
    text and some without.
    """

    prompt: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.prompt is None:
            self.prompt = input_ids.clone()
        return scores


def write(
    model: nn.Module,
    inputs: Mapping[str, Any],
    max_new_tokens: int,
    seed: int | None,
    options: Mapping[str, Any],
) -> Writing:
    """What ``model.generate`` writes; the model and the random state are left as they were.

    Raises
    ------
    InputError
        When the model does not generate, several texts per sample are asked for, or ``generate``
        refuses its options or inputs.
    """
    name = type(model).__name__
    generate = getattr(model, "generate", None)
    if not callable(generate):
        raise InputError(f"{name} has no generate(): give the ids of a text as generated=.")
    if options.get("num_return_sequences", 1) != 1:
        raise InputError("num_return_sequences: one text per sample is explained; leave it out.")
    first = _FirstStep()
    # a model may write into what it is given
    own = {k: v.clone() if isinstance(v, Tensor) else v for k, v in inputs.items()}
    own |= options
    with blaming("reading logits_processor="):
        given = options.get("logits_processor")
        own["logits_processor"] = [*(() if given is None else given), first]
    with preserved(model):
        if seed is not None:
            torch.manual_seed(seed)
        with blaming(f"generate() of {name}{_beyond(model, inputs, max_new_tokens)}"):
            made = generate(**own, max_new_tokens=max_new_tokens)
    if first.prompt is None:
        raise InputError(f"generate() of {name} took no step: nothing was generated.")
    sequences: Tensor = getattr(made, "sequences", made)
    prompt = first.prompt[:: len(first.prompt) // len(sequences)]  # beams stand side by side
    start = prompt.shape[1]
    if sequences.shape[1] >= start and torch.equal(sequences[:, :start], prompt):
        sequences = sequences[:, start:]
    if not start:  # the prompt went in as embeddings
        prompt = inputs["input_ids"]
    return _checked(Writing(prompt, sequences, _real(sequences, *settings(model, options))))


def positions(model: nn.Module) -> int | None:
    """The most tokens of a text that the model has places for, where its config says it."""
    config: Any = config_of(model)
    own = config.get_text_config() if hasattr(config, "get_text_config") else config
    limit = getattr(own, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def written_behind(model: nn.Module) -> bool:
    """Whether what the model writes stands behind its prompt, and shares its places."""
    return not getattr(config_of(model), "is_encoder_decoder", False)


def _beyond(model: nn.Module, inputs: Mapping[str, Any], asked: Any) -> str:
    """What an error says of a text that grows beyond the model's places; some models go on."""
    name = "input_ids" if written_behind(model) else "decoder_input_ids"
    limit, ids = positions(model), inputs.get(name)
    if limit is None or not isinstance(asked, int):
        return ""
    given = ids.shape[-1] if isinstance(ids, Tensor) and ids.dim() else 1
    if given + asked <= limit:
        return ""
    return (
        f", which has places for {limit} tokens and is given {given} and asked for {asked} more "
        f"(ask for fewer by max_new_tokens=, or give a shorter text),"
    )


def take(
    model: nn.Module, inputs: Mapping[str, Any], name: str, generated: Any, settings_: Any
) -> Writing:
    """A text that was generated elsewhere, after the prompt in the inputs.

    Parameters
    ----------
    name
        The argument that the text belongs to.
    generated
        Ids without the prompt: (batch, tokens), one row for one sample, or rows of unequal length.

    Raises
    ------
    InputError
        When the rows are not one per sample, or there is no prompt.
    """
    rows = _rows(generated)
    prompt = inputs.get(name)
    if prompt is None:
        start = decoder_start(model)
        if start is None:
            raise InputError(
                f"it is not known what the text follows: give {name!r} with the inputs."
            )
        prompt = torch.tensor(start).expand(len(rows), -1)
        leaves = [v for v in inputs.values() if isinstance(v, Tensor)]
        prompt = prompt.to(leaves[0].device) if leaves else prompt
    if len(rows) != len(prompt):
        raise InputError(f"generated= has {len(rows)} rows for {len(prompt)} samples.")
    longest = max(map(len, rows), default=0)
    ids = prompt.new_zeros(len(rows), longest)
    inside = torch.zeros_like(ids, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.as_tensor(row)
        inside[i, : len(row)] = True
    return _checked(Writing(prompt, ids, inside & _real(ids, *settings_)))


def _rows(generated: Any) -> list[list[int]]:
    """Generated ids by sample.

    Raises
    ------
    InputError
        When they are no ids.
    """
    if isinstance(generated, Tensor) and generated.is_meta:
        generated = None
    with blaming("reading generated="):
        plain = generated.tolist() if isinstance(generated, (Tensor, np.ndarray)) else generated
    rows: list[Any] = list(plain) if isinstance(plain, (list, tuple)) else [None]
    rows = [row.tolist() if isinstance(row, (Tensor, np.ndarray)) else row for row in rows]
    rows = [rows] if rows and all(map(_IDS.fits, rows)) else rows
    if not all(isinstance(row, (list, tuple)) and all(map(_IDS.fits, row)) for row in rows):
        raise InputError(
            f"generated={shown(generated)} must be ids: a tensor (batch, tokens), or a list of them "
            f"for each sample."
        )
    return [list(map(operator.index, row)) for row in rows]


def _checked(writing: Writing) -> Writing:
    if not bool(writing.real.any()):
        raise InputError("no token was generated: there is nothing to explain.")
    return writing


# ---- where a text starts and ends ----------------------------------------------------------------


def settings(model: Any, options: Mapping[str, Any]) -> tuple[list[int], int | None]:
    """The ids that end a text, and the one that fills it up to the longest of a batch."""
    ends = _setting(model, options, "eos_token_id")
    pad = _setting(model, options, "pad_token_id")
    with blaming("reading eos_token_id="):
        several = ends.reshape(-1).tolist() if isinstance(ends, Tensor) else ends
        listed = [ends] if isinstance(ends, int) else [int(end) for end in several or ()]
    return listed, pad if isinstance(pad, int) else next(iter(listed), None)


def _setting(model: Any, options: Mapping[str, Any], name: str) -> Any:
    """As ``generate`` reads it: an option, the generation config, the model's, its decoder's."""
    config = config_of(model)
    inner = None if config is None else config.get_text_config(decoder=True)
    asked, own = options.get("generation_config"), getattr(model, "generation_config", None)
    found = [options.get(name), *(getattr(s, name, None) for s in (asked, own, config, inner))]
    return next((value for value in found if value is not None), None)


def _real(ids: Tensor, ends: Sequence[int], pad: int | None) -> Tensor:
    """(batch, tokens) whether each token was generated, rather than padding after the end."""
    ended = torch.isin(ids, ids.new_tensor(ends))
    real = ended.cumsum(1) - ended.long() == 0
    if pad is not None and pad not in ends and len(ids) > 1:  # some stop without an end
        padding = (ids == pad).long().flip(1).cumprod(1).flip(1).bool()
        real &= ~padding
    return real


def decoder_start(model: Any) -> list[int] | None:
    """The tokens that generation starts with: the start token, and those that are forced after it."""
    for key in ("decoder_start_token_id", "bos_token_id"):
        start = _setting(model, {}, key)
        if isinstance(start, int):
            return [start, *_forced(model)]
    return None


def _forced(model: Any) -> list[int]:
    """The tokens after the start that generation does not choose (Whisper's language and task)."""
    forced = getattr(getattr(model, "generation_config", None), "forced_decoder_ids", None) or ()
    return [token for _, token in sorted(forced) if isinstance(token, int)]
