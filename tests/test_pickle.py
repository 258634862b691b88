"""Results travel to other processes."""

import multiprocessing
import pickle
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PretrainedConfig

import fxplain
from tests.evaluated_models import bag, contributions
from tests.small_models import TextClassifier, seeded, words
from tests.small_pretrained import word_pieces


def _said(result: Any) -> tuple[str, str]:
    """What another process reads from a result."""
    return type(result).__name__, str(result)


def test_every_result_travels_to_a_spawned_process() -> None:
    model, inputs = seeded(TextClassifier), (words(2, 6),)
    results = [
        fxplain.explain(model, inputs, target=1),
        fxplain.inspect(model, inputs),
        _written(),
        bag(contributions(2, 3), methods=["generic"], metrics=["positive"]),
    ]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_said, results) == [_said(result) for result in results]


def _written(tokenizer: Any = None) -> fxplain.Generation:
    torch.manual_seed(0)
    size = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "vocab_size": 20}
    model = GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0)).eval()
    inputs = {"input_ids": words(1, 3)}
    return fxplain.explain_generation(model, inputs, max_new_tokens=2, tokenizer=tokenizer)


def test_a_generation_and_an_evaluation_are_read_back() -> None:
    written = _written()
    again = pickle.loads(pickle.dumps(written))
    assert again.to_dict() == written.to_dict()
    measured = bag(contributions(2, 3), methods=["generic"], metrics=["positive"])
    assert str(pickle.loads(pickle.dumps(measured))) == str(measured)


def test_an_explanation_travels() -> None:
    e = fxplain.explain(seeded(TextClassifier), (words(2, 6),), target=1)
    again = pickle.loads(pickle.dumps(e))
    torch.testing.assert_close(again.relevance, e.relevance)
    torch.testing.assert_close(again.matrices(), e.matrices())
    torch.testing.assert_close(again.output, e.output)
    assert again.to_dict() == e.to_dict()
    assert pickle.loads(pickle.dumps(again)).matrices().keys() == e.matrices().keys()


class _Unmoved:
    """A tokenizer of somebody's own, which stays where it is."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"piece{i}" for i in ids]

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle this tokenizer")


def test_what_classes_are_called_travels() -> None:
    model = seeded(TextClassifier)
    model.config = PretrainedConfig(id2label=dict(enumerate("abcde")))
    e = fxplain.explain(model, (words(2, 6),), target=1)
    again = pickle.loads(pickle.dumps(e))
    assert again.class_name is not None
    assert [again.class_name(i) for i in range(5)] == list("abcde")


@pytest.mark.parametrize(("tokenizer", "names"), [(word_pieces(), True), (_Unmoved(), False)])
def test_a_vocabulary_travels_where_its_tokenizer_does(tokenizer: Any, names: bool) -> None:
    e = _written(tokenizer).explanations[0]
    again = pickle.loads(pickle.dumps(e))
    assert e.class_name is not None
    assert again.class_name is not None
    assert e.class_name(6) in ("'movie'", "'piece6'")
    assert again.class_name(6) == (e.class_name(6) if names else "")
    assert again.target_names == e.target_names != ()


def test_an_explanation_without_matrices_travels() -> None:
    e = fxplain.explain(seeded(TextClassifier), (words(2, 6),), target=1, method="gradcam")
    again = pickle.loads(pickle.dumps(e))
    torch.testing.assert_close(again.relevance, e.relevance)
    if not _has_matrices(e):
        with pytest.raises(fxplain.MethodError):
            again.matrices()


def _has_matrices(e: fxplain.Explanation) -> bool:
    try:
        return bool(e.matrices())
    except fxplain.MethodError:
        return False


def test_a_graph_travels() -> None:
    graph = fxplain.inspect(seeded(TextClassifier), (words(2, 6),))
    again = pickle.loads(pickle.dumps(graph))
    assert again.to_dict() == graph.to_dict()
    assert str(again) == str(graph)
