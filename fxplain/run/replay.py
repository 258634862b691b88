"""Replay: a recording as two functions that make its operations again, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fxplain.run.recording import Noted, Recording, Slot

__all__ = ["DoesNotHoldError", "Replay"]

Function = Callable[[list[Tensor]], list[Tensor]]


class DoesNotHoldError(Exception):
    """What a recording was asked of these numbers has another answer than it had."""


@dataclass(frozen=True, eq=False)
class Replay:
    """A forward, and what is read of it, as bare operations.

    Attributes
    ----------
    forward
        From what the first part was given to its outputs, and behind them what the second needs.
    backward
        From that and what the second part was given to what was read.
    outputs
        How many outputs there are.
    tied
        See `Recording`.
    """

    forward: Function
    backward: Function
    outputs: int
    tied: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of(
        cls, recording: Recording, outputs: Sequence[Tensor], read: Sequence[Tensor]
    ) -> Replay | None:
        """The replay of a recording of two parts; None, and the recording says why, where none can be.

        Parameters
        ----------
        outputs
            What came of the first part.
        read
            What came of the second.
        """
        writing = _Writing(recording)
        ends = [writing.slots(outputs), writing.slots(read)]
        calls = writing.needed([*ends[0], *ends[1]])
        if not writing.is_whole(calls, [*ends[0], *ends[1]]):
            recording.refuse("it reads what was written into by something that is not noted")
            return None
        first = [call for call in calls if call.part == 0]
        second = [call for call in calls if call.part == 1]
        here = {*recording.given[0], *(slot for call in first for slot in writing.made(call))}
        wanted = [slot for call in second for slot in writing.read(call)]
        kept = [*dict.fromkeys(slot for slot in (*wanted, *ends[1]) if slot in here)]
        return cls(
            writing.function(first, recording.given[0], [*ends[0], *kept]),
            writing.function(second, [*kept, *recording.given[1]], ends[1]),
            len(ends[0]),
            tuple(recording.tied),
        )

    def begun(self, values: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs for the values of all placeholders, and what `finished` takes.

        Raises
        ------
        DoesNotHoldError
            Where the recording does not hold for them.
        """
        for i, j, apart in self.tied:
            if values[j].data_ptr() - values[i].data_ptr() != apart:
                raise DoesNotHoldError
        with torch.no_grad():
            made = self.forward(list(values))
        return made[: self.outputs], made[self.outputs :]

    def finished(self, kept: list[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        """What is read, for gradients at the outputs; `kept` is used up.

        Raises
        ------
        DoesNotHoldError
            Where the recording does not hold for them.
        """
        kept.extend(gradients)
        with torch.no_grad():
            return self.backward(kept)


class _Writing:
    """Writes a recording as Python code: one line an operation, and no value kept that is not read."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.written = recording.written
        self.names: dict[str, Any] = {"_same": _same}
        self._name_of: dict[int, str] = {}

    def slots(self, tensors: Sequence[Tensor]) -> list[int]:
        """The slots of tensors that the recording made."""
        found = []
        for tensor in tensors:
            slot = self.recording.slot(tensor)
            if slot is None:  # it depends on nothing
                slot = -1 - len(self.recording.facts)  # one of its own: they grow by it
                self.recording.facts[slot] = tensor
            found.append(slot)
        return found

    def needed(self, ends: Sequence[int]) -> list[Noted]:
        """The operations that `ends` come of, those that write, and those whose answers count."""
        wanted, found = set(ends), []
        for call in reversed(self.recording.calls):
            made = self.made(call)
            if not made and not call.asked and not call.writes:
                continue
            if call.asked or call.writes or wanted & set(made):
                found.append(call)
                wanted.update(self.read(call))
        return found[::-1]

    def is_whole(self, calls: Sequence[Noted], ends: Sequence[int]) -> bool:
        """Whether all that is read is given, a fact, or made before."""
        there = {slot for given in self.recording.given for slot in given}
        for call in calls:
            if not there.issuperset(self.read(call)):
                return False
            there.update(self.made(call))
        return all(slot in there or self._is_fact(slot) for slot in ends)

    def made(self, call: Noted) -> list[int]:
        """The slots that an operation fills."""
        numbers = [x.number for x in tree_leaves(call.made) if isinstance(x, Slot)]
        return [n for n in numbers if not self._is_fact(n)]

    def read(self, call: Noted) -> list[int]:
        """The slots that an operation reads."""
        leaves = tree_leaves((call.args, call.kwargs))
        numbers = [x.number for x in leaves if isinstance(x, Slot)]
        return [n for n in numbers if not self._is_fact(n)]

    def function(
        self, calls: Sequence[Noted], given: Sequence[int], ends: Sequence[int]
    ) -> Function:
        """A function from what is given to `ends`."""
        lines = [f"[{', '.join(map(_value, given))}] = given", "given.clear()"]
        last = {
            slot: i for i, call in enumerate(calls) for slot in (*self.made(call), *self.read(call))
        }
        done: dict[int, list[int]] = {}
        for slot, i in last.items():
            if slot not in ends:
                done.setdefault(i, []).append(slot)
        for i, call in enumerate(calls):
            lines.append(self._line(call))
            if i in done:
                lines.append(f"del {', '.join(map(_value, done[i]))}")
        lines.append(f"return [{', '.join(map(self._slot, ends))}]")
        code = "def replay(given):\n" + "".join(f"    {line}\n" for line in lines)
        space = dict(self.names)
        exec(compile(code, "<a replayed explanation>", "exec"), space)
        replay: Function = space["replay"]
        return replay

    def _line(self, call: Noted) -> str:
        args = [*map(self._text, call.args)]
        args += [f"{name}={self._text(value)}" for name, value in call.kwargs.items()]
        called = f"{self._named(getattr(call.function, '_op', call.function))}({', '.join(args)})"
        if call.asked:
            return f"_same({called}, {self._text(call.made)})"
        made = self._target(call.made)
        return f"{made} = {called}" if made else called

    def _target(self, made: Any) -> str:
        if isinstance(made, Slot):
            return "" if self._is_fact(made.number) else _value(made.number)
        if isinstance(made, (list, tuple)):
            return f"[{', '.join(self._target(x) or '_' for x in made)}]"
        return "_"

    def _text(self, value: Any) -> str:
        if isinstance(value, Slot):
            return self._slot(value.number)
        if isinstance(value, (list, tuple)):
            inner = "".join(f"{self._text(x)}, " for x in value)
            return f"[{inner}]" if isinstance(value, list) else f"({inner})"
        if value is None or type(value) in (bool, int, str):
            return repr(value)
        if type(value) is float and math.isfinite(value):
            return repr(value)
        return self._named(value)

    def _slot(self, number: int) -> str:
        return (
            self._named(self.recording.facts[number]) if self._is_fact(number) else _value(number)
        )

    def _named(self, value: Any) -> str:
        """The name of something that is no number."""
        if id(value) not in self._name_of:
            name = self._name_of[id(value)] = f"c{len(self.names)}"
            self.names[name] = value  # which keeps it, and its id
        return self._name_of[id(value)]

    def _is_fact(self, number: int) -> bool:
        """Whether a slot is the same in every replay, and need not be made."""
        return number in self.recording.facts and number not in self.written


def _value(number: int) -> str:
    return f"v{number}"


def _same(found: Any, before: Any) -> None:
    if found != before:
        raise DoesNotHoldError
