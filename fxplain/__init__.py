"""fxplain explains any PyTorch transformer with one call."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fxplain.capture import clear_captures
from fxplain.circuits import Circuit, circuit
from fxplain.corpora import Corpus, CorpusExplainer, CorpusRow, explain_corpus, load_corpus
from fxplain.errors import (
    CaptureError,
    ChangedModelError,
    EvaluationError,
    FxplainError,
    InputError,
    LoadError,
    MethodError,
    MissingExtraError,
    ModalityError,
    NoAttentionError,
    NoGradientError,
    NonFiniteError,
    PlotError,
    SaveError,
    TargetError,
    TaskError,
    TrainingModeError,
    VerificationError,
)
from fxplain.evaluation import Evaluation, Example, Metric, evaluate, metrics, register_metric
from fxplain.explanation import (
    Contrast,
    Explanation,
    Sum,
    attention_weights,
    explain,
    inspect,
    load,
    prepare,
)
from fxplain.generation import Generation, Span, explain_generation
from fxplain.inside import direct_contributions, logit_lens
from fxplain.interventions import Cut, Effects, intervene
from fxplain.laws import verify
from fxplain.methods import methods, smoothing_methods, unit_methods
from fxplain.pipelines import Explainer, from_pretrained, tasks
from fxplain.presentation import compare, to_html
from fxplain.program import AttentionGraph, AttentionNode
from fxplain.verification import Verification

if TYPE_CHECKING:
    from fxplain.plots import plot_generation as plot_generation
    from fxplain.plots import plot_graph as plot_graph
    from fxplain.plots import plot_image as plot_image
    from fxplain.plots import plot_matrix as plot_matrix
    from fxplain.plots import plot_text as plot_text

try:
    __version__ = version("fxplain")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+source"

__all__ = [
    "AttentionGraph",
    "AttentionNode",
    "CaptureError",
    "ChangedModelError",
    "Circuit",
    "Contrast",
    "Corpus",
    "CorpusExplainer",
    "CorpusRow",
    "Cut",
    "Effects",
    "Evaluation",
    "EvaluationError",
    "Example",
    "Explainer",
    "Explanation",
    "FxplainError",
    "Generation",
    "InputError",
    "LoadError",
    "MethodError",
    "Metric",
    "MissingExtraError",
    "ModalityError",
    "NoAttentionError",
    "NoGradientError",
    "NonFiniteError",
    "PlotError",
    "SaveError",
    "Span",
    "Sum",
    "TargetError",
    "TaskError",
    "TrainingModeError",
    "Verification",
    "VerificationError",
    "attention_weights",
    "circuit",
    "clear_captures",
    "compare",
    "direct_contributions",
    "evaluate",
    "explain",
    "explain_corpus",
    "explain_generation",
    "from_pretrained",
    "inspect",
    "intervene",
    "load",
    "load_corpus",
    "logit_lens",
    "methods",
    "metrics",
    "prepare",
    "register_metric",
    "smoothing_methods",
    "tasks",
    "to_html",
    "unit_methods",
    "verify",
]

_PLOTS = ("plot_generation", "plot_graph", "plot_image", "plot_matrix", "plot_text")
"""Not in `__all__`: ``from fxplain import *`` works without matplotlib."""


def __getattr__(name: str) -> Any:
    """The plots, whose matplotlib is imported when the first of them is asked for."""
    if name in _PLOTS:
        return getattr(import_module("fxplain.plots"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLOTS})
