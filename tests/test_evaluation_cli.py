"""``fxplain evaluate`` and ``fxplain metrics``, as a user meets them."""

import csv
import io
import json
from pathlib import Path

import pytest

import fxplain
from fxplain.cli.data import read_rows
from fxplain.errors import LoadError
from tests import small_pretrained
from tests.test_cli import factories, fails, folders, picture, run, succeeds  # noqa: F401 - fixtures

ROWS = [("a great movie", "positive"), ("the movie was bad", "negative"), ("not great", 1)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "texts.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("Text", "label"), *ROWS])
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    pil = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("pictures")
    lines = []
    for name, colour in (("a.png", (200, 10, 10)), ("b.png", (10, 10, 200))):
        pil.new("RGB", (20, 20), colour).save(folder / name)
        lines.append(json.dumps({"image": name}))
    (folder / "images.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "images.jsonl"


def test_texts_as_a_table(folders, texts):  # noqa: F811
    out = succeeds("evaluate", folders / "bert", "--data", texts, "-m", "generic", "-m", "auto")
    words = " ".join(out.split())
    assert "Evaluation of BertForSequenceClassification samples 3 explained the predicted" in words
    assert "input_ids by attention_mask" in words
    for row in ("generic", "auto", "random"):
        assert f"\n{row} " in out


def test_images_as_json(folders, images):  # noqa: F811
    told = json.loads(
        succeeds(
            "evaluate", folders / "vit", "--data", images, "--method", "raw_attention", "--json",
            "--metric", "deletion", "--removal", "pixel_values=blur",
        )
    )  # fmt: skip
    assert told["settings"]["removal"]["pixel_values"].startswith("blur")
    assert [row["metric"] for row in told["rows"]] == ["deletion", "deletion"]
    assert told["settings"]["samples"] == 2


def test_a_row_that_cannot_be_read_is_left_out_and_said(folders, images):  # noqa: F811
    broken = images.parent / "broken.jsonl"
    (images.parent / "broken.png").write_bytes(b"no picture")
    broken.write_text(images.read_text() + '{"image": "broken.png"}\n{"image": "none.png"}\n')
    result = run(
        "evaluate", folders / "vit", "--data", broken, "--method", "raw_attention", "--json",
        "--metric", "deletion",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["settings"]["samples"] == 2
    said = " ".join(result.stderr.split())
    assert "row 3 is left out" in said
    assert "row 4 is left out" in said
    broken.write_text('{"image": "broken.png"}\n')
    assert "broken.png" in fails("evaluate", folders / "vit", "--data", broken, "-m", "generic")


def test_true_classes_as_csv_and_a_picture(folders, texts, tmp_path):  # noqa: F811
    plot = tmp_path / "curves.png"
    out = succeeds(
        "evaluate", folders / "bert", "--data", texts, "-m", "raw_attention", "--target", "true",
        "--score", "accuracy", "--steps", "lxmert", "--csv", "--plot", plot, "--limit", "2",
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(out)))
    checks = {"randomisation", "random_target"}
    assert {row["metric"] for row in rows} == {"positive", "negative", "abpc", *checks}
    assert {row["samples"] for row in rows} == {"2"}
    assert plot.stat().st_size > 0


def test_a_factory(factories):  # noqa: F811
    out = succeeds(
        "evaluate", f"{factories}:evaluated", "-m", "generic", "--csv", "--metric", "abpc"
    )
    assert out.startswith("method,metric,modality,value")
    assert "ids,abpc" not in out
    assert "generic,abpc,ids" in out


def test_metrics_are_listed():
    out = succeeds("metrics")
    assert all(name in out for name in fxplain.metrics())
    assert "draws" in succeeds("metrics", "stability")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["bert"], 2, "a CSV, TSV, JSON Lines or Parquet file"),
        (["bert", "--data", "/no/such/file.csv"], 2, "does not exist"),
        (["bert", "--metric", "magic"], 2, "unknown metric 'magic'"),
        (["bert", "--method", "magic"], 2, "unknown method 'magic'"),
        (["bert", "--json", "--csv"], 2, "not both"),
        (["bert", "--plot", "/no/folder/a.png"], 2, "no file in an existing folder"),
        (["bert", "--removal", "drop", "--removal", "zero"], 2, "MODALITY=NAME"),
        (["bert", "--score", "magic"], 1, "score='magic' must be one of"),
        (["bert", "--removal", "blur"], 1, "Possible: attention_mask"),
        (["bert", "--removal", "input_ids=magic"], 2, "unknown removal 'magic'"),
        (["bert", "--removal", "filled"], 2, "needs --filler"),
        (["bert", "--filler", "bert"], 2, "it serves --removal filled"),
        (["bert", "--metric", "mean_iou"], 1, "had nothing to measure"),
        (["vit"], 1, "has no tokenizer"),
    ],
)
def test_wrong_usage(folders, texts, arguments, code, message):  # noqa: F811
    data = [] if code == 2 and len(arguments) == 1 and arguments != ["vit"] else ["--data", texts]
    data = [] if "--data" in arguments else data
    said = fails(
        "evaluate", folders / arguments[0], *data, "-m", "generic", *arguments[1:], code=code
    )
    assert message in said


def test_a_factory_brings_its_data(factories, texts):  # noqa: F811
    said = fails("evaluate", f"{factories}:evaluated", "--data", texts, code=2)
    assert "brings its own data set" in said


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "words,label\na,1\n",
            "has no column 'text', 'image', 'video' or 'audio'; its columns: words",
        ),
        ("a.csv", "text\n", "no lines of data"),
        ("a.jsonl", '{"text": "a"}\n{"text"', "line 2 is no JSON"),
        ("a.jsonl", "[1]", "a row is a mapping or a string"),
        ("a.csv", "text\na,b,c\n", "line 2 has more columns than the first"),
        ("a.csv", 'text,label\n"great,1\nbad,0\n', "nothing closes"),
        ("a.csv", "text,text\na,b\n", "two columns called 'text'"),
        ("a.jsonl", '{"text": ["a"]}', "has a list for 'text'"),
        (
            "a.jsonl",
            '{"text": "a", "label": 1}\n{"text": "a"}',
            "line 2 of the data has other columns",
        ),
    ],
)
def test_wrong_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(LoadError, match=message):
        read_rows(tmp_path / name)


def test_numbers_of_each_slice(folders, tmp_path):  # noqa: F811
    path = tmp_path / "slices.csv"
    path.write_text("text,group\na great movie,films\nthe book was bad,books\nnot great,films\n")
    call = ("evaluate", folders / "bert", "--data", path, "-m", "raw_attention", "--by", "group")
    call += ("--metric", "sparseness")
    told = json.loads(succeeds(*call, "--json"))
    assert {name: part["settings"]["samples"] for name, part in told.items()} == {
        "films": 2,
        "books": 1,
    }
    out = succeeds(*call)
    assert out.index("group films") < out.index("group books")
    assert "no label 'colour'" in fails(*call[:-4], "--by", "colour", "--metric", "sparseness")


@pytest.mark.parametrize(
    ("headings", "text", "pair"),
    [
        ("premise,hypothesis", "a", "b"),
        ("hypothesis,premise", "b", "a"),
        ("Sentence1,sentence2", "a", "b"),
        ("question,context", "a", "b"),
        ("text,text_pair", "a", "b"),
        ("text,context", "a", None),
    ],
)
def test_two_texts_by_their_own_headings(tmp_path, headings, text, pair):
    (tmp_path / "a.csv").write_text(f"{headings},label\na,b,1\n")
    wanted = {"text": text, "pair": pair, "label": "1"}
    assert read_rows(tmp_path / "a.csv") == [{k: v for k, v in wanted.items() if v is not None}]


def test_words_that_a_language_model_draws(tmp_path, folders):  # noqa: F811
    path = tmp_path / "two.csv"
    path.write_text("premise,hypothesis\nthe movie was great,the movie\n")
    model, filler = (small_pretrained.save(name, tmp_path) for name in ("classifier", "filler"))
    call = ("--data", path, "-m", "raw_attention", "--metric", "abpc", "--removal", "filled")
    told = json.loads(succeeds("evaluate", model, *call, "--filler", filler, "--json"))
    assert told["settings"]["removal"]["input_ids"].startswith("filled")
    said = fails("evaluate", folders / "bert", *call, "--filler", filler)
    assert "has another vocabulary than the model" in said


def evaluated(folder: Path, rows: str, *options: str) -> dict:
    """The settings and samples of an evaluation of these lines of a file."""
    data = folder.parent / "rows.csv"
    data.write_text(rows, encoding="utf-8")
    call = ("evaluate", folder, "--data", data, "-m", "raw_attention", "--metric", "abpc", "--json")
    return json.loads(succeeds(*call, *options))


@pytest.mark.parametrize(
    ("name", "rows", "options", "score", "explained"),
    [
        ("filler", "text\nthe [MASK] was great\n", (), "probability", "of each example"),
        ("filler", "text\nthe [MASK] was great\n", ("--target", "predicted"), None, "predicted"),
        ("reader", "question,context\nwho?,the old dog\n", (), "logit", "of each example"),
        ("classifier", "text,label\nthe old dog,good\n", (), "probability", "predicted"),
    ],
)
def test_what_explain_explains_is_evaluated(tmp_path, name, rows, options, score, explained):
    """A masked word, an answer: not the surest number of the output, whatever that stands for."""
    told = evaluated(small_pretrained.save(name, tmp_path), rows, *options)
    assert told["settings"]["target"] == explained
    assert score in (None, told["settings"]["score"])
    assert told["settings"]["samples"] == 1


def test_what_is_explained_of_two_texts_is_how_alike_they_are(tmp_path):
    folder = small_pretrained.save("embedder", tmp_path)
    rows = "text,pair\nthe old dog,a cat\nold dog,the cat was new\n"
    told = evaluated(folder, rows, "--task", "sentence-similarity")
    assert told["settings"]["model"] == "TextSimilarity"
    assert {row["modality"] for row in told["rows"]} == {"text_input_ids", "pair_input_ids"}
    data = folder.parent / "rows.csv"
    assert "predicts nothing" in fails(
        "evaluate", folder, "--data", data, "--limit", 1, "-m", "auto"
    )


def test_rows_that_are_not_read_together_say_so(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    folder = small_pretrained.save("clip", tmp_path)
    pil.new("RGB", (20, 20), (200, 10, 10)).save(tmp_path / "a.png")
    data = tmp_path / "rows.csv"
    data.write_text("image,text\na.png,a cat\na.png,old dog\n", encoding="utf-8")
    assert "--batch-size 1" in fails("evaluate", folder, "--data", data, "-m", "raw_attention")
