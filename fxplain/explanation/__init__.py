"""Explanation: from a model and a target to relevance."""

from fxplain.explanation.explain import attention_weights, explain, inspect
from fxplain.explanation.explanation import Explanation, load

__all__ = ["Explanation", "attention_weights", "explain", "inspect", "load"]
