"""Explainers: from raw inputs of every task to an explanation, as the library itself gives it."""

import sys
import warnings

import numpy as np
import pytest
import torch
import transformers as hf

import fxplain
from fxplain.errors import LoadError
from fxplain.explanation.pieces import readable
from fxplain.pipelines import WeightsWarning
from fxplain.pipelines.hearing import seconds_heard
from tests import small_pretrained
from tests.small_pretrained import picture, recording

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module", autouse=True)
def no_connection():
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("pretrained")


@pytest.fixture(scope="module")
def explainer(root):
    """An explainer by name, loaded once."""
    loaded = {}

    def get(name):
        if name not in loaded:
            loaded[name] = fxplain.from_pretrained(small_pretrained.save(name, root))
        return loaded[name]

    return get


def same(explanation, model, inputs, target=None, **options):
    """It is what `fxplain.explain` finds, given the tensors and the target as numbers."""
    expected = fxplain.explain(model, inputs, target, **{"method": "auto", **options})
    assert explanation.target == expected.target
    assert set(explanation.relevance) == set(expected.relevance)
    for name, values in expected.relevance.items():
        torch.testing.assert_close(explanation.relevance[name], values)


# ---- the task -------------------------------------------------------------------------------------

TASKS = {
    "classifier": "text-classification", "tagger": "token-classification",
    "reader": "question-answering", "filler": "fill-mask", "gpt2": "text-generation",
    "llama": "text-generation", "t5": "text2text-generation", "bart": "text2text-generation",
    "vit": "image-classification", "videomae": "video-classification",
    "clip": "zero-shot-image-classification",
    "siglip": "zero-shot-image-classification", "detr": "object-detection",
    "sam": "mask-generation",
    "vilt": "visual-question-answering", "blip": "image-to-text",
    "blip-vqa": "visual-question-answering", "captioner": "image-to-text",
    "llava": "image-to-text", "whisper": "automatic-speech-recognition",
    "wav2vec2": "automatic-speech-recognition",
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_the_task_is_told_by_the_config(explainer, name):
    assert explainer(name).task.name == TASKS[name]


def test_every_task_is_tried():
    assert set(TASKS.values()) == set(fxplain.tasks()) - {"any", "sentence-similarity"}


def test_a_task_can_be_chosen(root):
    folder = small_pretrained.save("llava", root)
    chosen = fxplain.from_pretrained(folder, "visual-question-answering")
    assert "logits" in chosen(picture(), "movie").output


def test_another_head_is_random_and_that_is_said(root):
    with pytest.warns(WeightsWarning, match="no weights for cls"):
        chosen = fxplain.from_pretrained(small_pretrained.save("classifier", root), "fill-mask")
    assert type(chosen.model).__name__ == "BertForMaskedLM"


def test_a_model_that_no_task_lists_still_explains(root, tmp_path):
    import transformers

    transformers.BertModel(
        transformers.BertConfig(vocab_size=len(small_pretrained.PIECES), **small_pretrained.SIZE)
    ).save_pretrained(tmp_path)
    small_pretrained.word_pieces().save_pretrained(tmp_path)
    found = fxplain.from_pretrained(tmp_path)
    assert found.task.name == "any"
    assert found("the cat", target=(0, 3)).target == ((0, 3),)
    with pytest.raises(fxplain.InputError, match="takes text="):
        found()


def test_a_bare_decoder_is_started(explainer, tmp_path):
    import transformers

    loaded = explainer("t5").loaded
    transformers.T5Model(loaded.model.config).save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    found = fxplain.from_pretrained(tmp_path)
    assert found.task.name == "any"
    assert found.inputs("the movie")["decoder_input_ids"].tolist() == [[0]]
    assert "decoder_input_ids" in found.inspect("the movie").modalities


# ---- text -----------------------------------------------------------------------------------------


def test_text_classification(explainer):
    classify = explainer("classifier")
    e = classify(["the movie was great", "watching"], target=["bad", 1])
    tokenizer = small_pretrained.word_pieces()
    inputs = tokenizer(["the movie was great", "watching"], padding=True, return_tensors="pt")
    same(e, classify.model, dict(inputs), [0, 1])
    assert e.target_names == ("bad", "good")
    assert "target 0 (bad)" in str(e)
    assert e.words("input_ids")[1].labels[:2] == ["[CLS]", "watching"]
    assert classify("the movie", pair="a cat").tokens("input_ids")[0][3:5] == ["[SEP]", "a"]


def test_token_classification(explainer):
    tag = explainer("tagger")
    text = "Ada Lovelace lived in London"
    e = tag(text, word="Lovelace", target="LOC")
    assert e.target == ((2, 2),)
    assert e.target_names == ("Lovelace: LOC",)
    same(e, tag.model, tag.inputs(text), (2, 2))
    predicted = [small_pretrained.ENTITIES[int(i)] for i in e.output.logits[0].argmax(-1)]
    each = tag.each(text)
    words = {1: "Ada", 2: "Lovelace", 4: "lived", 5: "in", 6: "London"}
    expected = [f"{words[p]}: {predicted[p]}" for p in words if predicted[p] != "O"]
    assert [e.target_names[0] for e in each] == expected
    surest = max(each, key=lambda e: float(e.output.logits.softmax(-1)[0][e.target[0]]))
    assert tag(text).target == surest.target
    assert tag(text, target=(5, 1)).target_names == ("in: PER",)
    with pytest.raises(
        fxplain.TargetError, match=r"no word 'Paris' in the text; its words: .*'Ada'"
    ):
        tag(text, word="Paris")
    with pytest.raises(fxplain.TargetError, match="no label 'ORG'"):
        tag(text, word="Ada", target="ORG")


def test_question_answering(explainer):
    read = explainer("reader")
    asked = {"text": "who lived in London?", "pair": "Ada Lovelace lived in London"}
    whole = read(**asked)
    start, end = read.each(**asked)
    assert start.target[0] <= end.target[0]
    assert start.target[0] > 6  # in the context
    torch.testing.assert_close(whole.scores, start.scores + end.scores)
    answer = whole.target_names[0]
    assert (start.target_names, end.target_names) == (
        (f"start of {answer}",),
        (f"end of {answer}",),
    )
    out = whole.output
    sums = out.start_logits[0, 7:13, None] + out.end_logits[0, None, 7:13]
    torch.testing.assert_close(whole.scores[0], sums.triu()[sums.triu() != 0].max())
    (start, end) = read.each(**asked, target="Lovelace lived")
    assert (start.target, end.target) == ((8,), (10,))
    same(end, read.model, read.inputs(**asked), 10, output="end_logits")
    with pytest.raises(fxplain.TargetError, match="part of the context"):
        read(**asked, target="Paris")


def test_fill_mask(explainer):
    fill = explainer("filler")
    text = "the [MASK] was [MASK]"
    e = fill(text, target="cat")
    assert e.target == ((2, small_pretrained.PIECES.index("cat")),)
    assert e.target_names == ("'cat'",)
    first, second = fill.each(text)
    for place, mask in ((2, first), (4, second)):
        assert mask.target == ((place, int(mask.output.logits[0, place].argmax())),)
    contrast = fill(text, target=fxplain.Contrast("cat", "dog"))
    assert contrast.target_names == ("'cat' rather than 'dog'",)
    with pytest.raises(fxplain.InputError, match=r"no mask in 'the cat': write \[MASK\]"):
        fill("the cat")
    with pytest.raises(fxplain.TargetError, match=r"not one word piece .* 'watch', '##ing'"):
        fill(text, target="watching")


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_next_token_is_explained(explainer, name):
    write = explainer(name)
    e = write("nobody was watching")
    assert e.target[0] == (
        e.relevance["input_ids"].shape[1] - 1,
        int(e.output.logits[0, -1].argmax()),
    )
    assert e.target_names == (repr(write.loaded.tokenizer.decode([e.target[0][1]])),)
    by_word = e.words("input_ids")[0]
    assert by_word.labels == ["nobody", "was", "watching"]
    torch.testing.assert_close(by_word.relevance.sum(), e.relevance["input_ids"].sum())
    piece = write.loaded.tokenizer.tokenize(" was")[0]
    asked = write("nobody was watching", target=piece)
    assert asked.target[0][1] == write.loaded.tokenizer.convert_tokens_to_ids(piece)


def test_a_batch_of_texts_is_padded(explainer):
    write = explainer("gpt2")
    e = write(["nobody was watching", "was"])
    alone = write("was")
    length = alone.relevance["input_ids"].shape[1]
    torch.testing.assert_close(e.relevance["input_ids"][1:, :length], alone.relevance["input_ids"])


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_sequence_to_sequence(explainer, name):
    translate = explainer(name)
    e = translate(["the movie was great", "the cat"])
    start = translate.model.config.decoder_start_token_id
    assert e.inputs["decoder_input_ids"].tolist() == [[start], [start]]
    assert e.words("input_ids")[0].labels[-2] == "great"
    assert [target[0] for target in e.target] == [0, 0]
    with_more = translate("the cat", inputs={"decoder_input_ids": torch.tensor([[start, 5, 6]])})
    assert with_more.target[0][0] == 2


# ---- images ---------------------------------------------------------------------------------------


def test_image_classification(explainer, tmp_path):
    classify = explainer("vit")
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    e = classify(pixels)
    assert e.target_names == (small_pretrained.OBJECTS[e.target[0]],)
    assert e.pixels("pixel_values").shape == (1, 16, 16)
    kinds = [
        tmp_path / "picture.png",
        str(tmp_path / "picture.png"),
        Image.fromarray(pixels),
        torch.from_numpy(pixels).permute(2, 0, 1),
        pixels / 255,
    ]
    batch = classify(image=kinds)
    assert batch.batch_size == len(kinds)
    for values in batch.relevance["pixel_values"]:
        torch.testing.assert_close(values, e.relevance["pixel_values"][0])
    grey = classify(pixels[..., 0])
    assert grey.relevance["pixel_values"].shape == (1, 17)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_zero_shot_image_classification(explainer, name):
    compare = explainer(name)
    texts = ["a cat", "the movie was great", "a dog"]
    e = compare(image=picture(), text=texts)
    best = int(e.output.logits_per_image[0].argmax())
    assert (e.target, e.target_names) == ((best,), (texts[best],))
    each = compare.each(image=picture(), text=texts)
    assert [e.target_names[0] for e in each] == texts
    assert each[1].words("input_ids")[0].labels[1:5] == ["the", "movie", "was", "great"]
    alone = compare(image=picture(), text=texts[1])
    torch.testing.assert_close(
        each[1].relevance["pixel_values"], alone.relevance["pixel_values"], rtol=1e-4, atol=1e-4
    )
    assert compare(image=picture(), text=texts, target="a dog").target == (2,)
    with pytest.raises(fxplain.TargetError, match="'a bird' is none of the texts: 'a cat'"):
        compare(image=picture(), text=texts, target="a bird")
    with pytest.raises(fxplain.InputError, match="one image at a time"):
        compare(image=[picture(), picture()], text=texts)


def test_texts_without_a_mask_are_padded_as_in_training(explainer):
    assert explainer("siglip").inputs(picture(), "a cat")["input_ids"].shape == (1, 8)
    assert explainer("clip").inputs(picture(), "a cat")["input_ids"].shape == (1, 4)


def test_object_detection(explainer):
    detect = explainer("detr")
    image = picture(40, 60)
    everything = detect.each(image, threshold=0.0)
    chances = everything[0].output.logits[0].softmax(-1)[:, :-1]
    assert sorted(e.target[0][0] for e in everything) == list(range(5))
    for e in everything:
        query, number = e.target[0]
        assert number == int(chances[query].argmax())
        assert e.target_names == (
            f"{small_pretrained.OBJECTS[number]} {float(chances[query, number]):.0%}",
        )
    sure = [float(chances[e.target[0]]) for e in everything]
    assert sure == sorted(sure, reverse=True)
    middle = (sure[1] + sure[2]) / 2
    assert len(detect.each(image, threshold=middle)) == 2
    assert detect(image).target == everything[0].target
    same(detect(image), detect.model, detect.inputs(image), everything[0].target[0])
    asked = detect(image, target="bird").target[0]
    assert asked == (int(chances[:, 2].argmax()), 2)
    assert detect.each(image, threshold=1.0) == []
    with pytest.raises(fxplain.TargetError, match=r"no label 'horse'; its labels: .*'cat'"):
        detect(image, target="horse")


def test_visual_question_answering(explainer):
    answer = explainer("vilt")
    e = answer(image=picture(), text="who lived?")
    assert e.target_names[0] in ("yes", "no", "two")
    assert e.words("input_ids")[0].labels == ["[CLS]", "who", "lived", "?", "[SEP]"]
    same(e, answer.model, answer.inputs(picture(), "who lived?"))


def test_patches_have_their_places_also_where_each_sample_shuffles_its_own(explainer):
    answer = explainer("vilt")  # draws the order of patches, so that the class token is anywhere
    images = [picture(20, 25, seed) for seed in range(2)]
    e = answer(image=images, text=["who lived?", "a cat"], method="input_x_gradient")
    patches = {}

    def keep(module, inputs, output):
        output.retain_grad()
        patches["at"] = output

    hook = answer.model.vilt.embeddings.patch_embeddings.register_forward_hook(keep)
    scores = answer.model(**e.inputs).logits
    scores[range(2), e.target].sum().backward()
    hook.remove()
    shares = (patches["at"] * patches["at"].grad).sum(1)  # (2, rows, columns)
    for sample in range(2):
        told = dict(
            zip(e.tokens("pixel_values")[sample], e.relevance["pixel_values"][sample], strict=True)
        )
        del told["cls_token"]
        assert len(told) == shares[sample].numel()
        for place, value in told.items():
            row, column = map(int, place.split(","))
            torch.testing.assert_close(value, shares[sample, row, column])


def test_boxes_are_handed_on_where_nothing_reads_images():
    from fxplain.demo import digits

    sample = digits.load_samples()[0]
    features, places = digits.mosaic_patches(sample.mosaic[None].float())
    ask = fxplain.from_pretrained(digits.MODEL_FOLDER)
    boxes = {"visual_feats": features, "visual_pos": places}
    e = ask(text=sample.question.text, inputs=boxes)
    assert e.target_names == (sample.question.answer,)
    with pytest.raises(fxplain.InputError, match="needs image="):
        ask(text=sample.question.text)
    with pytest.raises(fxplain.InputError, match="no input 'boxes'"):
        ask(text=sample.question.text, inputs={"boxes": features})


@pytest.mark.parametrize("name", ["blip", "captioner"])
def test_a_caption_is_started(explainer, name):
    e = explainer(name)(picture())
    assert e.target[0][0] == 0
    assert e.pixels("pixel_values").shape == (1, 16, 16)
    assert float(e.pixels("pixel_values").abs().sum()) > 0


def test_a_prompt_goes_on_from_the_words(explainer):
    e = explainer("blip")(picture(), "a cat")
    assert e.readout == ("input_ids[3]",)


def test_images_among_the_words(explainer):
    """The prompt is a chat's, and the next token is read at its end, behind the image."""
    e = explainer("llava")(image=picture(), text="movie was")
    assert e.words("input_ids")[0].labels[-3:] == ["the", "movie", "was"]
    last = e.inputs["input_ids"].shape[1] - 1
    assert e.target[0] == (last, int(e.output.logits[0, -1].argmax()))


def test_a_model_that_tells_no_logits_is_refused(explainer):
    with pytest.raises(fxplain.TargetError, match="no output 'logits'"):
        explainer("blip-vqa")(image=picture(), text="who lived?")


def test_a_processor_that_lacks_a_package_is_told(root, monkeypatch):
    def without(*_, **__):
        raise ImportError("\nIt needs the Sight library. Read how to install it.\nAt a page.")

    folder = small_pretrained.save("llava", root)
    monkeypatch.setattr(hf.AutoProcessor, "from_pretrained", without)
    alone = fxplain.from_pretrained(folder)
    with pytest.raises(LoadError, match=r"text and image together .* needs the Sight library\.$"):
        alone(image=picture(), text="the movie")


# ---- recordings -----------------------------------------------------------------------------------


def test_speech_recognition_by_a_decoder(explainer):
    e = explainer("whisper")(recording())
    assert e.target[0][0] == 0
    heard = e.timeline("input_features")
    assert heard.relevance.shape == (1, 50)
    assert heard.edges[-1] == 1  # the recording, padded to the model's one second


@pytest.mark.parametrize("seconds", [0.5, 40])
def test_features_of_a_fixed_length_stand_for_that(seconds):
    extractor = hf.ASTFeatureExtractor(max_length=128, num_mel_bins=32)
    sound = recording(seconds)
    made = extractor(sound, sampling_rate=16_000, return_tensors="pt")["input_values"]
    heard = seconds_heard(extractor, "input_values", made, seconds)
    assert heard == pytest.approx(1.28)  # of 10 ms each, padded or cut off


def test_features_of_the_recordings_own_length_stand_for_it():
    extractor = hf.Wav2Vec2FeatureExtractor()
    made = extractor(recording(), sampling_rate=16_000, return_tensors="pt")["input_values"]
    assert seconds_heard(extractor, "input_values", made, 0.5) == 0.5


def test_speech_recognition_by_frames(explainer):
    transcribe = explainer("wav2vec2")
    e = transcribe(recording(), target="b")
    letter = transcribe.loaded.tokenizer.convert_tokens_to_ids("b")
    assert e.target == ((int(e.output.logits[0, :, letter].argmax()), letter),)
    heard = e.timeline("input_values")
    assert heard.edges[-1] == 0.5
    assert len(heard.edges) == heard.relevance.shape[1] + 1
    each = transcribe.each(recording())
    frames = [e.target[0][0] for e in each]
    best = each[0].output.logits[0].argmax(-1).tolist()
    collapsed = [
        (i, token)
        for i, token in enumerate(best)
        if token != 0 and (i == 0 or best[i - 1] != token)
    ]
    assert [e.target[0] for e in each] == collapsed
    assert frames == sorted(frames)


def test_recordings_of_every_kind(explainer, tmp_path):
    wavfile = pytest.importorskip("scipy.io.wavfile")
    transcribe = explainer("wav2vec2")
    samples = recording()
    wavfile.write(tmp_path / "a.wav", 16_000, samples)
    wavfile.write(tmp_path / "b.wav", 16_000, np.stack([samples, samples], 1))
    wavfile.write(tmp_path / "c.wav", 16_000, (samples * 32767).astype(np.int16))
    wavfile.write(tmp_path / "d.wav", 16_000, (samples * 127 + 128).astype(np.uint8))
    slow = {"array": samples[::2], "sampling_rate": 8_000}
    expected = transcribe.inputs(samples)["input_values"]
    for given, near in [
        (tmp_path / "a.wav", 1e-5), (tmp_path / "b.wav", 1e-5), (tmp_path / "c.wav", 1e-3),
        (tmp_path / "d.wav", 5e-2), (torch.from_numpy(samples), 1e-5),
    ]:  # fmt: skip
        values = transcribe.inputs(given)["input_values"]
        torch.testing.assert_close(values, expected, rtol=0, atol=near)
    converted = transcribe.inputs(slow)["input_values"][:, 1000:-1000]
    assert float((converted - expected[:, 1000:-1000]).abs().mean()) < 0.1
    batch = transcribe([samples, samples[:4000]], target="b")
    assert batch.batch_size == 2


# ---- what is wrong --------------------------------------------------------------------------------


def test_an_unknown_task(root):
    folder = small_pretrained.save("vit", root)
    with pytest.raises(fxplain.TaskError, match=r"Did you mean 'image-classification'\?"):
        fxplain.from_pretrained(folder, "image-clasification")
    with pytest.raises(fxplain.TaskError, match="ViTForImageClassification is not for 'fill-mask'"):
        fxplain.from_pretrained(folder, "fill-mask")


def test_a_model_that_cannot_do_a_task(root):
    from fxplain.demo import digits

    with pytest.raises(fxplain.TaskError, match="it is for 'visual-question-answering'"):
        fxplain.from_pretrained(digits.MODEL_FOLDER, "object-detection")
    with pytest.raises(fxplain.TaskError, match="LMHeadModel is not for 'zero-shot-image-class"):
        fxplain.from_pretrained(
            small_pretrained.save("gpt2", root), "zero-shot-image-classification"
        )
    assert fxplain.from_pretrained(digits.MODEL_FOLDER, "any").task.name == "any"


def test_a_model_that_no_task_lists_does_what_it_returns(tmp_path):
    import transformers

    config = transformers.VisualBertConfig(
        vocab_size=30, visual_embedding_dim=8, num_labels=3, **small_pretrained.SIZE
    )
    transformers.VisualBertForQuestionAnswering(config).save_pretrained(tmp_path)
    assert fxplain.from_pretrained(tmp_path).task.name == "any"
    asked = fxplain.from_pretrained(tmp_path, "visual-question-answering")
    assert asked.task.name == "visual-question-answering"
    with pytest.raises(fxplain.TaskError, match="no task is known to be"):
        fxplain.from_pretrained(tmp_path, "object-detection")  # it returns no boxes


def test_packages_that_are_not_installed(explainer, monkeypatch):
    detect, transcribe = explainer("vit"), explainer("wav2vec2")
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "scipy", None)
    for name in [name for name in sys.modules if name.startswith("scipy.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(fxplain.MissingExtraError, match=r"pip install 'fxplain\[image\]'"):
        detect("a.png")
    with pytest.raises(fxplain.MissingExtraError, match=r"pip install 'fxplain\[audio\]'"):
        transcribe("a.wav")
    samples = {"array": recording(), "sampling_rate": 8_000}
    with pytest.raises(fxplain.MissingExtraError, match="at the model's own rate"):
        transcribe(samples)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("vit", {}, "image-classification needs image=, and none is given"),
        ("vilt", {"text": "who?"}, "visual-question-answering needs image="),
        ("whisper", {}, "needs audio="),
        ("vit", {"text": "a"}, "text is given, but .* has no tokenizer: it is given image="),
        ("reader", {"question": "who?", "context": "Ada"}, "question= is text= here, and context="),
        ("classifier", {"text": "a", "image": picture()}, "has no image processor"),
        ("clip", {"text": "a", "image": picture(), "pair": "b"}, "takes no pair"),
        ("classifier", {"text": 5}, "text is a string or a list of strings, not a int"),
        ("classifier", {"text": ["a", 5]}, "not a list with int"),
        ("classifier", {"text": ["a", "b"], "pair": "c"}, "2 of text=, 1 of pair="),
        ("vit", {"image": 5}, "a path, a PIL image or an array, not a int"),
        ("vit", {"image": np.zeros((4, 4, 7))}, r"shape \(4, 4, 7\) is no image"),
        ("vit", {"image": torch.randn(3, 8, 8)}, "values from 0 to 1"),
        ("wav2vec2", {"audio": 5}, "a path to a .wav file"),
        ("wav2vec2", {"audio": np.zeros((2, 2, 2))}, "is no recording"),
        ("wav2vec2", {"audio": {"samples": 1}}, "'array' and 'sampling_rate'"),
    ],
)
def test_wrong_inputs(explainer, name, given, message):
    with pytest.raises(fxplain.InputError, match=message):
        explainer(name)(**given)


def test_positional_inputs_are_what_the_task_needs(explainer):
    with pytest.raises(fxplain.InputError, match=r"2 positional inputs .* takes image="):
        explainer("vit")(picture(), "a cat")
    with pytest.raises(fxplain.InputError, match="text is given twice"):
        explainer("gpt2")("was", text="was")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("classifier", {"text": ["a", "b"]}),
        ("vit", {"image": [picture(), picture()]}),
        ("wav2vec2", {"audio": [recording(), recording()]}),
        ("gpt2", {"text": ["a", "b"]}),
    ],
)
def test_each_is_of_one_sample(explainer, name, given):
    with pytest.raises(fxplain.InputError, match="one at a time"):
        explainer(name).each(**given)


def test_files_that_are_none(explainer, tmp_path):
    (tmp_path / "words.txt").write_text("words")
    with pytest.raises(fxplain.LoadError, match="cannot identify image file"):
        explainer("vit")(tmp_path / "words.txt")
    with pytest.raises(fxplain.LoadError, match=r"cannot be read as a \.wav file"):
        explainer("wav2vec2")(tmp_path / "words.txt")
    with pytest.raises(fxplain.LoadError, match="No such file"):
        explainer("vit")(tmp_path / "none.png")


def test_unknown_options(explainer):
    with pytest.raises(fxplain.FxplainError, match="threshold"):
        explainer("vit")(picture(), threshold=0.5)


# ---- device and precision -------------------------------------------------------------------------


def test_precision_is_kept_or_chosen(root):
    folder = small_pretrained.save("vit", root)
    double = fxplain.from_pretrained(folder, device="cpu", dtype=torch.float64)
    assert double.inputs(picture())["pixel_values"].dtype == torch.float64
    assert double(picture()).relevance["pixel_values"].dtype == torch.float64
    double.model.to(torch.bfloat16).save_pretrained(folder.parent / "half")
    for file in folder.glob("*processor*"):
        (folder.parent / "half" / file.name).write_bytes(file.read_bytes())
    half = fxplain.from_pretrained(folder.parent / "half")
    assert half.inputs(picture())["pixel_values"].dtype == torch.bfloat16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["reader", "t5", "detr"])
def test_the_model_is_moved(root, explainer, name):
    given = {
        "reader": {"text": "who lived?", "pair": "Ada lived"},
        "t5": {"text": "the movie"},
        "detr": {"image": picture(40, 60)},
    }[name]
    moved = fxplain.from_pretrained(root / explainer(name).loaded.name, device="cuda")
    e, expected = moved(**given), explainer(name)(**given)
    assert e.target == expected.target
    for modality, values in expected.relevance.items():
        assert e.relevance[modality].device.type == "cuda"
        torch.testing.assert_close(e.relevance[modality].cpu(), values, rtol=1e-3, atol=1e-3)


def test_nothing_is_warned_of(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error", WeightsWarning)
        fxplain.from_pretrained(small_pretrained.save("bart", root))


# ---- text that is written -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("gpt2", {"text": ["the movie was great", "nobody"]}),
        ("t5", {"text": ["the movie was great", "nobody"]}),
        ("blip", {"image": picture(), "text": "a cat"}),
        ("llava", {"image": picture(), "text": "movie"}),
        ("whisper", {"audio": recording()}),
    ],
)
def test_generated_tokens_are_explained(explainer, name, given):
    writer = explainer(name)
    options = {"suppress_tokens": [writer.model.config.image_token_id]} if name == "llava" else {}
    side = writer.loaded.tokenizer.padding_side
    g = writer.generate(**given, max_new_tokens=3, **options)
    assert writer.loaded.tokenizer.padding_side == side
    inputs = dict(g.explanations[0].inputs)
    assert inputs[g.text_input].shape[0] == g.batch_size == len(g.text)
    logits = g.explanations[0].output["logits"]
    first = logits.shape[1] - 1 - g.ids.shape[1]  # the last of the prompt says the first token
    assert torch.equal(logits[:, first].argmax(-1), g.ids[:, 0])
    pieces = writer.loaded.tokenizer.convert_ids_to_tokens(g.ids[0].tolist())
    assert g.labels("earlier outputs")[0] == readable(pieces, writer.loaded.tokenizer)
    if name == "whisper":
        assert g.explanations[0].timeline("input_features").edges[-1] == 1.0


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("gpt2", {"text": "the movie was great"}),
        ("t5", {"text": "the movie was great"}),
        ("blip", {"image": picture(), "text": "a cat"}),
        ("whisper", {"audio": recording()}),
    ],
)
def test_each_token_that_is_written(explainer, name, given):
    writer = explainer(name)
    each = writer.each(**given, max_new_tokens=3, verify="off")  # what a call may be told, too
    g = writer.generate(**given, max_new_tokens=3)
    assert [e.target_names for e in each] == list(g.names) != []
    for e, expected in zip(each, g.explanations, strict=True):
        assert e.target == expected.target
        assert e.seconds == expected.seconds
        for modality, values in expected.relevance.items():
            assert torch.equal(e.relevance[modality], values)
    following = writer(**given).target[0][-1]
    token = writer.loaded.tokenizer.convert_ids_to_tokens([following])[0]
    (asked,) = writer.each(**given, target=token)  # a target is asked for as the next token
    assert asked.target[0][-1] == following


def test_what_does_not_write(explainer):
    with pytest.raises(fxplain.TaskError, match="does not write"):
        explainer("vit").generate(picture())
