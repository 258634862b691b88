"""Naming: what people call an explained class or word, as the config or a tokenizer tells."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

from fxplain.capture import config_of, leaves_of
from fxplain.explanation.explanation import Explanation
from fxplain.explanation.target import Contrast, Sum

__all__ = ["class_labels", "class_namer", "target_names"]


def target_names(
    explanation: Explanation, model: nn.Module, tokenizer: Any = None, output: str | None = None
) -> tuple[str, ...]:
    """The name of each sample's target: a label of the config, or a decoded word piece.

    Parameters
    ----------
    output
        The explained output's name, where it was given.

    Returns
    -------
    tuple of str
        Empty where nobody named the classes.
    """

    @cache
    def namer_of(axes: int) -> Callable[[int], str] | None:
        return _namer_of(_classes(explanation.output, output, axes), model, tokenizer)

    names = tuple(_name(target, namer_of) for target in explanation.target)
    return names if any(names) else ()


def _name(target: Any, namer_of: Callable[[int], Callable[[int], str] | None]) -> str:
    """What a target is called; empty where nobody named it.

    No closure that calls itself: it would hold the output until the next collection.
    """
    if isinstance(target, Contrast):
        a, b = _name(target.a, namer_of), _name(target.b, namer_of)
        return f"{a} rather than {b}" if a and b else ""
    if isinstance(target, Sum):
        parts = [_name(part, namer_of) for part in target.parts]
        return " + ".join(parts) if all(parts) else ""
    index = _index(target)
    if not index:
        return ""
    namer = namer_of(len(index) + 1)
    return namer(index[-1]) if namer else ""


def class_namer(
    explanation: Explanation, model: nn.Module, tokenizer: Any = None, output: str | None = None
) -> Callable[[int], str] | None:
    """What all classes of the explained output are called, as `target_names` calls the explained."""
    targets = [t.a if isinstance(t, Contrast) else t for t in explanation.target]
    index = next(filter(None, map(_index, targets)), None)
    size = _classes(explanation.output, output, len(index) + 1) if index else None
    return _namer_of(size, model, tokenizer)


def class_labels(model: nn.Module) -> Mapping[Any, Any]:
    """What a model's config calls its classes, by number; {} where nobody named them."""
    labels = getattr(config_of(model), "id2label", None) or {}
    if not isinstance(labels, Mapping) or all(
        str(label).startswith("LABEL_") for label in labels.values()
    ):
        return {}
    return labels


def _namer_of(size: int | None, model: nn.Module, tokenizer: Any) -> Callable[[int], str] | None:
    """Names for an output of so many classes: the config's labels, or decoded word pieces."""
    labels = class_labels(model)
    if labels and size in (len(labels), len(labels) + 1):
        return _Labels(labels)
    if tokenizer is not None and size in _vocabularies(config_of(model)):
        return _Pieces(tokenizer)
    return None


@dataclass(frozen=True)
class _Labels:
    """Names by class; no closure, for an explanation takes them along to other processes."""

    labels: Mapping[Any, Any]

    def __call__(self, number: int) -> str:
        return str(self.labels.get(number, ""))


@dataclass(frozen=True)
class _Pieces:
    """The words of a vocabulary."""

    tokenizer: Any

    def __call__(self, number: int) -> str:
        return "" if self.tokenizer is None else repr(_word(self.tokenizer, number))

    def __getstate__(self) -> dict[str, Any]:
        """With the tokenizer, unless it is one that stays where it is."""
        return {"tokenizer": self.tokenizer if _travels(self.tokenizer) else None}


def _word(tokenizer: Any, number: int) -> str:
    """A word piece as it is read; as the vocabulary has it where nothing decodes it."""
    if hasattr(tokenizer, "decode"):
        return str(tokenizer.decode([number]))
    return str(tokenizer.convert_ids_to_tokens([number])[0])


def _travels(thing: Any) -> bool:
    try:
        pickle.dumps(thing)
    except Exception:  # noqa: BLE001 - what a user's object raises
        return False
    return True


def _index(target: Any) -> tuple[int, ...]:
    """A target as an index into one sample's output; () where it is none."""
    index = target if isinstance(target, tuple) else (target,)
    return index if all(isinstance(i, int) for i in index) else ()


def _vocabularies(config: Any) -> set[int]:
    """How many words a model knows, or its decoder."""
    configs = [config]
    if hasattr(config, "get_text_config"):
        configs.append(config.get_text_config(decoder=True))
    sizes = {getattr(one, "vocab_size", None) for one in configs}
    return {size for size in sizes if isinstance(size, int)}


def _classes(output: Any, name: str | None, axes: int) -> int | None:
    """The size of the explained tensor's last axis, as far as its number of axes tells."""
    if isinstance(output, Mapping):
        chosen = name or ("logits" if "logits" in output else None)
        output = output[chosen] if chosen in output else dict(output)
    leaves = [leaf for _, leaf in leaves_of(output) if isinstance(leaf, Tensor)]
    return next((leaf.shape[-1] for leaf in leaves if leaf.dim() == axes), None)
