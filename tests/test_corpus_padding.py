"""Rows of models that are given no mask, and so read padding, equal single explanations."""

import pytest
import torch

import fxplain
from tests import small_pretrained

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def check(found, i, single):
    """A row of the result against the explanation of the row alone."""
    names = [token for name in single.relevance for token in single.tokens(name)[0]]
    values = torch.cat([rows[0] for rows in single.relevance.values()])
    assert found["error"][i] is None
    assert found["tokens"][i] == names
    torch.testing.assert_close(torch.tensor(found["relevance"][i]), values, rtol=0, atol=1e-5)
    assert found["score"][i] == pytest.approx(float(single.scores[0]), abs=1e-5)


def test_texts_of_a_model_without_a_mask_are_not_padded(root):
    explainer = fxplain.from_pretrained(small_pretrained.save("classifier", root))
    explainer.loaded.tokenizer.model_input_names = ["input_ids", "token_type_ids"]
    texts = ["a cat", "the movie was great", "the dog", "watching"]
    found = fxplain.CorpusExplainer(explainer)({"text": texts})
    for i, text in enumerate(texts):
        check(found, i, explainer(text))


def test_padding_that_is_read_is_told_as_of_a_text_alone(root):
    explainer = fxplain.from_pretrained(small_pretrained.save("siglip", root))
    texts = ["a cat", "dog"]
    pictures = [small_pretrained.picture(16, 16, seed) for seed in range(2)]
    found = fxplain.CorpusExplainer(explainer)({"text": texts, "image": pictures})
    for i in range(2):
        check(found, i, explainer(text=texts[i], image=pictures[i]))
    # [CLS] a cat [SEP] and four of padding, [CLS] dog [SEP] and five
    assert [row[:8] for row in found["special"]] == [
        [True, False, False, True, True, True, True, True],
        [True, False, True, True, True, True, True, True],
    ]
    assert [row[:8] for row in found["starts"]] == [
        [None, 0, 2, None, None, None, None, None],
        [None, 0, None, None, None, None, None, None],
    ]
