"""The library against the slow oracle: architectures, attention implementations, precisions.

The numbers are compared in float64, to 1e-5 of what the attentions add to the relevancies (their
start, identity, would hide errors), and once in float32, to 1e-4.
"""

from functools import cache

import numpy as np
import pytest
import torch

import fxplain
from tests.architectures import CASES
from tests.architectures.case import QUERIES, Case, Expected, Inputs

BY_NAME = {case.name: case for case in CASES}
RUNS = [(case.name, implementation) for case in CASES for implementation in case.implementations]

SISTERS = ("bart-equal-lengths", "lxmert-equal-lengths")
"""Architectures that others in the list are like but for their sizes: for the long run."""

each_run = pytest.mark.parametrize(
    ("name", "implementation"),
    [pytest.param(*run, marks=[pytest.mark.slow] if run[0] in SISTERS else []) for run in RUNS],
)
each_case = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in SISTERS else []) for n in BY_NAME],
)
some_cases = pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ("bert", "lxmert", "t5") else [pytest.mark.slow])
        for n in BY_NAME
    ],
)


@cache
def made(name: str, implementation: str, dtype: torch.dtype) -> tuple[torch.nn.Module, Inputs]:
    return BY_NAME[name].make(implementation, dtype)


@cache
def expected(name: str) -> Expected:
    return BY_NAME[name].oracle(*made(name, "eager", torch.float64))


@cache
def explained(
    name: str, implementation: str, dtype: torch.dtype = torch.float64, sample: int | None = None
):
    """The library's explanation of both samples, or of one alone."""
    case = BY_NAME[name]
    model, inputs = made(name, implementation, dtype)
    target = case.target
    if sample is not None:
        inputs = {key: value[sample : sample + 1] for key, value in inputs.items()}
        target = case.alone(target, sample)
    return fxplain.explain(model, inputs, target=target, output=case.output)


def modality_names(case: Case, graph) -> dict[str, str]:
    """The cases' names of modalities to the library's: the same, but for a parameter's tokens."""
    names = {name for node in case.nodes for name in node.query + node.key}
    learned = {n for node in graph.nodes for n in node.query + node.key} - names
    assert len(learned) == (QUERIES in names), learned
    return {name: name for name in names} | dict.fromkeys({QUERIES} & names, *learned)


def numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def check(got: torch.Tensor, want: np.ndarray, start: np.ndarray, tolerance: float) -> None:
    """``got`` is ``want`` to ``tolerance``, relative to the largest number added to ``start``."""
    assert got.shape == want.shape
    largest = np.abs(want - start).max()
    np.testing.assert_allclose(numpy(got), want, rtol=0, atol=tolerance * largest)


def check_numbers(name: str, explanation, tolerance: float) -> None:
    want = expected(name)
    names = modality_names(BY_NAME[name], explanation.graph)
    for modality, relevance in want.relevance.items():
        check(explanation.relevance[names[modality]], relevance, want.start[modality], tolerance)
    for (s, q), matrix in want.matrices.items():
        start = np.eye(matrix.shape[1]) if s == q else np.zeros(matrix.shape[1:])
        check(explanation.matrix(names[s], names[q]), matrix, start, tolerance)


@each_run
def test_relevance_and_matrices_are_the_papers(name: str, implementation: str) -> None:
    check_numbers(name, explained(name, implementation), 1e-5)


@some_cases
def test_float32_is_close_enough(name: str) -> None:
    implementation = BY_NAME[name].implementations[-1]
    check_numbers(name, explained(name, implementation, torch.float32), 1e-4)


@each_run
def test_detection_finds_each_attention(name: str, implementation: str) -> None:
    case = BY_NAME[name]
    graph = explained(name, implementation).graph
    names = modality_names(case, graph)

    def facts(nodes: list) -> list[tuple]:
        return sorted(node.facts for node in nodes)

    to_ours = {theirs: ours for ours, theirs in names.items()}
    found = sorted(
        (
            node.kind,
            tuple(to_ours[n] for n in node.query),
            tuple(to_ours[n] for n in node.key),
            node.heads,
            node.q_len,
            node.k_len,
        )
        for node in graph.nodes
    )
    live = facts([node for node in case.nodes if not node.dead])
    assert found in (live, facts(case.nodes))


@some_cases
@pytest.mark.parametrize("sample", [0, 1])
def test_a_batch_is_its_samples(name: str, sample: int) -> None:
    implementation = BY_NAME[name].implementations[-1]
    both, alone = explained(name, implementation), explained(name, implementation, sample=sample)
    assert both.relevance.keys() == alone.relevance.keys()
    for modality, relevance in alone.relevance.items():
        together = numpy(both.relevance[modality])[sample]
        np.testing.assert_allclose(
            numpy(relevance)[0], together, rtol=0, atol=1e-5 * np.abs(together).max()
        )
