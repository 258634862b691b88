"""The table of tasks: by name, and by what transformers' Auto classes know of a model's config."""

from __future__ import annotations

import difflib
from typing import Any

from fxplain.errors import TaskError
from fxplain.pipelines.generation_tasks import (
    ImageToText,
    SequenceToSequence,
    SpeechRecognition,
    TextGeneration,
    VisualQuestionAnswering,
)
from fxplain.pipelines.image_tasks import (
    ImageClassification,
    ObjectDetection,
    ZeroShotImageClassification,
)
from fxplain.pipelines.loading import modalities_of
from fxplain.pipelines.task import AnyTask, Task
from fxplain.pipelines.text_tasks import (
    FillMask,
    QuestionAnswering,
    TextClassification,
    TokenClassification,
)

__all__ = ["find_task", "tasks"]

# A model that several tasks know (an Auto class's list is no more than a list) is for the first.
_TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        TextClassification(),
        TokenClassification(),
        QuestionAnswering(),
        TextGeneration(),
        SequenceToSequence(),
        FillMask(),
        ImageClassification(),
        ZeroShotImageClassification(),
        ObjectDetection(),
        ImageToText(),
        VisualQuestionAnswering(),
        SpeechRecognition(),
        AnyTask(),
    )
}


def tasks() -> dict[str, Task]:
    """All tasks by name."""
    return dict(_TASKS)


def find_task(name: str | None, config: Any) -> tuple[Task, Any]:
    """The task, and the class to load the model with.

    Parameters
    ----------
    name
        A task's name; None for the one that the model's class is for, as transformers' Auto classes
        list it, and "any" where they list it for none.
    config
        The model's config: its ``architectures`` name its class.

    Raises
    ------
    TaskError
        When there is no such task, or the model is not for it.
    """
    own = _own_class(config)
    if name is None:
        return _inferred(config, own), own
    if name not in _TASKS:
        close = difflib.get_close_matches(str(name), _TASKS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise TaskError(f"there is no task {name!r}.{hint} There are: {', '.join(_TASKS)}.")
    task = _TASKS[name]
    known = _classes(task, config)
    if own in known or (not known and set(task.needs) - {"pair"} <= modalities_of(own)):
        return task, own
    if not known:
        raise TaskError(
            f"a {own.__name__} is not for {name!r}: that needs {' and '.join(task.needs)}, and a "
            f"model that one of {', '.join(task.auto)} knows."
        )
    return task, known[0]


def _inferred(config: Any, own: Any) -> Task:
    listed = [task for task in _TASKS.values() if own in _classes(task, config)]
    seen = modalities_of(own) - {"text"}  # a model that writes says that it takes text in, too
    fitting = [task for task in listed if seen <= set(task.needs + task.may)]
    return next(iter(fitting or listed), _TASKS["any"])


def _own_class(config: Any) -> Any:
    """The class that a config names, else the bare model's."""
    import transformers

    remote = getattr(config, "auto_map", None) or {}
    architecture = next(iter(getattr(config, "architectures", None) or ()), None)
    for auto, code in remote.items():
        if architecture and code.endswith(f".{architecture}") and hasattr(transformers, auto):
            return getattr(transformers, auto)
    return getattr(transformers, architecture or "", None) or transformers.AutoModel


def _classes(task: Task, config: Any) -> list[Any]:
    """The classes that the task's Auto classes would make of such a config.

    Code from a repository names the Auto class itself, which then stands for its model's class.
    """
    import transformers

    found: list[Any] = []
    for name in task.auto:
        auto = getattr(transformers, name)
        if name in (getattr(config, "auto_map", None) or {}):
            found.append(auto)
        if type(config) in auto._model_mapping:
            classes = auto._model_mapping[type(config)]
            found += classes if isinstance(classes, tuple) else [classes]
    return found
