"""Verification: what held, what broke and what was not checked, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fxplain.presentation import Presentable

__all__ = ["Fault", "LawResult", "Verification"]

FORMAT = "fxplain-verification-1"
"""What the plain data calls itself; the number rises when a reader of the old one would fail."""


@dataclass(frozen=True)
class Fault:
    """Where a law breaks first.

    Attributes
    ----------
    operation, module
        The operation, and the path of the module in which it stands ("" for the model itself).
    modalities
        Whose numbers are touched.
    leaks
        Rows of the operation's result that depend on tokens which the explanation does not know there:
        influence that is missed.
    ghosts
        Rows that do not depend on what they are credited for.
    detail
        What else is to say.
    """

    operation: str
    module: str
    modalities: tuple[str, ...] = ()
    leaks: int = 0
    ghosts: int = 0
    detail: str = ""

    def __str__(self) -> str:
        said = [self.detail] if self.detail else []
        if self.leaks:
            said.append(f"influence that the explanation misses reaches {_rows(self.leaks)}")
        if self.ghosts:
            said.append(f"{_rows(self.ghosts)} credited for nothing")
        where = f"{self.operation} in {self.module or 'the model'}" if self.operation else ""
        touched = f" (touches {', '.join(self.modalities)})" if self.modalities else ""
        return f"{where}{': ' if where else ''}{', '.join(said)}{touched}"


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class LawResult:
    """One law, tried.

    Attributes
    ----------
    law
        Its name.
    state
        "holds", "broken" or "not checked".
    faults
        Where it breaks, first operation first.
    reason
        Why it was not checked.
    forwards
        What it cost, in forwards of the model.
    """

    law: str
    state: str
    faults: tuple[Fault, ...] = ()
    reason: str = ""
    forwards: float = 0.0

    @classmethod
    def of(cls, law: str, faults: tuple[Fault, ...], forwards: float) -> LawResult:
        """The result of a law that was checked."""
        return cls(law, "broken" if faults else "holds", faults, forwards=round(forwards, 1))


@dataclass(frozen=True)
class Verification(Presentable):
    """Whether the picture of a model is true: one result for each law.

    Attributes
    ----------
    model
        The model's class name.
    laws
        What was tried.
    seconds
        How long it took.
    """

    model: str
    laws: tuple[LawResult, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing is broken."""
        return all(law.state != "broken" for law in self.laws)

    @property
    def forwards(self) -> float:
        """What it cost, in forwards of the model."""
        return round(sum(law.forwards for law in self.laws), 1)

    @property
    def broken(self) -> tuple[LawResult, ...]:
        """The laws that are broken."""
        return tuple(law for law in self.laws if law.state == "broken")

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {"format": FORMAT, "ok": self.ok, "forwards": self.forwards, **asdict(self)}

    def __repr__(self) -> str:
        states = [law.state for law in self.laws]
        counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        return f"<Verification of {self.model}: {counts}>"
