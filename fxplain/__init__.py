"""fxplain explains any PyTorch transformer with one call."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fxplain.capture import clear_captures
from fxplain.errors import (
    CaptureError,
    ChangedModelError,
    FxplainError,
    InputError,
    LoadError,
    MethodError,
    ModalityError,
    NoAttentionError,
    NoGradientError,
    NonFiniteError,
    TargetError,
    TaskError,
    TrainingModeError,
)
from fxplain.explanation import Contrast, Explanation, attention_weights, explain, inspect, load
from fxplain.methods import methods
from fxplain.pipelines import Explainer, from_pretrained, tasks
from fxplain.program import AttentionGraph, AttentionNode

try:
    __version__ = version("fxplain")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+source"

__all__ = [
    "AttentionGraph",
    "AttentionNode",
    "CaptureError",
    "ChangedModelError",
    "Contrast",
    "Explainer",
    "Explanation",
    "FxplainError",
    "InputError",
    "LoadError",
    "MethodError",
    "ModalityError",
    "NoAttentionError",
    "NoGradientError",
    "NonFiniteError",
    "TargetError",
    "TaskError",
    "TrainingModeError",
    "attention_weights",
    "clear_captures",
    "explain",
    "from_pretrained",
    "inspect",
    "load",
    "methods",
    "tasks",
]
