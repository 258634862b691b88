"""Which of many like cases the quick run tries; the long run tries them all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import count
from typing import Any

import pytest

__all__ = ["ONE_IN", "leave_most_to_the_long_run", "quickly"]

ONE_IN = {
    "tests/bad_input/test_bad_input.py::test_some_values_at_every_door": 6,
    "tests/loading/test_loading.py::test_explained_right_or_refused": 24,
    "tests/test_added_inputs.py::test_what_is_fused_is_read_from_both": 6,
    "tests/test_arguments.py::test_embeddings_of_one_position_add_up": 2,
    "tests/test_attention_forms.py::test_form_is_what_it_is_by_hand": 24,
    "tests/test_batching.py::test_chunks": 16,
    "tests/test_batching.py::test_pictures_that_share_a_batch_of_texts_are_samples": 2,
    "tests/test_batching.py::test_sequence_first": 20,
    "tests/test_batching.py::test_translation": 2,
    "tests/test_benchmarks.py::test_classic_recipe_and_fxplain_agree": 6,
    "tests/test_capture.py::test_numbers_that_leave_the_trace_are_warned_of": 3,
    "tests/test_capture_forms.py::test_a_model_is_explained_as_it_runs": 24,
    "tests/test_capture_forms.py::test_what_vmap_does_holds_for_other_inputs": 2,
    "tests/test_choosing.py::test_below_chance": 4,
    "tests/test_choosing.py::test_no_better_than_chance": 2,
    "tests/test_circuits.py::test_all_edges_are_the_model_and_none_the_corrupted_one": 5,
    "tests/test_cli.py::test_cuts_that_cannot_be_made": 4,
    "tests/test_cli.py::test_graphs_are_exported": 6,
    "tests/test_cli.py::test_what_cannot_be_looked_at": 4,
    "tests/test_corpus.py::test_another_job_is_refused": 6,
    "tests/test_corpus.py::test_data_of_every_kind": 7,
    "tests/test_cuts.py::test_a_cut_is_named": 5,
    "tests/test_docs.py::test_code_runs": 7,
    "tests/test_einsum.py::test_parts_are_the_whole": 6,
    "tests/test_errors.py::test_bad_input_has_its_own_error": 7,
    "tests/test_evaluation_cli.py::test_wrong_usage": 6,
    "tests/test_explanation.py::test_other_precisions": 2,
    "tests/test_explanation.py::test_the_last_real_position_of_a_language_model": 2,
    "tests/test_explanation.py::test_to_dict_is_plain_data": 3,
    "tests/test_fuzz.py::test_a_few_seeds": 3,
    "tests/test_fuzz.py::test_every_style_computes_the_same": 2,
    "tests/test_generation.py::test_a_span_is_the_sum_over_its_tokens": 2,
    "tests/test_generation.py::test_a_text_that_ends_before_the_others": 2,
    "tests/test_generation.py::test_a_text_that_was_written_before": 3,
    "tests/test_generation.py::test_equal_to_the_next_token_of_each_prefix": 10,
    "tests/test_generation.py::test_nothing_is_left_behind": 3,
    "tests/test_generation.py::test_options_are_the_methods_own": 4,
    "tests/test_generation.py::test_prompts_of_unequal_length": 2,
    "tests/test_generation.py::test_what_is_explained_is_what_the_model_writes": 8,
    "tests/test_generation.py::test_why_this_token_rather_than_another": 2,
    "tests/test_given_files.py::test_a_text_that_is_too_long_is_named_or_cut": 3,
    "tests/test_golden.py::test_library_matches_published_detr": 4,
    "tests/test_golden.py::test_library_matches_published_lxmert": 2,
    "tests/test_golden.py::test_library_matches_published_vit": 8,
    "tests/test_golden_methods.py::test_detr": 24,
    "tests/test_golden_methods.py::test_lxmert": 12,
    "tests/test_golden_methods.py::test_vit": 4,
    "tests/test_graph_export.py::test_dot_reads_back": 3,
    "tests/test_graph_export.py::test_graphml_reads_back": 3,
    "tests/test_graph_export.py::test_json_reads_back": 3,
    "tests/test_graph_export.py::test_mermaid_has_nothing_but_nodes_edges_and_classes": 3,
    "tests/test_heads.py::test_heads_that_share_keys_are_averaged": 3,
    "tests/test_house.py::test_imports_of_a_package_make_no_circle": 6,
    "tests/test_html.py::test_how_inputs_are_shown_follows_from_their_shapes": 6,
    "tests/test_html.py::test_top_classes_are_those_of_the_output": 3,
    "tests/test_html_browser.py::test_no_serious_accessibility_fault": 2,
    "tests/test_html_browser.py::test_opens_from_disk_without_network_complaint_or_fault": 5,
    "tests/test_html_generation.py::test_no_serious_accessibility_fault": 2,
    "tests/test_html_generation.py::test_opens_from_disk_without_network_complaint_or_fault": 3,
    "tests/test_html_generation.py::test_spans_and_contrasts_are_rows_too": 2,
    "tests/test_inputs.py::test_every_form_of_call_gives_the_same": 5,
    "tests/test_inside.py::test_flow_is_pruned_to_the_share_that_is_asked_for": 4,
    "tests/test_inside.py::test_heads_add_up_on_every_kind_of_architecture": 4,
    "tests/test_inside.py::test_heads_add_up_with_every_option": 6,
    "tests/test_inside.py::test_paths_through_routes_and_modalities_add_up": 3,
    "tests/test_inspect_golden.py::test_inspection_prints_the_golden_text": 12,
    "tests/test_inspect_golden.py::test_inspection_says_the_same_again": 6,
    "tests/test_interventions.py::test_a_head_is_ablated_as_by_a_hook": 2,
    "tests/test_interventions.py::test_heads_wherever_the_model_puts_them": 2,
    "tests/test_interventions.py::test_knocked_out_edges_are_masked_attention": 4,
    "tests/test_interventions.py::test_patching_inputs_from_themselves_changes_nothing": 2,
    "tests/test_kinds.py::test_tokens_that_are_added_up_in_one_place_make_one_token": 4,
    "tests/test_laws.py::test_a_token_that_no_rule_follows_is_found": 2,
    "tests/test_live.py::test_cuts_of_what_is_not_there": 7,
    "tests/test_local_attention.py::test_form_is_what_it_is_by_hand": 8,
    "tests/test_lookups.py::test_words_are_tokens_however_they_are_looked_up": 7,
    "tests/test_lrp.py::test_a_batch_is_its_samples": 5,
    "tests/test_lrp.py::test_fused_and_explicit_attention_agree": 6,
    "tests/test_masked_pooling.py::test_a_mean_over_real_tokens_reads_these_alone": 12,
    "tests/test_methods.py::test_a_batch_is_its_samples": 20,
    "tests/test_methods.py::test_heads_that_are_computed_one_by_one_are_heads": 2,
    "tests/test_methods.py::test_on_every_kind_of_architecture": 100,
    "tests/test_methods.py::test_scaling_the_target": 3,
    "tests/test_methods.py::test_tokens_may_be_permuted": 20,
    "tests/test_mixing.py::test_a_window_over_words_and_features_makes_words": 2,
    "tests/test_models_given.py::test_a_graph_is_explained_as_its_module": 6,
    "tests/test_neighbours.py::test_attended_rows_are_made_of_neighbours": 7,
    "tests/test_never_stale.py::test_a_change_is_noticed": 12,
    "tests/test_newborn.py::test_tokens_hold_what_is_said_of_them": 4,
    "tests/test_not_attention.py::test_a_sum_of_layers_has_absorbed_all_of_them": 6,
    "tests/test_not_attention.py::test_a_token_that_weighs_its_layers": 3,
    "tests/test_not_attention.py::test_it_is_rejected": 5,
    "tests/test_op_table.py::test_what_is_claimed_is_what_moves": 5,
    "tests/test_oracle.py::test_a_batch_is_its_samples": 6,
    "tests/test_oracle.py::test_detection_finds_each_attention": 24,
    "tests/test_oracle.py::test_float32_is_close_enough": 3,
    "tests/test_oracle.py::test_relevance_and_matrices_are_the_papers": 24,
    "tests/test_pipelines.py::test_each_token_that_is_written": 4,
    "tests/test_pipelines.py::test_generated_tokens_are_explained": 8,
    "tests/test_pipelines.py::test_sequence_to_sequence": 2,
    "tests/test_pipelines.py::test_the_next_token_is_explained": 2,
    "tests/test_pipelines.py::test_zero_shot_image_classification": 2,
    "tests/test_plots.py::test_plot_picks_the_picture_that_fits": 4,
    "tests/test_random_models.py::test_relevance_and_matrices_are_the_oracles": 7,
    "tests/test_riding.py::test_equal_to_rows_after_the_backward": 10,
    "tests/test_riding.py::test_equation_10_looks_back": 2,
    "tests/test_riding.py::test_in_float32_at_least": 2,
    "tests/test_riding.py::test_small_nodes_are_taken_together": 6,
    "tests/test_rows.py::test_on_every_kind_of_architecture": 18,
    "tests/test_schemas.py::test_all_targets_and_methods_are_of_the_schema": 9,
    "tests/test_schemas.py::test_explanations_are_of_the_schema": 2,
    "tests/test_schemas.py::test_what_differs_is_refused": 6,
    "tests/test_scores.py::test_a_single_key_is_attended_in_every_form": 6,
    "tests/test_scores.py::test_a_table_of_relative_keys_is_not_attended": 5,
    "tests/test_scores.py::test_a_temperature_of_channel_attention_is_no_token": 5,
    "tests/test_scores.py::test_chunks_of_one_key_are_explained_as_the_whole": 9,
    "tests/test_scores.py::test_products_that_are_summed_mix_as_a_matrix_does": 9,
    "tests/test_scores.py::test_streams_of_one_token_are_not_attended": 7,
    "tests/test_scores.py::test_the_best_of_many_scores_is_a_choice_of_keys": 7,
    "tests/test_shared_weights.py::test_form_is_what_it_is_by_hand": 7,
    "tests/test_shown_as_given.py::test_a_text_has_its_own_direction": 3,
    "tests/test_shown_as_given.py::test_a_text_is_shown_as_it_was_written": 5,
    "tests/test_shown_as_given.py::test_scripts_without_spaces_are_no_one_word": 3,
    "tests/test_shown_as_given.py::test_without_an_identity_the_read_token_has_a_number_like_any_other": 4,  # noqa: E501
    "tests/test_smoothing.py::test_every_method_is_smoothed_reproducibly_and_sample_by_sample": 5,
    "tests/test_sources.py::test_pretrained_writers": 2,
    "tests/test_taken_off.py::test_what_cancels_is_not_read": 5,
    "tests/test_targets.py::test_equal_to_single_calls": 50,
    "tests/test_targets.py::test_what_a_backward_leaves_is_dropped": 2,
    "tests/test_tasks_of_people.py::test_a_text_and_an_image_are_compared": 2,
    "tests/test_tiles.py::test_tiles_are_the_whole": 5,
    "tests/test_tokens.py::test_tags_cost_tokens_not_activations": 2,
    "tests/test_torch_attention.py::test_a_learned_key_is_a_special_token": 4,
    "tests/test_torch_attention.py::test_flags": 6,
    "tests/test_torch_attention.py::test_flex_attention": 5,
    "tests/test_torch_attention.py::test_masks": 6,
    "tests/test_torch_attention.py::test_transformer": 2,
    "tests/test_torch_attention.py::test_transformer_encoder": 8,
    "tests/test_untouched.py::test_a_restless_model_is_untouched": 3,
    "tests/test_untouched.py::test_untouched_after_each_door": 5,
    "tests/test_weights.py::test_weights_made_by_hand_are_attention": 7,
    "tests/test_whole_attention.py::test_a_matrix_has_the_relevance_as_its_row": 8,
    "tests/test_whole_attention.py::test_a_part_of_special_tokens_alone_is_no_sequence_of_its_own": 6,
    "tests/test_whole_attention.py::test_an_attention_in_chunks_is_the_whole_attention": 6,
    "tests/test_whole_attention.py::test_legrad_gives_nothing_to_hidden_keys": 2,
    "tests/test_without_attention.py::test_mixing_is_warned_of_by_name": 5,
    "tests/test_written_otherwise.py::test_the_same_function": 6,
    "tests/wild/test_wild.py::test_library_is_right": 144,
    "tests/zoo/test_zoo.py::test_library_finds_the_truth": 36,
}
"""Of how many cases of a test the quick run tries one, where all of them would take it some seconds."""


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
