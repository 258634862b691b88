"""Saved explanations: what is kept, and damaged files refused by the field that is wrong."""

import copy
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import fxplain
from fxplain.reports.headline import headline
from fxplain.views.boxes import boxes_of
from fxplain.views.outputs import top_classes
from tests.small_models import architecture

WRONG = (None, -1, "x", [], {}, [None], {"a": 1}, 1.5, True, [[[[1]]]])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "e.safetensors"
    fxplain.explain(*architecture("lxmert"), target=[1, (2,)]).save(path)
    with safe_open(str(path), "pt") as file:
        header = json.loads(file.metadata()["fxplain"])
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def places(value, path=()):
    """Paths of all fields, of lists the first two entries."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value[:2]) if isinstance(value, list) else items
    for key, each in items:
        yield from places(each, (*path, key))


def read_through(explanation):
    """Everything that a reader of a loaded explanation may ask for."""
    assert str(explanation)
    assert explanation.to_dict()
    assert explanation.graph.to_networkx()
    for name in explanation.modalities:
        explanation.words(name)


def written(tmp_path, tensors, header):
    path = tmp_path / "damaged.safetensors"
    save_file(tensors, str(path), metadata={"fxplain": header})
    return path


def test_a_wrong_field_is_a_load_error_or_harmless(whole, tmp_path):
    header, tensors = whole
    refused = 0
    every = list(places(header))
    for k, path in enumerate(every):
        changed = copy.deepcopy(header)
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = WRONG[k % len(WRONG)]
        try:
            read_through(fxplain.load(written(tmp_path, tensors, json.dumps(changed))))
        except fxplain.LoadError:
            refused += 1
    assert refused > 0.6 * len(every)


def test_a_missing_field_is_named(whole, tmp_path):
    header, tensors = whole
    for name in (
        "method",
        "target",
        "readout",
        "special",
        "grids",
        "graph",
        "modalities",
        "labels",
    ):
        less = {k: v for k, v in header.items() if k != name}
        with pytest.raises(fxplain.LoadError, match=f"lacks '{name}'"):
            fxplain.load(written(tmp_path, tensors, json.dumps(less)))


def test_a_missing_or_misshapen_tensor_is_named(whole, tmp_path):
    header, tensors = whole
    for name in ("scores", "relevance/0"):
        for value in (None, torch.ones(1, 1, 1), torch.ones(2, dtype=torch.int64)):
            changed = {**tensors, name: value}
            if value is None:
                del changed[name]
            with pytest.raises(fxplain.LoadError, match=name):
                fxplain.load(written(tmp_path, changed, json.dumps(header)))


@pytest.mark.parametrize("header", ["null", "3", "[]", "[" * 100_000, '{"a":' * 50_000, "{", "{}"])
def test_a_header_that_is_none(whole, tmp_path, header):
    with pytest.raises(fxplain.LoadError, match="damaged"):
        fxplain.load(written(tmp_path, whole[1], header))


@pytest.mark.parametrize("kind", [None, "multi_label_classification"])
def test_a_loaded_one_says_what_the_live_one_said(tmp_path, kind):
    model, inputs = architecture("lxmert")
    model = copy.deepcopy(model)
    count = model.config.num_qa_labels
    model.config.id2label = {i: f"answer {chr(97 + i)}" for i in range(count)}
    model.config.problem_type = kind
    live = fxplain.explain(model, inputs, target=[None, fxplain.Contrast(0, count - 1)])
    live.save(tmp_path / "live")
    loaded = fxplain.load(tmp_path / "live")
    loaded.save(tmp_path / "again")
    names = [str(i) for i in range(count)]
    for own in (loaded, fxplain.load(tmp_path / "again")):
        assert str(own) == str(live)
        for sample in range(2):
            assert headline(own, sample) == headline(live, sample)
            found = top_classes(own, sample, own.class_name)
            assert found == top_classes(live, sample, live.class_name)
            assert top_classes(own, sample, names) == top_classes(live, sample, names)
            assert found["shares"] == ("sigmoid" if kind else "softmax")
            assert found["rows"][0]["name"].startswith("answer ")
    assert "The model " in headline(loaded)


def test_a_file_that_tells_nothing_of_the_output(whole, tmp_path):
    header, tensors = whole
    old = {k: v for k, v in header.items() if k not in ("compete", "highest")}
    loaded = fxplain.load(written(tmp_path, tensors, json.dumps(old)))
    assert top_classes(loaded, 0, None) is None
    assert headline(loaded).startswith("Explained: class 1 (")


def test_boxes_of_what_was_found_are_kept(tmp_path):
    live = fxplain.explain(*architecture("detr"))
    live.save(tmp_path / "e")
    queries = "model.query_position_embeddings"
    kept = boxes_of(fxplain.load(tmp_path / "e"), queries)
    assert torch.equal(kept, boxes_of(live, queries))


def test_matrices_are_written_on_request(tmp_path):
    explanation = fxplain.explain(*architecture("bert"))
    small, large = tmp_path / "small", tmp_path / "large"
    explanation.save(small)
    explanation.save(large, matrices=True)
    assert torch.equal(
        fxplain.load(large).matrix("input_ids", "input_ids"),
        explanation.matrix("input_ids", "input_ids"),
    )
    with pytest.raises(fxplain.MethodError, match="matrices=True"):
        fxplain.load(small).matrix("input_ids", "input_ids")


def test_a_folder_and_no_path_at_all(tmp_path):
    explanation = fxplain.explain(*architecture("bert"))
    with pytest.raises(fxplain.SaveError, match="is a folder"):
        explanation.save(tmp_path)
    with pytest.raises(fxplain.InputError, match="path=None must be"):
        explanation.save(None)
    with pytest.raises(fxplain.SaveError, match="no folder"):
        explanation.save(tmp_path / "none" / "e.safetensors")
