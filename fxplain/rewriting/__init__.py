"""Rewriting: graph passes that change what the backward pass carries."""

from fxplain.rewriting.biases import biases_noted, with_biases
from fxplain.rewriting.corrected import corrected_rewriting
from fxplain.rewriting.lrp import RULE_SETS, lrp_rewriting
from fxplain.rewriting.lrp_rules import noting
from fxplain.rewriting.rewriting import PLAIN, Rewriting

__all__ = [
    "PLAIN",
    "RULE_SETS",
    "Rewriting",
    "biases_noted",
    "corrected_rewriting",
    "lrp_rewriting",
    "noting",
    "with_biases",
]
