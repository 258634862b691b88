"""Similarity: how alike two texts, or a text and an image, are, and what of each makes them so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxplain.capture import config_of
from fxplain.errors import InputError, TaskError
from fxplain.pipelines.encoding import Encoded, encode
from fxplain.pipelines.given import Given
from fxplain.pipelines.image_tasks import padding_of_training
from fxplain.pipelines.loading import Loaded
from fxplain.pipelines.task import Goal, Run, Task, returned_fields

__all__ = ["SentenceSimilarity", "TextSimilarity"]

EMBEDDINGS = {"last_hidden_state", "sentence_embedding"}
"""The fields of an output that a text's embedding is made of."""


class TextSimilarity(nn.Module):
    """The cosine between a model's embeddings of two texts.

    Parameters
    ----------
    encoder
        What embeds tokens, or whole texts (``sentence_embedding``).
    pooling
        How a text's embedding is made of its tokens': their mean, the first, or the last.
    """

    def __init__(self, encoder: nn.Module, pooling: str = "mean") -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling
        self.config = getattr(encoder, "config", None)

    def forward(
        self,
        text_input_ids: Tensor,
        text_attention_mask: Tensor,
        pair_input_ids: Tensor,
        pair_attention_mask: Tensor,
    ) -> dict[str, Tensor]:
        """The cosine, (batch,)."""
        text = self._embedding(text_input_ids, text_attention_mask)
        pair = self._embedding(pair_input_ids, pair_attention_mask)
        return {"similarity": F.cosine_similarity(text, pair, dim=-1)}

    def _embedding(self, ids: Tensor, mask: Tensor) -> Tensor:
        embed = getattr(self.encoder, "get_text_features", None)
        if embed is not None:  # a model that sees, too, and does not run on text alone
            found = embed(input_ids=ids, attention_mask=mask)
            return torch.as_tensor(getattr(found, "pooler_output", found))
        output = self.encoder(input_ids=ids, attention_mask=mask)
        whole = output.get("sentence_embedding")
        if whole is not None:
            return torch.as_tensor(whole)
        tokens: Tensor = output["last_hidden_state"]
        if self.pooling == "cls":
            return tokens[:, 0]
        weights = mask.unsqueeze(-1).to(tokens.dtype)
        if self.pooling == "last":
            weights = weights * (weights.cumsum(1) == weights.sum(1, keepdim=True))
        return (tokens * weights).sum(1) / weights.sum(1)


class SentenceSimilarity(Task):
    """How alike two texts, or a text and an image, are to a model: by embeddings, or its score."""

    name = "sentence-similarity"
    about = "how alike text= is to pair= or image=: the cosine of embeddings, or a reranker's score"
    needs = ("text",)
    may = ("pair", "image")

    def wants(self, loaded: Loaded) -> tuple[str, ...]:
        """A text, and what it is compared with: an image where the model sees."""
        return ("text", "image" if "image" in loaded.reads else "pair")

    def explained(self, run: Run) -> nn.Module:
        """A model of texts twice, with the cosine on top; others compare by themselves."""
        model = run.loaded.model
        if _compares(run.loaded, run.given):
            return model
        made = run.loaded.made.get(
            self.name
        )  # it holds the model, and lives as long as what is loaded
        if not isinstance(made, TextSimilarity) or made.encoder is not model:
            made = TextSimilarity(model, _pooling(run.loaded.name)).eval()
            run.loaded.made[self.name] = made
        return made

    def check(self, loaded: Loaded, given: Given) -> None:
        """What the text is compared with has to be given: of one alone such a model says nothing."""
        if given.text and not given.pair and not given.image:
            seen = " or image=" if "image" in loaded.reads else ""
            raise InputError(
                f"{self.name} needs pair=, a second text{seen}: what is explained is how alike the "
                f"two are."
            )
        if given.pair and given.image:
            raise InputError(
                f"{self.name} compares text= with pair= or with image=: leave one out."
            )
        super().check(loaded, given)
        if not _compares(loaded, given):
            _check_embeds(loaded.model)

    def encode(self, loaded: Loaded, given: Given) -> Encoded:
        """Text and image together, as in training; a reranker's two texts as one; others apart."""
        if given.image:
            return encode(loaded, given, padding=padding_of_training(loaded.tokenizer))
        if _compares(loaded, given):
            return encode(loaded, given)
        parts = {
            "text": encode(loaded, replace(given, pair=[])),
            "pair": encode(loaded, replace(given, text=given.pair, pair=[])),
        }
        inputs, words = {}, {}
        for name, part in parts.items():
            ids = part.inputs["input_ids"]
            inputs[f"{name}_input_ids"] = ids
            mask = part.inputs.get("attention_mask")
            inputs[f"{name}_attention_mask"] = torch.ones_like(ids) if mask is None else mask
            words[f"{name}_input_ids"] = part.words["input_ids"]
        return Encoded(inputs, words)

    def goal(self, run: Run, target: Any, **_: Any) -> Goal:
        """The cosine itself, or the score."""
        if target is not None:
            raise TaskError(f"{self.name} explains one number, how alike, and takes no target.")
        names = ("similarity",) * run.encoded.batch_size
        if run.given.image:
            if not all(hasattr(run.output, name) for name in ("text_embeds", "image_embeds")):
                raise TaskError(
                    f"{type(run.loaded.model).__name__} makes no embeddings of texts and images that "
                    f"could be compared (text_embeds, image_embeds)."
                )
            return Goal(similarity, names=names)
        if _compares(run.loaded, run.given):
            return Goal(0, "logits", names=("score",) * run.encoded.batch_size)
        return Goal(similarity, names=names)


def similarity(output: Any) -> Tensor:
    """The cosine of each sample, which `TextSimilarity` says, and models that see leave to be made."""
    if isinstance(output, Mapping) and "similarity" in output:
        return torch.as_tensor(output["similarity"])
    return F.cosine_similarity(output.text_embeds, output.image_embeds, dim=-1)


def _compares(loaded: Loaded, given: Given) -> bool:
    """Whether the model itself is given both: a text with an image, or two texts to score."""
    config: Any = config_of(loaded.model)
    scores = "logits" in returned_fields(type(loaded.model))
    return bool(given.image) or (scores and getattr(config, "num_labels", None) == 1)


def _check_embeds(model: nn.Module) -> None:
    known = returned_fields(type(model))
    if known and not known & EMBEDDINGS and not hasattr(model, "get_text_features"):
        raise TaskError(
            f"a {type(model).__name__} makes no embeddings of texts, and no one score of two: it "
            f"returns {', '.join(sorted(known))}. Leave the task out to explain what it answers."
        )


def _pooling(name: str) -> str:
    """How a sentence-transformers folder says that tokens are pooled; the mean where none does."""
    file = Path(name) / "1_Pooling" / "config.json"
    told = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    modes = {"cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
    return next((pooling for pooling, key in modes.items() if told.get(key)), "mean")
