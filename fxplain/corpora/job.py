"""The job: what is explained how, and its manifest, which no other job's rows get mixed with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxplain.arguments import whole
from fxplain.capture import config_of
from fxplain.corpora.layout import Layout
from fxplain.corpora.schema import FORMAT
from fxplain.errors import InputError, LoadError
from fxplain.pipelines import Explainer, Loaded
from fxplain.pipelines.encoding import text_limit
from fxplain.plain_data import from_json, read_as
from fxplain.written import saving

__all__ = ["MANIFEST", "Job", "Manifest", "weights_hash"]

MANIFEST = "manifest.json"
SAID = ("model", "method", "columns")
"""Facts that are read again."""
LATER = ("processors",)
"""Facts that manifests of earlier versions do not have."""
UNREAD = ("format", "fingerprint")


@dataclass(frozen=True)
class Job:
    """What makes the rows what they are.

    Attributes
    ----------
    layout
        Columns of the data.
    target, method, truncation, on_error, batch_tokens, options
        As `fxplain.CorpusExplainer` takes them.
    """

    layout: Layout
    target: Any
    method: str
    truncation: bool | None
    on_error: str
    batch_tokens: int | None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def targets(self) -> int:
        """How many rows of the result each row of the data has."""
        return len(self.target) if isinstance(self.target, list) else 1

    def keywords(self) -> dict[str, Any]:
        """For a `fxplain.CorpusExplainer`."""
        own = {k: v for k, v in vars(self).items() if k not in ("layout", "options")}
        return {**own, **asdict(self.layout), **self.options}


@dataclass(frozen=True)
class Manifest:
    """What is written beside the rows.

    Attributes
    ----------
    facts
        What must be the same for rows to stand in one folder.
    constants
        What is true of all rows, and goes into each file's metadata.
    shard_rows
        How many rows of the data a file holds.
    complete
        Whether the data came to its end.
    """

    facts: Mapping[str, Any]
    constants: Mapping[str, str]
    shard_rows: int
    complete: bool = False

    @classmethod
    def of(cls, explainer: Explainer, job: Job, identity: str | None, shard_rows: int) -> Manifest:
        """The manifest of a job that is about to start."""
        versions = {name: _version(name) for name in ("fxplain", "torch", "transformers")}
        config: Any = config_of(explainer.model)
        model = {
            "model": type(explainer.model).__name__,
            "weights": weights_hash(explainer.model),
            "config": _hash(str(_without_place(getattr(config, "to_dict", dict)()))),
            "tokenizer": _tokenizer_hash(explainer.loaded.tokenizer),
            "processors": _processors_hash(explainer.loaded),
            "task": explainer.task.name,
        }
        asked = {
            "target": repr(job.target),
            "method": job.method,
            "options": {name: repr(value) for name, value in sorted(job.options.items())},
            "truncation": job.truncation,
            "columns": job.layout.as_text(),
        }
        said = {"name": explainer.loaded.name, "revision": getattr(config, "_commit_hash", None)}
        constants = {"format": FORMAT, **{k: str(v) for k, v in said.items() if v}, **versions}
        constants |= {k: str(v) for k, v in model.items()}
        return cls({**model, **asked, **versions, "data": identity}, constants, shard_rows)

    @property
    def fingerprint(self) -> str:
        """A hash of what must be the same."""
        return _hash(json.dumps(self.facts, sort_keys=True))

    def write(self, folder: Path) -> None:
        """Into a folder, aside and renamed."""
        said = {"format": FORMAT, "fingerprint": self.fingerprint, "complete": self.complete}
        said |= {"shard_rows": self.shard_rows}
        said |= {"facts": dict(self.facts), "constants": dict(self.constants)}
        aside = folder / f"{MANIFEST}.{os.getpid()}.tmp"
        with saving(folder):
            aside.write_text(json.dumps(said, indent=1), encoding="utf-8")
            aside.replace(folder / MANIFEST)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Of an explained corpus.

        Raises
        ------
        LoadError
            When the folder is none, or of another format.
        """
        try:
            text = (folder / MANIFEST).read_text(encoding="utf-8")
            said = from_json(dict[str, Any], text, MANIFEST)
            if said.get("format", FORMAT) != FORMAT:
                raise LoadError(
                    f"it is of format {said['format']!r}; this fxplain reads {FORMAT!r}"
                )
            own = {name: value for name, value in said.items() if name not in UNREAD}
            found: Manifest = read_as(cls, own, MANIFEST)
            whole(1).raising(LoadError).check("shard_rows", found.shard_rows)
            for name in SAID:
                read_as(str, found.facts.get(name), f"{MANIFEST}.facts.{name}")
        except (OSError, ValueError) as error:
            raise LoadError(
                f"{str(folder)!r} is no explained corpus, its {MANIFEST} is missing or damaged: "
                f"{error}"
            ) from error
        return found

    @property
    def columns(self) -> dict[str, str]:
        """By kind of input (text, pair, image, audio), the data's column."""
        found: dict[str, str] = from_json(
            dict[str, str], self.facts["columns"], f"the columns in {MANIFEST}"
        )
        return found

    def check(self, other: Manifest, folder: Path) -> None:
        """Whether the rows of a job that is already in the folder are of this job.

        Raises
        ------
        InputError
            Saying what differs.
        """
        facts = {**self.facts, **other.facts}
        parts = [
            f"{name} (there: {other.facts.get(name)!r}; now: {self.facts.get(name)!r})"
            for name in facts
            if self.facts.get(name) != other.facts.get(name)
            and (name in other.facts or name not in LATER)
        ]
        if parts:
            raise InputError(
                f"{str(folder)!r} holds another job's rows. Different: {'; '.join(parts)}. Write to "
                f"another folder, or delete this one."
            )


def weights_hash(model: nn.Module) -> str:
    """A hash of all weights and buffers that a model saves."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        if value.is_meta:
            continue
        flat = value.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()[:32]


def _without_place(said: Any) -> Any:
    """A config without where it was loaded from: a copy of the folder is the same model."""
    if not isinstance(said, dict):
        return said
    return {name: _without_place(part) for name, part in said.items() if name != "_name_or_path"}


def _tokenizer_hash(tokenizer: Any) -> str:
    if tokenizer is None:
        return ""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    said = json.loads(inner.to_str()) if inner is not None else tokenizer.get_vocab()
    said = {k: v for k, v in said.items() if k not in ("padding", "truncation")}  # of the last call
    words = json.dumps(said, sort_keys=True)
    return _hash(f"{type(tokenizer).__name__} {tokenizer.padding_side} {words}")


def _processors_hash(loaded: Loaded) -> str:
    """Of what is done to texts before the tokenizer's rules, and to pictures and recordings."""
    tokenizer = loaded.tokenizer
    names = ("truncation_side", "chat_template")
    said: dict[str, Any] = {name: getattr(tokenizer, name, None) for name in names}
    said["limit"] = None if tokenizer is None else text_limit(loaded)
    for name in ("processor", "image_processor", "feature_extractor", "video_processor"):
        part = getattr(loaded, name)
        said[name] = part.to_dict() if hasattr(part, "to_dict") else type(part).__name__
    adapters = getattr(loaded.model, "peft_config", None) or {}
    said["adapters"] = {name: str(config) for name, config in adapters.items()}
    return _hash(json.dumps(said, sort_keys=True, default=str))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
