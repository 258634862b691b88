"""The demo: what it prints, and whether the image relevance lies where the question asks."""

from statistics import mean, stdev

import pytest
import torch

pytest.importorskip("transformers")

import io

from rich.console import Console

import fxplain
from fxplain.cli.demo import answer_questions, show_demo
from fxplain.demo import digits


@pytest.fixture(scope="module")
def demo():
    return answer_questions(digits.load_samples())


@pytest.fixture(scope="module")
def answers(demo):
    return demo[0]


def printed(demo, questions, **options):
    page = io.StringIO()
    console = Console(file=page, **{"width": 80, "color_system": None, **options})
    show_demo(console, *demo, questions, "generic")
    return page.getvalue()


@pytest.fixture(scope="module")
def text(demo):
    return printed(demo, 2)


def test_the_model_answers_well(answers):
    assert len(answers) == 12
    assert sum(answer.is_right for answer in answers) >= 10


def test_image_relevance_lies_in_the_asked_corners(answers):
    """Its excess over chance is more than three standard errors above 0."""
    excess = [answer.asked_share - answer.chance for answer in answers]
    assert mean(excess) > 3 * stdev(excess) / len(excess) ** 0.5
    assert sum(e > 0 for e in excess) >= 10  # by chance: 1 in 50


def test_shares_of_the_corners_add_up(answers):
    for answer in answers:
        assert sum(answer.corner_shares.values()) == pytest.approx(1)
        assert answer.chance == 0.25 * len(answer.sample.question.corners)


def test_a_question_in_a_padded_batch_is_explained_as_alone(answers):
    model, tokenizer = digits.load_model()
    for answer in (answers[0], answers[3]):
        inputs = digits.encode(tokenizer, [answer.sample.question.text], answer.sample.mosaic[None])
        alone = fxplain.explain(model, inputs)
        assert digits.ANSWERS[alone.target[0]] == answer.text
        words, patches = (alone.relevance[name][0] for name in ("input_ids", "visual_feats"))
        torch.testing.assert_close(answer.patch_relevance, patches, atol=1e-6, rtol=1e-4)
        assert answer.word_relevance[0] is None
        assert answer.word_relevance[1:] == pytest.approx(words[1:].tolist(), abs=1e-6)


def test_the_demo_prints_everything(text, answers):
    assert "AttentionGraph of LxmertForQuestionAnswering" in text
    assert "12 attention nodes: 8 self, 4 co" in text
    for answer in answers[:2]:
        assert answer.sample.question.text in text
        assert f"answer: {answer.text} ({answer.probability:.1%}), right" in text
        share = f"{answer.sample.question.corners[0]}: {answer.asked_share:.0%} (chance 25%)"
        assert share in text
    assert answers[2].sample.question.text not in text
    assert "All 12 held-out questions, method generic" in text
    assert "Overall, a corner holds" in text


def test_the_demo_draws_without_colour(text, answers):
    assert "\x1b" not in text
    ramp = " .:-=+*#%@"
    first = (answers[0].sample.mosaic[1] * (len(ramp) - 1) / 16).round().int().tolist()
    assert "".join(ramp[i] * 2 for i in first) in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_demo_draws_with_colour(demo):
    page = printed(demo, 1, width=100, color_system="truecolor", force_terminal=True)
    assert "▀" in page
    assert "48;2;254;232;56m" in page  # the most relevant word or patch
