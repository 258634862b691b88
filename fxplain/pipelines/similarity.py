"""Similarity: how alike the embeddings of two texts are, and which words of each make them so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxplain.errors import InputError, TaskError
from fxplain.pipelines.encoding import Encoded, encode
from fxplain.pipelines.given import Given
from fxplain.pipelines.loading import Loaded
from fxplain.pipelines.task import Goal, Run, Task

__all__ = ["SentenceSimilarity", "TextSimilarity"]

POOLINGS = ("mean", "cls", "last")


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
    """How alike two texts are to a model that makes embeddings."""

    name = "sentence-similarity"
    about = "the cosine between the embeddings of text= and pair="
    needs = ("text", "pair")
    returns = ("last_hidden_state",)

    _made: ClassVar[WeakKeyDictionary[nn.Module, TextSimilarity]] = WeakKeyDictionary()

    def explained(self, loaded: Loaded) -> nn.Module:
        """The model twice, with the cosine on top."""
        if loaded.model not in self._made:
            self._made[loaded.model] = TextSimilarity(loaded.model, _pooling(loaded.name)).eval()
        return self._made[loaded.model]

    def check(self, loaded: Loaded, given: Given) -> None:
        """Both texts have to be given: of one alone such a model says nothing."""
        if given.text and not given.pair:
            raise InputError(
                f"{self.name} needs pair=, a second text: what is explained is how alike the two are."
            )
        super().check(loaded, given)

    def encode(self, loaded: Loaded, given: Given) -> Encoded:
        """Each text by itself."""
        parts = {
            "text": encode(loaded, Given(given.text, truncation=given.truncation)),
            "pair": encode(loaded, Given(given.pair, truncation=given.truncation)),
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
        """The cosine itself."""
        if target is not None:
            raise TaskError(f"{self.name} explains one number, the cosine: leave target= out.")

        def similarity(output: Any) -> Tensor:
            return torch.as_tensor(output["similarity"])

        return Goal(similarity, names=("similarity",) * run.encoded.batch_size)


def _pooling(name: str) -> str:
    """How a sentence-transformers folder says that tokens are pooled; the mean where none does."""
    file = Path(name) / "1_Pooling" / "config.json"
    told = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    modes = {"cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
    return next((pooling for pooling, key in modes.items() if told.get(key)), "mean")
