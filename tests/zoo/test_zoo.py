"""The zoo as tests: a fast subset in `make test`, all of it in `make test-all`."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

import fxplain
from fxplain.explanation.detection import program_of
from fxplain.explanation.explanation import ByModality
from tests.long_run import quickly
from tests.zoo import CASES
from tests.zoo.case import truth
from tests.zoo.coverage import REASONS
from tests.zoo.laws import broken_laws, explained, unlike_weights
from tests.zoo.sums import FEW, sums_of
from tests.zoo.table import check
from tests.zoo.tokens import either, length, wrong_counts, wrong_readout

FAST = {
    "bert", "deberta-v2", "xlnet", "gpt2", "bloom", "llama", "gemma2", "mixtral", "gpt-oss",
    "t5", "bart-equal", "vit", "swin", "segformer", "convnext", "detr", "sam", "lxmert",
    "visual-bert-equal", "clip", "llava", "blip", "wav2vec2", "whisper", "timesformer",
    "patchtst", "layoutlmv3", "perceiver-image",
}  # fmt: skip


def marked(case):
    marks = [] if case.name in FAST else [pytest.mark.slow]
    if case.name in REASONS:
        marks.append(
            pytest.mark.xfail(reason=REASONS[case.name], raises=AssertionError, strict=True)
        )
    return pytest.param(case, id=case.name, marks=marks)


def test_names_are_unique():
    assert not [name for name, count in Counter(case.name for case in CASES).items() if count > 1]
    assert {case.name for case in CASES} >= FAST


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_truth_is_as_written(case):
    """The model's own eager run computes as many attentions as the case says."""
    assert len(truth(case)) == case.tensors


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_library_finds_the_truth(case):
    row = check(case)
    assert not row.error
    assert not row.wrong


@pytest.mark.parametrize("name", quickly(FEW, ["patchtst"]))
def test_what_is_inside_adds_up(name):
    row = sums_of(next(case for case in CASES if case.name == name))
    assert row.right, row
    assert {"head", "bias"} & set(row.kinds)


# -- what compares must be able to fail -----------------------------------------------------------


TEXT = {"input_ids": torch.tensor([[5, 98, 98, 7], [5, 9, 0, 0]])}


@pytest.mark.parametrize(
    ("reads", "found"),
    [
        ("input_ids[0]", "input_ids[0]"),
        ("input_ids[-1]", "input_ids[3]"),
        ("each of input_ids[:]", "each of input_ids[0..3]"),
        ("each of input_ids[words]", "each of input_ids[0, 3]"),
        ("of input_ids[top]", "each of input_ids[1]"),
        ("pixel_values[0, 2:]", "pixel_values[0] and mean of pixel_values[2..4]"),
        ("of pixel_values", "mean of 4 tokens made of pixel_values"),
        ("of pixel_values[:], input_ids[0]", "each of pixel_values[0..4] and input_ids[0]"),
        ("input_ids[3]", "input_ids@decoder.embed[3]"),
    ],
)
def test_readout_is_as_expected(reads, found):
    assert not wrong_readout(reads, TEXT, {"input_ids": 4, "pixel_values": 5}, found)


@pytest.mark.parametrize(
    ("reads", "found"),
    [
        ("input_ids[0]", "each of input_ids[0]"),
        ("each of input_ids[:]", "mean of input_ids[0..3]"),
        ("input_ids[:]", "input_ids[0..2]"),
        ("input_ids[0], pixel_values[0]", "input_ids[0]"),
        ("of pixel_values", "mean of 4 tokens made of input_ids"),
        ("pixel_values[0]", "none"),
    ],
)
def test_readout_is_not_as_expected(reads, found):
    assert wrong_readout(reads, TEXT, {"input_ids": 4, "pixel_values": 5}, found)


def test_counts_that_differ_are_named():
    counts = {"input_ids": length, "pixel_values": either(4, 5), "queries": 3}
    found = {"input_ids": 4, "pixel_values": 5, "queries": 3}
    assert not wrong_counts(counts, TEXT, found)
    assert wrong_counts(counts, TEXT, {**found, "input_ids": 3}) == [
        "input_ids has 3 tokens, not 4"
    ]
    assert wrong_counts(counts, TEXT, {**found, "more": 1}) == ["more (1) is no modality"]
    del found["queries"]
    assert wrong_counts(counts, TEXT, found) == ["no modality queries (3 tokens)"]


@pytest.fixture(scope="module")
def of_bert():
    model, inputs = next(case for case in CASES if case.name == "bert").build(None)
    return model, inputs, explained(model, inputs), fxplain.attention_weights(model, inputs)


def test_laws_hold_for_bert(of_bert):
    assert not broken_laws(*of_bert)


def test_law_of_the_matrix_can_break(of_bert):
    model, inputs, right, weights = of_bert
    rolled = ByModality({"input_ids": right.relevance["input_ids"].roll(1, -1)})
    broken = broken_laws(model, inputs, replace(right, relevance=rolled), weights)
    assert any("the matrix's row" in law for law in broken)


def test_law_of_the_padding_can_break(of_bert):
    model, inputs, right, weights = of_bert
    even = ByModality({"input_ids": torch.ones_like(right.relevance["input_ids"])})
    broken = broken_laws(model, inputs, replace(right, relevance=even), weights)
    assert "padding of input_ids has relevance 1.0e+00 in sample 1" in broken


def test_law_of_one_number_per_id_can_break(of_bert):
    model, inputs, right, weights = of_bert
    more = ByModality({"input_ids": torch.zeros(2, 13)})
    broken = broken_laws(model, inputs, replace(right, relevance=more, readout=()), weights)
    assert broken == ["13 numbers for the 11 ids of input_ids"]


def test_law_of_the_map_can_break(of_bert):
    """Two rows of one token's map, added up, make a map that sums to 2."""
    model, inputs, _, weights = of_bert
    _, _, program = program_of(model, inputs)
    node = next(iter(program.nodes.values()))
    rows = node.rows.clone()
    rows[:, 1] = rows[:, 0]
    own = weights[node.info.name]
    assert not list(unlike_weights(program, node, own))
    assert list(unlike_weights(program, replace(node, rows=rows), own)) == [
        f"{node.info.name}: a query's map sums to 2"
    ]
