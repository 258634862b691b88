"""Relevance of tokens as that of words, pixels and moments, against sums written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import fxplain
from fxplain.explanation.merging import Word, merge, timeline, upsample, words_of
from tests.small_models import architecture


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["[CLS]", "un", "##believ", "##able", "!", "[SEP]"], "[CLS] unbelievable ! [SEP]"),
        (["Un", "believable", "Ġmovie", "Ġit", "self"], "Unbelievable movie itself"),
        (["▁", "un", "able", "▁it", "</s>"], "unable it </s>"),
        (["un", "able</w>", "it</w>"], "unable it"),
        (["un@@", "able", "it"], "unable it"),
        (["<s>", "<|user|>", "▁a", "b"], "<s> <|user|> ab"),
        (["plain", "words"], "plain words"),
        (["101", "7", "102"], "101 7 102"),
    ],
)
def test_pieces_of_every_kind_of_tokenizer_become_words(pieces, words):
    found = words_of(pieces)
    assert [word.text for word in found] == words.split()
    assert [place for word in found for place in word.tokens] == list(range(len(pieces)))


def test_a_mark_that_is_a_piece_of_its_own_is_the_space_that_it_stands_for():
    assert [word.text for word in words_of(["▁", "▁a"])] == [" ", "a"]


def test_a_word_has_the_relevance_of_its_pieces():
    words = [Word("a", (0,)), Word("bcd", (1, 3)), Word("e", (2,))]
    assert merge(torch.tensor([1.0, 2.0, 4.0, 8.0]), words).tolist() == [1, 10, 4]
    assert merge(torch.ones(2), []).shape == (0,)


def test_nearest_pixels_have_the_relevance_of_their_patch():
    values = torch.arange(12.0).reshape(2, 6)
    drawn = upsample(values, (2, 3), (4, 9), "nearest")
    assert drawn.shape == (2, 4, 9)
    for y in range(4):
        for x in range(9):
            assert drawn[1, y, x] == values[1, (y // 2) * 3 + x // 3]


def test_bilinear_pixels_lie_between_the_centres_of_patches():
    """Written out: the weights of the two nearest centres, held constant beyond the last ones."""
    values = torch.tensor([[1.0, 5.0, 2.0]])
    drawn = upsample(values, (1, 3), (1, 12))[0, 0]
    centres = (np.arange(3) + 0.5) * 4
    expected = np.interp(np.arange(12) + 0.5, centres, values[0].numpy())
    np.testing.assert_allclose(drawn.numpy(), expected, rtol=1e-6)


def test_a_video_has_a_heat_map_per_frame():
    drawn = upsample(torch.arange(8.0)[None], (2, 2, 2), (4, 4), "nearest")
    assert drawn.shape == (1, 2, 4, 4)
    assert drawn[0, :, 0, 0].tolist() == [0, 4]


def test_tokens_off_a_grid_have_no_pixels():
    with pytest.raises(fxplain.ModalityError, match="no heat map"):
        upsample(torch.ones(1, 5), (2, 3), (4, 4))


def test_time_runs_evenly_over_the_tokens():
    found = timeline(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), (), 2.0)
    assert found.relevance.tolist() == [[1, 2, 3, 4]]
    assert found.edges.tolist() == [0, 0.5, 1, 1.5, 2]


def test_what_lies_at_one_moment_is_added_up():
    values = torch.arange(6.0)[None]
    assert timeline(values, (2, 3), 1.0).relevance.tolist() == [[3, 5, 7]]
    assert timeline(values, (2, 3), 1.0, axis=0).relevance.tolist() == [[3, 12]]
    assert timeline(values, (3, 1, 2), 1.0).relevance.tolist() == [[1, 5, 9]]
    with pytest.raises(fxplain.ModalityError, match="no axis 2"):
        timeline(values, (2, 3), 1.0, axis=2)


@pytest.fixture(scope="module")
def seen():
    return fxplain.explain(*architecture("vit"))


def test_an_image_is_drawn_at_the_size_of_the_input(seen):
    height, width = seen.inputs["pixel_values"].shape[-2:]
    drawn = seen.pixels("pixel_values", "nearest")
    assert drawn.shape == (seen.batch_size, height, width)
    assert drawn[0, 0, 0] == seen.relevance["pixel_values"][0, 1]  # the class token has no place
    assert seen.pixels("pixel_values", size=(5, 7)).shape == (seen.batch_size, 5, 7)


def test_what_is_no_image_has_no_pixels(seen):
    read = fxplain.explain(*architecture("bert"))
    with pytest.raises(fxplain.ModalityError, match="no image"):
        read.pixels("input_ids")
    with pytest.raises(fxplain.ModalityError, match="no modality 'pixels'"):
        seen.pixels("pixels")
    with pytest.raises(fxplain.ModalityError, match="seconds="):
        read.timeline("input_ids")


def test_what_was_told_is_saved(seen, tmp_path):
    told = replace(
        seen,
        target_names=("a", "b"),
        word_pieces={"pixel_values": [[Word("all", (0, 1))]] * seen.batch_size},
        seconds={"pixel_values": 4.0},
    )
    told.save(tmp_path / "e.safetensors")
    loaded = fxplain.load(tmp_path / "e.safetensors")
    assert loaded.target_names == ("a", "b")
    assert loaded.words("pixel_values")[0].labels == ["all"]
    torch.testing.assert_close(
        loaded.words("pixel_values")[0].relevance, seen.relevance["pixel_values"][:1, :2].sum(1)
    )
    assert loaded.timeline("pixel_values", axis=0).edges[-1] == 4
