"""Loading: a model and what reads its inputs, from a folder or the hub."""

from __future__ import annotations

import socket
import urllib.request
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from fxplain.arguments import first_line, shown
from fxplain.errors import LoadError

__all__ = [
    "Loaded",
    "Source",
    "WeightsWarning",
    "head_comes_later",
    "load_config",
    "load_model",
    "load_processors",
]

HUB_OPTIONS = frozenset(
    {
        "cache_dir",
        "force_download",
        "local_files_only",
        "proxies",
        "revision",
        "subfolder",
        "token",
        "trust_remote_code",
    }
)
"""What says where files come from, for the processors as well as for the model."""


class WeightsWarning(UserWarning):
    """A checkpoint lacks weights of the model that it is loaded into."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes
    ----------
    where
        The folder or hub id.
    options
        Those of `HUB_OPTIONS` that the user gave, and whether code of the repository may run.
    """

    where: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def find(cls, name: str | Path, options: Mapping[str, Any]) -> Source:
        """The folder of this name, or else the repository.

        Raises
        ------
        LoadError
            When the name can only be a folder's, and there is none.
        """
        options = {"trust_remote_code": False, **options}  # or transformers asks on stdin
        folder = _folder(str(name))
        if folder is not None:
            return cls(str(folder), options)
        offline = {} if _hub_is_reachable() else {"local_files_only": True}
        return cls(str(name), {**options, **offline})

    def failure(self, error: Exception) -> LoadError:
        """The error to raise when no model can be loaded from here."""
        first = " ".join(str(error).split()[:_MOST_WORDS]) or type(error).__name__
        if "ignore_mismatched_sizes" in first:  # transformers tells which in its log
            first = "its weights have other shapes than its config says: it is another model's."
        if Path(self.where).is_dir():
            return LoadError(f"the model in {self.where!r} cannot be loaded: {first}")
        if self.options.get("local_files_only"):
            return LoadError(
                f"there is no folder {self.where!r}, and as a hub id it is neither in the cache nor "
                f"can the hub be reached from here."
            )
        return LoadError(
            f"there is no folder {self.where!r}, and as a hub id it cannot be loaded: {first}"
        )


_MOST_WORDS = 60
"""How much is told of what a library says of a failure."""


@dataclass(frozen=True)
class Loaded:
    """A model with what turns text, images and recordings into its inputs.

    Attributes
    ----------
    model
        In eval mode.
    name
        The folder or hub id, for messages.
    processor
        For several kinds of input at once, or None.
    tokenizer, image_processor, feature_extractor
        For text, images and recordings; None where the model has none.
    video_processor
        For videos: its own, or the image processor of a model that takes videos.
    failures
        Why the processors that could not be loaded could not.
    lacks
        Why the processor that it has for several kinds together could not be loaded, where a package
        is missing; empty elsewhere.
    made
        By task, what was put together of the model.
    """

    model: nn.Module
    name: str
    processor: Any = None
    tokenizer: Any = None
    image_processor: Any = None
    feature_extractor: Any = None
    video_processor: Any = None
    failures: tuple[str, ...] = ()
    lacks: str = ""
    made: dict[str, nn.Module] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def reads(self) -> dict[str, Any]:
        """By kind of input, what reads it."""
        parts = {
            "text": self.tokenizer,
            "image": self.image_processor,
            "video": self.video_processor,
            "audio": self.feature_extractor,
        }
        return {kind: part for kind, part in parts.items() if part is not None}

    @property
    def frames(self) -> int | None:
        """How many frames the model takes, where its config says it."""
        told = getattr(getattr(self.model, "config", None), "num_frames", None)
        return told if isinstance(told, int) else None


# ---- where from ---------------------------------------------------------------------------------


def _folder(name: str) -> Path | None:
    """The folder that a name stands for; an error where it can only be one and is none."""
    looks_like_path = name.startswith((".", "/", "~", "\\")) or name.count("/") > 1
    try:
        folder = Path(name).expanduser()
        there = folder.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long, no such home
        raise LoadError(f"there is no folder {shown(name)}: {first_line(error)}.") from error
    if there:
        if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise LoadError(f"the folder {name!r} has no config.json: save_pretrained writes one.")
        return folder
    if folder.is_file():
        raise LoadError(f"{name!r} is a file; give the save_pretrained folder that it is in.")
    if looks_like_path:
        raise LoadError(f"there is no folder {name!r}.")
    return None


def _hub_is_reachable() -> bool:
    """Whether asking makes sense: a name look-up is quicker than the hub client's retries."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():  # the proxy looks names up
        return True
    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


# ---- the model ----------------------------------------------------------------------------------


def load_config(source: Source) -> Any:
    """The model's config.

    Raises
    ------
    LoadError
        When there is no such folder or repository, or its config cannot be read.
    """
    import transformers

    try:
        return transformers.AutoConfig.from_pretrained(source.where, **source.options)
    except Exception as error:  # whatever a repository's files or code raise
        raise source.failure(error) from error


def load_model(source: Source, config: Any, model_class: Any, **options: Any) -> nn.Module:
    """The model, in eval mode; weights that the checkpoint lacks are warned about.

    Raises
    ------
    LoadError
        When it cannot be loaded, or only in part.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        model, info = model_class.from_pretrained(
            source.where, config=config, output_loading_info=True, **source.options, **options
        )
    except Exception as error:  # whatever a repository's files or code raise
        raise source.failure(error) from error
    missing = sorted(info.get("missing_keys") or ())
    torn = _torn(model, missing)
    if torn:
        raise LoadError(
            f"{source.where} lacks weights of parts that it has others of ({_listed(torn)}): they "
            f"would be random. The checkpoint is incomplete, or its config is another model's."
        )
    if _is_most(model, missing):
        raise LoadError(
            f"{source.where} lacks most of the model's weights ({_listed(missing)}): they would be "
            f"random. The checkpoint is incomplete, names them otherwise (with a prefix such as "
            f"'module.'), or its config is another model's."
        )
    if missing:
        warnings.warn(
            f"{source.where} has no weights for {_listed(missing)}: they are random, and so is what "
            f"they explain.",
            WeightsWarning,
            stacklevel=3,
        )
    found: nn.Module = model.eval()
    return found


def moved(model: nn.Module, device: Any) -> nn.Module:
    """The model on a device.

    Raises
    ------
    LoadError
        When there is no such device, or the model cannot be there.
    """
    try:
        if torch.device(device).type == "meta":
            raise ValueError("weights have no values there, and nothing can be explained.")
        return model.to(torch.device(device))
    except Exception as error:
        raise LoadError(f"the model cannot be moved to device={shown(device)}: {error}") from error


@contextmanager
def head_comes_later() -> Iterator[None]:
    """Without the warning that a head is missing: what is loaded next brings it, or trains none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)
        yield


def _torn(model: nn.Module, missing: Sequence[str]) -> list[str]:
    """Missing weights of parts that others were loaded of; a part that is new as a whole is a head."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."

    def part_of(name: str) -> str:
        return name.removeprefix(prefix).partition(".")[0]

    names = {name for name, _ in model.named_parameters()}
    had = {part_of(name) for name in names.difference(missing)}
    return [name for name in missing if name in names and part_of(name) in had]


def _is_most(model: nn.Module, missing: Collection[str]) -> bool:
    """Whether more numbers are missing than not: a new head is less than what it stands on."""
    lacked = {name: p.numel() for name, p in model.named_parameters() if name in missing}
    return 2 * sum(lacked.values()) > sum(p.numel() for p in model.parameters())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")


# ---- its processors -----------------------------------------------------------------------------

_READERS = {
    "tokenizer": "AutoTokenizer",
    "image_processor": "AutoImageProcessor",
    "feature_extractor": "AutoFeatureExtractor",
}


def load_processors(source: Source, model: nn.Module, below: Source | None = None) -> Loaded:
    """The model with its processor, or with a tokenizer, image processor and feature extractor.

    Those of an adapter that brings none are of the model `below`.
    """
    found = _processors(source, model)
    if found.reads or below is None or below == source:
        return found
    return replace(_processors(below, model), name=source.where)


def _processors(source: Source, model: nn.Module) -> Loaded:
    import transformers

    failures: list[str] = []
    lacking: list[str] = []
    processor = _loaded("AutoProcessor", source, failures, lacking)
    parts: dict[str, Any] = {name: getattr(processor, name, None) for name in _READERS}
    both = processor if isinstance(processor, transformers.ProcessorMixin) else None
    if both is None:
        parts = {
            name: _loaded(auto, source, failures)
            for name, auto in _READERS.items()
            if _is_wanted(name, model)
        }
    if parts.get("tokenizer") is not None and not _has_words(parts["tokenizer"]):
        failures.append(
            f"{type(parts['tokenizer']).__name__}: its files are missing, it has no vocabulary"
        )
        both = parts["tokenizer"] = None
    video = getattr(processor, "video_processor", None) if both is not None else None
    if video is None and "video" in modalities_of(type(model)):
        video = parts.get("image_processor")
    return Loaded(
        model, source.where, both, **parts, video_processor=video, failures=tuple(failures),
        lacks="".join(lacking),
    )  # fmt: skip


def _loaded(
    auto: str, source: Source, failures: list[str], lacking: list[str] | None = None
) -> Any:
    """What a class of transformers loads, or None; why not is told, and of what it lacks besides."""
    import transformers

    try:
        return getattr(transformers, auto).from_pretrained(source.where, **source.options)
    except Exception as error:  # noqa: BLE001 - a model may well have none
        if isinstance(error, ImportError) and lacking is not None:
            lacking.append(first_line(error).partition(". ")[0])
        failures.append(f"{auto}: {str(error).strip().partition(chr(10))[0]}")
        return None


def _is_wanted(part: str, model: nn.Module) -> bool:
    """Whether a model that says what it takes in takes what this reads.

    An image processor's files also load as a feature extractor, and each try asks the hub.
    """
    kinds = {"tokenizer": "text", "image_processor": "image", "feature_extractor": "audio"}
    taken = modalities_of(type(model))
    frames = part == "image_processor" and "video" in taken
    return part == "tokenizer" or kinds[part] in taken or frames


def modalities_of(model_class: Any) -> frozenset[str]:
    """What a model class of transformers takes in: "text", "image", "audio", "video", ..."""
    named = getattr(model_class, "input_modalities", ())
    return frozenset([named] if isinstance(named, str) else named or ())


def _has_words(tokenizer: Any) -> bool:
    """Whether there is more than special tokens.

    Without its files transformers makes up an empty tokenizer, to which every word is unknown.
    """
    return len(tokenizer) > len(tokenizer.all_special_tokens)
