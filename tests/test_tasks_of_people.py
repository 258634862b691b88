"""Tasks beyond one class: how alike, masks at points, words as they were cut, transcripts."""

import json

import pytest
import torch
from typer.testing import CliRunner

import fxplain
from fxplain.cli import app
from fxplain.explanation import Timeline
from fxplain.generation import Span
from fxplain.reports.headline import headline
from tests import small_pretrained
from tests.small_pretrained import picture, recording
from tests.test_html import data_of

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def explainer(root):
    made = {}

    def of(name, task=None):
        if (name, task) not in made:
            made[name, task] = fxplain.from_pretrained(small_pretrained.save(name, root), task)
        return made[name, task]

    return of


def ran(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


# ---- how alike ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_a_text_and_an_image_are_compared(explainer, name):
    compare = explainer(name, "sentence-similarity")
    e = compare(["a cat", "the movie was great"], image=[picture(seed=0), picture(seed=1)])
    with torch.no_grad():
        out = compare.model(
            **compare.inputs(
                ["a cat", "the movie was great"], image=[picture(seed=0), picture(seed=1)]
            )
        )
    by_hand = (out.text_embeds * out.image_embeds).sum(-1) / (
        out.text_embeds.norm(dim=-1) * out.image_embeds.norm(dim=-1)
    )
    torch.testing.assert_close(e.scores, by_hand)
    assert {"input_ids", "pixel_values"} <= set(e.modalities)
    assert e.target_names == ("similarity", "similarity")
    alone = compare("the movie was great", image=picture(seed=1))
    torch.testing.assert_close(e.relevance["pixel_values"][1], alone.relevance["pixel_values"][0])


def test_two_texts_of_a_model_that_sees(explainer):
    compare = explainer("clip", "sentence-similarity")
    e = compare("a cat", pair="the dog")
    with torch.no_grad():
        one, two = (
            compare.model.get_text_features(
                **compare.loaded.tokenizer(text, return_tensors="pt")
            ).pooler_output
            for text in ("a cat", "the dog")
        )
    torch.testing.assert_close(e.scores, torch.cosine_similarity(one, two))
    assert e.units("pair_input_ids")[0].labels == ["[CLS]", "the", "dog", "[SEP]"]


def test_a_reranker_has_a_score_of_two_texts(explainer):
    e = explainer("reranker", "sentence-similarity")("a cat", pair="the dog was great")
    rank = explainer("reranker")
    same = rank("a cat", pair="the dog was great")
    assert e.target_names == same.target_names == ("score",)
    torch.testing.assert_close(e.relevance["input_ids"], same.relevance["input_ids"])
    torch.testing.assert_close(e.scores, e.output.logits[:, 0].detach())
    assert headline(e).startswith("Explained: score (")


def test_what_makes_no_embeddings_is_refused(explainer):
    with pytest.raises(fxplain.TaskError, match=r"TokenClassification makes no embeddings"):
        explainer("tagger", "sentence-similarity")("a cat", pair="a dog")
    compare = explainer("clip", "sentence-similarity")
    with pytest.raises(fxplain.InputError, match="or image="):
        compare("a cat")
    with pytest.raises(fxplain.InputError, match="leave one out"):
        compare("a cat", pair="a dog", image=picture())
    with pytest.raises(fxplain.TaskError, match="one number"):
        compare("a cat", pair="a dog", target=1)


def test_what_compares_is_verified(explainer):
    found = explainer("embedder", "sentence-similarity").verify("a cat", pair="the", level="light")
    assert found.ok
    assert found.model == "TextSimilarity"


# ---- masks --------------------------------------------------------------------------------------


def test_a_mask_at_points_is_explained(explainer):
    see = explainer("sam")
    image = picture(40, 60)
    e = see(image, points=[(30, 20), (6, 9)])
    scale = 64 / 60  # the longer side becomes the model's; the shorter one is rounded
    torch.testing.assert_close(
        e.inputs["input_points"][0, 0],
        torch.tensor([[30 * scale, 20 * 43 / 40], [6 * scale, 9 * 43 / 40]]),
    )
    best = int(e.output.iou_scores[0, 0].argmax())
    mask = e.output.pred_masks[0, 0, best]
    assert float(e.scores) == pytest.approx(float(mask[mask > 0].mean()), rel=1e-4)
    assert e.target_names[0].startswith(f"mask {best}, rated ")

    inside = see.model(**e.inputs).pred_masks[0, 0, best] > 0  # of the run that the task chose by

    def mean_inside(output):
        return output.pred_masks[:, 0, best][:, inside].mean(1)

    expected = fxplain.explain(see.model, e.inputs, mean_inside, e.method, **e.options)
    for name, values in expected.relevance.items():
        torch.testing.assert_close(e.relevance[name], values, atol=0.0, rtol=1e-3)


def test_each_mask_and_what_is_no_mask(explainer):
    see = explainer("sam")
    image = picture(40, 60)
    names = [e.target_names[0][:6] for e in see.each(image, points=(30, 20))]
    assert sorted(names) == ["mask 0", "mask 1", "mask 2"]
    assert see(image, points=(30, 20), target=1).target_names[0].startswith("mask 1")
    with pytest.raises(fxplain.TargetError, match="0 to 2"):
        see(image, points=(30, 20), target=7)
    with pytest.raises(fxplain.InputError, match="needs points="):
        see(image)
    with pytest.raises(fxplain.InputError, match="one image"):
        see([image, image], points=(30, 20))
    for wrong in ("a", [(1, 2, 3)], [], (1, float("nan")), 5):
        with pytest.raises(fxplain.InputError, match="must be places"):
            see(image, points=wrong)
    for outside in ((60, 5), (-1, 5), (5, 40)):
        with pytest.raises(fxplain.InputError, match="60 pixels wide and 40 high"):
            see(image, points=outside)
    with pytest.raises(fxplain.InputError, match="takes no points"):
        explainer("vit")(picture(), points=(1, 2))


# ---- words that were cut before -----------------------------------------------------------------


def test_words_stay_as_they_were_cut(explainer):
    tag = explainer("tagger")
    e = tag([["ada", "lovelace", "lived", "in london?"], ["a", "cat"]], target=[(2, 1), (1, 1)])
    assert e.words("input_ids")[0].labels == [
        "[CLS]", "ada", "lovelace", "lived", "in london?", "[SEP]",
    ]  # fmt: skip
    assert e.words("input_ids")[1].labels[:4] == ["[CLS]", "a", "cat", "[SEP]"]
    as_written = tag("ada lovelace lived in london?", target=(2, 1))
    torch.testing.assert_close(e.relevance["input_ids"][:1], as_written.relevance["input_ids"])
    assert (
        tag([["ada", "in london?"]], word="in london?").target_names[0].startswith("in london?: ")
    )


@pytest.mark.parametrize("wrong", [[["ada", 3]], ["a", ["ada"]], [[]], [["ada", " "]]])
def test_what_is_no_list_of_words_is_refused(explainer, wrong):
    with pytest.raises(fxplain.InputError, match="given as words"):
        explainer("tagger")(wrong)


def test_words_have_no_second_text(explainer):
    with pytest.raises(fxplain.InputError, match="no pair="):
        explainer("classifier")([["a", "cat"]], pair="a dog")


def test_the_usual_class_is_that_of_most_words(explainer):
    tag = explainer("speech-tagger")
    text = "ada lived in london who was a cat"
    logits = tag.model(**tag.inputs(text)).logits[0]
    words = tag(text, target=(1, 0)).words("input_ids")[0].words[1:-1]
    said = [small_pretrained.SPEECH[int(logits[word.tokens[0]].argmax())] for word in words]
    usual = max(said, key=said.count)
    assert 1 < said.count(usual) < len(said)  # or nothing is tried
    expected = [
        f"{w.text}: {label}" for w, label in zip(words, said, strict=True) if label != usual
    ]
    assert [e.target_names[0] for e in tag.each(text)] == expected


# ---- transcripts --------------------------------------------------------------------------------


def test_a_transcript_is_explained_by_word_and_second(explainer):
    hear = explainer("whisper")
    tokens = hear.generate(audio=recording(), max_new_tokens=8, targets=slice(None))
    # its words, by the marks for a space before them; one that is a piece begins the word behind it
    pieces = ("the", "Ġ", "mo", "vie", "Ġwas")
    ids = hear.loaded.tokenizer.convert_tokens_to_ids(list(pieces))
    words = hear.generate(audio=recording(), generated=[ids])
    assert words.targets == (0, Span(1, 4), 4)
    assert [name[0].strip() for name in words.names] == ["the", "movie", "was"]
    assert len(tokens.targets) == len(tokens.tokens[0])
    start, end = words.explanations[1].timeline("input_features").stretch()
    assert f"{start:.2f}-{end:.2f} s holds half of it" in str(words)
    kinds = [row["kind"] for row in data_of(words.to_html())["outputs"]["samples"][0]["rows"]]
    assert kinds == ["token", "word", "token"]


def test_words_of_one_text_alone(explainer):
    write = explainer("gpt2")
    with pytest.raises(fxplain.TargetError, match="one text"):
        write.generate(["the", "movie"], targets="words", max_new_tokens=2)
    with pytest.raises(fxplain.TargetError, match='give "words"'):
        write.generate("the", targets="word", max_new_tokens=2)
    found = write.generate("the movie", max_new_tokens=3)
    assert "Ġ" not in str(found)  # a byte-level piece is called by its text


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_the_shortest_stretch(share):
    values = torch.rand(1, 12, generator=torch.Generator().manual_seed(1)) - 0.5
    found = Timeline(values, torch.arange(13.0)).stretch(share=share)
    sizes = values[0].abs()
    spans = [(j - i, i, j) for i in range(12) for j in range(i + 1, 13)]
    enough = [
        s for s in spans if float(sizes[s[1] : s[2]].sum()) >= share * float(sizes.sum()) - 1e-5
    ]
    assert found is not None
    assert found[1] - found[0] == min(enough)[0]
    assert float(sizes[int(found[0]) : int(found[1])].sum()) >= share * float(sizes.sum()) - 1e-5
    assert Timeline(torch.zeros(1, 3), torch.arange(4.0)).stretch() is None


# ---- on the command line ------------------------------------------------------------------------


def test_points_words_and_likeness_can_be_typed(root, tmp_path):
    folders = {n: small_pretrained.save(n, root) for n in ("sam", "tagger", "clip", "reranker")}
    file = tmp_path / "a.png"
    Image.fromarray(picture(40, 60)).save(file)
    told = json.loads(ran("explain", folders["sam"], "--image", file, "--point", "30,20", "--json"))
    assert told["target_names"][0].startswith("mask ")
    tagged = ran("explain", folders["tagger"], "-t", "ada in london?", "--split", "--target", "1,1")
    assert "london?" in tagged
    alike = ["--task", "sentence-similarity", "-t", "a cat", "--json"]
    told = json.loads(ran("explain", folders["clip"], *alike, "--image", file))
    assert told["target_names"] == ["similarity"]
    told = json.loads(ran("explain", folders["reranker"], *alike, "--pair", "a dog"))
    assert told["target_names"] == ["score"]
    wrong = CliRunner().invoke(app, ["explain", str(folders["sam"]), "--point", "3"])
    assert wrong.exit_code == 2
    assert "give X,Y" in wrong.output


def test_by_word_or_by_token(root):
    folder = small_pretrained.save("gpt2", root)
    by_word = json.loads(
        ran("generate", folder, "-t", "the movie", "-n", 12, "--by", "word", "--json")
    )
    by_token = json.loads(ran("generate", folder, "-t", "the movie", "-n", 12, "--json"))
    (words,), (tokens,) = by_word["samples"], by_token["samples"]
    assert len(tokens["targets"]) == len(tokens["tokens"])
    assert len(words["targets"]) < len(words["tokens"])
    said = "".join(target["name"] for target in words["targets"])
    assert "".join(said.split()) == "".join(tokens["text"].split())


# ---- answers that are spans -------------------------------------------------------------------------


def test_an_answer_is_called_as_the_context_writes_it(explainer):
    read = explainer("reader")
    given = {"text": "who lived?", "pair": "Ada Lovelace lived in London"}
    e = read(**given, target="Lovelace lived ")
    assert (e.target_names, e.readout) == (
        ("'Lovelace lived'",),
        ("input_ids[6] and input_ids[8]",),  # [CLS] who lived ? [SEP] ada love ##lace lived
    )
    assert read(**given, target=(5, 5)).target_names == ("'Ada'",)


@pytest.mark.parametrize("target", [" ", "", (3, 1), (-2, -1), (0, 99), (0,), (True, 1), 3])
def test_what_is_no_answer_is_refused(explainer, target):
    with pytest.raises(fxplain.TargetError, match="is no target"):
        explainer("reader")(text="who lived?", pair="Ada lived", target=target)


def test_an_option_of_another_task_names_that_task(explainer):
    with pytest.raises(fxplain.TaskError, match=r"no option word=: it is of token-classification"):
        explainer("classifier")("the movie", word="movie")
