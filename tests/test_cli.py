"""The command line, as a user meets it: results, wrong input, exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import fxplain
from fxplain.cli import app
from fxplain.cli.inputs import parse_targets
from tests import small_pretrained

transformers = pytest.importorskip("transformers")

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "the",
    "movie",
    "was",
    "great",
    "bad",
    "not",
    "[red]",
    "a",
]
LABELS = {"negative": 0, "positive": 1, "neither, nor": 2}

FACTORIES = """
import torch

class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(10, 8)
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, ids):
        x = self.words(ids)
        return self.head((x + self.attention(x, x, x)[0])[:, 0])

class Normed(Attention):
    def forward(self, ids):
        x = torch.nn.functional.group_norm(self.words(ids).mT, 2).mT
        return self.head((x + self.attention(x, x, x)[0])[:, 0])

def normed():
    return Normed().eval(), {"ids": torch.arange(10).reshape(2, 5)}

def model():
    return Attention().eval(), {"ids": torch.arange(10).reshape(2, 5)}

def evaluated():
    return Attention().eval(), [({"ids": torch.arange(10).reshape(2, 5)}, [0, 1])]

def training():
    return Attention().train(), {"ids": torch.arange(10).reshape(2, 5)}

def plain():
    return torch.nn.Linear(3, 2).eval(), (torch.ones(1, 3),)

def no_inputs():
    return Attention()

def failing():
    raise RuntimeError("no weights here")
"""


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders with a text classifier, an image classifier, a T5, and things that are none."""
    root = tmp_path_factory.mktemp("models")
    labels = {"label2id": LABELS, "id2label": {i: label for label, i in LABELS.items()}}
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    size |= {"intermediate_size": 16}
    torch.manual_seed(0)
    bert = transformers.BertConfig(vocab_size=len(WORDS), **size, **labels)
    transformers.BertForSequenceClassification(bert).save_pretrained(root / "bert")
    tokenizer().save_pretrained(root / "bert")

    vit = transformers.ViTConfig(image_size=16, patch_size=4, **size, **labels)
    transformers.ViTForImageClassification(vit).save_pretrained(root / "vit")
    (root / "vit" / "preprocessor_config.json").write_text(
        json.dumps(
            {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}
        )
    )

    t5 = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    transformers.T5ForConditionalGeneration(t5).save_pretrained(root / "t5")
    tokenizer().save_pretrained(root / "t5")

    transformers.BertModel(bert).save_pretrained(root / "no_tokenizer")
    (root / "empty").mkdir()
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text('{"model_type": "no_such_model"}')
    return root


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    image.linear_gradient("L").save(path)
    return path


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "fxplain_test_factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "fxplain_test_factories"
    sys.modules.pop("fxplain_test_factories", None)


@pytest.fixture(autouse=True)
def no_connection(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("COLUMNS", "100")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeeds(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(*arguments, code=1):
    """What is said on standard error, on one line; nothing is printed on standard output."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.replace("│", " ").split())


# ---- what works -----------------------------------------------------------------------------------


def test_explain_a_text(folders):
    out = succeeds("explain", folders / "bert", "--text", "the movie was [red] great")
    assert "Explanation of BertForSequenceClassification" in out
    assert "[red]" in out
    assert "read from input_ids[0]" in out


def test_explain_agrees_with_the_library(folders):
    out = succeeds(
        "explain", folders / "bert", "--text", "the movie was great", "--text", "bad",
        "--target", "positive", "--target", "2", "--json",
    )  # fmt: skip
    told = json.loads(out)
    assert told["target"] == [1, 2]
    model = transformers.BertForSequenceClassification.from_pretrained(folders / "bert").eval()
    inputs = tokenizer()(["the movie was great", "bad"], padding=True, return_tensors="pt")
    explanation = fxplain.explain(model, inputs, [1, 2], "auto")
    assert (told["method"], told["options"]["gradients"]) == ("input_x_gradient", "corrected")
    values = [[t["relevance"] for t in sample] for sample in told["relevance"]["input_ids"]]
    torch.testing.assert_close(torch.tensor(values), explanation.relevance["input_ids"])
    assert [t["token"] for t in told["relevance"]["input_ids"][1]][:3] == ["[CLS]", "bad", "[SEP]"]


def test_explain_with_noise_and_how_it_moves(folders, tmp_path):
    given = ("explain", folders / "bert", "--text", "the movie was great", "--stability", 2)
    smooth = (
        "--method",
        "smoothgrad",
        *("-o", "of=generic", "-o", "draws=2", "-o", "normalize=false"),
    )
    told = json.loads(succeeds(*given, *smooth, "--json"))
    assert (told["method"], told["options"]["of"]) == ("smoothgrad", "generic")
    assert told["options"]["normalize"] is False
    assert told["stability"]["settings"]["draws"] == 2
    out = succeeds(*given, "--html", tmp_path / "moved.html")
    assert "2 times with noise of 5% in the tokens" in out
    assert '"errors":["' in (tmp_path / "moved.html").read_text(encoding="utf-8")
    assert "smoothgrad" in succeeds("methods")
    assert "the name of a method" in " ".join(succeeds("methods", "vargrad").split())


def test_explain_names_the_target(folders):
    out = succeeds("explain", folders / "bert", "--text", "bad", "--target", "neither, nor")
    assert "target 2 (neither, nor)" in out


def test_explain_a_pair_of_texts(folders):
    out = succeeds("explain", folders / "bert", "--text", "the movie", "--pair", "bad", "--json")
    tokens = [t["token"] for t in json.loads(out)["relevance"]["input_ids"][0]]
    assert tokens == ["[CLS]", "the", "movie", "[SEP]", "bad", "[SEP]"]


def test_explain_an_image(folders, picture):
    out = succeeds("explain", folders / "vit", "--image", picture)
    assert "special tokens: 0 is vit.embeddings.cls_token" in out


def test_a_decoder_is_started(folders):
    result = run("explain", folders / "t5", "--text", "the movie", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["target"][0][0] == 0
    assert "start token (0)" in result.stderr


def test_a_task_is_chosen(folders):
    out = succeeds(
        "explain", folders / "bert", "--task", "text-classification", "--text", "a", "--json"
    )
    assert json.loads(out)["target_names"] == [list(LABELS)[json.loads(out)["target"][0]]]
    said = fails("explain", folders / "bert", "--task", "magic", "--text", "a", code=2)
    assert "unknown task 'magic'; there are: text-classification" in said
    assert "is not for 'image-classification'" in fails(
        "explain", folders / "bert", "--task", "image-classification", "--text", "a"
    )


def test_explain_each_entity(folders, tmp_path):
    folder = small_pretrained.save("tagger", tmp_path)
    text = ("--text", "Ada Lovelace lived in London")
    told = json.loads(succeeds("explain", folder, *text, "--each", "--json"))
    each = fxplain.from_pretrained(folder).each(text[1])
    assert [e["target_names"] for e in told] == [list(e.target_names) for e in each] != []
    assert "(London: " in succeeds("explain", folder, *text, "--word", "London")
    assert "leave --each out" in fails(
        "explain", folder, *text, "--each", "--save", tmp_path / "e", code=2
    )


def test_explain_nothing(tmp_path, picture):
    folder = small_pretrained.save("detr", tmp_path)
    out = succeeds("explain", folder, "--image", picture, "--each", "--threshold", "1")
    assert "says nothing" in out


def test_explain_a_recording(tmp_path):
    wavfile = pytest.importorskip("scipy.io.wavfile")
    folder = small_pretrained.save("wav2vec2", tmp_path)
    wavfile.write(tmp_path / "said.wav", 16_000, small_pretrained.recording())
    out = succeeds("explain", folder, "--audio", tmp_path / "said.wav", "--target", "b")
    assert "('b')" in out
    assert "1 attention node: 1 self" in succeeds("inspect", folder)
    assert "needs --audio" in fails("explain", folder, code=2)


def test_generate(tmp_path):
    folder = small_pretrained.save("t5", tmp_path)
    given = ("generate", folder, "--text", "the movie", "-n", "3")
    told = json.loads(succeeds(*given, "--json"))
    g = fxplain.from_pretrained(folder).generate("the movie", max_new_tokens=3)
    assert [t["id"] for t in told["samples"][0]["tokens"]] == g.ids[0].tolist()
    assert "sample 0: " in succeeds(*given, "--html", tmp_path / "page.html")
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        asked = {}
        patch.setattr(fxplain.Explainer, "generate", lambda _, **k: asked.update(k) or g)
        succeeds(*given, "--seed", "1", "--beams", "2")
    assert (asked["do_sample"], asked["seed"], asked["num_beams"]) == (True, 1, 2)
    assert "needs --text" in fails("generate", folder, code=2)


def test_generate_with_a_factory(factories):
    assert "has no generate" in fails("generate", f"{factories}:model")


def test_explain_a_factory(factories):
    told = json.loads(succeeds("explain", f"{factories}:model", "--target", "3", "--json"))
    assert told["target"] == [3, 3]


def test_save_and_load(folders, tmp_path):
    path = tmp_path / "explanation.safetensors"
    out = succeeds("explain", folders / "bert", "--text", "bad", "--save", path)
    assert f"saved to {path}" in out.replace("\n", "")
    loaded = fxplain.load(path)
    assert loaded.relevance["input_ids"].shape == (1, 3)
    assert str(loaded).splitlines()[0] == "Explanation of BertForSequenceClassification"


def test_plots_are_written(folders, tmp_path):
    pytest.importorskip("matplotlib")
    out = succeeds(
        "explain", folders / "bert", "--text", "bad", "--text", "great", "--plot",
        tmp_path / "e.png",
    )  # fmt: skip
    assert f"drawn in {tmp_path / 'e.png'}" in out.replace("\n", "")
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    told = succeeds(
        "inspect", folders / "bert", "--text", "bad", "--plot", tmp_path / "g.SVG", "--json"
    )
    assert json.loads(told)["model"] == "BertForSequenceClassification"
    assert "<svg" in (tmp_path / "g.SVG").read_text()


@pytest.mark.parametrize("ending", ["graphml", "dot", "gv", "mmd", "mermaid", "json"])
def test_graphs_are_exported(factories, tmp_path, ending):
    path = tmp_path / f"graph.{ending}"
    out = succeeds("inspect", f"{factories}:model", "--export", path)
    assert f"exported to {path}" in out.replace("\n", "")
    begins = {"graphml": "<graphml", "dot": "digraph", "gv": "digraph", "json": "{"}
    assert path.read_text(encoding="utf-8").startswith(begins.get(ending, "flowchart TB"))


def test_html_report_of_two_methods(folders, tmp_path):
    page = tmp_path / "report.html"
    asked = ("explain", folders / "bert", "--text", "[red] movie", "--html", page)
    out = succeeds(*asked, "--also-method", "rollout")
    assert f"reported in {page}" in out.replace("\n", "")
    text = page.read_text(encoding="utf-8")
    assert '"title":"input_x_gradient"' in text
    assert '"title":"rollout"' in text
    assert '"name":"neither, nor"' in text
    assert '"maps":[{' in text  # each node's attention


def test_a_report_that_cannot_tell_for_from_against_has_a_signed_map_beside_it(folders, tmp_path):
    page = tmp_path / "report.html"
    asked = ("explain", folders / "bert", "--text", "[red] movie", "--html", page)
    succeeds(*asked, "--method", "generic")
    assert '"title":"input_x_gradient"' in page.read_text(encoding="utf-8")
    succeeds(*asked)
    text = page.read_text(encoding="utf-8")
    assert '"title":"generic"' in text  # beside what auto chose, for its matrices
    succeeds(*asked, "--method", "lrp")
    assert '"title":"input_x_gradient"' not in page.read_text(encoding="utf-8")


def test_what_spoke_for_and_against_is_said_beside_a_report(folders):
    asked = ("explain", folders / "bert", "--text", "[red] movie")
    assert "Beside it, by input_x_gradient: " in succeeds(*asked, "--method", "generic")
    assert "Beside it" not in succeeds(*asked)  # what auto chose tells it itself


def test_two_checkpoints_side_by_side(folders, tmp_path):
    page = tmp_path / "page.html"
    asked = ("explain", folders / "bert", "--text", "[red] movie", "--also-model", folders / "bert")
    succeeds(*asked, "--side-by-side", page)
    assert "from input_x_gradient (1)" in page.read_text(encoding="utf-8")  # the same weights
    refused = run(*asked)
    assert refused.exit_code == 2
    assert "--side-by-side" in refused.output


def test_a_page_side_by_side_opens(folders, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("typer.launch", shown.append)
    page = tmp_path / "page.html"
    texts = ["--text", "a dull movie", "--text", "a great movie"]
    succeeds("explain", folders / "bert", *texts, "--side-by-side", page, "--open")
    assert shown == [page.as_uri()]
    assert re.findall("<h2[^>]*>(.*?)</h2>", page.read_text()) == [
        "\u2018a dull movie\u2019",
        "\u2018a great movie\u2019",
    ]


@pytest.mark.parametrize("option", ["--save", "--plot"])
def test_one_file_holds_no_two_targets(folders, tmp_path, option):
    path = tmp_path / "file.png"
    targets = ["--target", "0", "--target", "1"]
    refused = run("explain", folders / "bert", "--text", "a", *targets, option, path)
    assert refused.exit_code == 2
    assert "give one --target" in refused.output
    assert not path.exists()


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_inspect_needs_no_input(folders, name):
    pytest.importorskip("PIL")
    out = succeeds("inspect", folders / name)
    assert "2 attention nodes: 2 self" in out


def test_inspect_as_json(folders):
    told = json.loads(succeeds("inspect", folders / "bert", "--text", "a movie", "--json"))
    assert told["modalities"] == {"input_ids": 4}
    assert [node["kind"] for node in told["nodes"]] == ["self", "self"]
    assert set(told) == {
        "format", "model", "nodes", "routes", "streams", "modalities", "readout", "rejected",
        "warnings", "capture", "context",
    }  # fmt: skip


def test_methods_are_listed():
    out = succeeds("methods")
    assert all(name in out for name in fxplain.methods())


def test_version():
    assert succeeds("--version").strip() == f"fxplain {fxplain.__version__}"


@pytest.mark.parametrize(
    "command", [[], ["explain"], ["inspect"], ["demo"], ["methods"], ["evaluate"]]
)
def test_help(command):
    out = succeeds(*command, "--help")
    assert "Usage:" in out
    assert "🏭" not in out  # a colon and a word can be an emoji to rich


def test_weights_that_the_checkpoint_lacks_are_noted(folders, tmp_path):
    config = transformers.AutoConfig.from_pretrained(folders / "no_tokenizer")
    config.architectures = ["BertForSequenceClassification"]
    for file in (folders / "no_tokenizer").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    result = run("explain", tmp_path, "--text", "bad")
    assert result.exit_code == 0
    assert "no weights for classifier.bias, classifier.weight" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("texts", "target"),
    [
        ([], None),
        (["-1"], -1),
        (["3, 7"], (3, 7)),
        (["tabby, tabby cat"], "tabby, tabby cat"),
        (["0", "cat", "1,2"], [0, "cat", (1, 2)]),
    ],
)
def test_targets(texts, target):
    assert parse_targets(texts) == target


# ---- what cannot be explained: exit code 1 --------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("explain", "m", "--plot", "picture.xyz"), "'picture.xyz' ends in none of: "),
        (("inspect", "m", "--export", "graph.xml"), "ends in none of: .graphml, .dot"),
        (("inspect", "m", "--export", "no_folder/graph.dot"), "no file in an existing folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_at_once(arguments, said):
    assert said in fails(*arguments, code=2)


def test_without_matplotlib_the_way_out_is_said(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("fxplain.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'fxplain[plot]'" in fails("explain", "m", "--plot", "e.png")


def test_missing_folder():
    assert fails("explain", "./no/such", "--text", "a") == "error: there is no folder './no/such'."


def test_hub_id_without_connection():
    said = fails("explain", "no-such-model", "--text", "a")
    assert "no folder 'no-such-model'" in said
    assert "nor can the hub be reached" in said


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "has no config.json"),
        ("broken", "cannot be loaded"),
        ("bert/config.json", "is a file; give the save_pretrained folder"),
        ("no_tokenizer", "package.module:factory"),
    ],
)
def test_folders_without_a_model(folders, name, message):
    assert message in fails("explain", folders / name, "--text", "a")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("modle", "Did you mean 'model'?"),
        ("no_inputs", "returned something of type Attention; it must return"),
        ("failing", "failing() fails with RuntimeError: no weights here"),
        ("training", "training mode"),
        ("plain", "no attention"),
    ],
)
def test_bad_factories(factories, factory, message):
    assert message in fails("explain", f"{factories}:{factory}")


def test_missing_module():
    assert "No module named 'no_such_module'" in fails("inspect", "no_such_module:make")


def test_target_out_of_range(folders):
    said = fails("explain", folders / "bert", "--text", "a", "--target", "9")
    assert said.startswith("error: target 9 of sample 0 is out of range")


def test_unknown_label(folders):
    assert "no label 'great'" in fails(
        "explain", folders / "bert", "--text", "a", "--target", "great"
    )


def test_no_image(folders, tmp_path):
    path = tmp_path / "words.png"
    path.write_text("words")
    assert "cannot identify image file" in fails("explain", folders / "vit", "--image", path)


def test_pillow_is_missing(folders, picture, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    said = fails("explain", folders / "vit", "--image", picture)
    assert "pip install 'fxplain[image]'" in said


def test_debug_shows_the_traceback(folders):
    result = run("explain", folders / "bert", "--text", "a", "--target", "9", "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


# ---- wrong usage: exit code 2 ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bert"], "text-classification needs --text"),
        (["vit"], "image-classification needs --image"),
        (["vit", "--text", "a"], "has no tokenizer"),
        (
            ["bert", "--text", "a", "--method", "magic"],
            "unknown method 'magic'; there are: generic",
        ),
        (["bert", "--text", "a", "--pair", "b", "--pair", "c"], "1 of --text, 2 of --pair"),
        (
            ["bert", "--text", "a", "--save", "/no/such/folder/file"],
            "no file in an existing folder",
        ),
        (["bert", "--image", "/no/such/image.png"], "does not exist"),
        (["bert", "--text", "a", "--also-method", "rollout"], "the page of --html or"),
        (["bert", "--text", "a", "--open"], "it opens the page of --html or"),
        (
            ["bert", "--text", "a", "--html", "x.html", "--also-method", "magic"],
            "unknown method 'magic'",
        ),
    ],
)
def test_wrong_usage(folders, arguments, message):
    assert message in fails("explain", folders / arguments[0], *arguments[1:], code=2)


def test_what_is_broken_is_said_or_an_error(factories):
    name = f"{factories}:normed"
    said = "aten.group_norm.default in the model"
    assert said in json.loads(succeeds("inspect", name, "--json"))["warnings"][0]
    assert not json.loads(succeeds("inspect", name, "--json", "--verify", "off"))["warnings"]
    for command in ("inspect", "explain"):
        assert said in fails(command, name, "--strict")
    assert "off, light, full" in fails("inspect", name, "--verify", "hard", code=2)


@pytest.mark.parametrize("command", ["inspect", "generate", "look", "evaluate"])
def test_there_is_no_page_to_open(factories, command):
    said = fails(command, f"{factories}:model", "--open", code=2)
    assert "it opens the page of --html." in said


def test_an_option_of_another_command(folders):
    said = fails("explain", folders / "bert", "--text", "a", "--beams", "2", code=2)
    assert "No such option: --beams. It is an option of fxplain generate." in said
    said = fails("generate", folders / "t5", "--text", "a", "--target", "2", code=2)
    assert "It is an option of fxplain explain, cut, evaluate and look." in said
    assert "has no option --word" in fails(
        "explain", folders / "bert", "--text", "a", "--word", "a"
    )


def test_a_factory_brings_its_inputs(factories):
    assert "brings its own inputs" in fails("explain", f"{factories}:model", "--text", "a", code=2)


def test_unknown_command():
    assert "No such command 'explian'" in fails("explian", code=2)


# ---- as a process ---------------------------------------------------------------------------------


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fxplain", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[1],
        check=False,
        **options,
    )


@pytest.mark.slow
def test_only_json_on_standard_output(folders):
    run = process("explain", folders / "bert", "--json", "--text", "a great movie")
    assert run.stderr == ""
    assert json.loads(run.stdout)["method"] == "input_x_gradient"


def test_the_demo_is_a_command(monkeypatch):
    asked = []
    monkeypatch.setattr("fxplain.cli.commands.run_demo", lambda *given: asked.append(given[1:]))
    succeeds("demo", "--questions", "2")
    assert asked == [(2, "generic")]
    assert "Invalid value" in fails("demo", "--questions", "0", code=2)


def test_the_demo_writes_a_report(tmp_path):
    page = tmp_path / "demo.html"
    succeeds("demo", "--questions", "2", "--html", page)
    text = page.read_text(encoding="utf-8")
    assert "Explanation of LxmertForQuestionAnswering" in text
    assert text.count('"pictures":["data:image/png') == 2


# ---- looking inside -------------------------------------------------------------------------------


def test_looking_inside(folders, tmp_path):
    given = ("look", folders / "bert", "--text", "the movie was not bad")
    assert "by generic, as input_x_gradient has no chains" in " ".join(succeeds(*given).split())
    views = ("heads", "layers", "paths", "flow", "contributions", "lens")
    asked = [part for name in views for part in ("--show", name)]
    page = tmp_path / "flow.html"
    told = json.loads(succeeds(*given, *asked, "-k", "3", "--html", page, "--json"))
    assert [each["format"] for each in told.values()] == [f"fxplain-{name}-1" for name in views]
    assert len(told["paths"]["paths"]) == 3
    e = fxplain.from_pretrained(folders / "bert")(text=given[3])
    assert told["heads"] == e.heads().to_dict()
    assert "<svg" in page.read_text(encoding="utf-8")
    shown = succeeds(*given, "--show", "contributions", "--show", "lens")
    assert "the sum of" in shown
    assert "the model's head after each layer" in shown


@pytest.mark.parametrize(
    ("wrong", "said", "code"),
    [
        (("--show", "soul"), "'soul' is none of: heads, layers", 2),
        (("--html", "x.html"), "give --show flow", 2),
        (("--show", "paths", "--sample", "3"), "sample", 1),
        (("--method", "rollout"), "explain with method='generic'", 1),
    ],
)
def test_what_cannot_be_looked_at(folders, wrong, said, code):
    assert said in fails("look", folders / "bert", "--text", "a", *wrong, code=code)


# ---- cutting --------------------------------------------------------------------------------------

SENTENCE = ("--text", "the movie was not bad")


def test_cutting_every_head(folders):
    told = json.loads(succeeds("cut", folders / "bert", *SENTENCE, "--json"))
    names = [cut["name"] for cut in told["cuts"]]
    assert len(names) == 4
    assert names[0] == "head 0 of bert.encoder.layer.0.attention.self to zero"
    shown = succeeds("cut", folders / "bert", *SENTENCE)
    assert "BertForSequenceClassification: 4 cuts" in shown


def test_cutting_what_is_named(folders):
    cuts = ("--head", "layer.0:1", "--head", "1", "--edge", "not->bad", "--edge", "0->3,4")
    cuts += ("--token", "movie", "--token", "input_ids:1", "--write", "layer.1.output")
    told = json.loads(succeeds("cut", folders / "bert", *SENTENCE, *cuts, "--json"))
    assert [cut["name"] for cut in told["cuts"]] == [
        "layer.0:1", "1", "not->bad", "0->3,4", "what layer.1.output adds to zero", "movie",
        "input_ids:1",
    ]  # fmt: skip
    model = fxplain.from_pretrained(folders / "bert")
    e = model(text=SENTENCE[1])
    effects = e.intervene(
        [fxplain.Cut.edges(4, 5), fxplain.Cut.tokens("input_ids", 2), fxplain.Cut.heads(0, 1)]
    )
    got = {cut["name"]: cut["scores"][0] for cut in told["cuts"]}
    assert [got["not->bad"], got["movie"], got["layer.0:1"]] == pytest.approx(
        effects.scores[:, 0].tolist(), abs=1e-5
    )
    assert effects.baseline.tolist() == pytest.approx(told["baseline"], abs=1e-5)
    together = json.loads(
        succeeds("cut", folders / "bert", *SENTENCE, *cuts[:4], "--together", "--json")
    )
    assert [cut["name"] for cut in together["cuts"]] == ["layer.0:1 and 1"]


def test_checking_by_cuts(folders):
    shown = succeeds("cut", folders / "bert", *SENTENCE, "--check", "-k", "2")
    assert "of 20 draws of chance" in " ".join(shown.split())
    assert "chooses what is cut" in fails(
        "cut", folders / "bert", *SENTENCE, "--check", "--head", "0", code=2
    )


@pytest.mark.parametrize(
    ("wrong", "said", "code"),
    [
        (("--edge", "not"), "QUERIES->KEYS", 2),
        (("--to", "one"), "none of: zero, mean", 2),
        (("--head", "layer.7"), "no attention node 'layer.7'", 1),
        (("--token", "cinema"), "'cinema' is no token", 1),
    ],
)
def test_cuts_that_cannot_be_made(folders, wrong, said, code):
    assert said in fails("cut", folders / "bert", *SENTENCE, *wrong, code=code)


def test_explain_by_units(tmp_path):
    folder, page = small_pretrained.save("classifier", tmp_path), tmp_path / "units.html"
    said = succeeds(
        "explain", folder, "--text", "the movie was great. it was bad!", "--method", "kernel_shap",
        "--units", "sentence", "--option", "budget=64", "--html", page,
    )  # fmt: skip
    assert "kernel_shap" in said
    assert page.exists()
    assert "leave_one_out" in succeeds("methods")
    assert "0.25" in succeeds("methods", "lime")
    assert "f(all) - f(all but i)" in succeeds("methods", "leave_one_out")
    assert "corrected" in succeeds("methods", "auto")
    assert (
        "it is a number"
        in run(
            "explain", folder, "--text", "a", "--method", "lime", "--option", "width=wide"
        ).output
    )


def test_sources_of_what_is_written(tmp_path):
    folder = small_pretrained.save("gpt2", tmp_path)
    asked = ("generate", folder, "--text", "the movie was great", "-n", 2, "--sources", "word")
    assert "Sources of" in succeeds(*asked)
    assert json.loads(succeeds(*asked, "--json"))["sources"]["sources"]


def test_regions_of_an_image(folders, picture):
    told = json.loads(
        succeeds("explain", folders / "vit", "--image", picture, "--json",
                 "--region", "top=0,0,256,128", "--region", "corner=0,128,64,256")
    )  # fmt: skip
    top, corner, rest, cls = told["units"][0]
    assert [top["text"], corner["text"], rest["text"]] == ["top", "corner", "(the rest)"]
    patches = [each["relevance"] for each in told["relevance"]["pixel_values"][0]]
    assert top["relevance"] == pytest.approx(sum(patches[1:9]), rel=1e-4)
    assert cls["text"] == "cls_token"
    assert "region 1,1" in succeeds(
        "explain", folders / "vit", "--image", picture, "--region", "2x2"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["top"], "it has no name. A region is ROWSxCOLUMNS alone"),
        (["a=1,2,3"], "'a=1,2,3'. A region is"),
        (["a=0,0,9,9", "a=1,1,9,9"], "it is there twice"),
        (["a=0,1.5"], "no recording was given"),
        (["a=9,0,3,9"], "left < right"),
    ],
)
def test_regions_that_are_none(folders, picture, given, said):
    asked = [word for each in given for word in ("--region", each)]
    code = 1 if "left <" in said else 2
    assert said in fails("explain", folders / "vit", "--image", picture, *asked, code=code)
