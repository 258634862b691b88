"""Naming: what people call an explained class or word, where the model's files tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fxplain.explanation import Contrast, Explanation

__all__ = ["target_names"]


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
    config = getattr(model, "config", None)
    labels = getattr(config, "id2label", None) or {}
    if all(str(label).startswith("LABEL_") for label in labels.values()):  # nobody named them
        labels = {}
    vocabularies = _vocabularies(config) if tokenizer is not None else set()

    def name(target: Any) -> str:
        if isinstance(target, Contrast):
            a, b = name(target.a), name(target.b)
            return f"{a} rather than {b}" if a and b else ""
        index = target if isinstance(target, tuple) else (target,)
        if not index or not all(isinstance(i, int) for i in index):
            return ""
        size = _classes(explanation.output, output, len(index) + 1)
        if labels and size in (len(labels), len(labels) + 1):
            return str(labels.get(index[-1], ""))
        if size in vocabularies:
            return repr(tokenizer.decode([index[-1]]))
        return ""

    names = tuple(name(target) for target in explanation.target)
    return names if any(names) else ()


def _vocabularies(config: Any) -> set[int]:
    """How many words a model knows, or its decoder."""
    configs = [config] if config is None else [config, config.get_text_config(decoder=True)]
    sizes = {getattr(one, "vocab_size", None) for one in configs}
    return {size for size in sizes if isinstance(size, int)}


def _classes(output: Any, name: str | None, axes: int) -> int | None:
    """The size of the explained tensor's last axis, as far as its number of axes tells."""
    if isinstance(output, Mapping):
        chosen = name or ("logits" if "logits" in output else None)
        output = output[chosen] if chosen in output else dict(output)
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    return next((leaf.shape[-1] for leaf in leaves if leaf.dim() == axes), None)
