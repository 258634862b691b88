"""Generation: what each token of a generated text draws on, in the inputs and in the text so far."""

from fxplain.generation.activation_maps import ActivationMaps
from fxplain.generation.explain_generation import explain_generation
from fxplain.generation.generation import EARLIER, GeneratedToken, Generation
from fxplain.generation.outputs import Span
from fxplain.generation.sequence import text_input
from fxplain.generation.sources import Source, Sources
from fxplain.generation.writing import decoder_start, positions, written_behind

__all__ = [
    "EARLIER",
    "ActivationMaps",
    "GeneratedToken",
    "Generation",
    "Source",
    "Sources",
    "Span",
    "decoder_start",
    "explain_generation",
    "positions",
    "text_input",
    "written_behind",
]
