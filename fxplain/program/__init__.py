"""Program: attention nodes and routes with their token maps and versions."""

from fxplain.program.attention_graph import AttentionGraph, CaptureInfo, StreamInfo
from fxplain.program.births import BirthSite, birth_sites, sample_axes
from fxplain.program.head_numbers import head_numbers, laid_out
from fxplain.program.modalities import Modality
from fxplain.program.nodes import (
    AttentionNode,
    KeyBlock,
    MapLayout,
    ProgramNode,
    ProgramRoute,
    RouteEntries,
    RouteNode,
)
from fxplain.program.program import Program, build_program
from fxplain.program.streams import Stream

__all__ = [
    "AttentionGraph",
    "AttentionNode",
    "BirthSite",
    "CaptureInfo",
    "KeyBlock",
    "MapLayout",
    "Modality",
    "Program",
    "ProgramNode",
    "ProgramRoute",
    "RouteEntries",
    "RouteNode",
    "Stream",
    "StreamInfo",
    "birth_sites",
    "build_program",
    "head_numbers",
    "laid_out",
    "sample_axes",
]
