"""Given: the model and the inputs that were typed, said once for every command that takes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from fxplain.cli.options import (
    Debug,
    Device,
    Images,
    Model,
    Pairs,
    Precision,
    Recordings,
    TaskName,
    Texts,
    Truncation,
    TrustRemoteCode,
    Videos,
    check_open,
)
from fxplain.cli.sources import Checkpoint, Made, open_source
from fxplain.cli.terminal import errors_reported, quiet

__all__ = ["Given", "takes_model"]


@dataclass(frozen=True)
class Given:
    """What was typed of a model and its inputs."""

    model: Model
    text: Texts = None
    pair: Pairs = None
    image: Images = None
    video: Videos = None
    audio: Recordings = None
    truncation: Truncation = None
    task: TaskName = None
    device: Device = None
    dtype: Precision = None
    trust_remote_code: TrustRemoteCode = False
    debug: Debug = False

    def opened(self, model: str | None = None, **more: Any) -> Made | Checkpoint:
        """The model, or another one, with what was given and `more` as its raw inputs."""
        names = ("text", "pair", "image", "video", "audio")
        raw = {name: getattr(self, name) or None for name in names}
        return open_source(
            model or self.model,
            {**raw, "truncation": self.truncation, **more},
            self.task,
            self.trust_remote_code,
            self.device,
            self.dtype,
        )


_LAST = ("device", "dtype", "trust_remote_code", "debug")
"""What stands behind a command's own options."""


def takes_model(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `Given`, but some; it is called with a `Given` and its own options.

    Errors are reported as one line.
    """

    def made(command: Callable[..., None]) -> Callable[..., None]:
        parameters = {p.name: p for p in _parameters(command, without)}

        @functools.wraps(command)
        def run(**typed: Any) -> None:
            check_open(typed)
            own = {name: typed.pop(name) for name in _own(command)}
            quiet(typed["debug"])
            with errors_reported(typed["debug"]):
                command(Given(**typed), **own)

        run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        run.__annotations__ = {name: p.annotation for name, p in parameters.items()}
        return run

    return made


def _own(command: Callable[..., None]) -> list[str]:
    return list(inspect.signature(command).parameters)[1:]


def _parameters(command: Callable[..., None], without: tuple[str, ...]) -> Iterator[Any]:
    """The shared options around a command's own."""
    shared = _typed(Given)
    first = [name for name in shared if name not in (*_LAST, *without)]
    own = _typed(command)
    yield from (shared[name] for name in first)
    yield from (own[name] for name in _own(command))
    yield from (shared[name] for name in _LAST if name not in without)


def _typed(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    hints = get_type_hints(function, include_extras=True)
    return {
        name: p.replace(kind=p.KEYWORD_ONLY, annotation=hints.get(name, p.annotation))
        for name, p in inspect.signature(function).parameters.items()
    }
