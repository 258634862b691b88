"""Targets: the one number per sample that is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture import Capture, ModelInputs, config_of, module_path
from fxplain.errors import FxplainError, NonFiniteError, TargetError
from fxplain.explanation.outputs import (
    TokenRef,
    batch_axis_of,
    choose_output,
    describe,
    mask_of,
    positions_at,
)
from fxplain.program import Program

__all__ = [
    "Contrast",
    "Readout",
    "ResolvedTarget",
    "Sum",
    "plain_target",
    "resolve_target",
    "signed_parts",
    "target_of",
]

Target = Any
"""None, an int, a label, a sequence or tensor with one entry per sample, an index tuple, a callable."""

Index = tuple[int, ...]

Seeds = tuple[list[Tensor], list[Tensor]]
"""Output tensors and the gradients that a backward pass starts with."""


@dataclass(frozen=True)
class Contrast:
    """A contrastive target: why `a` rather than `b`. Explains y_a - y_b.

    Attributes
    ----------
    a, b
        Class indices, labels or index tuples; None for `a` means the prediction.
    """

    a: Any
    b: Any

    def __repr__(self) -> str:
        return f"{self.a} rather than {self.b}"


@dataclass(frozen=True, init=False)
class Sum:
    """Several outputs together: explains y_a + y_b + ..., read from all of their tokens (their mean).

    Attributes
    ----------
    parts
        Class indices, labels or index tuples; of a sequence, tokens at several positions.

    Examples
    --------
    >>> Sum((4, 17), (5, 3))
    (4, 17) + (5, 3)
    """

    parts: tuple[Any, ...]

    def __init__(self, *parts: Any) -> None:
        object.__setattr__(self, "parts", parts)

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))


def signed_parts(target: Any) -> list[tuple[Any, int]]:
    """The outputs that a target adds (1) and takes away (-1).

    Examples
    --------
    >>> signed_parts(Contrast(Sum(1, 2), 5))
    [(1, 1), (2, 1), (5, -1)]
    """
    if isinstance(target, Sum):
        return [part for each in target.parts for part in signed_parts(each)]
    if isinstance(target, Contrast):
        taken = [(part, -sign) for part, sign in signed_parts(target.b)]
        return [*signed_parts(target.a), *taken]
    return [(target, 1)]


def plain_target(target: Any) -> Any:
    """A described target as plain data, for JSON."""
    if isinstance(target, Contrast):
        return {"contrast": [plain_target(target.a), plain_target(target.b)]}
    if isinstance(target, Sum):
        return {"sum": [plain_target(part) for part in target.parts]}
    return list(target) if isinstance(target, tuple) else target


def target_of(plain: Any) -> Any:
    """The target that `plain_target` wrote."""
    if isinstance(plain, dict):
        ((kind, parts),) = plain.items()
        return {"contrast": Contrast, "sum": Sum}[kind](*map(target_of, parts))
    return tuple(plain) if isinstance(plain, list) else plain


@dataclass(frozen=True)
class Readout:
    """The tokens that one sample's target is read from: one group per readout (CLIP has two)."""

    groups: tuple[tuple[TokenRef, ...], ...]
    text: str


@dataclass(frozen=True)
class ResolvedTarget:
    """What is explained.

    Attributes
    ----------
    description
        Per sample: the class index, the index tuple, or the callable's name.
    scores
        The explained number per sample, (batch,).
    seeds
        From the outputs of any run and a sample (None: the sum over all) to the output tensors that
        the score depends on and d(score)/d(tensor).
    outputs
        Which of the model's output tensors the scores are read from.
    readouts
        Per sample, where it is read.
    value
        From the outputs of any run to the explained number per sample, (batch,).
    """

    description: tuple[Any, ...]
    scores: Tensor
    readouts: tuple[Readout, ...]
    seeds: Callable[[Sequence[Tensor], int | None], Seeds]
    outputs: tuple[int, ...]
    value: Callable[[Sequence[Tensor]], Tensor]


def resolve_target(
    target: Target,
    output: str | None,
    model: nn.Module,
    inputs: ModelInputs,
    capture: Capture,
    program: Program,
    outputs: Sequence[Tensor],
) -> ResolvedTarget:
    """Turn what the user asked for into numbers, gradients and readouts.

    Raises
    ------
    TargetError
        When the target does not name one number per sample.
    NonFiniteError
        When an explained number is NaN or infinite.
    """
    resolver = _Resolver(output, model, inputs, capture, program, outputs)
    resolved = resolver.of_callable(target) if callable(target) else resolver.of_indices(target)
    _check_finite(resolved.scores)
    return resolved


def _check_finite(scores: Tensor) -> None:
    if not bool(torch.isfinite(scores).all()):
        raise NonFiniteError(
            f"the explained output is {scores.tolist()}; only finite numbers can be explained."
        )


def _name_of(target: Callable[[Any], Any]) -> str:
    return str(getattr(target, "__name__", type(target).__name__))


class _Resolver:
    def __init__(
        self,
        output: str | None,
        model: nn.Module,
        inputs: ModelInputs,
        capture: Capture,
        program: Program,
        outputs: Sequence[Tensor],
    ) -> None:
        self.output_name = output
        self.model = model
        self.inputs = inputs
        self.capture = capture
        self.program = program
        self.outputs = outputs

    # -- a function from the output to one number per sample ---------------------------------------

    def of_callable(self, target: Callable[[Any], Any]) -> ResolvedTarget:
        leaves, scores = self._scores_of(target, self.outputs)
        _check_finite(scores)  # before asking where it is read: its gradient is no number either
        floats = [i for i, leaf in enumerate(leaves) if leaf.requires_grad]

        def seeds(outputs: Sequence[Tensor], sample: int | None) -> Seeds:
            held, again = self._scores_of(target, outputs)
            score = again.sum() if sample is None else again[sample]
            wanted = [held[i] for i in floats]
            found: tuple[Tensor | None, ...] = torch.autograd.grad(score, wanted, allow_unused=True)
            gradients = [
                torch.zeros_like(leaf) if g is None else g
                for leaf, g in zip(wanted, found, strict=True)
            ]
            if not all(bool(gradient.isfinite().all()) for gradient in gradients):
                raise NonFiniteError(
                    f"the gradient of the target function {_name_of(target)!r} is infinite or NaN, as "
                    f"that of a root or a norm is at 0: add a small number under it."
                )
            return [outputs[i] for i in floats], gradients

        readouts = []
        read: dict[int, None] = {}
        for sample in range(len(scores)):
            groups: list[tuple[TokenRef, ...]] = []
            for i, gradient in zip(floats, seeds(self.outputs, sample)[1], strict=True):
                mask = mask_of(gradient, sample, 1)
                if mask.any():
                    read[i] = None
                    groups += [tuple(g) for g in positions_at(self.program, i, mask)]
            readouts.append(self._readout(groups, sample))
        name = _name_of(target)
        described = (name,) * len(scores)
        return ResolvedTarget(
            described,
            scores.detach(),
            tuple(readouts),
            seeds,
            tuple(read),
            lambda outputs: self._scores_of(target, outputs)[1].detach(),
        )

    def _scores_of(
        self, target: Callable[[Any], Any], outputs: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        """The outputs as leaves, and one number per sample computed from them."""
        leaves = [
            o.detach().requires_grad_() if o.is_floating_point() or o.is_complex() else o
            for o in outputs
        ]
        name = _name_of(target)
        before = [leaf._version for leaf in leaves]
        try:
            with torch.enable_grad():
                scores: Any = target(self.capture.output.rebuild(leaves))
                if isinstance(scores, (list, tuple)):
                    scores = torch.stack([torch.as_tensor(s) for s in scores])
        except FxplainError:
            raise
        except Exception as error:
            raise TargetError(
                f"the target function {name!r} failed on the model's output: "
                f"{type(error).__name__}: {error}"
            ) from error
        if before != [leaf._version for leaf in leaves]:
            raise TargetError(
                f"the target function {name!r} writes into the model's output, which others read too; "
                f"it must work on a copy, such as output.clone()."
            )
        if not isinstance(scores, Tensor):
            raise TargetError(
                f"the target function {name!r} returned a {type(scores).__name__}; it must return a "
                f"tensor with one number per sample, shape ({self.inputs.batch_size},)."
            )
        returned = tuple(scores.shape)
        scores = scores if scores.dim() else scores.reshape(1)
        if scores.dim() != 1 or len(scores) != self.inputs.batch_size:
            raise TargetError(
                f"the target function {name!r} returned a tensor of shape {returned}; it "
                f"must return one number per sample, shape ({self.inputs.batch_size},)."
            )
        if scores.is_complex():
            raise TargetError(
                f"the target function {name!r} returned complex numbers; it must return real ones, "
                f"such as their .abs() or .real."
            )
        if not scores.requires_grad:
            raise TargetError(
                f"the target function {name!r} returned a number that does not depend on the model's "
                f"output through differentiable operations."
            )
        return leaves, scores

    def _readout(self, groups: Sequence[Sequence[TokenRef]], sample: int) -> Readout:
        distinct = tuple(dict.fromkeys(tuple(group) for group in groups))
        if not distinct:
            raise TargetError(
                "the target is read from a part of the output that belongs to no token, so there is "
                "nothing to attribute it to."
            )
        self._check_samples(distinct, sample)
        return Readout(distinct, describe(self.program, distinct))

    def _check_samples(self, groups: Sequence[Sequence[TokenRef]], sample: int) -> None:
        """One row of relevance is one sample's: two samples of one sequence have no place in it."""
        program = self.program
        samples: dict[int, set[int]] = {}
        for ref in (ref for group in groups for ref in group):
            stream = program.streams[int(program.token_stream[ref.token])]
            samples.setdefault(stream.root, set()).add(int(program.token_sample[ref.token]))
        for own in samples.values():
            if len(own) > 1:
                raise TargetError(
                    f"the target of sample {sample} is read from samples "
                    f"{' and '.join(map(str, sorted(own)))} of the batch at once, as a comparison of "
                    f"the batch with itself is, and relevance has one row per sample. Compare two "
                    f"arguments in place of two samples: wrap the model in a module with "
                    f"forward(a, b), and call it in there for each of them."
                )

    # -- an element of an output tensor -------------------------------------------------------------

    def of_indices(self, target: Target) -> ResolvedTarget:
        chosen = choose_output(self.capture, self.program, self.output_name)
        leaf = self.outputs[chosen]
        self.name = self.capture.output.names[chosen] or "output"
        if leaf.dim() == 0:
            raise TargetError(
                f"output {self.name!r} is a single number without a batch axis.{self._instead(chosen)}"
            )
        if leaf.is_complex():
            raise TargetError(
                f"output {self.name!r} is complex, and a score must be a real number: give a function "
                f"from the output to one per sample, such as its .abs() or .real at one place."
            )
        self.axis = batch_axis_of(self.program, self.inputs, chosen)
        entries = self._entries(target, leaf)
        found = [self._indexed(entry, b, chosen, leaf) for b, entry in enumerate(entries)]
        wanted = [
            [(self._full(b, index), sign) for index, sign in signed_parts(indexed)]
            for b, indexed in enumerate(found)
        ]
        of = torch.tensor([b for b, parts in enumerate(wanted) for _ in parts])
        at = torch.tensor([index for parts in wanted for index, _ in parts]).unbind(1)
        signs = torch.tensor([sign for parts in wanted for _, sign in parts])

        def seeds(outputs: Sequence[Tensor], sample: int | None) -> Seeds:
            gradient = torch.zeros_like(outputs[chosen])
            own = slice(None) if sample is None else of == sample
            place = tuple(axis[own].to(gradient.device) for axis in at)
            gradient.index_put_(place, signs[own].to(gradient), accumulate=True)
            return [outputs[chosen]], [gradient]

        def value(outputs: Sequence[Tensor]) -> Tensor:
            read = outputs[chosen].detach()
            values = read[tuple(axis.to(read.device) for axis in at)] * signs.to(read)
            return values.new_zeros(len(found)).index_add(0, of.to(read.device), values)

        readouts = tuple(self._read(parts, b, chosen) for b, parts in enumerate(wanted))
        description = tuple(self._described(indexed, leaf) for indexed in found)
        return ResolvedTarget(
            description,
            value(self.outputs),
            readouts,
            seeds,
            (chosen,),
            value,
        )

    def _read(self, parts: Sequence[tuple[Index, int]], sample: int, chosen: int) -> Readout:
        """Where all parts of a target are read, as of a function of the output.

        For one element of the output that is a fact of the program, and found once.
        """
        indices = {index for index, _ in parts}
        program = self.program
        if len(indices) > 1:
            mask = torch.zeros(program.flow.shapes[chosen], dtype=torch.bool)
            for index in indices:
                mask[index] = True
            return self._readout(positions_at(program, chosen, mask), sample)
        (index,) = indices
        shapes = [tag.ids.shape for tag in program.flow.outputs[chosen]]
        where = tuple(
            place if any(shape[axis] > 1 for shape in shapes) else 0
            for axis, place in enumerate(index)
        )

        known: dict[tuple[int, Index], Readout] = program.memo.made("readouts", dict)
        if (chosen, where) not in known:
            known[chosen, where] = self._readout(positions_at(program, chosen, where), sample)
        return known[chosen, where]

    def _instead(self, chosen: int) -> str:
        """What to explain in the place of a number for the whole batch, such as a loss."""
        others = [
            name
            for i, name in enumerate(self.capture.output.names)
            if i != chosen and name and self.outputs[i].dim() and self.program.flow.outputs[i]
        ]
        if others:
            return f" Name another one: output={others[0]!r}."
        paths = [module_path(node.site.node).split(".") for node in self.program.nodes.values()]
        shared = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
        inner = shared[0] if shared else ""
        if not isinstance(getattr(self.model, inner, None) if inner else None, nn.Module):
            return ""
        return f" Explain the module inside that makes one output per sample: model.{inner}."

    def _full(self, sample: int, index: Index) -> Index:
        """The index into the whole output of one into a sample's part of it."""
        if self.axis is None:
            return index
        return (*index[: self.axis], sample, *index[self.axis :])

    def _of_sample(self, sample: int, leaf: Tensor) -> Tensor:
        """A sample's part of the output."""
        return leaf if self.axis is None else leaf.select(self.axis, sample)

    def _indexed(self, entry: Any, sample: int, chosen: int, leaf: Tensor) -> Any:
        """One sample's target with the full index of each output in it."""
        if isinstance(entry, Sum):
            if not entry.parts:
                raise TargetError("Sum() is no target: it has no outputs to add.")
            return Sum(*(self._indexed(part, sample, chosen, leaf) for part in entry.parts))
        if isinstance(entry, Contrast):
            a, b = (self._indexed(e, sample, chosen, leaf) for e in (entry.a, entry.b))
            if a == b:
                raise TargetError(f"{entry!r} is no target: both sides are the same.")
            return Contrast(a, b)
        return self._index(entry, sample, chosen, leaf)

    def _described(self, indexed: Any, leaf: Tensor) -> Any:
        """The same as users name it: a class by its number alone."""
        if isinstance(indexed, Sum):
            return Sum(*(self._described(part, leaf) for part in indexed.parts))
        if isinstance(indexed, Contrast):
            return Contrast(*(self._described(e, leaf) for e in (indexed.a, indexed.b)))
        axes = leaf.dim() - (self.axis is not None)
        return indexed[0] if len(indexed) == 1 and axes == 1 else indexed

    def _entries(self, target: Target, leaf: Tensor) -> list[Any]:
        """One entry per sample."""
        batch = 1 if self.axis is None else leaf.shape[self.axis]
        if isinstance(target, Tensor):
            if target.is_meta:
                raise TargetError("the target is on the meta device: it has a shape and no values.")
            target = target.tolist()
            if isinstance(target, list) and target and isinstance(target[0], list):
                target = [tuple(entry) for entry in target]
        if hasattr(target, "tolist") and not isinstance(target, (str, bytes)):
            target = target.tolist()
        if isinstance(target, list):
            if len(target) != batch:
                raise TargetError(
                    f"{len(target)} targets for a batch of {batch}: give one per sample "
                    f"(output {self.name!r} has shape {tuple(leaf.shape)})."
                )
            return target
        return [target] * batch

    def _index(self, entry: Any, sample: int, chosen: int, leaf: Tensor) -> Index:
        """The index of one sample's target, without the batch axis."""
        row = self._of_sample(sample, leaf).detach()
        if entry is None:
            return self._default(sample, chosen, row)
        if isinstance(entry, (tuple, list)):
            return self._checked(tuple(self._number(e) for e in entry), row, sample)
        number = self._number(entry)
        if row.dim() == 0:
            raise TargetError(
                f"output {self.name!r} is one number per sample: leave the target out (None)."
            )
        if row.dim() == 1:
            return self._checked((number,), row, sample)
        return self._checked((*self._position(sample, chosen, row), number), row, sample)

    def _number(self, entry: Any) -> int:
        if isinstance(entry, str):
            labels = getattr(config_of(self.model), "label2id", None) or {}
            if entry not in labels:
                known = ", ".join(map(repr, list(labels)[:10])) or "none"
                raise TargetError(f"the model has no label {entry!r}; its labels: {known}.")
            return int(labels[entry])
        try:
            number = int(entry)
        except (TypeError, ValueError, OverflowError) as error:
            raise TargetError(
                f"{entry!r} is no target: give None, an int, a label, an index tuple, one of these per "
                f"sample, or a function of the model's output."
            ) from error
        if number != entry:
            raise TargetError(f"{entry!r} is no target: a class index must be a whole number.")
        return number

    def _checked(self, index: Index, row: Tensor, sample: int) -> Index:
        if len(index) != row.dim():
            raise TargetError(
                f"target {index} has {len(index)} indices, but output {self.name!r} has "
                f"{row.dim()} axes per sample (shape {tuple(row.shape)})."
            )
        for position, size in zip(index, row.shape, strict=True):
            if not -size <= position < size:
                raise TargetError(
                    f"target {index if len(index) > 1 else index[0]} of sample {sample} is out of "
                    f"range: output {self.name!r} has shape {tuple(row.shape)} per sample."
                )
        return tuple(p % size for p, size in zip(index, row.shape, strict=True))

    def _default(self, sample: int, chosen: int, row: Tensor) -> Index:
        """The predicted class, at the last real position of a sequence."""
        if row.dim() == 0:
            return ()
        if row.dim() == 1:
            return (int(row.argmax()),)
        if self._root(sample, chosen) is not None:
            position = self._position(sample, chosen, row)
            best = int(row[position].argmax())
            return self._unravel(position, row, best)
        classes = row[..., : self._real_classes(row)]
        flat = int(classes.argmax())
        return tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), classes.shape))

    def _unravel(self, position: Index, row: Tensor, flat: int) -> Index:
        rest = row[position].shape
        return (*position, *(int(i) for i in torch.unravel_index(torch.tensor(flat), rest)))

    def _real_classes(self, row: Tensor) -> int:
        """Detection heads have one class more than there are labels: "no object"."""
        labels = getattr(config_of(self.model), "num_labels", None)
        return labels if labels is not None and row.shape[-1] == labels + 1 else row.shape[-1]

    # -- positions of a sequence ----------------------------------------------------------------------

    def _origins(self, sample: int, chosen: int) -> list[tuple[str, str]]:
        """(kind of birth, root) of the first and the last token along the output's first axis."""
        shape = self.program.flow.shapes[chosen]
        first, *rest = (n for axis, n in enumerate(shape) if axis != self.axis)
        book = self.program.flow.book
        found = []
        for place in (0, first - 1):
            index = self._full(sample, (place, *(0 for _ in rest)))
            groups = positions_at(self.program, chosen, index)
            if groups:
                birth = book.births[int(book.births_of(torch.tensor([groups[0][0].token])))]
                found.append((birth.kind, birth.root))
        return found

    def _root(self, sample: int, chosen: int) -> str | None:
        """The input whose ids the output's first axis is a sequence of.

        Other tokens may stand before them (LLaVA's patches) or behind (VisualBERT's).
        """
        slots = {slot.name: slot for slot in self.capture.inputs.values()}
        roots = [root for kind, root in self._origins(sample, chosen) if kind == "input"]
        ids = [r for r in roots if r in slots and not slots[r].dtype.is_floating_point]
        return ids[0] if ids else None

    def _position(self, sample: int, chosen: int, row: Tensor) -> Index:
        """The last real position of a text sequence."""
        root = self._root(sample, chosen)
        if root is None or row.dim() != 2:
            raise TargetError(
                f"output {self.name!r} has shape {tuple(row.shape)} per sample, so a single number "
                f"does not say where it is read: give an index tuple such as (position, class)."
            )
        mask = self._mask(root, row.shape[0])
        if mask is None:
            return (row.shape[0] - 1,)
        real = mask[min(sample, len(mask) - 1)].nonzero().flatten()
        return (int(real[-1]) if len(real) else row.shape[0] - 1,)

    def _mask(self, root: str, length: int) -> Tensor | None:
        """The padding mask of a sequence input: "decoder_attention_mask" of "decoder_input_ids"."""
        prefix = root.removesuffix("input_ids") if root.endswith("input_ids") else ""
        for name, leaf in zip(self.inputs.names, self.inputs.leaves, strict=True):
            if name == f"{prefix}attention_mask" and leaf.dim() == 2 and leaf.shape[1] == length:
                return leaf > 0
        return None
