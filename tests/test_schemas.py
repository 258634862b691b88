"""The JSON that fxplain writes is of the documented schemas, and they refuse what is not."""

import json
import pickle
from importlib import resources

import jsonschema
import pytest
import referencing

import fxplain
from tests.small_models import TextClassifier, architecture, seeded, words
from tests.test_pairs import Siamese

SCHEMAS = {
    path.name: json.loads(path.read_text(encoding="utf-8"))
    for path in (resources.files("fxplain") / "schemas").iterdir()
}
REGISTRY = referencing.Registry().with_contents(
    (schema["$id"], schema) for schema in SCHEMAS.values()
)


INSIDE = ("heads", "layers", "paths", "flow", "contributions", "lens")


def validator(name):
    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, registry=REGISTRY)


def as_json(result):
    return json.loads(json.dumps(result.to_dict(), allow_nan=False))


def test_each_schema_is_named_after_its_format():
    kinds = (
        "circuit",
        "effects",
        "explanation",
        "generation",
        "graph",
        "check",
        "stability",
        "pairs",
        "activation-maps",
        *INSIDE,
    )
    assert set(SCHEMAS) == {f"{kind}-1.json" for kind in kinds}
    for name, schema in SCHEMAS.items():
        assert schema["title"] == schema["properties"]["format"]["const"]
        assert schema["title"] == f"fxplain-{name.removesuffix('.json')}"


@pytest.mark.parametrize("name", ["lxmert", "detr"])
def test_explanations_are_of_the_schema(name):
    model, inputs = architecture(name)
    explanation = fxplain.explain(model, inputs)
    validator("explanation-1.json").validate(as_json(explanation))
    validator("graph-1.json").validate(as_json(explanation.graph))


@pytest.mark.parametrize(
    "how",
    [
        {"target": fxplain.Contrast(1, 2)},
        {"target": fxplain.Sum(1, 2)},
        {"target": lambda output: output.question_answering_score[:, 0]},
        {"method": "input_x_gradient"},
        {"method": "rollout"},
        {"method": "fullgrad"},
        {"method": "permutation_shap", "budget": 8},
    ],
)
def test_all_targets_and_methods_are_of_the_schema(how):
    model, inputs = architecture("lxmert")
    validator("explanation-1.json").validate(as_json(fxplain.explain(model, inputs, **how)))


@pytest.mark.slow
def test_effects_are_of_the_schema():
    model, inputs = architecture("lxmert")
    target = fxplain.Contrast(1, 2)
    effects = fxplain.intervene(model, inputs, fxplain.Cut.heads(0, 1), target)
    validator("effects-1.json").validate(as_json(effects))


@pytest.fixture(scope="module")
def classified():
    return fxplain.explain(seeded(TextClassifier, depth=2), (words(2, 6),), method="auto")


@pytest.mark.parametrize("name", INSIDE)
def test_what_is_inside_is_of_its_schema_and_pickles(classified, name):
    found = getattr(classified, name)()
    told = as_json(found)
    validator(f"{name}-1.json").validate(told)
    assert as_json(pickle.loads(pickle.dumps(found))) == told


@pytest.mark.parametrize("options", [{}, {"units": "head"}], ids=str)
def test_checks_are_of_the_schema_and_pickle(classified, options):
    found = classified.check(1, draws=3, **options)
    validator("check-1.json").validate(as_json(found))
    assert pickle.loads(pickle.dumps(found)) == found


def test_stability_is_of_the_schema_and_pickles(classified):
    found = classified.stability(2)
    told = as_json(found)
    validator("stability-1.json").validate(told)
    validator("explanation-1.json").validate({**as_json(classified), "stability": told})
    assert as_json(pickle.loads(pickle.dumps(found))) == told


def test_pairs_are_of_the_schema_and_pickle():
    found = fxplain.explain(seeded(Siamese), (words(1, 3), words(1, 2))).pairs(steps=1)
    told = as_json(found)
    validator("pairs-1.json").validate(told)
    assert as_json(pickle.loads(pickle.dumps(found))) == told


def test_circuits_are_of_the_schema():
    model, ids = seeded(TextClassifier), words(2, 6)
    found = fxplain.circuit(model, (ids,), (words(2, 6, seed=1),), 1, faithfulness=0.6)
    validator("circuit-1.json").validate(as_json(found))


def test_generations_are_of_the_schema():
    model, inputs = architecture("llama")
    g = fxplain.explain_generation(
        model,
        {"input_ids": inputs["input_ids"]},
        generated=[[3, 4], [5]],
        targets=[0, 1, fxplain.Span(), fxplain.Contrast(0, 6)],
    )
    told = as_json(g)
    validator("generation-1.json").validate(told)
    found = g.sources("token", method="permutation_shap", budget=8).to_dict()
    validator("generation-1.json").validate({**told, "sources": json.loads(json.dumps(found))})


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("scores"),
        lambda data: data.update(format="fxplain-explanation-0"),
        lambda data: data.update(more=1),
        lambda data: data["graph"]["nodes"][0].update(kind="other"),
        lambda data: data["relevance"]["input_ids"][0][0].pop("token"),
        lambda data: data["target"].append(1.5),
    ],
)
def test_what_differs_is_refused(change):
    data = as_json(fxplain.explain(*architecture("lxmert")))
    change(data)
    with pytest.raises(jsonschema.ValidationError):
        validator("explanation-1.json").validate(data)


def test_a_file_is_of_the_same_format(tmp_path):
    explanation = fxplain.explain(*architecture("lxmert"))
    explanation.save(tmp_path / "e.safetensors")
    assert as_json(fxplain.load(tmp_path / "e.safetensors")) == as_json(explanation)
