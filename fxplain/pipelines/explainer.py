"""The explainer: a model with its processors and its task, explained from raw inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from fxplain.arguments import PATH, TEXT, checked, optional
from fxplain.errors import InputError, LoadError, MethodError, TaskError
from fxplain.explanation import Explanation, explain, inspect
from fxplain.explanation.explain import several
from fxplain.generation import Generation, explain_generation
from fxplain.laws import verify
from fxplain.methods import unit_methods
from fxplain.pipelines.adapters import find_adapter
from fxplain.pipelines.encoding import Encoded, padded_left
from fxplain.pipelines.given import Given, gather
from fxplain.pipelines.loading import (
    HUB_OPTIONS,
    Loaded,
    Source,
    head_comes_later,
    load_config,
    load_model,
    load_processors,
    moved,
)
from fxplain.pipelines.provenance import provenance
from fxplain.pipelines.registry import find_task, tasks
from fxplain.pipelines.task import Goal, Run, Task, writes
from fxplain.program import AttentionGraph
from fxplain.removal import explain_units
from fxplain.verification import Verification

__all__ = ["Explainer", "from_pretrained"]

RAW = ("text", "pair", "image", "video", "audio", "inputs", "truncation", "pad_to", "points")
"""What a call may be given."""


ELSEWHERE = {
    "question": "text", "context": "pair", "text_pair": "pair", "candidate_labels": "text",
    "images": "image", "videos": "video",
}  # fmt: skip
"""What the pipelines and processors of transformers call some of these."""


def _check_names(options: Mapping[str, Any]) -> None:
    told = [f"{name}= is {own}= here" for name, own in ELSEWHERE.items() if name in options]
    if told:
        raise InputError(f"{', and '.join(told)}.")


_OWN = {"config", "output_loading_info", "pretrained_model_name_or_path"}
"""What `from_pretrained` gives the model's class itself."""


@checked(name_or_path=PATH.raising(LoadError), task=optional(TEXT.raising(TaskError)))
def from_pretrained(
    name_or_path: str | Path,
    task: str | None = None,
    *,
    device: str | torch.device | None = None,
    **kwargs: Any,
) -> Explainer:
    """An explainer that takes raw text, images, videos and recordings.

    Parameters
    ----------
    name_or_path
        A ``save_pretrained`` folder or a hub id; of an adapter that PEFT saved, too, which names the
        model below.
    task
        One of `fxplain.tasks()`; by default the one that the model was made for, as its config and
        transformers' Auto classes tell.
    device
        Where the model is moved; its precision stays that of the checkpoint.
    **kwargs
        For the ``from_pretrained`` of the model's class (``dtype``, ``attn_implementation``); those
        that say where files come from (``revision``, ``token``, ``trust_remote_code``, ...) for the
        processors, too.

    Returns
    -------
    Explainer
        Call it with what the model takes.

    Raises
    ------
    LoadError
        When there is no such model, or it cannot be loaded.
    TaskError
        When there is no such task, or the model is not for it.

    Examples
    --------
    >>> from fxplain.demo import digits
    >>> explainer = from_pretrained(digits.MODEL_FOLDER)
    >>> explainer.task.name
    'visual-question-answering'
    """
    for name in _OWN & kwargs.keys():
        raise LoadError(
            f"{name}= is no option here: it is read from the folder or repository itself."
        )
    source = Source.find(name_or_path, {k: v for k, v in kwargs.items() if k in HUB_OPTIONS})
    adapter = find_adapter(source)
    below = adapter.base if adapter else source
    config = load_config(below)
    chosen, model_class = find_task(adapter.task if adapter and task is None else task, config)
    options = {k: v for k, v in kwargs.items() if k not in HUB_OPTIONS}
    if adapter:
        with head_comes_later():
            model = load_model(below, config, model_class, **options)
        model = adapter.on(model)
    else:
        model = load_model(source, config, model_class, **options)
    if device is not None:
        model = moved(model, device)
    return Explainer(load_processors(source, model, below), chosen)


class Question(NamedTuple):
    """What is explained of some samples.

    Attributes
    ----------
    model
        That which is explained: of two texts' similarity the encoder with the cosine on top.
    inputs
        By argument name.
    target, output
        As `fxplain.explain` takes them; None for the predicted class.
    """

    model: nn.Module
    inputs: dict[str, Any]
    target: Any
    output: str | None


class Explainer:
    """A model with what reads its inputs, and the task that it is for.

    Attributes
    ----------
    loaded
        The model and its processors.
    task
        What is explained by default, and what the inputs are.
    """

    def __init__(self, loaded: Loaded, task: Task) -> None:
        self.loaded = loaded
        self.task = task

    @property
    def model(self) -> torch.nn.Module:
        """The model, in eval mode."""
        return self.loaded.model

    @property
    def wants(self) -> tuple[str, ...]:
        """The kinds of input that have to be given: "text", "pair", "image", "video", "audio"."""
        return self.task.wants(self.loaded)

    def __repr__(self) -> str:
        return f"<Explainer of {type(self.model).__name__} for {self.task.name}>"

    def __call__(
        self,
        *positional: Any,
        text: Any = None,
        pair: Any = None,
        image: Any = None,
        video: Any = None,
        audio: Any = None,
        inputs: Mapping[str, Any] | None = None,
        truncation: bool | None = None,
        pad_to: int | None = None,
        points: Any = None,
        target: Any = None,
        targets: Sequence[Any] | None = None,
        method: str = "auto",
        **options: Any,
    ) -> Any:
        """Explain one target per sample: by default what the model answers.

        Parameters
        ----------
        *positional
            What the task needs, in its order, where names would only be longer.
        text
            A string, or a list of them for a batch; lists of words in the place of strings keep these
            words as they are; or the messages of a conversation, or a list of conversations, which
            the model's chat template writes down, with images and videos in them.
        pair
            The second text that goes with each: a hypothesis, a question's context.
        image
            A path, a PIL image, an array or a tensor (see `fxplain.pipelines.media.open_image`), or
            a list of them: one for each text, or all of one text.
        video
            A video file, an animated GIF, a folder of images, an array of frames, or a list of images
            (see `fxplain.pipelines.video.open_video`), or a list of these.
        audio
            A path to a .wav file, an array of samples at the model's rate, a mapping with "array" and
            "sampling_rate", or a list of them.
        inputs
            Further inputs of the model by argument name, such as the boxes' features of a model
            that has no image processor.
        truncation
            Of a text that is longer than the model takes: True cuts it (of a pair, the longer; where a
            decoder writes on, with room for that), False gives it to the model as it is; by default
            it is an error.
        pad_to
            How many tokens each text is padded to, by default as many as the longest of a batch has.
            What was found out of one length and number of samples is used again for the next batch
            of both, so a long run of batches is quicker in few lengths.
        points
            Places in the image, (x, y) in its pixels, whose mask is explained.
        target
            What `fxplain.explain` takes; besides, a word of the vocabulary where words are predicted,
            a candidate text, an answer in the context.
        targets
            In the place of `target`, several of what it may be: they share one forward.
        method
            One of `fxplain.methods()` or `fxplain.unit_methods()`; by default "auto", which chooses
            by the kind of model.
        **options
            Those of the task (``word=``, ``threshold=``), of the method, and ``engine=`` and
            ``output=`` as `fxplain.explain` takes them.

        Returns
        -------
        Explanation or list of Explanation
            With names for targets, words and, of recordings, times. A list where `targets` are given.

        Raises
        ------
        InputError
            When an input is missing, too much, or of the wrong type.
        TargetError
            When the target names nothing that the model could answer.
        FxplainError
            As `fxplain.explain` raises.
        """
        _check_names(options)
        raw = {"text": text, "pair": pair, "image": image, "video": video, "audio": audio}
        raw |= {"inputs": inputs}
        raw |= {"truncation": truncation, "pad_to": pad_to, "points": points}
        run = self._run(self._given(positional, raw))
        own, rest = self._split(options)
        if targets is None:
            return self._explained(run, [self.task.goal(run, target, **own)], method, rest)[0]
        goals = [self.task.goal(run, each, **own) for each in several(target, targets)]
        return self._explained(run, goals, method, rest)

    def each(
        self, *positional: Any, target: Any = None, method: str = "auto", **keywords: Any
    ) -> list[Explanation]:
        """Explain all that the model says of one sample, each by itself.

        Every entity, every detection, start and end of an answer, every mask, every token of a text
        that the model writes: `fxplain.tasks()` tells what. Parameters are those of a call, and of
        `generate` where the model writes and no target is given; what is found may be nothing.

        Returns
        -------
        list of Explanation

        Raises
        ------
        InputError
            When several samples are given, for each may have another number of targets.
        """
        _check_names(keywords)
        raw = {kind: keywords.pop(kind, None) for kind in RAW}
        given = self._given(positional, raw)
        if not self.task.is_one_sample(given):
            raise InputError("several samples are given: explain each target of one at a time.")
        if target is None and self.task.answers_in_text(self.loaded):
            return list(self._written(given, method=method, **keywords).explanations)
        run = self._run(given)
        own, rest = self._split(keywords)
        return self._explained(run, self.task.goals(run, target, **own), method, rest)

    def generate(
        self,
        *positional: Any,
        text: Any = None,
        image: Any = None,
        video: Any = None,
        audio: Any = None,
        inputs: Mapping[str, Any] | None = None,
        truncation: bool | None = None,
        max_new_tokens: int = 20,
        targets: Any = None,
        method: str = "auto",
        **options: Any,
    ) -> Generation:
        """Let the model write, and explain every token of what it wrote.

        Parameters are those of a call, for what is given, and those of `fxplain.explain_generation`:
        `targets`, ``generated=``, ``score=``, ``seed=``, and what the model's ``generate`` takes. What
        is heard in one recording is explained by word, where `targets` do not say otherwise.

        Raises
        ------
        TaskError
            When the model does not write.
        FxplainError
            As a call, and `fxplain.explain_generation`, raise.
        """
        if not writes(self.model):
            raise TaskError(
                f"{type(self.model).__name__} does not write text: explain its answer by a "
                f"call (on the command line: fxplain explain)."
            )
        _check_names(options)
        raw = {"text": text, "pair": None, "image": image, "video": video, "audio": audio}
        raw["inputs"] = inputs
        raw["truncation"] = truncation
        return self._written(
            self._given(positional, raw),
            max_new_tokens=max_new_tokens,
            targets=targets,
            method=method,
            **options,
        )

    def is_one_sample(self, *positional: Any, **raw: Any) -> bool:
        """Whether such inputs are no batch: several texts, or pictures, may be of one sample."""
        return self.task.is_one_sample(self._raw(positional, raw))

    def inputs(self, *positional: Any, **raw: Any) -> dict[str, Any]:
        """The model's inputs, by argument name, as the processors make them of what a call takes."""
        return self._run(self._raw(positional, raw)).encoded.inputs

    def question(self, *positional: Any, **raw: Any) -> Question:
        """What a call without a target explains, as `fxplain.evaluate` takes it."""
        run = self._run(self._raw(positional, raw))
        goal = self.task.goal(run, None)
        return Question(self.task.explained(run), run.encoded.inputs, goal.target, goal.output)

    def inspect(
        self,
        *positional: Any,
        verify: str = "light",
        strict: bool = False,
        recheck: bool = False,
        **raw: Any,
    ) -> AttentionGraph:
        """What `fxplain.inspect` detects in the model, given such inputs."""
        run = self._run(self._raw(positional, raw))
        model = self.task.explained(run)
        return inspect(model, run.encoded.inputs, verify=verify, strict=strict, recheck=recheck)

    def verify(self, *positional: Any, level: Any = "full", **raw: Any) -> Verification:
        """What `fxplain.verify` finds, given such inputs."""
        run = self._run(self._raw(positional, raw))
        return verify(self.task.explained(run), run.encoded.inputs, level=level)

    # -- the steps of a call --------------------------------------------------------------------------

    def _run(self, given: Given) -> Run:
        return Run(self.loaded, given, self.task.encode(self.loaded, given))

    def _raw(self, positional: Sequence[Any], raw: Mapping[str, Any]) -> Given:
        """Inputs alone, of which some may be left out."""
        unknown = set(raw) - set(RAW)
        if unknown:
            raise InputError(f"{unknown.pop()!r} is no input; there are: {', '.join(RAW)}.")
        return self._given(positional, {kind: raw.get(kind) for kind in RAW})

    def _given(self, positional: Sequence[Any], raw: dict[str, Any]) -> Given:
        for kind, value in zip(self._order(positional), positional, strict=True):
            if raw[kind] is not None:
                raise InputError(f"{kind} is given twice: by name, and as a positional argument.")
            raw[kind] = value
        given: Given = gather(self.loaded, **raw)
        self.task.check(self.loaded, given)
        return given

    def _order(self, positional: Sequence[Any]) -> tuple[str, ...]:
        """Which kinds of input positional arguments are."""
        reads = self.loaded.reads
        own = [
            kind for kind in self.task.may if kind in reads or (kind == "pair" and "text" in reads)
        ]
        kinds = (*self.task.needs, *own)
        if len(positional) > len(kinds):
            raise InputError(
                f"{len(positional)} positional inputs are given; {self.task.name} takes "
                f"{', '.join(f'{kind}=' for kind in kinds)}."
            )
        return kinds[: len(positional)]

    def _split(self, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The task's options, and those that `explain` takes."""
        own = {k: v for k, v in options.items() if k in self.task.options}
        for name in options.keys() - own.keys():
            others = [task.name for task in tasks().values() if name in task.options]
            if others:
                raise TaskError(
                    f"{self.task.name} has no option {name}=: it is of {', '.join(others)} "
                    f"(task=, on the command line --task)."
                )
        return own, {k: v for k, v in options.items() if k not in own}

    def _written(self, given: Given, max_new_tokens: int = 20, **options: Any) -> Generation:
        """The one place where generated text is explained."""
        if isinstance(max_new_tokens, int):  # else refused where it is used
            given = replace(given, room=max(max_new_tokens, 0))
        if options.get("targets") is None and self.task.by_word and self.task.is_one_sample(given):
            options["targets"] = "words"
        with padded_left(self.loaded):
            encoded = self.task.prompt(self.loaded, given)
        generation = explain_generation(
            self.model,
            encoded.inputs,
            max_new_tokens,
            tokenizer=self.loaded.tokenizer,
            **options,
        )
        known = provenance(self.loaded, generation.explanations[0])
        told = tuple(
            replace(e, seconds=encoded.seconds, originals=encoded.originals, provenance=known)
            for e in generation.explanations
        )
        return replace(generation, explanations=told)

    def _explained(
        self, run: Run, goals: Sequence[Goal], method: str, options: dict[str, Any]
    ) -> list[Explanation]:
        """The one place where explanations are made."""
        told = []
        for own_output, group in groupby(goals, key=lambda goal: goal.output):
            output = options.get("output")
            output = own_output if output is None else output
            shared = list(group)
            given = {**options, "output": output, "tokenizer": self.loaded.tokenizer}
            made = self._explain(run, [goal.target for goal in shared], method, given)
            told += [
                self._told(explanation, run.encoded, goal)
                for explanation, goal in zip(made, shared, strict=True)
            ]
        return told

    def _explain(
        self, run: Run, targets: list[Any], method: str, given: dict[str, Any]
    ) -> list[Explanation]:
        """Several targets share one forward; one alone keeps what its matrices are made of."""
        model, inputs = self.task.explained(run), run.encoded.inputs
        TEXT.raising(MethodError).check("method", method)
        by_units = unit_methods().get(method)
        if by_units is not None:
            own = {name: value for name, value in given.items() if name in by_units.options}
            rest = {name: value for name, value in given.items() if name not in own}
            options = by_units.with_options(own)
            words = run.encoded.words
            return explain_units(model, inputs, targets, by_units, options, words=words, **rest)
        if len(targets) == 1:
            return [explain(model, inputs, targets[0], method, **given)]
        return explain(model, inputs, targets=targets, method=method, **given)

    def _told(self, explanation: Explanation, encoded: Encoded, goal: Goal) -> Explanation:
        """With what the inputs and the task tell: names, words, times."""
        words = {
            name: [rows[i] for i in goal.texts] if goal.texts else rows
            for name, rows in encoded.words.items()
            if name in explanation.relevance
        }
        return replace(
            explanation,
            target_names=goal.names or explanation.target_names,
            class_name=goal.classes.__getitem__ if goal.classes else explanation.class_name,
            word_pieces={
                **explanation.word_pieces,
                **{n: rows for n, rows in words.items() if self._fit(explanation, n, rows)},
            },
            seconds=encoded.seconds,
            originals=encoded.originals,
            provenance=provenance(self.loaded, explanation),
        )

    def _fit(self, explanation: Explanation, name: str, rows: Sequence[Any]) -> bool:
        """Whether the words are of the tokens as they are: no soft prompt came between."""
        return not explanation.special.get(name) and all(
            sum(len(word.tokens) for word in words) == explanation.relevance[name].shape[1]
            for words in rows
        )
