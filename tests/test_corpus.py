"""Corpora: rows equal single explanations, wherever data comes from; runs go on; bad rows are cells."""

import copy
import json
import re
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from tokenizers import normalizers, processors

import fxplain
from fxplain.corpora import summarise, write_report
from fxplain.corpora.batches import planned
from fxplain.corpora.job import Manifest
from fxplain.corpora.layout import Layout
from fxplain.corpora.prepared import prepared
from fxplain.corpora.schema import COLUMNS
from fxplain.corpora.shards import LOCK, shard_path
from fxplain.errors import (
    CaptureError,
    InputError,
    LoadError,
    MethodError,
    MissingExtraError,
    TargetError,
)
from tests import corpus_data, small_pretrained

pytest.importorskip("transformers")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_pretrained.save("classifier", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def explainer(folder):
    return fxplain.from_pretrained(folder)


def made(explainer, tmp_path, data, **options):
    return fxplain.explain_corpus(explainer, data, tmp_path / "out", **options)


# ---- the batch class ----------------------------------------------------------------------------


def test_rows_equal_single_explanations(explainer):
    data = corpus_data.rows(24)
    batch = {name: [row[name] for row in data] for name in data[0]}
    found = fxplain.CorpusExplainer(explainer)(batch)
    assert set(found) == set(COLUMNS)
    assert found["id"] == batch["id"]
    for i, text in enumerate(batch["text"]):
        if i in (corpus_data.TOO_LONG, corpus_data.EMPTY):
            continue
        single = explainer(text)  # by the method that is chosen for it, as in the corpus
        assert found["tokens"][i] == single.tokens("input_ids")[0]
        torch.testing.assert_close(
            torch.tensor(found["relevance"][i]), single.relevance["input_ids"][0], rtol=0, atol=1e-5
        )
        assert (found["method"][i], json.loads(found["options"][i])) == (
            single.method,
            dict(single.options),
        )
        assert found["score"][i] == pytest.approx(float(single.scores[0]), abs=1e-5)
        assert found["target_name"][i] == single.target_names[0]
        assert found["readout"][i] == single.readout[0]
        sure = single.output.logits[0].softmax(-1)[single.target[0]]
        assert found["probability"][i] == pytest.approx(float(sure), abs=1e-6)


def test_pieces_lie_where_the_text_has_them(explainer):
    found = fxplain.CorpusExplainer(explainer)({"text": ["Watching the cat"]})
    text, spans = found["text"][0], zip(found["starts"][0], found["ends"][0], strict=True)
    read = [None if a is None else text[a:b] for a, b in spans]
    assert read == [None, "Watch", "ing", "the", "cat", None]
    assert found["special"][0] == [True, False, False, False, False, True]


def test_a_pairs_pieces_count_on_after_the_text(explainer):
    batch = {"text": ["a cat"], "pair": ["the dog"]}
    found = fxplain.CorpusExplainer(explainer)(batch)
    text, spans = found["text"][0], zip(found["starts"][0], found["ends"][0], strict=True)
    assert text == "a cat\nthe dog"
    assert [text[a:b] for a, b in spans if a is not None] == ["a", "cat", "the", "dog"]


def test_texts_come_as_words_and_as_conversations_too(explainer, monkeypatch):
    tokenizer = explainer.loaded.tokenizer
    template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    monkeypatch.setattr(tokenizer, "chat_template", template, raising=False)
    said = [{"role": "user", "content": "the dog"}]
    drawn = [{"type": "image", "image": "a.png"}]
    texts = [["a", "Watching", "cat"], "a cat", said, ["a", " "], [{"role": "x", "content": drawn}]]
    found = fxplain.CorpusExplainer(explainer)({"messages": texts})
    assert found["text"][:3] == ["a Watching cat", "a cat", "the dog "]
    assert [error and error.partition(":")[0] for error in found["error"]] == [
        *[None] * 3,
        *["InputError"] * 2,
    ]
    spans = zip(found["starts"][0], found["ends"][0], strict=True)
    read = [found["text"][0][a:b] for a, b in spans if a is not None]
    assert read == ["a", "Watch", "ing", "cat"]
    for i, single in enumerate([[texts[0]], texts[1], said]):
        alone = explainer(single).relevance["input_ids"][0]
        torch.testing.assert_close(torch.tensor(found["relevance"][i]), alone, rtol=0, atol=1e-5)


def test_bad_rows_are_cells(explainer):
    texts = ["a cat", "", None, "the " * 40, float("nan"), "a dog", 3]
    found = fxplain.CorpusExplainer(explainer)({"text": texts})
    said = [error and error.partition(":")[2].strip() for error in found["error"]]
    assert said[0] is said[5] is None
    assert said[1] == "the text is empty."
    assert said[2] == said[4] == "the text is missing."
    assert re.match("the text has 42 tokens, and the model takes 32 at most", said[3])
    assert said[6] == "the text is a int, not a string."
    assert found["relevance"][1] is None


def test_a_text_without_a_token_is_no_row_to_explain(explainer):
    tokenizer = copy.deepcopy(explainer.loaded.tokenizer)
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([])  # no CLS, no SEP
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("~", "")
    loaded = replace(explainer.loaded, tokenizer=tokenizer)
    rows = prepared(loaded, Layout(text="text"), {"text": ["cat", "~"]}, 2, None)
    assert rows[0].error is None
    assert rows[1].error == "InputError: the tokenizer makes no token of the text."


def test_a_long_text_is_cut_where_that_is_asked(explainer):
    text = "the cat " * 50_000
    found = fxplain.CorpusExplainer(explainer, truncation=True)({"text": [text, "a"]})
    single = explainer(text, truncation=True).relevance["input_ids"][0]
    assert len(found["tokens"][0]) == 32
    torch.testing.assert_close(torch.tensor(found["relevance"][0]), single, rtol=0, atol=1e-5)


def test_targets_by_column_and_several_a_row(explainer):
    batch = {"text": ["a cat", "the dog"], "wanted": ["good", "bad"]}
    found = fxplain.CorpusExplainer(explainer, target="wanted")(batch)
    assert found["target_name"] == ["good", "bad"]
    found = fxplain.CorpusExplainer(explainer, target=[0, "good"])(batch)
    assert found["target_name"] == ["bad", "good"] * 2
    assert found["id"] == ["0", "0", "1", "1"]
    assert sum(found["probability"][:2]) == pytest.approx(1)


def test_labels_that_are_numbers_are_named_as_the_model_names_them(explainer):
    batch = {"text": ["a cat"] * 4 + [""], "label": [1, "0", "great", "7", 1]}
    found = fxplain.CorpusExplainer(explainer)(batch)
    assert found["label"] == ["good", "bad", "great", "7", "good"]  # with an error, too


def test_a_class_that_the_model_does_not_know_is_refused_and_one_in_a_column_told_by_its_row(
    explainer,
):
    with pytest.raises(TargetError, match="'ugly' is neither a column of the data nor a label"):
        fxplain.CorpusExplainer(explainer, target="ugly")({"text": ["a cat"]})
    batch = {"text": ["a cat"] * 5, "wanted": ["ugly", "1", "", float("nan"), 1.0]}
    found = fxplain.CorpusExplainer(explainer, target="wanted")(batch)
    assert found["error"][0].startswith("TargetError")
    assert found["target_name"][1:] == ["good", *found["predicted"][2:4], "good"]


def test_columns_that_the_model_does_not_take_are_left_out_and_none_that_it_needs_refused(
    explainer,
):
    batch = {"text": ["a cat"], "image": ["x.png"], "label": [float("nan")], "id": [3.0]}
    found = fxplain.CorpusExplainer(explainer)(batch)
    assert (found["error"], found["label"], found["id"]) == ([None], [None], ["3"])
    with pytest.raises(InputError, match=r"called text, which the model needs: .* 'image'"):
        fxplain.CorpusExplainer(explainer)({"image": ["x.png"]})
    with pytest.raises(InputError, match="the model takes text and pair: leave image= out"):
        fxplain.CorpusExplainer(explainer, text="text", image="image")(batch)


def test_images_are_rows(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for i in range(3):
        image.fromarray(small_pretrained.picture(seed=i)).save(tmp_path / f"{i}.png")
    (tmp_path / "torn.png").write_bytes(b"no picture")
    model = fxplain.from_pretrained(small_pretrained.save("vit", tmp_path / "models"))
    found = fxplain.explain_corpus(model, str(tmp_path / "*.png"), tmp_path / "out")
    assert [row.id for row in found] == ["0.png", "1.png", "2.png", "torn.png"]
    single = model(image=str(tmp_path / "1.png")).relevance["pixel_values"][0]
    torch.testing.assert_close(torch.tensor(found[1].relevance), single, rtol=0, atol=1e-5)
    assert found[1].grids == {"pixel_values": [4, 4]}
    assert found[3].error.startswith("LoadError")
    again = found.explain(1, model).relevance["pixel_values"][0]
    torch.testing.assert_close(again, single, rtol=0, atol=1e-5)
    # a table names pictures from where it lies, and one of `datasets` holds them
    (tmp_path / "named.csv").write_text("image\n0.png\n1.png\nmissing.png\n")
    table = fxplain.explain_corpus(model, tmp_path / "named.csv", tmp_path / "named")
    torch.testing.assert_close(torch.tensor(table[1].relevance), single, rtol=0, atol=1e-5)
    assert table[1].text == str(tmp_path / "1.png")
    assert table[2].error.startswith("LoadError: 'missing.png'")
    held = {"bytes": (tmp_path / "1.png").read_bytes(), "path": "1.png"}
    cells = fxplain.CorpusExplainer(model)({"image": [held, {"bytes": b"no picture"}]})
    torch.testing.assert_close(torch.tensor(cells["relevance"][0]), single, rtol=0, atol=1e-5)
    assert cells["text"] == ["1.png", None]
    assert cells["error"][1].startswith("LoadError: 10 bytes cannot be read as an image")


def test_a_model_that_takes_one_picture_at_a_time_is_given_one(tmp_path):
    model = fxplain.from_pretrained(small_pretrained.save("clip", tmp_path / "models"))
    texts, pictures = ["a cat", "the dog"], [small_pretrained.picture(seed=i) for i in range(2)]
    found = fxplain.CorpusExplainer(model)({"text": texts, "image": pictures})
    assert found["error"] == [None, None]
    for i in range(2):
        single = model(image=pictures[i], text=[texts[i]])
        wanted = torch.cat([values[0] for values in single.relevance.values()])
        torch.testing.assert_close(torch.tensor(found["relevance"][i]), wanted, rtol=0, atol=1e-5)


def test_what_is_detected_is_checked_once_for_each_doubling_of_the_length(explainer, monkeypatch):
    levels = []
    call = type(explainer).__call__

    def seen(self, **raw):
        levels.append((raw["pad_to"], raw["verify"]))
        return call(self, **raw)

    monkeypatch.setattr(type(explainer), "__call__", seen)
    texts = ["the " * count for count in (22, 18, 9, 8, 2) for _ in range(2)]
    fxplain.CorpusExplainer(explainer, batch_tokens=24)({"text": texts})
    assert levels == [(24, "light"), (20, "off"), (11, "light"), (10, "off"), (4, "light")]
    levels.clear()
    fxplain.CorpusExplainer(explainer, verify="full")({"text": ["the cat", "the"]})
    assert {level for _, level in levels} == {"full"}


def test_what_explanations_warn_of_is_in_the_files(explainer, tmp_path, monkeypatch):
    call = type(explainer).__call__

    def warned(self, **raw):
        found = call(self, **raw)
        return replace(found, graph=replace(found.graph, warnings=("mixes",)))

    monkeypatch.setattr(type(explainer), "__call__", warned)
    found = made(explainer, tmp_path, ["a cat", "the dog"], shard_rows=1)
    assert found.warnings == ["mixes"]
    assert summarise(found).warnings == ["mixes"]
    assert "mixes" in write_report(found, tmp_path / "r").with_name("data").joinpath(
        "summary.js"
    ).read_text(encoding="ascii")


@pytest.mark.slow
def test_pictures_that_would_be_padded_are_explained_with_their_like(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for i, (height, width) in enumerate([(20, 30), (20, 20), (40, 60), (20, 31)]):
        image.fromarray(small_pretrained.picture(height, width, seed=i)).save(tmp_path / f"{i}.png")
    model = fxplain.from_pretrained(small_pretrained.save("detr", tmp_path / "models"))
    found = fxplain.CorpusExplainer(model)(
        {"image": [str(tmp_path / f"{i}.png") for i in range(4)]}
    )
    assert found["error"] == [None] * 4
    for i in range(4):
        single = model(image=str(tmp_path / f"{i}.png")).relevance
        expected = torch.cat([values[0] for values in single.values()])
        torch.testing.assert_close(torch.tensor(found["relevance"][i]), expected, rtol=0, atol=1e-5)


class Short:
    """An explainer whose memory holds two samples, and the sizes that it was asked for."""

    def __init__(self, explainer, most):
        self.most, self.sizes, self.inner = most, [], explainer

    def __call__(self, **raw):
        self.sizes.append(len(raw["text"]))
        if len(raw["text"]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(**raw)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_out_of_memory_halves_the_batch(explainer):
    explain = fxplain.CorpusExplainer(explainer)
    explain.explainer = Short(explainer, 2)
    found = explain({"text": ["a cat"] * 8})
    assert found["error"] == [None] * 8
    assert explain.explainer.sizes == [8, 4, 2, 2, 2, 2]  # what was too large is not tried again
    assert explain.batch_tokens == 2 * 4  # as much as fitted, however many batches did not


def test_a_capture_error_ends_the_run(explainer, monkeypatch):
    def broken(*_, **__):
        raise CaptureError("no route")

    monkeypatch.setattr(type(explainer), "__call__", broken)
    with pytest.raises(CaptureError):
        fxplain.CorpusExplainer(explainer)({"text": ["a cat"]})


def test_batches_are_powers_of_two_in_few_lengths():
    batches = list(planned([i % 250 + 1 for i in range(2000)], tokens=1024, limit=256))
    sizes = {len(batch.rows) for batch in batches}
    assert all(size >= 2 and size & (size - 1) == 0 for size in sizes)
    assert all(batch.size <= 1024 for batch in batches)
    assert len({batch.length for batch in batches if 128 < batch.length <= 256}) <= 16
    longest = [max(row % 250 + 1 for row in batch.rows) for batch in batches]
    assert all(
        n <= b.length <= max(n + 1, 1.0625 * n) for n, b in zip(longest, batches, strict=True)
    )
    assert sorted({row for batch in batches for row in batch.rows}) == list(range(2000))


def test_few_rows_of_many_lengths_are_padded_little():
    lengths = [300, 290, 40, 39, 38, 37, 9, 8]
    found = [(batch.rows, batch.length) for batch in planned(lengths, tokens=4096)]
    assert found == [((0, 1), 304), ((2, 3, 4, 5), 40), ((6, 7), 9)]


def test_options_are_checked_at_once(explainer):
    with pytest.raises(MethodError):
        fxplain.CorpusExplainer(explainer, method="nonsense")
    with pytest.raises(InputError, match="on_error"):
        fxplain.CorpusExplainer(explainer, on_error="pass")
    with pytest.raises(InputError, match="'body' names no column"):
        fxplain.CorpusExplainer(explainer, text="body")({"text": ["a"]})
    with pytest.raises(InputError, match="text=NAME"):
        fxplain.CorpusExplainer(explainer)({"words": ["a"]})


# ---- data ---------------------------------------------------------------------------------------


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def parquet_file(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "glob", "list", "iterator", "columns"])
def test_data_of_every_kind(explainer, tmp_path, kind):
    rows = corpus_data.rows(6)
    given = {
        "csv": lambda: corpus_data.write_csv(tmp_path / "a.csv", 6),
        "jsonl": lambda: lines(tmp_path / "a.jsonl", rows),
        "parquet": lambda: parquet_file(tmp_path / "a.parquet", rows),
        "glob": lambda: (
            lines(tmp_path / "1.jsonl", rows[:3]),
            lines(tmp_path / "2.jsonl", rows[3:]),
            str(tmp_path / "?.jsonl"),
        )[-1],
        "list": lambda: rows,
        "iterator": lambda: iter(rows),
        "columns": lambda: {name: [row[name] for row in rows] for name in rows[0]},
    }
    found = made(explainer, tmp_path, given[kind]())
    assert [(row.id, row.text, row.label) for row in found] == [
        (row["id"], row["text"], row["label"]) for row in rows
    ]


def test_datasets(explainer, tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(corpus_data.rows(6))
    found = made(explainer, tmp_path, data)
    assert len(found) == 6
    explain = fxplain.CorpusExplainer(explainer)
    mapped = data.map(explain, batched=True, remove_columns=data.column_names)
    assert mapped["tokens"][0] == list(found[0].tokens)


def test_sounds_are_rows(tmp_path):
    wavfile = pytest.importorskip("scipy.io.wavfile")
    model = fxplain.from_pretrained(small_pretrained.save("wav2vec2", tmp_path / "models"))
    (tmp_path / "sounds" / "a").mkdir(parents=True)
    for i, name in enumerate(("a/1.wav", "2.wav")):
        sound = small_pretrained.recording(0.5 + 0.1 * i)
        wavfile.write(tmp_path / "sounds" / name, 16_000, sound)
    (tmp_path / "sounds" / "torn.wav").write_bytes(b"RIFF")
    found = fxplain.explain_corpus(model, tmp_path / "sounds", tmp_path / "out")
    assert [row.id for row in found] == ["2.wav", "a/1.wav", "torn.wav"]
    single = model(audio=str(tmp_path / "sounds" / "a" / "1.wav")).relevance
    (name,) = single
    torch.testing.assert_close(torch.tensor(found[1].relevance), single[name][0], rtol=0, atol=1e-5)
    assert found[2].error.startswith("LoadError")


def test_strings_are_numbered_rows(explainer, tmp_path):
    found = made(explainer, tmp_path, (text for text in ["a cat", "the dog"]))
    assert [row.id for row in found] == ["0", "1"]


def test_lines_that_cannot_be_read_are_rows(explainer, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a cat"}\n{"text": \n\xff\xfe\n{"text": "a"}\n')
    found = made(explainer, tmp_path, tmp_path / "a.jsonl")
    assert [row.error and row.error[:30] for row in found] == [
        None,
        "LoadError: line 2 is no JSON: ",
        "LoadError: line 3 is no JSON: ",
        None,
    ]
    (tmp_path / "b.csv").write_bytes(b"text\na cat\n\xff\xfe\none,two\n")
    found = fxplain.explain_corpus(explainer, tmp_path / "b.csv", tmp_path / "b")
    assert [row.error for row in found] == [
        None,
        "LoadError: line 3 is not UTF-8.",
        "LoadError: line 4 has more columns than the first.",
    ]


def test_data_that_is_not_there(explainer, tmp_path):
    for given in ("nowhere.csv", str(tmp_path / "*.csv"), str(tmp_path)):
        with pytest.raises(LoadError):
            made(explainer, tmp_path, given)
    with pytest.raises(InputError, match="the data has no rows"):
        made(explainer, tmp_path, [])
    with pytest.raises(InputError, match="data is a path"):
        made(explainer, tmp_path, 3)


# ---- the folder ---------------------------------------------------------------------------------


def test_a_second_run_explains_nothing_again(explainer, tmp_path, monkeypatch):
    data = corpus_data.write_csv(tmp_path / "a.csv", 20)
    first = made(explainer, tmp_path, data, shard_rows=6)
    assert [row.id for row in first] == [f"r{i}" for i in range(20)]
    kept = {file: file.stat().st_mtime_ns for file in first.files}
    first.files[1].unlink()
    told = []
    second = made(explainer, tmp_path, data, shard_rows=50, progress=told.append)
    again = {file for file in second.files if file.stat().st_mtime_ns != kept[file]}
    assert again == {first.files[1]}
    assert second.to_table().equals(made(explainer, tmp_path, data).to_table())
    assert [row.id for row in second] == [f"r{i}" for i in range(20)]
    assert told[-1].rows == 20
    assert told[-1].errors == 2
    assert told[-1].before == 14


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "raw_attention"}, "method"),
        ({"method": "generic"}, "method"),  # though "auto" may stand for it
        ({"target": 1}, "target"),
        ({"truncation": True}, "truncation"),
        ({"normalize": False}, "options"),
        ({"label": "id"}, "columns"),
    ],
)
def test_another_job_is_refused(explainer, tmp_path, change, said):
    data = corpus_data.write_csv(tmp_path / "a.csv", 4)
    made(explainer, tmp_path, data)
    with pytest.raises(InputError, match=rf"another job's rows. Different: {said} \(there"):
        made(explainer, tmp_path, data, **change)


def test_a_changed_model_tokenizer_or_file_is_refused(tmp_path):
    explainer = fxplain.from_pretrained(small_pretrained.save("classifier", tmp_path / "models"))
    data = corpus_data.write_csv(tmp_path / "a.csv", 4)
    made(explainer, tmp_path, data)
    explainer.loaded.tokenizer.add_tokens(["fxplain"])
    with pytest.raises(InputError, match="Different: tokenizer"):
        made(explainer, tmp_path, data)
    explainer = fxplain.from_pretrained(tmp_path / "models" / "classifier")
    corpus_data.write_csv(tmp_path / "a.csv", 5)
    with pytest.raises(InputError, match="Different: data"):
        made(explainer, tmp_path, data)
    corpus_data.write_csv(tmp_path / "a.csv", 4)
    with torch.no_grad():
        explainer.model.classifier.bias.add_(1)
    with pytest.raises(InputError, match="Different: weights"):
        made(explainer, tmp_path, data)


def test_a_changed_processor_is_refused_and_a_copied_model_is_the_same(tmp_path):
    folder = small_pretrained.save("vit", tmp_path / "models")
    data = {"image": [small_pretrained.picture(seed=i) for i in range(2)]}
    made(fxplain.from_pretrained(folder), tmp_path, data)
    copied = fxplain.from_pretrained(shutil.copytree(folder, tmp_path / "copied"))
    assert len(made(copied, tmp_path, data)) == 2
    copied.loaded.image_processor.image_mean = [0.1, 0.2, 0.3]
    with pytest.raises(InputError, match="Different: processors"):
        made(copied, tmp_path, data)


def test_two_runs_at_once_are_refused(explainer, tmp_path):
    refused = []

    def meanwhile(_):
        with pytest.raises(InputError, match="another run is writing to"):
            made(explainer, tmp_path, ["a cat", "the dog"])
        refused.append(1)

    data = ["a cat", "the dog"]
    assert len(made(explainer, tmp_path, data, shard_rows=1, progress=meanwhile)) == 2
    assert len(refused) == 2
    assert len(made(explainer, tmp_path, data)) == 2


def test_the_folder_is_not_taken_from_others(explainer, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds other files"):
        made(explainer, tmp_path, ["a cat"])
    with pytest.raises(LoadError, match="no explained corpus"):
        fxplain.load_corpus(tmp_path / "out")
    (tmp_path / "out" / "thesis.txt").unlink()
    made(explainer, tmp_path, ["a cat"])
    with pytest.raises(InputError, match="holds rows already"):
        made(explainer, tmp_path, ["a cat"], resume=False)


def test_a_damaged_shard_is_named(explainer, tmp_path):
    found = made(explainer, tmp_path, ["a cat"])
    found.files[0].write_bytes(b"PAR1")
    with pytest.raises(LoadError, match=r"damaged .*delete it"):
        made(explainer, tmp_path, ["a cat"])


def test_rows_with_errors_are_tried_again_when_asked(explainer, tmp_path, monkeypatch):
    data = corpus_data.write_csv(tmp_path / "a.csv", 12)
    call = type(explainer).__call__

    def failing(self, **raw):
        if any("cat" in text for text in raw["text"]):
            raise RuntimeError("not today")
        return call(self, **raw)

    with monkeypatch.context() as patched:
        patched.setattr(type(explainer), "__call__", failing)
        first = made(explainer, tmp_path, data, shard_rows=5)
    failed = [row.id for row in first if row.error == "RuntimeError: not today"]
    assert failed
    assert all("cat" in row.text for row in first if row.id in failed)
    made(explainer, tmp_path, data)
    assert [row.id for row in first if row.error == "RuntimeError: not today"] == failed
    second = made(explainer, tmp_path, data, retry_errors=True)
    assert sum(row.error is not None for row in second) == 2
    whole = fxplain.explain_corpus(explainer, data, tmp_path / "whole", shard_rows=5)
    numbers = (second.to_table().drop(["relevance", "score", "probability"]), whole.to_table())
    assert numbers[0].equals(numbers[1].drop(["relevance", "score", "probability"]))


def test_a_full_disk_leaves_whole_shards(explainer, tmp_path, monkeypatch):
    data = corpus_data.write_csv(tmp_path / "a.csv", 12)
    write, writes = pq.write_table, []

    def full(table, where, **options):
        writes.append(where)
        if len(writes) == 2:
            where.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(table, where, **options)

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        made(explainer, tmp_path, data, shard_rows=5)
    left = sorted(path.name for path in (tmp_path / "out").iterdir() if path.name != LOCK)
    assert left == ["manifest.json", "part-000000.parquet"]
    assert not fxplain.load_corpus(tmp_path / "out").manifest.complete
    found = made(explainer, tmp_path, data)
    assert [row.id for row in found] == [f"r{i}" for i in range(12)]
    assert found.manifest.complete


def test_data_that_grew_is_taken_up(explainer, tmp_path):
    texts = ["a cat", "the dog", "a movie"]
    made(explainer, tmp_path, iter(texts[:2]), shard_rows=2)
    found = made(explainer, tmp_path, iter(texts), shard_rows=2)
    assert [row.text for row in found] == texts


def test_rows_of_other_data_are_refused(explainer, tmp_path):
    texts = ["a cat", "the dog", "a movie"]
    made(explainer, tmp_path, texts, shard_rows=2)
    for other in (
        ["a cat", "the dog", "bad"],
        ["a cat", "bad", "a movie"],
        texts[::-1],
        ["bad"] * 4,
    ):
        for data in (other, iter(other), {"text": other}):
            with pytest.raises(
                InputError, match=r"rows of other data, .*has others in their place"
            ):
                made(explainer, tmp_path, data)
    for shorter in (texts[:1], iter(texts[:2])):
        with pytest.raises(InputError, match=r"rows of other data, .*the data ends before them"):
            made(explainer, tmp_path, shorter)
    assert [row.text for row in made(explainer, tmp_path, iter(texts))] == texts


def test_rows_are_read_as_they_are_needed(explainer, tmp_path):
    read, ahead = [], []

    def texts():
        for i in range(400):
            read.append(i)
            yield "a cat"

    made(
        explainer, tmp_path, texts(), shard_rows=20,
        progress=lambda now: ahead.append(len(read) - now.rows),
    )  # fmt: skip
    assert len(ahead) == 20
    assert ahead[0] == 100 - 20  # those that were looked at for the names of columns
    assert max(ahead[5:]) == 0


# ---- reading back -------------------------------------------------------------------------------


def test_a_corpus_is_read_back(explainer, tmp_path):
    data = corpus_data.write_csv(tmp_path / "a.csv", 13)
    found = made(explainer, tmp_path, data, shard_rows=5)
    assert len(found) == 13
    assert found[-1].id == found[12].id == "r12"
    assert str(found[0]).startswith(f"r0: {found[0].target_name} (")
    assert found[corpus_data.EMPTY].error == "InputError: the text is empty."
    again = found.explain(0, explainer)
    torch.testing.assert_close(
        torch.tensor(found[0].relevance), again.relevance["input_ids"][0], rtol=0, atol=1e-5
    )
    assert (again.method, again.options) == (found[0].method, found[0].options)
    with pytest.raises(InputError, match="was not explained"):
        found.explain(corpus_data.EMPTY, explainer)
    with pytest.raises(IndexError):
        found[13]
    with pytest.raises(InputError, match="no column 'nonsense'"):
        found.to_table(["nonsense"])
    assert found.dataset().count_rows() == 13
    pytest.importorskip("pandas")
    assert list(found.to_pandas(["id", "error"]).columns) == ["id", "error"]


def test_duckdb_and_polars_read_the_files_as_they_are(explainer, tmp_path):
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    found = made(explainer, tmp_path, corpus_data.write_csv(tmp_path / "a.csv", 13), shard_rows=5)
    files = str(found.folder / "*.parquet")
    asked = f"SELECT id, unnest(tokens) AS t, unnest(relevance) AS r FROM '{files}' ORDER BY id"
    assert len(duckdb.sql(asked).fetchall()) == sum(len(row.tokens) for row in found)
    read = polars.scan_parquet(files).filter(polars.col("error").is_null()).collect()
    assert read["id"].to_list() == [row.id for row in found if row.error is None]
    assert read["relevance"][0].to_list() == list(found[0].relevance)


def test_constants_are_in_the_files(explainer, tmp_path):
    found = made(explainer, tmp_path, ["a cat"])
    said = {k.decode(): v.decode() for k, v in pq.read_schema(found.files[0]).metadata.items()}
    assert said["fxplain.format"] == "fxplain-corpus-1"
    assert torch.__version__.startswith(said["fxplain.torch"].partition("+")[0])
    assert said["fxplain.weights"] == found.manifest.facts["weights"]
    assert shard_path(found.folder, 0) == found.files[0]
    assert Manifest.read(found.folder).fingerprint == found.manifest.fingerprint


def test_ray_is_an_extra(explainer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"fxplain\[ray\]"):
        made(explainer, tmp_path, ["a cat"], engine="ray")
    with pytest.raises(InputError, match="one of 'local', 'ray'"):
        made(explainer, tmp_path, ["a cat"], engine="dask")


def test_pyarrow_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"fxplain\[corpus\]"):
        fxplain.load_corpus("anywhere")
