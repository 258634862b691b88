"""Choosing a method: ``method="auto"`` takes what measured best on the kind of model at hand.

The numbers behind each choice are those of ``docs/results/real.md`` and ``docs/results.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from fxplain.capture import Capture, ModelInputs, operation_name
from fxplain.explanation.outputs import choose_output
from fxplain.explanation.words_read import vocabulary_sizes
from fxplain.methods import Method, methods
from fxplain.program import Program

__all__ = ["Choice", "Kind", "choose", "measured_below_chance"]

CORRECTED = {"gradients": "corrected"}
MEASURED = {**CORRECTED, "attention": "half"}
"""The options with which methods were measured, of those that users may ask for otherwise."""
NORMS = ("layer_norm", "native_layer_norm", "rms_norm")


@dataclass(frozen=True)
class Kind:
    """What about a model decides which method serves it.

    Attributes
    ----------
    reads_words
        Whether all that it reads is integers that are looked up: words, or parts of molecules.
    has_one_stream
        Whether nothing attends to another sequence: no decoder, no co-attention.
    writes
        Whether the explained output is one number for each entry of a vocabulary that it reads, too.
    is_post_norm
        Whether its layers normalise the residual stream itself, as BERT's do.
    tags_words
        Whether the explained output has a place for each of several words, and classes at each.
    hears
        Whether some of what it reads is a sequence of frames: numbers that lie on no grid.
    """

    reads_words: bool
    has_one_stream: bool
    writes: bool
    is_post_norm: bool
    tags_words: bool
    hears: bool

    @classmethod
    def of(cls, bound: ModelInputs, captured: Capture, program: Program, output: Any) -> Kind:
        """The kind of a captured model."""
        floating = dict(
            zip(bound.names, (x.is_floating_point() for x in bound.leaves), strict=True)
        )
        names = [m.name.split("@")[0] for m in program.modalities]
        kinds = {node.info.kind for node in program.nodes.values()}
        return cls(
            reads_words=all(name in floating and not floating[name] for name in names),
            has_one_stream=not kinds & {"co", "encoder-decoder"},
            writes=_writes(program, captured, output, set(names)),
            tags_words=_tags(program, captured, output),
            hears=any(
                floating.get(name, False) and not m.grid
                for name, m in zip(names, program.modalities, strict=True)
            ),
            is_post_norm=program.memo.made("post-norm", lambda: _is_post_norm(captured)),
        )

    @property
    def classifies_words(self) -> bool:
        """Whether it is an encoder of words with classes, or a score, at its end."""
        return self.reads_words and self.has_one_stream and not self.writes

    @property
    def writes_what_it_hears(self) -> bool:
        """Whether it is a decoder of words over an encoder of frames, as of speech."""
        return self.hears and self.writes and not self.has_one_stream


def _tags(program: Program, captured: Capture, output: Any) -> bool:
    if output is None and not any(program.flow.outputs):
        return False
    return len(program.flow.shapes[choose_output(captured, program, output)]) == 3


def _writes(program: Program, captured: Capture, output: Any, names: set[str]) -> bool:
    if output is None and not any(program.flow.outputs):
        return False
    shape = program.flow.shapes[choose_output(captured, program, output)]
    sizes = program.memo.made("vocabularies", lambda: set(vocabulary_sizes(captured, names)))
    return bool(shape) and shape[-1] in sizes


def _is_post_norm(captured: Capture) -> bool:
    """Whether most sums that norms read are read by nothing else: a residual stream would be."""
    alone = [len(node.users) == 1 for node in _normed_sums(captured.graph_module.graph)]
    return 2 * sum(alone) > len(alone)


def _normed_sums(graph: fx.Graph) -> Iterator[fx.Node]:
    for node in graph.nodes:
        if node.op == "call_function" and operation_name(node) in NORMS:
            read = node.args[0]
            is_call = isinstance(read, fx.Node) and read.op == "call_function"
            if is_call and operation_name(read) in ("add", "add_"):
                yield read


@dataclass(frozen=True)
class Choice:
    """A method with its options, and why it was chosen, in a sentence."""

    method: Method
    options: Mapping[str, Any]
    why: str


def choose(kind: Kind, given: Mapping[str, Any]) -> Choice:
    """What ``method="auto"`` stands for on a kind of model.

    Parameters
    ----------
    kind
        Of the model.
    given
        Options that the user asked for: a method that lacks one of them is not chosen.
    """
    name, why = next(
        (name, why)
        for name, why in _ranked(kind)
        if name == "generic" or given.keys() <= methods()[name].options.keys()
    )
    method = methods()[name]
    if any(given.get(option, value) != value for option, value in MEASURED.items()):
        why += ", though not with these options"
    return Choice(method, method.with_options({**CORRECTED, **given}), why)


def _ranked(kind: Kind) -> Iterator[tuple[str, str]]:
    """Methods for a kind of model, the best first, each with its reason."""
    if kind.classifies_words:
        yield (
            "input_x_gradient",
            "on encoders that classify words it measured best among methods of one gradient",
        )
        yield "generic", "the best with relevancy matrices on encoders that classify words"
    elif kind.reads_words and kind.has_one_stream:
        yield "generic", "the best rule of the paper's for words that are predicted from words"
    elif kind.reads_words and kind.writes:
        yield (
            "input_x_gradient",
            "where a decoder of words reads an encoder of words it measured best among methods of one "
            "gradient",
        )
        yield "generic", "the best with relevancy matrices where a decoder reads an encoder"
    elif kind.reads_words:
        yield (
            "generic",
            "of one gradient the best measured on average where several inputs are read",
        )
    else:
        yield (
            "generic",
            "of one gradient the best measured, or not to be told from it, where pictures, sound or "
            "features are read",
        )


@dataclass(frozen=True)
class _Measured:
    """A method that measured no better than chance on a kind of model.

    Attributes
    ----------
    method, options
        Which, and with which options; others are not meant.
    of
        Whether a kind of model is the one.
    said
        What is to be said of it.
    """

    method: str
    options: Mapping[str, Any]
    of: Callable[[Kind], bool]
    said: str


_NO_BETTER = (
    _Measured(
        "input_x_gradient",
        {"gradients": "plain"},
        lambda kind: kind.is_post_norm and kind.classifies_words,
        "input_x_gradient with plain gradients measured below chance on encoders of words that "
        'normalise the residual stream, as this one does: take gradients="corrected"',
    ),
    _Measured(
        "lrp",
        {},
        lambda kind: kind.is_post_norm and kind.classifies_words,
        "lrp measured no better than chance on encoders of words that normalise the residual stream, "
        'as this one does: take method="auto"',
    ),
    _Measured(
        "input_x_gradient",
        {"gradients": "corrected"},
        lambda kind: kind.writes_what_it_hears,
        "input_x_gradient with corrected gradients points at spoken words no better than chance: take "
        'method="auto"',
    ),
    _Measured(
        "rollout",
        {},
        lambda kind: kind.tags_words and kind.classifies_words,
        "rollout measured below chance on encoders that tag words, as this one does, for it looks at "
        'no target: take method="auto"',
    ),
)
"""From ``docs/results/real.md``."""


def measured_below_chance(
    method: Method, options: Mapping[str, Any], kind_of: Callable[[], Kind]
) -> tuple[str, ...]:
    """What is to be said of a method that measured no better than chance on a kind of model.

    Parameters
    ----------
    method, options
        The method, with all of its options.
    kind_of
        Tells the kind, where there is something to say of the method.
    """
    own = [
        each
        for each in _NO_BETTER
        if each.method == method.name and each.options.items() <= options.items()
    ]
    if not own:
        return ()
    kind = kind_of()
    return tuple(each.said for each in own if each.of(kind))
