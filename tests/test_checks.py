"""A check cuts what an explanation says matters, and tells what that did."""

import pickle
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain import Cut
from tests.small_models import ImageClassifier, TextClassifier, pixels, seeded, words


class Counting(nn.Module):
    """The score is what attention finds of one feature: words count by what their embedding holds."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 4)
        self.words.weight.data.zero_()
        self.words.weight.data[:, 0] = torch.arange(12.0)
        self.query = nn.Parameter(torch.zeros(1, 1, 4))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        q = self.query.expand(len(ids), -1, -1)
        weights = (q @ x.mT).softmax(-1)
        return (weights @ x)[:, 0]


@cache
def explained() -> fxplain.Explanation:
    return fxplain.explain(Counting().eval(), (torch.tensor([[1, 9, 2, 8, 3, 7]]),), target=0)


def test_the_largest_are_cut_and_the_smallest() -> None:
    checked = explained().check(2, to="zero")
    assert [claim.tokens for claim in checked.most] == [(1,), (3,)]
    assert [claim.tokens for claim in checked.least] == [(0,), (2,)]
    falls = torch.tensor([claim.fall for claim in (*checked.most, *checked.least)])
    torch.testing.assert_close(falls, torch.tensor([9.0, 8, 1, 2]) / 6)
    assert checked.fall_of_most == pytest.approx(17 / 6)
    assert checked.fall_of_least == pytest.approx(3 / 6)
    assert checked.score == pytest.approx(30 / 6)


def test_chance_is_seeded_and_its_interval_that_of_the_draws() -> None:
    one, same, other = (explained().check(2, to="zero", seed=s) for s in (0, 0, 1))
    assert one == same
    assert one.by_chance != other.by_chance
    assert len(one.by_chance) == 20
    pairs = {a + b for a in (1, 9, 2, 8, 3, 7) for b in (1, 9, 2, 8, 3, 7) if a != b}
    assert {round(fall * 6) for fall in one.by_chance} <= pairs
    mean, low, high = one.chance
    assert min(one.by_chance) <= low <= mean <= high <= max(one.by_chance)
    assert one.beaten == sum(fall < 17 / 6 for fall in one.by_chance)


def test_the_mean_takes_a_tokens_place() -> None:
    claim = explained().check(1).most[0]
    assert claim.fall == pytest.approx((9 - 5) / 6)


def test_a_sample_of_a_batch_is_cut_where_it_says() -> None:
    model, ids = seeded(TextClassifier), words(2, 6)
    e = fxplain.explain(model, (ids,), target=1)
    for sample in (0, 1):
        checked = e.check(2, sample=sample, to="zero")
        for claim in checked.most:
            cut = Cut.tokens("input_ids", list(claim.tokens))
            effect = fxplain.intervene(model, (ids,), cut, 1).effects[0, sample]
            assert claim.fall == pytest.approx(-float(effect), abs=1e-6)


def test_padding_is_not_cut() -> None:
    model = seeded(TextClassifier)
    inputs = {"input_ids": words(1, 6), "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]])}
    checked = fxplain.explain(model, inputs, target=1).check()
    assert {claim.tokens for claim in (*checked.most, *checked.least)} <= {(1,), (2,), (3,)}


def test_what_is_printed_and_told() -> None:
    checked = explained().check(1)
    text = str(checked)
    assert f"did more than {checked.beaten} of 20 draws of chance" in text.replace("\n", " ")
    assert f"{checked.most[0].fall:+.4g}" in text
    assert checked.to_dict()["most"][0]["tokens"] == (1,)


def test_an_explanation_without_its_model_cannot_be_checked() -> None:
    with pytest.raises(fxplain.MethodError, match="no model to cut"):
        pickle.loads(pickle.dumps(explained())).check()


def test_a_model_that_changed_is_not_checked() -> None:
    model = Counting().eval()
    e = fxplain.explain(model, (torch.tensor([[1, 9, 2]]),), target=0)
    model.words.weight.data[9, 0] = 4
    with pytest.raises(fxplain.ChangedModelError, match="Explain again"):
        e.check()


@pytest.mark.parametrize(
    "wrong",
    [{"k": 0}, {"draws": 0}, {"units": "letter"}, {"to": "one"}, {"sample": 4}, {"seed": -1}],
)
def test_wrong_options_are_refused(wrong: dict) -> None:
    with pytest.raises(fxplain.FxplainError, match=next(iter(wrong))):
        explained().check(**wrong)


def test_a_picture_is_checked_by_its_patches() -> None:
    e = fxplain.explain(seeded(ImageClassifier), (pixels(),), target=1)
    assert {claim.modality for claim in e.check(2, sample=1).most} == {"pixel_values"}


def test_words_are_cut_with_all_their_pieces() -> None:
    class Pieces:
        all_special_ids: tuple[int, ...] = ()

        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return [f"##{i}" if i > 15 else f"w{i}" for i in ids]

    model, ids = seeded(TextClassifier), torch.tensor([[5, 20, 6, 21, 22]])
    e = fxplain.explain(model, (ids,), target=1, tokenizer=Pieces())
    texts = [word.text for word in e.words_in("input_ids")[0]]
    assert len(texts) == 2
    found = e.intervene({"it": Cut.tokens("input_ids", texts[1]), "from": Cut.edges(0, texts[1])})
    cuts = [Cut.tokens("input_ids", [2, 3, 4]), Cut.edges(0, [2, 3, 4])]
    want = fxplain.intervene(model, (ids,), cuts, 1)
    torch.testing.assert_close(found.scores, want.scores)
    assert found.names == ("it", "from")


def test_what_has_no_picture_says_so() -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(fxplain.PlotError, match="no picture of a Check"):
        explained().check(1).plot()


def test_heads_are_checked_by_the_relevance_that_comes_by_them() -> None:
    model, ids = seeded(TextClassifier, depth=2), words(2, 6)
    e = fxplain.explain(model, (ids,), target=1)
    checked = e.check(1, units="head", sample=1, to="zero")
    relevance = {
        (name, head): float(values[1, head].sum())
        for name, values in e.heads().relevance.items()
        for head in (0, 1)
    }
    most, least = (
        max(relevance, key=relevance.__getitem__),
        min(relevance, key=relevance.__getitem__),
    )
    for (node, head), (claim,) in ((most, checked.most), (least, checked.least)):
        assert (claim.modality, claim.tokens) == (node, (head,))
        assert claim.relevance == pytest.approx(relevance[node, head], rel=1e-4)
        effect = fxplain.intervene(model, (ids,), Cut.heads(node, head), 1).effects[0, 1]
        assert claim.fall == pytest.approx(-float(effect), abs=1e-6)
    assert f"{most[0]} head {most[1]}" in str(checked)
