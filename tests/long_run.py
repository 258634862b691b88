"""Which of many like cases the quick run tries; the long run tries them all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import count
from typing import Any

import pytest

__all__ = ["ONE_IN", "leave_most_to_the_long_run", "quickly"]

ONE_IN = {
    "tests/test_fuzz.py::test_every_style_computes_the_same": 2,
    "tests/wild/test_wild.py::test_library_is_right": 18,
    "tests/zoo/test_zoo.py::test_library_finds_the_truth": 9,
    "tests/loading/test_loading.py::test_explained_right_or_refused": 4,
    "tests/test_oracle.py::test_relevance_and_matrices_are_the_papers": 8,
    "tests/test_golden_methods.py::test_lxmert": 3,
    "tests/test_golden_methods.py::test_detr": 3,
    "tests/test_rows.py::test_on_every_kind_of_architecture": 3,
    "tests/test_schemas.py::test_all_targets_and_methods_are_of_the_schema": 3,
    "tests/test_schemas.py::test_what_differs_is_refused": 2,
    "tests/test_inside.py::test_heads_add_up_with_every_option": 3,
    "tests/test_oracle.py::test_detection_finds_each_attention": 3,
    "tests/test_oracle.py::test_a_batch_is_its_samples": 2,
    "tests/test_never_stale.py::test_a_change_is_noticed": 2,
    "tests/test_untouched.py::test_a_restless_model_is_untouched": 3,
    "tests/test_explanation.py::test_other_precisions": 2,
    "tests/test_inside.py::test_heads_add_up_on_every_kind_of_architecture": 2,
    "tests/test_methods.py::test_heads_that_are_computed_one_by_one_are_heads": 2,
    "tests/test_methods.py::test_scaling_the_target": 3,
    "tests/test_whole_attention.py::test_an_attention_in_chunks_is_the_whole_attention": 3,
    "tests/test_scores.py::test_products_that_are_summed_mix_as_a_matrix_does": 3,
    "tests/test_scores.py::test_chunks_of_one_key_are_explained_as_the_whole": 3,
    "tests/test_lrp.py::test_fused_and_explicit_attention_agree": 2,
    "tests/test_batching.py::test_chunks": 8,
    "tests/test_batching.py::test_sequence_first": 5,
    "tests/test_riding.py::test_equal_to_rows_after_the_backward": 5,
    "tests/test_targets.py::test_equal_to_single_calls": 10,
    "tests/test_generation.py::test_equal_to_the_next_token_of_each_prefix": 5,
    "tests/test_methods.py::test_on_every_kind_of_architecture": 25,
    "tests/test_methods.py::test_a_batch_is_its_samples": 4,
    "tests/test_methods.py::test_tokens_may_be_permuted": 4,
    "tests/test_html.py::test_how_inputs_are_shown_follows_from_their_shapes": 3,
    "tests/test_inspect_golden.py::test_inspection_prints_the_golden_text": 3,
    "tests/test_not_attention.py::test_a_sum_of_layers_has_absorbed_all_of_them": 3,
    "tests/test_torch_attention.py::test_transformer_encoder": 2,
    "tests/test_attention_forms.py::test_form_is_what_it_is_by_hand": 3,
    "tests/test_capture_forms.py::test_a_model_is_explained_as_it_runs": 3,
    "tests/test_pipelines.py::test_generated_tokens_are_explained": 4,
    "tests/test_masked_pooling.py::test_a_mean_over_real_tokens_reads_these_alone": 2,
}
"""Of how many cases of a test the quick run tries one."""


def quickly(
    cases: Iterable[Any], quick: Collection[Any], name: Callable[[Any], Any] = lambda case: case
) -> list[Any]:
    """The cases as parameters of a test, those that are not among the quick ones marked slow."""
    cases = list(cases)
    unknown = set(quick) - {name(case) for case in cases}
    assert not unknown, f"no case is called {unknown}"
    return [
        case if name(case) in quick else pytest.param(case, marks=pytest.mark.slow)
        for case in cases
    ]


def leave_most_to_the_long_run(items: Iterable[pytest.Item]) -> None:
    """Mark all but one in so many of the tests in `ONE_IN` as slow, in the order of their cases."""
    places = {name: count() for name in ONE_IN}
    for item in items:
        name = item.nodeid.split("[")[0]
        if name not in ONE_IN or item.get_closest_marker("slow"):
            continue
        if next(places[name]) % ONE_IN[name]:
            item.add_marker(pytest.mark.slow)
