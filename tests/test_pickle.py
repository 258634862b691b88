"""Results travel to other processes."""

import multiprocessing
import pickle
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import fxplain
from tests.evaluated_models import bag, contributions
from tests.small_models import TextClassifier, seeded, words


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


def _written() -> fxplain.Generation:
    torch.manual_seed(0)
    size = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "vocab_size": 20}
    model = GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0)).eval()
    return fxplain.explain_generation(model, {"input_ids": words(1, 3)}, max_new_tokens=2)


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
