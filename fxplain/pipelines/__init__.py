"""Pipelines: from raw text, images and recordings to explanations, for pretrained models."""

from fxplain.pipelines.explainer import Explainer, from_pretrained
from fxplain.pipelines.loading import Loaded, WeightsWarning
from fxplain.pipelines.registry import tasks
from fxplain.pipelines.task import Goal, Run, Task

__all__ = [
    "Explainer",
    "Goal",
    "Loaded",
    "Run",
    "Task",
    "WeightsWarning",
    "from_pretrained",
    "tasks",
]
