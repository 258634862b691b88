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
    VideoClassification,
    ZeroShotImageClassification,
)
from fxplain.pipelines.loading import modalities_of
from fxplain.pipelines.mask_task import MaskGeneration
from fxplain.pipelines.similarity import SentenceSimilarity
from fxplain.pipelines.task import AnyTask, Task, returned_fields
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
        VideoClassification(),
        ZeroShotImageClassification(),
        ObjectDetection(),
        MaskGeneration(),
        ImageToText(),
        VisualQuestionAnswering(),
        SpeechRecognition(),
        SentenceSimilarity(),
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
    if own in known or not task.auto:
        return task, own
    if known:
        return task, known[0]
    listed = [repr(other.name) for other in _listed(config, own)]
    if _can_do(task, own, bool(listed)):
        return task, own
    can = f"it is for {' and '.join(listed)}" if listed else "no task is known to be"
    raise TaskError(
        f"a {own.__name__} is not for {name!r}: {can}. Leave the task out, or name 'any' to explain "
        f"whatever the model predicts."
    )


def _can_do(task: Task, own: Any, is_listed: bool) -> bool:
    """Whether a class that no Auto class lists for a task can do it all the same.

    A model that writes can write for any such task; another one has to return what the task reads,
    and must not be listed for something else.
    """
    if not set(task.needs) - {"pair"} <= modalities_of(own):
        return False
    if task.writes:
        return bool(own.can_generate())
    return not is_listed and set(task.returns) <= returned_fields(own)


def _inferred(config: Any, own: Any) -> Task:
    return next(iter(_listed(config, own)), _TASKS["any"])


def _listed(config: Any, own: Any) -> list[Task]:
    """The tasks that a class is listed for; those alone that give it all it sees, if there are any."""
    listed = [task for task in _TASKS.values() if own in _classes(task, config)]
    seen = modalities_of(own) - {"text"}  # a model that writes says that it takes text in, too
    fitting = [task for task in listed if seen <= set(task.needs + task.may)]
    return fitting or [task for task in _TASKS.values() if _sees_all(task, own, seen)] or listed


def _sees_all(task: Task, own: Any, seen: frozenset[str]) -> bool:
    """Whether a task lets a model that writes see images, which it does and is not listed for."""
    return "image" in seen and task.name == ImageToText.name and _can_do(task, own, is_listed=True)


def _own_class(config: Any) -> Any:
    """The class that a config names, else the bare model's."""
    import transformers

    remote = getattr(config, "auto_map", None) or {}
    named = getattr(config, "architectures", None)
    first = named[0] if isinstance(named, (list, tuple)) and named else None
    architecture = first if isinstance(first, str) else None
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
