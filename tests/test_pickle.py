"""Results travel to other processes."""

import multiprocessing
import pickle
from typing import Any

import pytest
import torch

import fxplain
from tests.small_models import TextClassifier, seeded, words


def _said(result: Any) -> tuple[str, str]:
    """What another process reads from a result."""
    return type(result).__name__, str(result)


def _elsewhere(result: Any) -> tuple[str, str]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_said, (result,))


def test_an_explanation_travels() -> None:
    e = fxplain.explain(seeded(TextClassifier), (words(2, 6),), target=1)
    again = pickle.loads(pickle.dumps(e))
    torch.testing.assert_close(again.relevance, e.relevance)
    torch.testing.assert_close(again.matrices(), e.matrices())
    torch.testing.assert_close(again.output, e.output)
    assert again.to_dict() == e.to_dict()
    assert _elsewhere(e) == _said(e)
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
