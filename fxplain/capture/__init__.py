"""Capture: from a module and its inputs to a functional ATen graph."""

from fxplain.capture.autocasting import NO_AUTOCAST, Autocast
from fxplain.capture.cache import capture, clear_captures, share_captures
from fxplain.capture.captured import (
    Capture,
    InputSlot,
    OutputLayout,
    StateSlot,
    attribute_of,
    called,
    module_path,
    operation_name,
)
from fxplain.capture.chance import RandomState, chance_kept, draws
from fxplain.capture.comparison import failure
from fxplain.capture.elsewhere import ELSEWHERE
from fxplain.capture.inputs import ModelInputs, bind_inputs, on_axis, tables_as_tensors
from fxplain.capture.lean import LeanCalls
from fxplain.capture.locks import borrowed
from fxplain.capture.mask_rows import MaskRows
from fxplain.capture.masks import (
    CAUSAL,
    FUSED,
    fused_arguments,
    fused_attention,
    needed_mask,
)
from fxplain.capture.memo import Memo
from fxplain.capture.models import as_module
from fxplain.capture.residue import source_goes_with
from fxplain.capture.sharded import on_all_processes
from fxplain.capture.state import AsItWas, config_of, first_parameter, tensors_of, version_of
from fxplain.capture.structure import leaves_of, opens_objects, with_leaves
from fxplain.capture.trial import model_tried

__all__ = [
    "CAUSAL",
    "ELSEWHERE",
    "FUSED",
    "NO_AUTOCAST",
    "AsItWas",
    "Autocast",
    "Capture",
    "InputSlot",
    "LeanCalls",
    "MaskRows",
    "Memo",
    "ModelInputs",
    "OutputLayout",
    "RandomState",
    "StateSlot",
    "as_module",
    "attribute_of",
    "bind_inputs",
    "borrowed",
    "called",
    "capture",
    "chance_kept",
    "clear_captures",
    "config_of",
    "draws",
    "failure",
    "first_parameter",
    "fused_arguments",
    "fused_attention",
    "leaves_of",
    "model_tried",
    "module_path",
    "needed_mask",
    "on_all_processes",
    "on_axis",
    "opens_objects",
    "operation_name",
    "share_captures",
    "source_goes_with",
    "tables_as_tensors",
    "tensors_of",
    "version_of",
    "with_leaves",
]
