"""Snippets: what a page shows, as a few lines of Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fxplain.pipelines import Explainer

__all__ = ["snippet_of"]

FILES = {"image": "image.png", "audio": "recording.wav", "video": "video.mp4"}
"""Names that stand for what was sent."""


def snippet_of(
    explainer: Explainer,
    given: Mapping[str, Any],
    method: str,
    cuts: Sequence[tuple[str, str, list[int]]] = (),
) -> str:
    """The same in Python.

    Parameters
    ----------
    explainer
        What `fxplain.from_pretrained` gave.
    given
        By kind, what it was given.
    method
        How it was explained.
    cuts
        What is struck out and silenced: ("tokens", modality, places) and ("heads", node, heads).

    Examples
    --------
    >>> import fxplain
    >>> from fxplain.demo import digits
    >>> vqa = fxplain.from_pretrained(digits.MODEL_FOLDER)
    >>> said = snippet_of(vqa, {"text": "how many?"}, "raw", [("tokens", "input_ids", [2])])
    >>> _ = [print(line) for line in said.splitlines()[3:]]
    e = explainer(text='how many?', method='raw')
    print(e)
    print(e.heads())
    cut = fxplain.Cut.tokens('input_ids', [2])
    print(e.intervene(cut))
    """
    path = getattr(explainer.model.config, "name_or_path", "") or "MODEL"
    shown = {k: value if isinstance(value, str) else FILES[k] for k, value in given.items()}
    what = ", ".join(f"{kind}={value!r}" for kind, value in shown.items())
    lines = [
        "import fxplain",
        "",
        f"explainer = fxplain.from_pretrained({path!r}, task={explainer.task.name!r})",
        f"e = explainer({what}, method={method!r})",
        "print(e)",
        "print(e.heads())",
    ]
    if cuts:
        made = " + ".join(f"fxplain.Cut.{kind}({name!r}, {which!r})" for kind, name, which in cuts)
        lines += [f"cut = {made}", "print(e.intervene(cut))"]
    return "\n".join(lines) + "\n"
