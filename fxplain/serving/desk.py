"""The desk: one model, the explanations that were just asked for, and what may be asked of them."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fxplain.arguments import Form, checked, optional
from fxplain.errors import FxplainError, InputError
from fxplain.explanation import Explanation
from fxplain.interventions import Cut
from fxplain.methods import methods
from fxplain.pipelines import Explainer
from fxplain.pipelines.task import writes
from fxplain.serving.limits import Limits
from fxplain.serving.received import KINDS, Receiver, opened_bytes
from fxplain.serving.shown import cells_of, curve_of, heads_of, sent_modality, sent_writing
from fxplain.serving.snippet import snippet_of
from fxplain.views.outputs import explained_text, top_classes

__all__ = ["BusyError", "Desk", "GoneError"]


class BusyError(FxplainError):
    """Too many requests wait for the model."""


class GoneError(InputError):
    """An explanation that is not kept any more."""


class Desk:
    """One model for several users at once: requests take turns, and only so many may wait.

    Parameters
    ----------
    explainer
        What `fxplain.from_pretrained` gives.
    limits
        How much is answered.
    others
        Other models by name, to compare with: they are given the same.

    Raises
    ------
    InputError
        When it is no explainer, or a model needs what a page cannot send, or another kind of input
        than the first.
    """

    @checked(
        explainer=Form("what fxplain.from_pretrained gives", lambda x: isinstance(x, Explainer)),
        limits=optional(Form("fxplain.serving.Limits", lambda x: isinstance(x, Limits))),
    )
    def __init__(
        self,
        explainer: Explainer,
        limits: Limits | None = None,
        others: Mapping[str, Explainer] | None = None,
    ) -> None:
        unserved = [kind for kind in explainer.wants if kind not in KINDS]
        if unserved:
            raise InputError(
                f"a model that needs {', '.join(unserved)} cannot be served yet: the page takes "
                f"{', '.join(KINDS)}."
            )
        self.explainer, self.limits = explainer, limits or Limits()
        self._receiver = Receiver(self.limits, explainer.loaded.frames)
        self.others = dict(others or {})
        for name, other in self.others.items():
            if other.wants != explainer.wants:
                raise InputError(
                    f"{name} needs {', '.join(other.wants)}, the model that is served "
                    f"{', '.join(explainer.wants)}: they cannot be compared."
                )
        self._kept: OrderedDict[str, tuple[Explanation, dict[str, Any]]] = OrderedDict()
        self._turn, self._door = threading.Lock(), threading.Lock()
        self._inside = 0

    @property
    def facts(self) -> dict[str, Any]:
        """What the page is told of the model."""
        return {
            "model": type(self.explainer.model).__name__,
            "task": self.explainer.task.name,
            "wants": list(self.explainer.wants),
            "writes": writes(self.explainer.model) and "pair" not in self.explainer.wants,
            "tokens": self.limits.tokens,
            "frames": self._receiver.frames,
            "seconds": self.limits.seconds,
            "rate": getattr(self.explainer.loaded.feature_extractor, "sampling_rate", 0),
            "methods": list(methods()),
            "others": list(self.others),
        }

    @contextmanager
    def _taking_turns(self) -> Iterator[None]:
        with self._door:
            if self._inside > self.limits.waiting:
                raise BusyError("too many people are asking at once: try again in a moment.")
            self._inside += 1
        try:
            with self._turn:
                yield
        finally:
            with self._door:
                self._inside -= 1

    def _found(self, name: Any) -> tuple[Explanation, dict[str, Any]]:
        with self._door:
            if not isinstance(name, str) or name not in self._kept:
                raise GoneError("this explanation is not kept any more: explain again.")
            self._kept.move_to_end(name)
            return self._kept[name]

    def _bytes(self) -> int:
        """What was sent and is kept, opened."""
        return sum(
            opened_bytes(value) for _, given in self._kept.values() for value in given.values()
        )

    # -- what is asked ------------------------------------------------------------------------------

    def explain(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Explain what a page sends: what the model needs, by kind, as `Receiver.opened` takes it."""
        given = self._given(asked)
        method = _method(asked, "generic")
        with self._taking_turns():
            explanation: Explanation = self.explainer(**given, method=method)
            name = secrets.token_urlsafe(12)
            sent = {
                "id": name,
                **self._sent(explanation),
                "heads": heads_of(explanation),
                "snippet": snippet_of(self.explainer, given, method),
            }
        with self._door:
            self._kept[name] = (explanation, given)
            while len(self._kept) > self.limits.kept or (
                len(self._kept) > 1 and self._bytes() > self.limits.memory
            ):
                self._kept.popitem(last=False)
        return sent

    def compare(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The same input by another ``method``, or of another ``model``."""
        explanation, given = self._found(asked.get("id"))
        method, model = _method(asked, explanation.method), asked.get("model") or ""
        if not isinstance(model, str) or (model and model not in self.others):
            raise InputError(f"there is no other model {model!r} here.")
        explainer = self.others[model] if model else self.explainer
        with self._taking_turns():
            return {"model": model, **self._sent(explainer(**given, method=method))}

    def write(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What the model writes after what a page sends, and what each token draws on."""
        count = asked.get("tokens", 8)
        if type(count) is not int or not 0 < count <= self.limits.tokens:
            raise InputError(f"a model writes 1 to {self.limits.tokens} tokens here.")
        given, method = self._given(asked), _method(asked, "generic")
        with self._taking_turns():
            return sent_writing(
                self.explainer.generate(**given, max_new_tokens=count, method=method)
            )

    def cut(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer without some tokens, ``{modality: [places]}``, and heads, ``{node: [heads]}``."""
        explanation, given = self._found(asked.get("id"))
        told = [
            (kind, name, numbers)
            for kind in ("tokens", "heads")
            for name, numbers in _places(kind, asked)
            if numbers
        ]
        snippet = snippet_of(self.explainer, given, explanation.method, told)
        if not told:
            return {"answer": self._answer(explanation), "effect": 0.0, "snippet": snippet}
        first, *rest = (getattr(Cut, kind)(name, numbers) for kind, name, numbers in told)
        with self._taking_turns():
            assert explanation.asked is not None, "it was made here"
            found = explanation.asked.intervene(sum(rest, first), outputs=True)
        after = replace(explanation, output=found.outputs[0], scores=found.scores[0])
        effect = float(found.effects[0, 0])
        return {"answer": self._answer(after), "effect": effect, "snippet": snippet}

    def curve(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The score without the most relevant words and patches, and without the least."""
        explanation, _ = self._found(asked.get("id"))
        with self._taking_turns():
            return curve_of(explanation, self.limits.cuts)

    def cells(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The map of one head: ``{"node": name, "head": number}``."""
        explanation, _ = self._found(asked.get("id"))
        with self._taking_turns():
            return cells_of(explanation, asked.get("node"), asked.get("head"))

    def report(self, name: str) -> str:
        """One explanation as a static page."""
        explanation, _ = self._found(name)
        with self._taking_turns():
            return explanation.to_html()

    # -- pieces -------------------------------------------------------------------------------------

    def _sent(self, explanation: Explanation) -> dict[str, Any]:
        return {
            "answer": self._answer(explanation),
            "target": explained_text(explanation, 0, explanation.class_name),
            "method": explanation.method,
            "modalities": [sent_modality(explanation, m) for m in explanation.modalities],
        }

    def _answer(self, explanation: Explanation) -> dict[str, Any]:
        names = explanation.class_name
        return {
            "score": float(explanation.scores[0]),
            "classes": top_classes(explanation, 0, names),
        }

    def _given(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {kind: self._receiver.opened(kind, asked.get(kind)) for kind in self.explainer.wants}


def _method(asked: Mapping[str, Any], otherwise: str) -> str:
    """The method that a page names."""
    method = asked.get("method")
    method = otherwise if method in (None, "") else method
    if not isinstance(method, str) or method not in (*methods(), "auto"):
        raise InputError(f"a method is one of: {', '.join(methods())}, auto.")
    return method


def _places(what: str, asked: Mapping[str, Any]) -> Iterator[tuple[str, list[int]]]:
    """(name, numbers) of a mapping that a page sent."""
    given = asked.get(what) or {}
    if not isinstance(given, Mapping):
        raise InputError(f"{what} must be lists of numbers by name.")
    for name, numbers in given.items():
        if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
            raise InputError(f"{what} of {name} must be a list of numbers from 0.")
        yield str(name), sorted(set(numbers))
