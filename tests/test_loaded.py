"""Models as people load them: adapters and offloaded weights."""

import copy
import json

import pytest
import torch

import fxplain
from tests import small_pretrained
from tests.loading import ways
from tests.long_run import quickly
from tests.small_models import architecture

accelerate = pytest.importorskip("accelerate")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

TEXT = "the movie was great"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


# ---- adapters -----------------------------------------------------------------------------------


def adapter(base, folder, config, auto):
    """An adapter of random weights, saved beside no tokenizer, and the model with it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = peft.get_peft_model(getattr(transformers, auto).from_pretrained(base), config)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize(
    ("config", "auto"),
    [
        (
            peft.LoraConfig(
                task_type="SEQ_CLS", init_lora_weights=False, target_modules=["query", "value"]
            ),
            "AutoModelForSequenceClassification",
        ),
        (
            peft.LoraConfig(init_lora_weights=False, target_modules=["key"]),
            "AutoModelForSequenceClassification",
        ),
        (
            peft.IA3Config(
                task_type="SEQ_CLS", init_ia3_weights=False, target_modules=["value"],
                feedforward_modules=[],
            ),
            "AutoModelForSequenceClassification",
        ),
    ],
    ids=["lora", "no task", "ia3"],
)  # fmt: skip
def test_an_adapter_folder_is_loaded_with_its_model(root, tmp_path, config, auto):
    model = adapter(small_pretrained.save("classifier", root), tmp_path / "a", config, auto)
    explainer = fxplain.from_pretrained(tmp_path / "a")
    assert explainer.task.name == "text-classification"
    found = explainer(TEXT, method="generic")
    inputs = explainer.inputs(TEXT)
    expected = fxplain.explain(model, inputs, found.target[0])
    torch.testing.assert_close(found.relevance["input_ids"], expected.relevance["input_ids"])
    plain = fxplain.from_pretrained(root / "classifier")(TEXT, target=found.target[0])
    assert not torch.allclose(found.relevance["input_ids"], plain.relevance["input_ids"])


def test_a_learned_prompt_stands_before_the_text(root, tmp_path):
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    adapter(small_pretrained.save("llama", root), tmp_path / "a", config, "AutoModelForCausalLM")
    found = fxplain.from_pretrained(tmp_path / "a")(TEXT)
    assert list(found.special["input_ids"]) == [0, 1, 2]
    plain = fxplain.from_pretrained(root / "llama")(TEXT)
    assert found.labels["input_ids"][0][3:] == plain.labels["input_ids"][0]


def test_a_damaged_adapter_is_refused(root, tmp_path):
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"])
    folder = tmp_path / "a"
    base = small_pretrained.save("classifier", root)
    adapter(base, folder, config, "AutoModelForSequenceClassification")
    facts = json.loads((folder / "adapter_config.json").read_text())
    for wrong in ("{", "[]", "{}", json.dumps({**facts, "base_model_name_or_path": None})):
        (folder / "adapter_config.json").write_text(wrong)
        with pytest.raises(fxplain.LoadError, match="adapter"):
            fxplain.from_pretrained(folder)
    gone = json.dumps({**facts, "base_model_name_or_path": "/nowhere/model"})
    (folder / "adapter_config.json").write_text(gone)
    with pytest.raises(fxplain.LoadError, match="/nowhere/model"):
        fxplain.from_pretrained(folder)


# ---- offloaded weights --------------------------------------------------------------------------


def spread(model, how, folder):
    """The model, with accelerate's hooks on it."""
    if how == "cpu":
        return accelerate.cpu_offload(model, execution_device="cpu")
    if how == "disk":
        return accelerate.disk_offload(model, folder, execution_device="cpu")
    names = [name for name, _ in model.named_children()]
    where = {name: "disk" if i else "cpu" for i, name in enumerate(names)}
    return accelerate.dispatch_model(model, where, main_device="cpu", offload_dir=folder)


@pytest.mark.parametrize("how", quickly(["cpu", "disk", "both"], ["both"]))
@pytest.mark.parametrize("name", ["bert", "t5"])
def test_offloaded_weights_are_found(name, how, tmp_path):
    plain, inputs = architecture(name)
    model = spread(copy.deepcopy(plain), how, str(tmp_path))
    before = {k: (v.device, v.shape) for k, v in model.state_dict().items()}
    assert any(device.type == "meta" for device, _ in before.values())
    expected = fxplain.explain(plain, inputs)
    for _ in range(2):
        found = fxplain.explain(model, inputs)
        for modality, values in expected.relevance.items():
            assert torch.equal(found.relevance[modality], values)
    assert {k: (v.device, v.shape) for k, v in model.state_dict().items()} == before
    with torch.no_grad():
        model(**inputs)


def test_what_is_done_to_an_offloaded_model_later_is_noticed():
    model, by_hand = accelerate.cpu_offload(ways.plain(), execution_device="cpu"), ways.plain()
    fxplain.explain(model, ways.inputs(), target=1)
    for each in (model, by_hand):
        each.layers[0].register_forward_hook(lambda module, args, output: output * 1.5)
    (found,) = fxplain.explain(model, ways.inputs(), target=1).relevance.values()
    (expected,) = fxplain.explain(by_hand, ways.inputs(), target=1).relevance.values()
    assert torch.equal(found, expected)


def test_a_model_on_the_meta_device_is_refused():
    config = architecture("bert")[0].config
    with torch.device("meta"):
        model = transformers.BertModel(config).eval()
    with pytest.raises(fxplain.InputError, match="no values"):
        fxplain.explain(model, {"input_ids": torch.ones(1, 4, dtype=torch.int64)})
