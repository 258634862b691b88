"""The zoo as tests: a fast subset in `make test`, all of it in `make test-all`."""

from collections import Counter

import pytest

from tests.zoo import CASES
from tests.zoo.case import truth
from tests.zoo.coverage import REASONS
from tests.zoo.table import check

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
