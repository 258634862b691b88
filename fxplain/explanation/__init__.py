"""Explanation: from a model and a target to relevance."""

from fxplain.explanation.explain import attention_weights, explain, inspect
from fxplain.explanation.explanation import Explanation
from fxplain.explanation.merging import Timeline, Word, WordRelevance
from fxplain.explanation.prepare import prepare
from fxplain.explanation.readouts import read_places, readout_place
from fxplain.explanation.saved import load
from fxplain.explanation.shown import SPECIAL, Shown, Special
from fxplain.explanation.target import Contrast, Sum
from fxplain.explanation.units import UNITS, Units

__all__ = [
    "SPECIAL",
    "UNITS",
    "Contrast",
    "Explanation",
    "Shown",
    "Special",
    "Sum",
    "Timeline",
    "Units",
    "Word",
    "WordRelevance",
    "attention_weights",
    "explain",
    "inspect",
    "load",
    "prepare",
    "read_places",
    "readout_place",
]
