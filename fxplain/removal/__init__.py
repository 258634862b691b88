"""Removal: a model without some tokens of its inputs, and what it says then."""

from fxplain.removal.explain_units import explain_units
from fxplain.removal.parts import Part, parts_of, removed_by
from fxplain.removal.perturbation import MAX_TOKENS, Perturbation, Removed, of_one
from fxplain.removal.readouts import check_dropped, mask_moves_readout
from fxplain.removal.rows import are_divisible, named_inputs, tiled, with_rows
from fxplain.removal.scores import SCORES, Score, ScoreReader, score_name
from fxplain.removal.tokens import ModalityTokens, Vocabulary, find_tokens, inside_argument
from fxplain.removal.ways import MASKING, REMOVALS, Removal, choose_removal

__all__ = [
    "MASKING",
    "MAX_TOKENS",
    "REMOVALS",
    "SCORES",
    "ModalityTokens",
    "Part",
    "Perturbation",
    "Removal",
    "Removed",
    "Score",
    "ScoreReader",
    "Vocabulary",
    "are_divisible",
    "check_dropped",
    "choose_removal",
    "explain_units",
    "find_tokens",
    "inside_argument",
    "mask_moves_readout",
    "named_inputs",
    "of_one",
    "parts_of",
    "removed_by",
    "score_name",
    "tiled",
    "with_rows",
]
