"""Evaluation: which explanations to believe, on a model and data of the user's own."""

from fxplain.evaluation.case import ORDERS, Case
from fxplain.evaluation.dataset import Example
from fxplain.evaluation.evaluate import evaluate
from fxplain.evaluation.evaluator import OF_EXAMPLES
from fxplain.evaluation.explainers import RANDOM
from fxplain.evaluation.faithfulness import STEPS, area
from fxplain.evaluation.metric import Measured, Metric
from fxplain.evaluation.registry import metrics, register_metric
from fxplain.evaluation.result import Comparison, Curve, Evaluation, Key, Row
from fxplain.evaluation.stability import Moved, Stability, stability
from fxplain.removal import REMOVALS, SCORES

__all__ = [
    "OF_EXAMPLES",
    "ORDERS",
    "RANDOM",
    "REMOVALS",
    "SCORES",
    "STEPS",
    "Case",
    "Comparison",
    "Curve",
    "Evaluation",
    "Example",
    "Key",
    "Measured",
    "Metric",
    "Moved",
    "Row",
    "Stability",
    "area",
    "evaluate",
    "metrics",
    "register_metric",
    "stability",
]
