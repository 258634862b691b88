"""Task: what a model is used for, and so what it is given, what is explained, what that is called.

A task is one short class. `encode` says how inputs are made, `goal` what one call explains and
`goals` what each of several explanations explains.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar, get_args, get_type_hints

import torch
from torch import Tensor, nn

from fxplain.arguments import shown
from fxplain.capture import config_of, failure
from fxplain.errors import InputError, TargetError, TaskError
from fxplain.explanation import Contrast, Sum
from fxplain.pipelines.encoding import Encoded, encode, start_decoder
from fxplain.pipelines.given import Given
from fxplain.pipelines.loading import Loaded, modalities_of

__all__ = [
    "Classification",
    "Goal",
    "Run",
    "Task",
    "each_entry",
    "gives_one_number",
    "per_sample",
    "returned_fields",
    "writes",
]


@dataclass(frozen=True)
class Goal:
    """One thing to explain.

    Attributes
    ----------
    target, output
        As `fxplain.explain` takes them.
    names
        What people call the target, one per sample; without them it is named by the model's labels
        or the tokenizer's words.
    texts
        Which of the batch's texts belongs to each sample, where that is not its own.
    classes
        What the output's classes are called, where that is of this run and not of the model.
    """

    target: Any = None
    output: str | None = None
    names: tuple[str, ...] = ()
    texts: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What a task chooses its goals by: a model, what it is given, and what it answers."""

    loaded: Loaded
    given: Given
    encoded: Encoded

    @cached_property
    def output(self) -> Any:
        """The model's output; it runs when this is first asked for."""
        try:
            with torch.no_grad():
                return self.loaded.model(**self.encoded.inputs)
        except Exception as error:
            raise failure(self.loaded.model, error) from error

    def label(self, number: int) -> str:
        """What the model's config calls a class."""
        labels = getattr(config_of(self.loaded.model), "id2label", None) or {}
        return str(labels.get(number, number))

    def is_ordinary(self, row: int) -> Tensor:
        """(tokens,) whether each token of a text is neither padding nor special."""
        ids = self.encoded.inputs["input_ids"][row]
        special = ids.new_tensor(list(self.loaded.tokenizer.all_special_ids))
        return ~torch.isin(ids, special)


KINDS = ("text", "pair", "image", "video", "audio")
"""What may be given as it is."""


class Task:
    """Base class of the tasks.

    Attributes
    ----------
    name
        As transformers calls it.
    about
        One line: what is explained by default.
    auto
        The Auto classes of transformers whose models are for it.
    needs, may
        The kinds of input that it needs, and those that it may have besides: "text", "pair", "image",
        "video", "audio".
    returns
        The fields of a model's output that the answer is read from.
    writes
        Whether the answer is text that the model writes.
    options
        What a caller may say besides: the names of keyword arguments of `goal` and `goals`.
    by_word
        Whether a text that the model writes is explained by word rather than by token.
    points
        Whether it may be shown points of the image.
    sees_videos
        Whether a video may stand for an image, and one text may have several of both.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    auto: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    may: ClassVar[tuple[str, ...]] = ()
    returns: ClassVar[tuple[str, ...]] = ("logits",)
    writes: ClassVar[bool] = False
    options: ClassVar[frozenset[str]] = frozenset()
    by_word: ClassVar[bool] = False
    points: ClassVar[bool] = False
    sees_videos: ClassVar[bool] = False

    def wants(self, loaded: Loaded) -> tuple[str, ...]:
        """The kinds of input that have to be given, of those that the model's processors read."""
        return tuple(k for k in self.needs if k in loaded.reads or k == "pair")

    def answers_in_text(self, loaded: Loaded) -> bool:
        """Whether this model writes the answer."""
        return self.writes and writes(loaded.model)

    def check(self, loaded: Loaded, given: Given) -> None:
        """Say what is missing, too much, or not of equal number.

        Raises
        ------
        InputError
            Naming the kind of input.
        """
        counts = {kind: len(getattr(given, kind)) for kind in KINDS}
        for kind in self.needs:
            seen = kind == "image" and self.sees_videos and counts["video"]
            if not counts[kind] and not seen and not self._is_given(kind, loaded, given):
                raise InputError(f"{self.name} needs {kind}=, and none is given.")
        for kind, count in counts.items():
            known = kind in self.needs + self.may or (kind == "video" and self.sees_videos)
            if count and not known:
                raise InputError(f"{self.name} takes no {kind}: leave {kind}= out.")
        if given.points and not self.points:
            raise InputError(f"{self.name} takes no points: leave points= out.")
        own = {kind: len(given.text) if kind in given.seen else counts[kind] for kind in KINDS}
        self._check_counts({kind: count for kind, count in own.items() if count})

    def _is_given(self, kind: str, loaded: Loaded, given: Given) -> bool:
        """Whether inputs that are handed on stand for a kind that no processor of the model reads."""
        return kind not in loaded.reads and bool(given.inputs)

    def _check_counts(self, counts: dict[str, int]) -> None:
        if self.sees_videos and counts.get("text") == 1:
            return  # pictures of one text
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} of {kind}=" for kind, count in counts.items())
            raise InputError(f"{told}: give as many of each, one per sample.")

    def is_one_sample(self, given: Given) -> bool:
        """Whether no batch is given."""
        if self.sees_videos and len(given.text) == 1:
            return True
        return max(map(len, (given.text, given.image, given.video, given.audio))) <= 1

    def encode(self, loaded: Loaded, given: Given) -> Encoded:
        """The model's inputs."""
        return encode(loaded, given)

    def prompt(self, loaded: Loaded, given: Given) -> Encoded:
        """What the model's ``generate`` is given: a decoder is not started, for it starts itself."""
        return encode(loaded, given)

    def explained(self, run: Run) -> nn.Module:
        """The module that is explained: the model, unless the task puts something on top of it."""
        return run.loaded.model

    def goal(self, run: Run, target: Any, **options: Any) -> Goal:  # noqa: ARG002 - subclasses use them
        """What one call explains: the target that was asked for, or this task's own."""
        return Goal(target)

    def goals(self, run: Run, target: Any, **options: Any) -> list[Goal]:
        """All that there is to explain in one sample."""
        return [self.goal(run, target, **options)]


class Classification(Task):
    """Base class: one class, or each of several labels that may all be right."""

    options = frozenset({"threshold"})

    def goal(self, run: Run, target: Any, threshold: float | None = None, **_: Any) -> Goal:
        """The class asked for, or the predicted one."""
        if threshold is not None:
            raise TaskError(
                "threshold= says how sure each label must be: it is for each() (on the command line "
                "--each) of a model with several labels that may all be right."
            )
        names = ("score",) * run.encoded.batch_size if gives_one_number(run) else ()
        return Goal(target, names=names if target is None else ())

    def goals(self, run: Run, target: Any, threshold: float | None = None, **_: Any) -> list[Goal]:
        """Of a model with several labels all that are likelier than the threshold."""
        if target is not None or not has_several_labels(run.loaded.model):
            return [self.goal(run, target, threshold=threshold)]
        threshold = 0.5 if threshold is None else threshold
        sure = run.output.logits[0].sigmoid()
        order = sure.argsort(descending=True).tolist()
        return [Goal([label]) for label in order if float(sure[label]) > threshold]


def has_several_labels(model: nn.Module) -> bool:
    """Whether labels do not compete: a config says so."""
    return getattr(config_of(model), "problem_type", None) == "multi_label_classification"


def gives_one_number(run: Run) -> bool:
    """Whether the model says how much rather than which (a reranker), and calls it nothing."""
    config: Any = config_of(run.loaded.model)
    return getattr(config, "num_labels", None) == 1 and run.label(0) in ("LABEL_0", "0")


def returned_fields(model_class: Any) -> set[str]:
    """The fields of a model's output, as its forward's annotation tells; none where it does not."""
    told = get_type_hints(model_class.forward).get("return")
    kinds = [kind for kind in get_args(told) or (told,) if is_dataclass(kind)]
    return {field.name for kind in kinds for field in fields(kind)}


class AnyTask(Task):
    """For a model whose task nobody knows: whatever its processors take."""

    name = "any"
    about = "what the model predicts"
    may = ("text", "pair", "image", "audio")
    sees_videos = True

    def wants(self, loaded: Loaded) -> tuple[str, ...]:
        """What the model takes in, or else all that its processors read."""
        seen = modalities_of(type(loaded.model))
        return tuple(k for k in loaded.reads if k in seen) or tuple(loaded.reads)

    def check(self, loaded: Loaded, given: Given) -> None:
        """Something has to be given."""
        super().check(loaded, given)
        if not any((given.text, given.image, given.video, given.audio, given.inputs)):
            wanted = " and ".join(f"{kind}=" for kind in self.wants(loaded))
            raise InputError(f"no input is given: {loaded.name!r} takes {wanted}.")

    def encode(self, loaded: Loaded, given: Given) -> Encoded:
        """A decoder that does not start by itself is started."""
        encoded = super().encode(loaded, given)
        starts = "decoder_input_ids" not in inspect.signature(loaded.model.forward).parameters
        return encoded if starts or _runs(loaded, encoded) else start_decoder(loaded, encoded)

    def goal(self, run: Run, target: Any, **options: Any) -> Goal:
        """What the model predicts, where it predicts anything."""
        if target is None and run.given.text and not run.given.image and _embeds(run.output):
            raise TargetError(
                f"{run.loaded.name!r} makes embeddings and predicts nothing. To explain how alike two "
                f"texts are to it, take task='sentence-similarity' with text= and pair= (on the "
                f"command line --task sentence-similarity --text ... --pair ...); else say with "
                f"target= which number of its output to explain, as a function of it."
            )
        return super().goal(run, target, **options)


def _embeds(output: Any) -> bool:
    """Whether an output is of hidden states alone, of which no number is an answer."""
    names = set(output) if isinstance(output, Mapping) else set()
    return "last_hidden_state" in names and names <= _HIDDEN


_HIDDEN = frozenset(
    ["last_hidden_state", "pooler_output", "hidden_states", "attentions", "past_key_values",
     "cross_attentions", "sentence_embedding"]
)  # fmt: skip
"""What a model without a head returns."""


def _runs(loaded: Loaded, encoded: Encoded) -> bool:
    try:
        with torch.no_grad():
            loaded.model(**encoded.inputs)
    except (ValueError, TypeError, AttributeError, RuntimeError):
        return False
    return True


def writes(model: Any) -> bool:
    """Whether a model generates text, rather than labelling what it is given."""
    return bool(getattr(model, "can_generate", bool)())


def each_entry(target: Any, convert: Callable[[Any], Any]) -> Any:
    """A target of `fxplain.explain` with each class or word in it converted.

    Examples
    --------
    >>> each_entry(["a", Contrast("b", None)], {"a": 0, "b": 1, None: None}.get)
    [0, 1 rather than None]
    """
    if isinstance(target, list):
        if any(
            isinstance(entry, list) and entry and isinstance(entry[0], list) for entry in target
        ):
            raise TargetError(
                f"target={shown(target)} is nested: give one target, or a list of one each."
            )
        return [each_entry(entry, convert) for entry in target]
    if isinstance(target, Contrast):
        return Contrast(each_entry(target.a, convert), each_entry(target.b, convert))
    if isinstance(target, Sum):
        return Sum(*(each_entry(part, convert) for part in target.parts))
    return convert(target)


def per_sample(target: Any, count: int) -> list[Any]:
    """One entry per sample.

    Raises
    ------
    TargetError
        When a list has another number of them.
    """
    if not isinstance(target, list):
        return [target] * count
    if len(target) != count:
        raise TargetError(
            f"{len(target)} targets for a batch of {count}: give one per sample; several of one sample "
            f"are targets=."
        )
    return list(target)
