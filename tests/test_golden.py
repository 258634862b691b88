"""The published code's numbers (tests/golden): the oracle gives them, and so does the library.

The reference is the authors' code, run on the weights and inputs stored here; each folder's
README.md says how. Where it departs from the paper, the test says so.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    LxmertConfig,
    LxmertForQuestionAnswering,
    ViTConfig,
    ViTForImageClassification,
)

import fxplain
from tests import oracle
from tests.architectures.case import QUERIES, Expected
from tests.architectures.cross_attention import detr_oracle, lxmert_oracle
from tests.architectures.self_attention import vit_oracle

FOLDER = Path(__file__).parent / "golden"
CLASSES = {
    "lxmert_uneq": (LxmertForQuestionAnswering, LxmertConfig),
    "detr_uneq": (DetrForObjectDetection, DetrConfig),
    "vit": (ViTForImageClassification, ViTConfig),
}
# Relative to the largest number. The reference's float32 noise (see the READMEs) is less.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-8}
# The eager attention of transformers' ViT takes its softmax in float32, in a float64 model too.
FLOAT32_SOFTMAX = 2e-6

precisions = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])


@dataclass
class Golden:
    model: nn.Module
    inputs: dict[str, torch.Tensor]
    numbers: dict[str, torch.Tensor]
    tolerance: float

    def check(self, got: torch.Tensor | np.ndarray, key: str, row: object = ...) -> None:
        """``got`` is the published array, or one row of it."""
        want = self.numbers[key].double()[row]
        got = torch.as_tensor(got).detach().double()
        assert got.shape == want.shape
        largest = want.abs().max().item()
        torch.testing.assert_close(got, want, rtol=0, atol=self.tolerance * largest)


@cache
def golden(name: str, dtype: torch.dtype, attn_implementation: str = "eager") -> Golden:
    folder = FOLDER / name
    model_class, config_class = CLASSES[name]
    config = config_class(**json.loads((folder / "config.json").read_text()))
    config._attn_implementation = {"": attn_implementation, "backbone_config": "eager"}
    model = model_class(config).eval()
    model.load_state_dict(load_file(folder / "weights.safetensors"), strict=True)
    inputs = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in load_file(folder / "inputs.safetensors").items()
    }
    file = "expected.safetensors" if dtype == torch.float32 else "expected_f64.safetensors"
    tolerance = TOLERANCE[dtype]
    if name == "vit" and attn_implementation == "eager":
        tolerance = max(tolerance, FLOAT32_SOFTMAX)
    return Golden(model.to(dtype), inputs, load_file(folder / file), tolerance)


# LXMERT reads the text's CLS


def check_lxmert(data: Golden, tag: str, matrix) -> None:
    """``matrix(s, q)``: one sample's R[s, q].

    The published code stops updating the image side before the last x-layer. The paper updates it,
    with maps that are zero because no gradient arrives there: the same numbers. It ends by setting
    R_t_t[0, 0] to 0, for drawing.
    """
    text, image = "input_ids", "visual_feats"
    R_t_t = torch.as_tensor(matrix(text, text)).detach().clone()
    R_t_t[0, 0] = 0
    data.check(R_t_t, f"{tag}.R_t_t")
    data.check(matrix(text, image), f"{tag}.R_t_i")
    data.check(matrix(image, image), f"{tag}.R_i_i")
    data.check(matrix(image, text), f"{tag}.R_i_t")


LXMERT_TAGS = [("ours", "index_default"), ("ours_second", "index_second")]


@precisions
@pytest.mark.parametrize(("tag", "index"), LXMERT_TAGS)
def test_oracle_matches_published_lxmert(tag: str, index: str, dtype: torch.dtype) -> None:
    data = golden("lxmert_uneq", dtype)
    answer = data.numbers[index].item()
    want = lxmert_oracle(
        data.model, data.inputs, lambda output: output.question_answering_score[:, answer]
    )
    check_lxmert(data, tag, lambda s, q: want.matrices[s, q][0])


@precisions
@pytest.mark.parametrize(("tag", "index"), LXMERT_TAGS)
def test_library_matches_published_lxmert(tag: str, index: str, dtype: torch.dtype) -> None:
    data = golden("lxmert_uneq", dtype)
    target = None if index == "index_default" else data.numbers[index].item()
    e = fxplain.explain(data.model, data.inputs, target=target)
    check_lxmert(data, tag, lambda s, q: e.matrix(s, q)[0])
    data.check(e.relevance["input_ids"][0, 1:], f"{tag}.R_t_t", row=(0, slice(1, None)))
    data.check(e.relevance["visual_feats"][0], f"{tag}.R_t_i", row=0)


# DETR reads an object query, or two

TWO_QUERIES = [1, 4]


def two_queries(output: object) -> torch.Tensor:
    """The sum over two queries of each one's best class, the last class (no object) left out."""
    logits = output.logits[:, TWO_QUERIES, :-1]
    return logits.gather(-1, logits.argmax(-1, keepdim=True)).sum((1, 2))


def check_detr(data: Golden, tag: str, matrix, queries: str) -> None:
    """``matrix(s, q)``: one sample's R[s, q].

    The published code drops the whole addition of eq. 10 where a row of R - I sums to zero (0/0,
    then NaN to 0); the paper's normalisation leaves such a row at identity. It does not happen in
    these numbers: see ``test_no_row_of_published_detr_sums_to_zero``.
    """
    image = "pixel_values"
    data.check(matrix(image, image), f"{tag}.R_i_i")
    data.check(matrix(queries, queries), f"{tag}.R_q_q")
    data.check(matrix(queries, image), f"{tag}.R_q_i")
    rows = TWO_QUERIES if tag == "ours_two_queries" else data.numbers["target_query"].item()
    data.check(matrix(queries, image)[rows], f"{tag}.aggregated")
    assert np.abs(np.asarray(torch.as_tensor(matrix(image, queries)).detach())).max() == 0


def detr_target(data: Golden, tag: str):
    if tag == "ours_two_queries":
        return two_queries
    index = "index_default" if tag == "ours" else "index_second"
    return (data.numbers["target_query"].item(), data.numbers[index].item())


def detr_expected(data: Golden, tag: str) -> Expected:
    target = detr_target(data, tag)
    if callable(target):
        return detr_oracle(data.model, data.inputs, target, [TWO_QUERIES[0]], patches=20)
    query, label = target
    return detr_oracle(
        data.model, data.inputs, lambda output: output.logits[:, query, label], [query], patches=20
    )


DETR_TAGS = ["ours", "ours_second", "ours_two_queries"]


@precisions
@pytest.mark.parametrize("tag", DETR_TAGS)
def test_oracle_matches_published_detr(tag: str, dtype: torch.dtype) -> None:
    data = golden("detr_uneq", dtype)
    want = detr_expected(data, tag)
    check_detr(data, tag, lambda s, q: want.matrices[s, q][0], QUERIES)


@pytest.mark.parametrize("tag", DETR_TAGS)
def test_no_row_of_published_detr_sums_to_zero(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row_sums, normalised = [], oracle.normalise

    def normalise(R: np.ndarray) -> np.ndarray:
        row_sums.extend((R - np.eye(len(R))).sum(axis=1))
        return normalised(R)

    monkeypatch.setattr(oracle, "normalise", normalise)
    detr_expected(golden("detr_uneq", torch.float64), tag)
    assert row_sums
    assert min(row_sums) > 0


@precisions
@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("tag", DETR_TAGS)
def test_library_matches_published_detr(
    tag: str, attn_implementation: str, dtype: torch.dtype
) -> None:
    data = golden("detr_uneq", dtype, attn_implementation)
    target = detr_target(data, tag)
    output = None if callable(target) else "logits"
    e = fxplain.explain(data.model, data.inputs, target=target, output=output)
    queries = next(
        node.query[0]
        for node in e.graph.nodes
        if node.kind == "self" and node.query != ("pixel_values",)
    )
    check_detr(data, tag, lambda s, q: e.matrix(s, q)[0], queries)
    if tag != "ours_two_queries":
        data.check(e.relevance["pixel_values"][0], f"{tag}.aggregated")


# ViT reads CLS


def check_vit(data: Golden, tag: str, R) -> None:
    """One sample's R, CLS first. The published code returns the CLS's row without the CLS."""
    data.check(R[0, 1:], tag)
    if f"{tag}.R" in data.numbers:
        data.check(R, f"{tag}.R")


VIT_TAGS = [
    ("generate_relevance", "index_default"),
    ("generate_relevance_second", "index_second"),
]


@precisions
@pytest.mark.parametrize(("tag", "index"), VIT_TAGS)
def test_oracle_matches_published_vit(tag: str, index: str, dtype: torch.dtype) -> None:
    data = golden("vit", dtype)
    label = data.numbers[index].item()
    want = vit_oracle(data.model, data.inputs, lambda output: output.logits[:, label])
    check_vit(data, tag, want.matrices["pixel_values", "pixel_values"][0])


@precisions
@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize(("tag", "index"), VIT_TAGS)
def test_library_matches_published_vit(
    tag: str, index: str, attn_implementation: str, dtype: torch.dtype
) -> None:
    data = golden("vit", dtype, attn_implementation)
    target = None if index == "index_default" else data.numbers[index].item()
    e = fxplain.explain(data.model, data.inputs, target=target)
    check_vit(data, tag, e.matrix("pixel_values", "pixel_values")[0])
    data.check(e.relevance["pixel_values"][0, 1:], tag)
