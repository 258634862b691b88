"""Generated text: every token's explanation, from one forward over the whole sequence."""

import copy
import json
from functools import cache

import pytest
import torch

import fxplain
from fxplain import Contrast, Span, Sum
from fxplain.explanation.passes import Passes
from fxplain.generation import EARLIER, GeneratedToken
from tests import small_pretrained
from tests.architectures.case import draw, randomise

TOKENS = 4
BEGINS = "decoder_input_ids"  # of encoder-decoders
MADE_OF = {
    "gpt2": ("input_ids",),
    "llama": ("input_ids",),
    "t5": ("input_ids", BEGINS),
    "bart": ("input_ids", BEGINS),
    "whisper": ("input_features", BEGINS),
    "captioner": ("pixel_values", BEGINS),
    "blip": ("pixel_values", "input_ids"),
    "llava": ("input_ids", "pixel_values"),
}
models = pytest.mark.parametrize("name", MADE_OF)


@cache
def tiny(name):
    """A model in float64 whose texts do not end, inputs of one sample, and options to write with."""
    with torch.random.fork_rng():
        model, *_ = small_pretrained.MAKERS[name]()
    model = randomise(model, seed=3).double()
    ids, normal = draw(5)
    options = {"suppress_tokens": [0, 1, 2, 3], "pad_token_id": 0}
    inputs = {}
    if name in ("gpt2", "llama", "t5", "bart"):
        inputs = {"input_ids": ids(4, 20, 1, 5)}
    if name == "bart":
        options = {"forced_eos_token_id": None, **options}
    if name in ("captioner", "blip", "llava"):
        inputs = {"pixel_values": normal(1, 3, 16, 16).double()}
    if name == "blip":
        del options["pad_token_id"]  # it says so itself
    if name == "llava":
        image = model.config.image_token_id
        options["suppress_tokens"] = [0, 1, 2, image]
        inputs |= {"input_ids": torch.tensor([[5, *[image] * 16, 6, 7]])}
        inputs |= {"attention_mask": torch.ones_like(inputs["input_ids"])}
    if name == "whisper":
        inputs = {"input_features": normal(1, 8, 100).double()}
    return model, inputs, options


def written(name, **more):
    model, inputs, options = tiny(name)
    return fxplain.explain_generation(model, inputs, TOKENS, **{**options, **more})


@cache
def greedy(name):
    return written(name)


def whole(generation):
    """The inputs of the one forward."""
    return generation.explanations[0].inputs


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=1e-9)


# ---- the same as explaining a token at a time -------------------------------------------------------


@models
def test_equal_to_the_next_token_of_each_prefix(name):
    model, *_ = tiny(name)
    g = greedy(name)
    assert g.modalities == (*MADE_OF[name], EARLIER)
    assert g.ids.shape == (1, TOKENS)
    for step, e in enumerate(g.explanations):
        inputs = dict(whole(g))
        length = inputs[g.text_input].shape[1] - TOKENS + step
        cut = [g.text_input, *(["attention_mask"] if name == "llava" else [])]
        inputs |= {key: inputs[key][:, :length] for key in cut}
        token = int(g.ids[0, step])
        alone = fxplain.explain(model, inputs, (length - 1, token), output="logits")
        later = e.relevance[g.text_input][:, length:]
        assert not later.any()
        close({**e.relevance, g.text_input: e.relevance[g.text_input][:, :length]}, alone.relevance)
        torch.testing.assert_close(e.scores, alone.scores)


@models
def test_what_is_explained_is_what_the_model_writes(name):
    model, inputs, options = tiny(name)
    copies = {key: value.clone() for key, value in inputs.items()}
    made = model.generate(**copies, **options, max_new_tokens=TOKENS)
    g = greedy(name)
    assert torch.equal(made[:, -TOKENS:], g.ids)
    assert g.text == (" ".join(map(str, g.ids[0].tolist())),)
    assert g.tokens == [[GeneratedToken(i, str(i)) for i in g.ids[0].tolist()]]


@models
def test_the_likeliest_tokens_have_the_highest_logits(name):
    """The positions are right: greedy search took the largest logit that it was allowed to."""
    _, _, options = tiny(name)
    g = greedy(name)
    for step, e in enumerate(g.explanations):
        logits = e.output["logits"][0, step - TOKENS - 1].clone()
        logits[options["suppress_tokens"]] = -torch.inf
        assert int(logits.argmax()) == int(g.ids[0, step])


def test_one_forward_for_all_tokens(monkeypatch):
    runs = []
    forward = Passes._forward
    monkeypatch.setattr(Passes, "_forward", lambda *a, **k: runs.append(a) or forward(*a, **k))
    assert len(written("llama").explanations) == TOKENS
    assert len(runs) == 1


# ---- matrices ---------------------------------------------------------------------------------------


@models
def test_columns_are_the_prompt_and_the_earlier_outputs(name):
    g = greedy(name)
    matrices = g.matrices()
    assert tuple(matrices) == g.modalities
    together = torch.cat([matrices[g.text_input], matrices[EARLIER]], -1)
    for step, e in enumerate(g.explanations):
        torch.testing.assert_close(together[:, step], e.relevance[g.text_input])
    own = matrices[EARLIER][0]
    assert own.shape == (TOKENS, TOKENS)
    assert torch.equal(own, own.tril(-1))  # no token draws on itself or on what comes later
    assert (own.diagonal(-1) >= 1).all()  # the token before is where each one is read
    assert g.labels(EARLIER)[0] == [str(i) for i in g.ids[0].tolist()]
    assert len(g.labels(g.text_input)[0]) == matrices[g.text_input].shape[-1]


def test_an_unknown_modality():
    with pytest.raises(fxplain.ModalityError, match="'earlier outputs'"):
        greedy("llama").matrix("pixels")


# ---- how it is written -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "bart"])
def test_the_chosen_beam(name):
    model, inputs, options = tiny(name)
    made = model.generate(**inputs, **options, num_beams=3, max_new_tokens=TOKENS)
    g = written(name, num_beams=3, targets=0)
    assert torch.equal(g.ids, made[:, -TOKENS:])
    assert name == "bart" or not torch.equal(g.ids, greedy(name).ids)


def test_sampling_with_a_seed():
    texts = [written("llama", do_sample=True, seed=seed, targets=0).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_sampling_without_a_seed_is_what_generate_writes_next():
    model, inputs, options = tiny("llama")
    g = written("llama", do_sample=True, targets=0)
    made = model.generate(**inputs, **options, do_sample=True, max_new_tokens=TOKENS)
    assert torch.equal(made[:, -TOKENS:], g.ids)


@pytest.mark.parametrize("name", ["llama", "blip", "whisper"])
def test_nothing_is_left_behind(name):
    model, inputs, _ = tiny(name)
    before = copy.deepcopy((model.config.to_dict(), model.generation_config.to_dict(), inputs))
    parts, state = dict(vars(model)), torch.random.get_rng_state()
    written(name, do_sample=True, num_beams=2, seed=4, targets=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    after = (model.config.to_dict(), model.generation_config.to_dict(), inputs)
    assert after[:2] == before[:2]
    assert all(torch.equal(after[2][key], value) for key, value in before[2].items())
    assert vars(model).keys() == parts.keys()
    assert all(vars(model)[key] is value for key, value in parts.items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["llama", "t5", "blip"])
def test_a_text_that_was_written_before(name):
    model, inputs, _ = tiny(name)
    g = greedy(name)
    if name == "blip":  # its generate makes the prompt
        inputs = {**inputs, "input_ids": whole(g)["input_ids"][:, :-TOKENS]}
    for ids in (g.ids, g.ids[0].tolist(), [g.ids[0].tolist()]):
        again = fxplain.explain_generation(model, inputs, generated=ids, targets=[1])
        close(again.explanations[0].relevance, g.explanations[1].relevance)


# ---- targets ----------------------------------------------------------------------------------------


def by_hand(name, target):
    model, *_ = tiny(name)
    return fxplain.explain(model, dict(whole(greedy(name))), target)


def test_which_tokens():
    g = greedy("llama")
    for targets, steps in ((2, [2]), (-1, [3]), (slice(1, 3), [1, 2]), ([3, 0], [3, 0])):
        chosen = written("llama", targets=targets)
        torch.testing.assert_close(chosen.matrix(EARLIER), g.matrix(EARLIER)[:, steps])


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_span_is_the_sum_over_its_tokens(name):
    g = written(name, targets=[Span(1, 3), Span()])

    def total(places):
        def score(output):
            ids = g.ids[0].tolist()
            return sum(output.logits[:, p - TOKENS - 1, ids[p]] for p in places)

        return score

    for e, places in zip(g.explanations, ([1, 2], range(TOKENS)), strict=True):
        expected = by_hand(name, total(places))
        close(e.relevance, expected.relevance)
        assert e.readout == expected.readout
        first = whole(g)[g.text_input].shape[1] - TOKENS - 1
        assert e.readout == (f"mean of {g.text_input}[{first + places[0]}..{first + places[-1]}]",)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_why_this_token_rather_than_another(name):
    g = written(name, targets=Contrast(2, 9))
    token = int(g.ids[0, 2])
    expected = by_hand(name, lambda o: o.logits[:, -3, token] - o.logits[:, -3, 9])
    close(g.explanations[0].relevance, expected.relevance)
    assert g.names == ((f"{token} rather than 9",),)


def test_a_token_rather_than_itself():
    token = int(greedy("llama").ids[0, 2])
    for score in ("logit", "log_probability"):
        with pytest.raises(fxplain.TargetError, match="was generated at index 2"):
            written("llama", targets=Contrast(2, token), score=score)


def test_log_probabilities():
    g = written("llama", targets=[2, Span(0, 2), Contrast(2, 9)], score="log_probability")
    ids = g.ids[0].tolist()

    def term(output, place, token):
        return output.logits.log_softmax(-1)[:, place - TOKENS - 1, token]

    expected = (
        lambda o: term(o, 2, ids[2]),
        lambda o: term(o, 0, ids[0]) + term(o, 1, ids[1]),
        lambda o: term(o, 2, ids[2]) - term(o, 2, 9),
    )
    for e, target in zip(g.explanations, expected, strict=True):
        alone = by_hand("llama", target)
        close(e.relevance, alone.relevance)
        torch.testing.assert_close(e.scores, alone.scores)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (4, "out of range"),
        ([], "names none"),
        ("all", 'give "words"'),
        (["two"], "is no target"),
        (Contrast(1, "word"), "give an id, or a tokenizer"),
        (Span(4, 9), "out of range"),
    ],
)
def test_no_such_target(targets, message):
    with pytest.raises(fxplain.TargetError, match=message):
        written("llama", targets=targets)


# ---- batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_prompts_of_unequal_length(name):
    model, inputs, options = tiny(name)
    ids = inputs["input_ids"]
    short = torch.cat([torch.zeros_like(ids[:, :2]), ids[:, 1:4]], 1)
    batch = {"input_ids": torch.cat([ids, short])}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    batch["attention_mask"][1, :2] = 0
    g = fxplain.explain_generation(model, batch, TOKENS, **options)
    for sample, prompt, pad in ((0, ids, 0), (1, ids[:, 1:4], 2)):
        alone = fxplain.explain_generation(model, {"input_ids": prompt}, TOKENS, **options)
        assert torch.equal(g.ids[sample], alone.ids[0])
        for modality in g.modalities:
            found = g.matrix(modality)[sample]
            if modality == "input_ids":
                assert not found[:, :pad].any()
                found = found[:, pad:]
            torch.testing.assert_close(found, alone.matrix(modality)[0])


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_text_that_ends_before_the_others(name):
    model, inputs, _ = tiny(name)
    end = model.generation_config.eos_token_id
    batch = {"input_ids": inputs["input_ids"].expand(2, -1)}
    texts = [[5, 6, 7, 8], [9, end]]
    g = fxplain.explain_generation(model, batch, generated=texts, targets=[0, 1, 2, -1, Span()])
    assert g.written.tolist() == [[True] * 4, [True, True, False, False]]
    assert g.real.tolist() == [[True] * 5, [True, True, False, True, True]]
    assert [len(tokens) for tokens in g.tokens] == [4, 2]
    assert g.text[1] == f"9 {end}"
    ended = g.explanations[2]
    assert ended.target[1] is None
    assert float(ended.scores[1]) == 0
    assert not any(values[1].any() for values in ended.relevance.values())
    assert not ended.matrix("input_ids", "input_ids")[1].any()
    alone = fxplain.explain_generation(
        model, inputs, generated=texts[1], targets=[0, 1, -1, Span()]
    )
    for step, t in enumerate((0, 1, 3, 4)):
        torch.testing.assert_close(
            g.matrix("input_ids")[1, t], alone.matrix("input_ids")[0, step], rtol=0, atol=1e-9
        )


def test_padding_behind_a_prompt_is_refused():
    model, inputs, options = tiny("llama")
    mask = torch.tensor([[1, 1, 1, 1, 0]])
    with pytest.raises(fxplain.InputError, match="pad prompts on the left"):
        fxplain.explain_generation(model, {**inputs, "attention_mask": mask}, 2, **options)


# ---- wrong use --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_beans": 3}, fxplain.InputError, "num_beans"),
        ({"num_return_sequences": 2}, fxplain.InputError, "one text per sample"),
        ({"method": "magic"}, fxplain.MethodError, "magic"),
        ({"score": "loss"}, fxplain.MethodError, "log_probability"),
        ({"generated": [[1], [2]]}, fxplain.InputError, "2 rows for 1 sample"),
        ({"generated": []}, fxplain.InputError, "0 rows"),
        ({"generated": [[]]}, fxplain.InputError, "no token was generated"),
    ],
)
def test_wrong_use(options, error, message):
    with pytest.raises(error, match=message):
        written("llama", **options)


def test_a_model_that_does_not_write():
    model, _ = small_pretrained.bert("SequenceClassification")
    with pytest.raises(fxplain.InputError, match="has no generate"):
        fxplain.explain_generation(model.eval(), {"input_ids": torch.tensor([[2, 5, 3]])})


# ---- what people see --------------------------------------------------------------------------------


@cache
def read():
    """With a tokenizer."""
    tokenizer = small_pretrained.one_stretch()
    targets = [0, 1, 2, 3, Span(1, 3), Contrast(3, "w")]
    return written("llama", tokenizer=tokenizer, targets=targets), tokenizer


def test_labels_and_text():
    g, tokenizer = read()
    pieces = tokenizer.convert_ids_to_tokens(g.ids[0].tolist())
    assert [token.label for token in g.tokens[0]] == pieces
    assert g.text == (tokenizer.decode(g.ids[0], skip_special_tokens=True).strip(),)
    assert g.names[1] == (pieces[1],)
    assert g.names[5] == (f"{pieces[3]} rather than w",)
    assert g.explanations[5].target_names == g.names[5]


@pytest.mark.parametrize("width", [80, 200])
def test_report(width):
    from fxplain.reports import to_text

    g, _ = read()
    text = to_text(g, width)
    assert f"sample 0: {g.text[0]}" in text
    rows = [line for line in text.splitlines() if line.startswith(("0 ", "1 ", "2 ", "3 "))]
    assert [row.split()[1] for row in rows][:4] == [names[0].split()[0] for names in g.names[:4]]
    assert "earlier outputs" in text
    assert max(map(len, text.splitlines())) <= width
    top = g.matrix("input_ids")[0, 0, :-1].argmax()  # without the token that it is read from
    assert g.labels("input_ids")[0][top] in rows[0]


def test_plain_data():
    g, _ = read()
    plain = json.loads(json.dumps(g.to_dict()))
    (sample,) = plain["samples"]
    assert sample["text"] == g.text[0]
    assert [t["target"] for t in sample["targets"][-2:]] == [
        {"span": [1, 3]},
        {"contrast": [3, "w"]},
    ]
    row = sample["targets"][2]
    assert row["relevance"][EARLIER] == pytest.approx(g.matrix(EARLIER)[0, 2].tolist())
    assert len(sample["inputs"][EARLIER]) == len(row["relevance"][EARLIER])


def test_page(tmp_path):
    pytest.importorskip("jinja2")
    g, _ = read()
    page = g.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    assert all(json.dumps(names[0])[1:-1] in page for names in g.names)


def test_picture():
    pytest.importorskip("matplotlib")
    g, _ = read()
    (axes, *_) = g.plot().axes
    (image,) = axes.images
    drawn = torch.tensor(image.get_array().filled(torch.nan))
    torch.testing.assert_close(drawn, torch.cat([g.matrix(name)[0] for name in g.modalities], -1))
    assert [label.get_text() for label in axes.get_yticklabels()] == [n[0] for n in g.names]
    earlier = g.plot(EARLIER).axes[0].images[0].get_array()
    others = g.matrix(EARLIER)[0, :4].tril(-2)  # without the token that each is read from
    assert image.norm.vmax < 1 <= earlier.max()
    assert others.max() <= image.norm.vmax
    with pytest.raises(fxplain.PlotError, match="no sample 1"):
        g.plot(sample=1)


# ---- sums -------------------------------------------------------------------------------------------


def test_a_sum_is_a_target_of_explain(tmp_path):
    model, *_ = tiny("llama")
    inputs = dict(whole(greedy("llama")))
    target = Contrast(Sum((2, 7), (3, 8)), (2, 9))
    e = fxplain.explain(model, inputs, target)
    expected = by_hand("llama", lambda o: o.logits[:, 2, 7] + o.logits[:, 3, 8] - o.logits[:, 2, 9])
    close(e.relevance, expected.relevance)
    assert e.target == (target,)
    assert e.readout == ("mean of input_ids[2..3]",)
    e.save(tmp_path / "e.safetensors")
    assert fxplain.load(tmp_path / "e.safetensors").target == (target,)


def test_an_empty_sum():
    model, *_ = tiny("llama")
    with pytest.raises(fxplain.TargetError, match="no outputs to add"):
        fxplain.explain(model, dict(whole(greedy("llama"))), Sum())


# ---- files --------------------------------------------------------------------------------------


def test_a_generation_is_read_back_from_a_file(tmp_path):
    torch.manual_seed(0)
    model, *_ = small_pretrained.MAKERS["gpt2"]()
    inputs = {"input_ids": torch.tensor([[5, 6, 7], [8, 9, 10]])}
    targets = [0, 1, Span(0, 2), Contrast(1, 4)]
    written = fxplain.explain_generation(model.eval(), inputs, 3, targets)
    written.save(tmp_path / "written.safetensors")
    read = fxplain.Generation.load(tmp_path / "written.safetensors")
    assert (read.text, read.targets, read.names) == (written.text, written.targets, written.names)
    for name, matrix in written.matrices().items():
        torch.testing.assert_close(read.matrix(name), matrix)
    assert read.to_dict() == written.to_dict()
    assert read.to_html().count("<section") == written.to_html().count("<section")


def test_a_file_of_something_else_is_no_generation(tmp_path):
    torch.manual_seed(0)
    model, *_ = small_pretrained.MAKERS["gpt2"]()
    written = fxplain.explain_generation(model.eval(), {"input_ids": torch.tensor([[5, 6]])}, 1)
    written.save(tmp_path / "written.safetensors")
    with pytest.raises(fxplain.LoadError, match=r"Generation\.load"):
        fxplain.load(tmp_path / "written.safetensors")
    written.explanations[0].save(tmp_path / "one.safetensors")
    with pytest.raises(fxplain.LoadError, match="no saved generation"):
        fxplain.Generation.load(tmp_path / "one.safetensors")


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("smoothgrad", {"of": "generic", "normalize": False, "gradients": "corrected", "draws": 2}),
        ("vargrad", {"gradients": "corrected", "attention": "constant", "draws": 2}),
        ("generic", {"preset": "clip-notebook"}),
        ("auto", {"gradients": "corrected"}),
    ],
)
def test_options_are_the_methods_own(method, options):
    """Those of a method that another one asks too, and not what `generate` takes."""
    model, inputs, for_generate = tiny("llama")
    made = fxplain.explain_generation(
        model, inputs, 2, method=method, num_beams=2, **options, **for_generate
    )
    expected = fxplain.explain_generation(
        model, inputs, generated=made.ids, pad_token_id=0, method=method, **options
    )
    taken = made.explanations[0].options
    asked = {k: v for k, v in options.items() if k != "preset"} or {"start_layer": -1}
    assert asked.items() <= taken.items()
    for one, other in zip(made.explanations, expected.explanations, strict=True):
        torch.testing.assert_close(one.relevance["input_ids"], other.relevance["input_ids"])
