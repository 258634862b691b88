"""Recording: the operations that a computation makes of given tensors, noted while they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import TensorWeakRef

__all__ = ["Noted", "Recording", "Slot", "noted"]


@dataclass(frozen=True)
class Slot:
    """A tensor of a recording, by its number."""

    number: int


@dataclass(eq=False)
class Noted:
    """One operation of a recording.

    Attributes
    ----------
    function
        What was called.
    args, kwargs
        With what; a `Slot` stands for each tensor.
    made
        What came of it, `Slot`s for tensors.
    part
        In which part of the recording.
    depends
        Whether on a given tensor.
    writes
        Whether into one of its operands.
    asked
        Whether what came of it is a number or an answer that the rest may depend on: it has to be the
        same whenever the recording holds.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    made: Any
    part: int
    depends: bool
    writes: bool
    asked: bool


class Recording:
    """What is computed of given tensors, in parts: each is of tensors of its own, and of earlier ones.

    Operations are noted below autograd, so that those of the backward are among them. What depends on
    no given tensor is a fact, and what a program asks of one that does (an item, a yes or no) is noted
    to be the same whenever the recording is used.

    Attributes
    ----------
    calls
        All operations, in their order.
    given
        The slots of the tensors that each part was given.
    facts
        By slot, tensors that depend on no given one.
    written
        The slots that share memory with something that was written into.
    tied
        Two places of what the first part was given that share memory, and how far they are apart there.
    refused
        Why there is no recording; empty where there is one.
    """

    def __init__(self) -> None:
        self.calls: list[Noted] = []
        self.given: list[list[int]] = []
        self.facts: dict[int, Tensor] = {}
        self.tied: list[tuple[int, int, int]] = []
        self.refused = ""
        self._known: dict[int, tuple[TensorWeakRef, int]] = {}
        self._storage: list[StorageWeakRef] = []
        self._bases: dict[int, Slot] = {}
        self._of_given: dict[StorageWeakRef, list[tuple[Any, int]]] = {}
        self._written: set[StorageWeakRef] = set()
        self._not_to_write: set[StorageWeakRef] = set()

    @property
    def written(self) -> set[int]:
        """See `Recording`."""
        return {i for i, storage in enumerate(self._storage) if storage in self._written}

    def refuse(self, why: str) -> None:
        """Say why there is none; the first reason counts."""
        self.refused = self.refused or why

    @contextmanager
    def active(self) -> Iterator[None]:
        """A context whose next forward is the first part."""
        token = _ACTIVE.set(self)
        try:
            yield
        finally:
            _ACTIVE.reset(token)

    @contextmanager
    def part(self, given: Sequence[Tensor]) -> Iterator[None]:
        """A context whose operations are noted as a part of the recording, of these tensors."""
        if not all(type(x) in _PLAIN and x.layout is torch.strided for x in given):
            self.refuse("a weight or an input is no plain tensor")
        if self.refused:
            yield
            return
        self._note_given(given)
        with _Operations(self), _Reads(self):
            yield

    def _note_given(self, given: Sequence[Tensor]) -> None:
        first: dict[StorageWeakRef, int] = {}
        for i, x in enumerate(given):
            earlier = first.setdefault(StorageWeakRef(x.untyped_storage()), i)
            if earlier != i:
                self.tied.append((earlier, i, x.data_ptr() - given[earlier].data_ptr()))
        if self.given and any(map(self.depends, given)):
            self.refuse("a part is given what an earlier one made")
        self.given.append([self._new(x, depends=True) for x in given])
        self._not_to_write |= first.keys()

    def slot(self, tensor: Tensor) -> int | None:
        """The slot of a tensor; None of one that nothing made."""
        ref, number = self._known.get(id(tensor), (None, -1))
        return number if ref is not None and ref() is tensor else None

    def depends(self, tensor: Tensor) -> bool:
        """Whether a tensor's numbers are those of a given one, or were made of it."""
        return StorageWeakRef(tensor.untyped_storage()) in self._of_given

    def note(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run one operation, and note it."""
        if self.refused:
            return function(*args, **kwargs)
        operands = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if not all(type(x) in _PLAIN and x.layout is torch.strided for x in operands):
            self.refuse(f"{function} is of a tensor that is not a plain one")
            return function(*args, **kwargs)
        depends = any(map(self.depends, operands))
        if depends and self._shape_is_told_by(function, operands):
            self.refuse(f"the shape of what {function} makes depends on numbers")
            return function(*args, **kwargs)
        slots = {id(x): Slot(self._slot_of(x)) for x in operands}
        made = function(*args, **kwargs)
        written = _written_into(function, args, kwargs)
        for x in written:
            storage = StorageWeakRef(x.untyped_storage())
            self._written.add(storage)
            if storage in self._not_to_write:
                self.refuse(f"{function} writes into a weight or an input")
            if depends:
                self._of_given.setdefault(storage, []).append((_geometry(x), slots[id(x)].number))
        results, before = (
            [x for x in tree_leaves(made) if isinstance(x, Tensor)],
            len(self._storage),
        )
        for x in results:
            if id(x) not in slots:
                slots[id(x)] = Slot(self._new(x, depends))
        asked = depends and not results and made is not None
        if not (asked or written or len(self._storage) > before):
            return made  # a tensor that is there, under another name
        of = tree_map_only(Tensor, lambda x: slots[id(x)], (args, dict(kwargs), made))
        if function is torch.ops.aten.view.default:
            of = self._viewed(args[0].is_contiguous(), *of)
        part = len(self.given) - 1
        self.calls.append(Noted(function, of[0], of[1], of[2], part, depends, bool(written), asked))
        return made

    def _shape_is_told_by(self, function: Any, operands: Sequence[Tensor]) -> bool:
        """Whether the shape of what is made depends on given numbers."""
        if torch.Tag.dynamic_output_shape not in function.tags:
            return False
        if function is not torch.ops.aten.index.Tensor:
            return True
        masks = [x for x in operands[1:] if x.dtype in (torch.bool, torch.uint8)]
        return any(map(self.depends, masks))

    def _viewed(self, in_order: bool, args: Any, kwargs: Any, made: Slot) -> tuple[Any, Any, Slot]:
        """A view of a view as one of what was viewed first, where that lies in one piece."""
        base = self._bases.get(args[0].number, args[0] if in_order else None)
        if base is None:
            return args, kwargs, made
        self._bases[made.number] = base
        return (base, *args[1:]), kwargs, made

    def _slot_of(self, tensor: Tensor) -> int:
        number = self.slot(tensor)
        if number is not None:
            return number
        # autograd may hand on a tensor that it kept as another one with the same memory
        of_storage = self._of_given.get(StorageWeakRef(tensor.untyped_storage()))
        if of_storage is None:
            return self._new(tensor, depends=False)
        for geometry, number in of_storage:
            if geometry == _geometry(tensor):
                self._known[id(tensor)] = (TensorWeakRef(tensor), number)
                return number
        self.refuse("a tensor was laid out anew where nobody could see it")
        return self._new(tensor, depends=True)

    def _new(self, tensor: Tensor, depends: bool) -> int:
        """The slot of a tensor that was just made: that of an earlier one that is the same memory."""
        number, storage = len(self._storage), StorageWeakRef(tensor.untyped_storage())
        if depends:
            geometry, there = _geometry(tensor), self._of_given.setdefault(storage, [])
            number = next((slot for known, slot in there if known == geometry), number)
            if number == len(self._storage):
                there.append((geometry, number))
        else:
            self.facts[number] = tensor
        if number == len(self._storage):
            self._storage.append(storage)
        self._known[id(tensor)] = (TensorWeakRef(tensor), number)
        return number


_ACTIVE: ContextVar[Recording | None] = ContextVar("recording", default=None)


def noted(values: Sequence[Tensor]) -> AbstractContextManager[None]:
    """A part of the recording that is active, of `values`; nothing where none is."""
    active = _ACTIVE.get()
    return nullcontext() if active is None else active.part(values)


_PLAIN = (Tensor, torch.nn.Parameter, torch.nn.Buffer)


def _geometry(x: Tensor) -> tuple[Any, ...]:
    return x.shape, x.stride(), x.storage_offset(), x.dtype, x.is_conj(), x.is_neg()


def _written_into(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The operands that an operation writes into."""
    schema = function._schema
    if not schema.is_mutable:
        return []
    named = [*zip(schema.arguments, args, strict=False)]
    named += [(a, kwargs[a.name]) for a in schema.arguments if a.name in kwargs]
    into = [x for a, x in named if a.alias_info is not None and a.alias_info.is_write]
    return [x for x in tree_leaves(into) if isinstance(x, Tensor)]


class _Operations(TorchDispatchMode):
    """Notes every operation."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self.recording = recording

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():  # it looks at tensors itself
            return self.recording.note(func, args, kwargs or {})


_UNSEEN = frozenset({
    Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.data_ptr, Tensor.__dlpack__, Tensor.__repr__,
    Tensor.__format__, Tensor.untyped_storage, Tensor.storage,
})  # fmt: skip
"""What reads numbers of a tensor with no operation."""


class _Reads(TorchFunctionMode):
    """Notices numbers that are read with no operation: what comes of them cannot be followed."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self.recording = recording

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _UNSEEN and not self.recording.refused:
            with torch._C.DisableTorchFunction():
                if self.recording.depends(args[0]):
                    self.recording.refuse(f"numbers are read by Tensor.{func.__name__}")
        return func(*args, **(kwargs or {}))
