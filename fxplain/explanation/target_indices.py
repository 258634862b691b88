"""Targets that are elements of an output tensor: classes, labels, index tuples, and their sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.arguments import blaming, shown
from fxplain.capture import Capture, ModelInputs, config_of, module_path
from fxplain.errors import TargetError
from fxplain.explanation.outputs import batch_axis_of, choose_output, positions_at
from fxplain.explanation.resolved_target import Readout, ResolvedTarget, Seeds, readout_of
from fxplain.explanation.target import Contrast, Sum, Target, signed_parts
from fxplain.program import Program

__all__ = ["IndexResolver"]

Index = tuple[int, ...]


class IndexResolver:
    """Finds the elements of an output that are explained, one set per sample.

    Parameters
    ----------
    output
        Name of the output; None for the main one.
    model, inputs, capture, program, outputs
        What is explained, and its output tensors.
    """

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

    def resolved(self, target: Target) -> ResolvedTarget:
        """The target as numbers, gradients and readouts."""
        chosen = choose_output(self.capture, self.program, self.output_name)
        leaf = self.outputs[chosen]
        self.name = self.capture.output.names[chosen] or "output"
        if leaf.dim() == 0:
            raise TargetError(
                f"output {self.name!r} is a single number without a batch axis.{self._instead(chosen)}"
            )
        if leaf.numel() == 0:
            raise TargetError(
                f"output {self.name!r} is empty: its shape is {tuple(leaf.shape)}, and nothing in it "
                f"can be explained."
            )
        if leaf.is_quantized or leaf.dtype.itemsize < 2:
            kind = str(leaf.dtype).removeprefix("torch.")
            raise TargetError(
                f"output {self.name!r} is of {kind}, which nothing is computed with: explain what it "
                f"is rounded from, or make it a .float() in the model's forward."
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
            return readout_of(program, positions_at(program, chosen, mask), sample)
        (index,) = indices
        varies = self._varying(chosen)
        where = tuple(place if varying else 0 for place, varying in zip(index, varies, strict=True))
        known: dict[tuple[int, Index], Readout] = program.memo.made("readouts", dict)
        if (chosen, where) not in known:
            known[chosen, where] = readout_of(program, positions_at(program, chosen, where), sample)
        return known[chosen, where]

    def _varying(self, chosen: int) -> tuple[bool, ...]:
        """By axis of the output, whether tokens differ along it."""

        def found() -> tuple[bool, ...]:
            shapes = [tag.ids.shape for tag in self.program.flow.outputs[chosen]]
            axes = range(len(self.program.flow.shapes[chosen]))
            return tuple(any(shape[axis] > 1 for shape in shapes) for axis in axes)

        varies: tuple[bool, ...] = self.program.memo.made(("varying axes", chosen), found)
        return varies

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
            with blaming("reading the target, a tensor that is not dense,", TargetError):
                target = target.tolist()
            if isinstance(target, list) and target and isinstance(target[0], list):
                target = [tuple(entry) for entry in target]
        with blaming("reading the target", TargetError):
            if hasattr(target, "tolist") and not isinstance(target, (str, bytes)):
                target = target.tolist()
        if isinstance(target, tuple) and len(target) == batch and _is_one_each(target):
            target = list(target)
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
        if entry is None:
            return self._default(sample, chosen, self._of_sample(sample, leaf).detach())
        sizes = tuple(size for axis, size in enumerate(leaf.shape) if axis != self.axis)
        if isinstance(entry, (tuple, list)):
            return self._checked(tuple(self._number(e) for e in entry), sizes, sample)
        number = self._number(entry)
        if not sizes:
            raise TargetError(
                f"output {self.name!r} is one number per sample: leave the target out (None)."
            )
        if len(sizes) == 1:
            return self._checked((number,), sizes, sample)
        return self._checked((*self._position(sample, chosen, sizes), number), sizes, sample)

    def _number(self, entry: Any) -> int:
        if isinstance(entry, str):
            labels = getattr(config_of(self.model), "label2id", None) or {}
            if entry not in labels:
                known = ", ".join(map(repr, list(labels)[:10])) or "none"
                raise TargetError(f"the model has no label {shown(entry)}; its labels: {known}.")
            return int(labels[entry])
        try:
            number = int(entry)
            is_whole = bool(number == entry)
        except Exception as error:  # what an object of the user's raises
            raise TargetError(
                f"{shown(entry)} is no target: give None, an int, a label, an index tuple, one of "
                f"these per sample, or a function of the model's output."
            ) from error
        if not is_whole:
            raise TargetError(f"{shown(entry)} is no target: a class index must be a whole number.")
        return number

    def _checked(self, index: Index, sizes: Sequence[int], sample: int) -> Index:
        if len(index) != len(sizes):
            raise TargetError(
                f"target {index} has {len(index)} indices, but output {self.name!r} has "
                f"{len(sizes)} axes per sample (shape {tuple(sizes)})."
            )
        for position, size in zip(index, sizes, strict=True):
            if not -size <= position < size:
                raise TargetError(
                    f"target {index if len(index) > 1 else index[0]} of sample {sample} is out of "
                    f"range: output {self.name!r} has shape {tuple(sizes)} per sample."
                )
        return tuple(p % size for p, size in zip(index, sizes, strict=True))

    def _default(self, sample: int, chosen: int, row: Tensor) -> Index:
        """The predicted class, at the last real position of a sequence."""
        if row.dim() == 0:
            return ()
        if row.dim() == 1:
            return (int(row.argmax()),)
        if self._root(sample, chosen) is not None:
            position = self._position(sample, chosen, row.shape)
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

    def _position(self, sample: int, chosen: int, sizes: Sequence[int]) -> Index:
        """The last real position of a text sequence."""
        root = self._root(sample, chosen)
        if root is None or len(sizes) != 2:
            raise TargetError(
                f"output {self.name!r} has shape {tuple(sizes)} per sample, so a single number "
                f"does not say where it is read: give an index tuple such as (position, class)."
            )
        mask = self._mask(root, sizes[0])
        if mask is None:
            return (sizes[0] - 1,)
        real = mask[min(sample, len(mask) - 1)].nonzero().flatten()
        return (int(real[-1]) if len(real) else sizes[0] - 1,)

    def _mask(self, root: str, length: int) -> Tensor | None:
        """The padding mask of a sequence input: "decoder_attention_mask" of "decoder_input_ids"."""
        prefix = root.removesuffix("input_ids") if root.endswith("input_ids") else ""
        for name, leaf in zip(self.inputs.names, self.inputs.leaves, strict=True):
            if name == f"{prefix}attention_mask" and leaf.dim() == 2 and leaf.shape[1] == length:
                return leaf > 0
        return None


def _is_one_each(target: tuple[Any, ...]) -> bool:
    """Whether a tuple holds targets, as an explanation's own does, and is no index itself."""
    return any(isinstance(entry, (tuple, Contrast, Sum)) for entry in target)
