"""Messages: a conversation as the text and the images that a model's chat template makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fxplain.errors import InputError
from fxplain.pipelines.loading import Loaded

__all__ = ["conversations_in", "written_messages"]


def conversations_in(given: Any) -> list[Sequence[Mapping[str, Any]]]:
    """What is given as a text, one conversation or a list of them; none where it is something else.

    A conversation is a list of mappings with a role and a content.
    """
    if _are_messages(given):
        return [given]
    several = isinstance(given, (list, tuple)) and bool(given) and all(map(_are_messages, given))
    return list(given) if several else []


def _are_messages(given: Any) -> bool:
    return (
        isinstance(given, (list, tuple))
        and bool(given)
        and all(
            isinstance(message, Mapping) and {"role", "content"} <= set(message)
            for message in given
        )
    )


def written_messages(
    loaded: Loaded, messages: Sequence[Mapping[str, Any]]
) -> tuple[str, list[Any], list[Any]]:
    """The text that the model is given, up to where its answer begins, and images and videos in it.

    Parameters
    ----------
    messages
        Each with a role and a content: a text, or a list of ``{"type": "text", "text": ...}``,
        ``{"type": "image", "image": ...}`` and ``{"type": "video", "video": ...}``.

    Raises
    ------
    InputError
        When the model has no chat template, or it fails on them.
    """
    reader = next(
        (r for r in (loaded.processor, loaded.tokenizer) if getattr(r, "chat_template", None)), None
    )
    if reader is None:
        raise InputError(
            f"messages are given, but {loaded.name!r} has no chat template: give text=, a string."
        )
    parts = [part for message in messages for part in _parts(message["content"])]
    images, videos = _media(parts, "image"), _media(parts, "video")
    plain = reader is not loaded.processor and not images and not videos
    told = [_as_text(message) for message in messages] if plain else list(messages)
    try:
        text = reader.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # whatever a template raises
        raise InputError(f"the chat template of {loaded.name!r} fails: {error}") from error
    return str(text), images, videos


def _media(parts: Sequence[Mapping[str, Any]], kind: str) -> list[Any]:
    """What is given in parts of a kind, in order."""
    keys = (kind, "url", "path")
    return [
        next(part[key] for key in keys if key in part)
        for part in parts
        if part.get("type") == kind and part.keys() & set(keys)
    ]


def _parts(content: Any) -> list[Mapping[str, Any]]:
    return (
        [part for part in content if isinstance(part, Mapping)]
        if not isinstance(content, str)
        else []
    )


def _as_text(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message whose content is one text, as templates of text models want it."""
    parts = _parts(message["content"])
    if not parts:
        return dict(message)
    return {**message, "content": "".join(str(part.get("text", "")) for part in parts)}
