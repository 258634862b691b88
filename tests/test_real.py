"""``make real``: what is measured and written, on a small model in the place of a checkpoint."""

import dataclasses
import struct

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.real import __main__ as main
from benchmarks.real import measured, pictures, programs, speech, whisper
from benchmarks.real.cases import Case, LackingError, Prepared
from benchmarks.real.checkpoints import REACTION_PARTS, Atoms
from benchmarks.real.inputs import AGREEMENT, REACTIONS, UNSEEN_REACTIONS
from benchmarks.real.measured import Measured, Result, Versus, holm
from benchmarks.real.methods import METHODS, ONE_GRADIENT, without_patches, without_words
from benchmarks.real.page import choosing_page, results_page, verdict
from tests.small_models import ImageClassifier, TextClassifier, pixels, seeded, words

FEW = ("generic", "input_x_gradient, corrected")


def prepared() -> Prepared:
    ids = words(3, 6)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    return Prepared(seeded(TextClassifier), [inputs], None)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A case, and what is kept of it."""
    case = Case("a, small one", "an encoder of words", True, "of this test; 3 texts", prepared)
    folder = tmp_path_factory.mktemp("kept")
    few = {name: METHODS[name] for name in FEW}
    few["integrated_gradients, 20 steps"] = ("integrated_gradients", {"steps": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "METHODS", few)
        assert not measured.is_kept(case, folder)
        return case, measured.kept(case, folder), folder


def test_what_was_measured_is_kept(found, monkeypatch) -> None:
    case, made, folder = found
    monkeypatch.setattr(measured, "measure", lambda _: pytest.fail("it is measured again"))
    assert measured.kept(case, folder) == made
    assert made.chosen == "input_x_gradient, corrected"
    assert made.result("auto").value == made.result("input_x_gradient, corrected").value
    assert [each.value for each in made.results] == sorted(
        (each.value for each in made.results), reverse=True
    )


def test_the_pages_have_every_method(found) -> None:
    case, made, _ = found
    page = results_page([(case, made)])
    assert "## A, small one" in page
    for name in ("chance (random relevance)", "leave_one_out", "**generic**", "**auto** (input_x"):
        assert f"| {name}" in page
    assert "| a, small one | no | input_x_gradient, corrected |" in page
    short = choosing_page([(case, made)])
    assert "## An encoder of words" in short
    take = '`method="input_x_gradient", gradients="corrected"`'
    standing = "best, or not told from the best, on 1 of 1 sets of inputs"
    assert f"| an encoder of words | {take} | {standing}" in short
    assert f"`auto` takes {take}: {standing}" in short
    assert "mean over 3 to 3 inputs" in short
    worse = dataclasses.replace(
        made,
        results=tuple(
            dataclasses.replace(each, auto=Versus(0.1, 0.1, 0.1, 0.0)) for each in made.results
        ),
    )
    assert "on 1 of 2 sets of inputs" in choosing_page([(case, made), (case, worse)])


def test_leave_one_out_by_hand() -> None:
    """The explained number less that where attention does not see the token."""
    given = prepared()
    (inputs,) = given.data
    relevance = without_words(given.model, inputs, [0, 1, 2])["input_ids"]
    with torch.no_grad():
        for sample, place in ((0, 2), (1, 3), (2, 0)):
            real = int(inputs["attention_mask"][sample].sum())
            ids, mask = (
                inputs["input_ids"][None, sample, :real],
                torch.ones(1, real, dtype=torch.long),
            )
            whole = given.model(ids, mask)[0, sample]
            mask[0, place] = 0
            expected = whole - given.model(ids, mask)[0, sample]
            torch.testing.assert_close(relevance[sample, place], expected)
    assert (relevance[1, 4:] == 0).all()


def test_patches_left_out_by_hand() -> None:
    """The explained number less that where a patch has the picture's mean."""
    model, pictures = seeded(ImageClassifier), pixels(2, 3, 8, 8)
    relevance = without_patches(2)(model, {"pixel_values": pictures}, [(0,), (1,)])["pixel_values"]
    gone = pictures.clone()
    gone[1, :, :4, 4:] = pictures[1].mean((1, 2))[:, None, None]
    with torch.no_grad():
        expected = model(pictures)[1, 1] - model(gone)[1, 1]
    torch.testing.assert_close(relevance[1, 2], expected)
    assert (relevance[:, 0] == 0).all()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize(("p", "told"), [(0.001, "worse"), (0.02, "tied"), (0.6, "tied")])
def test_a_method_that_is_better_makes_auto_worse(p: float, told: str) -> None:
    """Of ten tests the smallest p is taken ten times."""
    nothing = Versus(0.0, 0.0, 0.0, 1.0)
    results = [
        Result(name, 0.5, 0.4, 0.6, nothing, nothing, nothing, nothing) for name in ONE_GRADIENT
    ]
    made = Measured("c", "abpc", 3, "generic", "", "", tuple(results))
    assert verdict(made) == ("best", 1.0)
    results[0] = dataclasses.replace(results[0], auto=Versus(0.1, 0.0, 0.2, p))
    assert verdict(dataclasses.replace(made, results=tuple(results)))[0] == told
    worse = dataclasses.replace(results[0], auto=Versus(-0.1, -0.2, 0.0, 0.001))
    assert verdict(dataclasses.replace(made, results=(worse, *results[1:])))[0] == "best"


# ---- inputs -----------------------------------------------------------------------------------------


def test_reactions_are_cut_without_loss() -> None:
    assert not set(REACTIONS) & set(UNSEEN_REACTIONS)
    for reaction in (*REACTIONS, *UNSEEN_REACTIONS):
        parts = REACTION_PARTS.findall(reaction)
        assert "".join(parts) == reaction
        assert parts.count(">>") == 1


def test_parts_of_reactions_have_ids(tmp_path) -> None:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "C", "O", ">>"]
    (tmp_path / "vocab.txt").write_text("\n".join(names) + "\n")
    cut = Atoms(tmp_path)
    inputs = cut(["CC>>O", "C>>N"])
    assert inputs["input_ids"].tolist() == [[2, 5, 5, 7, 6, 3], [2, 5, 7, 1, 3, 0]]
    assert inputs["attention_mask"].tolist() == [[1] * 6, [1] * 5 + [0]]
    assert cut.convert_ids_to_tokens([5, 7]) == ["C", ">>"]


def test_words_are_spoken_apart(monkeypatch) -> None:
    """Each word's sound lies in its seconds, and silence between."""
    lengths = {"ab": 800, "cde": 1600}
    monkeypatch.setattr(speech, "_spoken", lambda word, _: np.ones(lengths[word], np.float32))
    found = speech.recorded("ab cde ab", "any")
    assert found.words == ("ab", "cde", "ab")
    own = np.zeros_like(found.sound)
    for (start, end), word in zip(found.seconds, found.words, strict=True):
        first, last = (round(at * speech.RATE) for at in (start, end))
        assert last - first == lengths[word]
        own[first:last] = 1
    assert (own == found.sound).all()


def test_a_program_that_lacks_leaves_its_case_out(tmp_path, monkeypatch, capsys) -> None:
    def lacks() -> Prepared:
        raise LackingError("no voice here.")

    case = Case("heard", "a model that hears", True, "nothing", lacks)
    monkeypatch.setattr(main, "CASES", (case,))
    folders = ["--kept", str(tmp_path / "kept"), "--docs", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["real", *folders])
    main.main()
    assert capsys.readouterr().out == "heard is left out: no voice here.\n"
    assert "Heard" not in (tmp_path / "results" / "real.md").read_text()


def test_numbers_out_of_a_file_of_ctranslate2(tmp_path) -> None:
    """Written here as its converter does: names with their length, shapes, kinds of numbers."""
    stored = {"a/weight": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.int8(7)}
    written = struct.pack("<I", 6) + _text("Spec") + struct.pack("<II", 3, len(stored))
    for name, values in stored.items():
        array = np.asarray(values)
        written += _text(name) + struct.pack("<B", array.ndim)
        written += struct.pack(f"<{array.ndim}I", *array.shape)
        written += struct.pack("<BI", {"float16": 4, "int8": 1}[array.dtype.name], array.nbytes)
        written += array.tobytes()
    (tmp_path / "model.bin").write_bytes(written + struct.pack("<I", 0))
    found = whisper._numbers(tmp_path / "model.bin")
    assert found["a/weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["b"].item() == 7


def _text(name: str) -> bytes:
    return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"


def test_pictures_of_shapes() -> None:
    """The same each time, each another, and a shape in each: one colour there, noise around."""
    made = pictures.drawn(4, 56)
    assert torch.equal(made, pictures.drawn(4, 56))
    assert made.shape == (4, 3, 56, 56)
    for picture in made:
        _, counts = picture.flatten(1).unique(dim=1, return_counts=True)
        assert counts.max() > 50
        assert len(counts) > 500


def test_a_letter_that_stood_there_before() -> None:
    for ids, place in programs.asked_after_the_same(20):
        letters = ids[0].tolist()
        assert letters[place - 1] == letters[-1]
        assert place < len(letters) - 1
        assert letters.count(letters[-1]) == 2


def test_subjects_and_verbs_stand_where_it_says() -> None:
    for sentence, subject, verb in AGREEMENT:
        assert sentence[subject].endswith("s")
        assert sentence[verb] in ("is", "was")
    assert len(set(map(str, AGREEMENT))) == len(AGREEMENT)


class Stays(nn.Module):
    """A model that no removal changes."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return torch.ones(len(input_ids), 3) + 0 * attention_mask.sum()


def test_where_nothing_matters_nothing_is_lost() -> None:
    (inputs,) = prepared().data
    assert (without_words(Stays(), inputs, [0, 1, 2])["input_ids"] == 0).all()
