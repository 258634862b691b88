"""Inputs and targets: what was typed, as tensors and as what `fxplain.explain` takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fxplain.cli.loading import Loaded
from fxplain.cli.terminal import note
from fxplain.errors import InputError, LoadError
from fxplain.explanation import Explanation
from fxplain.methods import methods

__all__ = [
    "make_inputs",
    "name_targets",
    "open_images",
    "parse_options",
    "parse_targets",
    "stand_ins",
]


# ---- targets ------------------------------------------------------------------------------------


def parse_targets(texts: Sequence[str]) -> Any:
    """One target for all samples, or a list with one for each.

    Examples
    --------
    >>> parse_targets(["3"]), parse_targets(["3,7"]), parse_targets(["tabby, tabby cat"])
    (3, (3, 7), 'tabby, tabby cat')
    >>> parse_targets(["1", "positive"]), parse_targets([])
    ([1, 'positive'], None)
    """
    targets = [_target(text) for text in texts]
    return targets if len(targets) > 1 else targets[0] if targets else None


def _target(text: str) -> int | str | tuple[int, ...]:
    if not re.fullmatch(r"\s*-?\d+\s*(,\s*-?\d+\s*)*", text):
        return text
    numbers = tuple(int(number) for number in text.split(","))
    return numbers if len(numbers) > 1 else numbers[0]


def parse_options(method: str, given: Sequence[str]) -> dict[str, Any]:
    """Options of a method from ``NAME=VALUE``; a value has the type of the option's default."""
    options: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            raise typer.BadParameter(f"--option {text!r} is not of the form NAME=VALUE.")
        known = methods()[method].options.get(name)
        options[name] = value if known is None else _typed(name, value, known.default)
    return options


def _typed(name: str, value: str, default: Any) -> Any:
    if isinstance(default, bool):
        if value.lower() not in ("true", "false"):
            raise typer.BadParameter(f"--option {name}={value}: it is either true or false.")
        return value.lower() == "true"
    if isinstance(default, int):
        try:
            return int(value)
        except ValueError:
            raise typer.BadParameter(f"--option {name}={value}: it is a whole number.") from None
    return value


def name_targets(
    explanation: Explanation, model: nn.Module, tokenizer: Any = None, output: str | None = None
) -> list[str] | None:
    """What the explained classes or word pieces are called, where that is known."""
    config = getattr(model, "config", None)
    labels = getattr(config, "id2label", None) or {}
    if all(str(label).startswith("LABEL_") for label in labels.values()):  # nobody named them
        labels = {}
    names = []
    for target in explanation.target:
        index = target if isinstance(target, tuple) else (target,)
        if not index or not all(isinstance(i, int) for i in index):
            return None
        size = _classes(explanation.output, output, len(index) + 1)
        if labels and size in (len(labels), len(labels) + 1):
            names.append(str(labels.get(index[-1], "")))
        elif size == getattr(config, "vocab_size", None) and tokenizer is not None:
            names.append(repr(tokenizer.decode([index[-1]])))
        else:
            return None
    return names


def _classes(output: Any, name: str | None, axes: int) -> int | None:
    """The size of the explained tensor's last axis, as far as its number of axes tells."""
    if isinstance(output, Mapping):
        chosen = name or ("logits" if "logits" in output else None)
        output = output[chosen] if chosen in output else dict(output)
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    return next((leaf.shape[-1] for leaf in leaves if leaf.dim() == axes), None)


# ---- inputs -------------------------------------------------------------------------------------


def open_images(paths: Sequence[Path]) -> list[Any]:
    """Image files as PIL images.

    Raises
    ------
    LoadError
        When pillow is missing, or a file is no image.
    """
    if not paths:
        return []
    try:
        from PIL import Image
    except ImportError as error:
        raise LoadError(
            "--image needs pillow, which is not installed: pip install 'fxplain[image]'."
        ) from error
    try:
        return [Image.open(path).convert("RGB") for path in paths]
    except OSError as error:  # pillow's message names the file
        raise LoadError(str(error)) from error


def stand_ins(loaded: Loaded, texts: Sequence[str], images: Sequence[Any]) -> tuple[Any, Any]:
    """Texts and images, with a sentence and a grey image for what is missing.

    They are enough to detect a model's attention, which does not depend on what is said and seen.
    """
    if loaded.tokenizer and not texts:
        place = getattr(loaded.processor, "image_token", None)
        sentence = "A sentence that stands in for any other."
        texts = [f"{place} {sentence}" if isinstance(place, str) else sentence]
    if loaded.image_processor and not images:
        from PIL import Image

        images = [Image.new("RGB", (640, 480), (128, 128, 128))]
    return texts, images


def make_inputs(
    loaded: Loaded, texts: Sequence[str], pairs: Sequence[str], images: Sequence[Any]
) -> dict[str, Any]:
    """Turn texts and images into one batch of the model's inputs.

    Raises
    ------
    typer.BadParameter
        When the model takes something else than what was given.
    InputError
        When the processor fails on it.
    """
    _check_given(loaded, texts, pairs, images)
    try:
        made = _processed(loaded, list(texts), list(pairs), list(images))
    except Exception as error:  # whatever a processor raises
        raise InputError(
            f"the processor of {loaded.name!r} fails on these inputs: {error}"
        ) from error
    parameters = inspect.signature(loaded.model.forward).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    inputs = {k: _placed(v, loaded.model) for k, v in made.items() if k in parameters or open_ended}
    return _with_decoder(loaded.model, inputs)


def _check_given(
    loaded: Loaded, texts: Sequence[str], pairs: Sequence[str], images: Sequence[Any]
) -> None:
    """Say what is missing or too much, in the words of the command line."""
    if not loaded.tokenizer and not loaded.image_processor:
        reasons = "".join(f"\n  {failure}" for failure in loaded.failures)
        raise LoadError(
            f"{loaded.name!r} has no tokenizer and no image processor that could be loaded. Give "
            f"the model's inputs yourself: MODEL as package.module:factory.{reasons}"
        )
    if texts and not loaded.tokenizer:
        raise typer.BadParameter(f"{loaded.name!r} has no tokenizer.", param_hint="--text")
    if images and not loaded.image_processor:
        raise typer.BadParameter(f"{loaded.name!r} has no image processor.", param_hint="--image")
    if pairs and len(pairs) != len(texts):
        raise typer.BadParameter(
            f"{len(pairs)} second texts for {len(texts)} first ones: give one per --text.",
            param_hint="--pair",
        )
    if not texts and not images:
        wanted = [
            option
            for option, part in (("--text", loaded.tokenizer), ("--image", loaded.image_processor))
            if part
        ]
        raise typer.BadParameter(
            f"no input is given: {loaded.name!r} takes {' and '.join(wanted)}."
        )


def _processed(loaded: Loaded, texts: list[str], pairs: list[str], images: list[Any]) -> Any:
    text: dict[str, Any] = {"text": texts, "padding": len(texts) > 1} if texts else {}
    if pairs:
        text["text_pair"] = pairs
    if loaded.processor is not None:
        seen = {"images": images} if images else {}
        return loaded.processor(**text, **seen, return_tensors="pt")
    if images:
        return loaded.image_processor(images=images, return_tensors="pt")
    return loaded.tokenizer(**text, return_tensors="pt")


def _placed(value: Any, model: nn.Module) -> Any:
    """Floats (pixels) in the model's own precision."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(dtype) if is_float and dtype else value


def _with_decoder(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """Start a decoder that does not start by itself: what is explained is its first token."""
    name = "decoder_input_ids"
    if name not in inspect.signature(model.forward).parameters or name in inputs:
        return inputs
    start = _decoder_start(model)
    if start is None or _runs(model, inputs):
        return inputs
    batch = len(next(v for v in inputs.values() if isinstance(v, Tensor)))
    note(f"the decoder is given its start token ({start}): its first token is explained.")
    return {**inputs, name: torch.full((batch, 1), start)}


def _decoder_start(model: nn.Module) -> int | None:
    for config in (getattr(model, "config", None), getattr(model, "generation_config", None)):
        start = getattr(config, "decoder_start_token_id", None)
        if isinstance(start, int):
            return start
    return None


def _runs(model: nn.Module, inputs: dict[str, Any]) -> bool:
    try:
        with torch.no_grad():
            model(**inputs)
    except (ValueError, TypeError, AttributeError, RuntimeError):
        return False
    return True
