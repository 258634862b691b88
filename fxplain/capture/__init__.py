"""Capture: from a module and its inputs to a functional ATen graph."""

from fxplain.capture.cache import capture, clear_captures
from fxplain.capture.captured import (
    Capture,
    InputSlot,
    OutputLayout,
    StateSlot,
    module_path,
    operation_name,
    version_of,
)
from fxplain.capture.chance import chance_kept, draws
from fxplain.capture.inputs import ModelInputs, bind_inputs, on_axis
from fxplain.capture.locks import borrowed
from fxplain.capture.memo import Memo
from fxplain.capture.state import tensors_of

__all__ = [
    "Capture",
    "InputSlot",
    "Memo",
    "ModelInputs",
    "OutputLayout",
    "StateSlot",
    "bind_inputs",
    "borrowed",
    "capture",
    "chance_kept",
    "clear_captures",
    "draws",
    "module_path",
    "on_axis",
    "operation_name",
    "tensors_of",
    "version_of",
]
