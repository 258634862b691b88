"""Adapters: a folder or repository that PEFT saved, which names the model that it was trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fxplain.errors import LoadError
from fxplain.extras import extra
from fxplain.pipelines.loading import Source

__all__ = ["Adapter", "find_adapter"]

TASKS = {
    "SEQ_CLS": "text-classification",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "CAUSAL_LM": "text-generation",
}
"""What PEFT calls the tasks whose head may be another than that of the model below."""

CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Adapter:
    """An adapter and what it was trained on.

    Attributes
    ----------
    source
        Where the adapter is.
    base
        Where the model below is.
    task
        The task that it was trained for, or None where it does not say.
    """

    source: Source
    base: Source
    task: str | None

    def on(self, model: nn.Module) -> nn.Module:
        """The model with the adapter in it, in eval mode.

        Raises
        ------
        MissingExtraError
            When PEFT is not installed.
        LoadError
            When the adapter does not fit.
        """
        message = f"{self.source.where!r} is an adapter, which needs PEFT: pip install peft."
        peft = extra("peft", message)
        options = {k: v for k, v in self.source.options.items() if k != "trust_remote_code"}
        try:
            made = peft.PeftModel.from_pretrained(model, self.source.where, **options)
        except Exception as error:  # whatever its files raise
            raise self.source.failure(error) from error
        # A prompt that was learned stands before the text in the wrapper's forward; all else is in the
        # model below, which is one of transformers.
        learns_prompt = made.active_peft_config.is_prompt_learning
        found: nn.Module = made if learns_prompt else made.get_base_model()
        return found.eval()


def find_adapter(source: Source) -> Adapter | None:
    """The adapter that lies there, if it is one and no whole model.

    Raises
    ------
    LoadError
        When its config cannot be read, or names no model.
    """
    file = _config_file(source)
    if file is None:
        return None
    try:
        facts = json.loads(Path(file).read_text(encoding="utf-8"))
        below = facts["base_model_name_or_path"]
        kind = facts.get("task_type")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(f"{file} is no config of an adapter: {error!r}") from error
    if not isinstance(below, str) or not below:
        raise LoadError(f"{file} does not name the model that the adapter was trained on.")
    options = {k: v for k, v in source.options.items() if k not in ("revision", "subfolder")}
    revision = facts.get("revision")
    base = Source.find(below, {**options, "revision": revision} if revision else options)
    return Adapter(source, base, TASKS.get(str(kind)))


def _config_file(source: Source) -> str | Path | None:
    folder = Path(source.where)
    if folder.is_dir():
        whole = (folder / "config.json").is_file()
        return None if whole or not (folder / CONFIG).is_file() else folder / CONFIG
    from transformers.utils.hub import cached_file

    def kept(name: str) -> Any:
        options = {k: v for k, v in source.options.items() if k != "trust_remote_code"}
        return cached_file(
            source.where,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
            **options,
        )

    try:
        return None if kept("config.json") else kept(CONFIG)
    except OSError:  # no such repository: what loads it says so
        return None
