"""Loading: a model and what reads its inputs, from a folder, the hub or a factory function."""

from __future__ import annotations

import difflib
import importlib
import socket
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from torch import nn

from fxplain.cli.terminal import note
from fxplain.errors import LoadError

__all__ = ["Loaded", "is_factory", "load_factory", "load_pretrained"]


@dataclass(frozen=True)
class Loaded:
    """A pretrained model with what turns text and images into its inputs.

    Attributes
    ----------
    name
        The folder or hub id.
    model
        In eval mode.
    processor
        For both text and images, or None.
    tokenizer, image_processor
        For one of them, or None.
    failures
        Why the processors that could not be loaded could not.
    """

    name: str
    model: nn.Module
    processor: Any
    tokenizer: Any
    image_processor: Any
    failures: tuple[str, ...]


# ---- folders and hub ids ------------------------------------------------------------------------


def load_pretrained(name: str, trust_remote_code: bool = False) -> Loaded:
    """Load a model of the class that its config names, and its processors, by the Auto classes.

    Raises
    ------
    LoadError
        When there is no such folder or repository, or it cannot be loaded.
    """
    source = _source(name)
    options = {"trust_remote_code": trust_remote_code}
    if not source.is_dir() and not _hub_is_reachable():
        options["local_files_only"] = True
    where = str(source) if source.is_dir() else name
    model = _model(where, options)
    processor, failures = _processor(where, options)
    both, tokenizer, image_processor = _parts(processor)
    if tokenizer is not None and not _has_words(tokenizer):
        failures += (f"{type(tokenizer).__name__}: its files are missing, it has no vocabulary",)
        both, tokenizer = None, None
    return Loaded(name, model, both, tokenizer, image_processor, failures)


def _source(name: str) -> Path:
    """The folder that a name may stand for; certainly does, where it looks like a path."""
    folder = Path(name).expanduser()
    looks_like_path = name.startswith((".", "/", "~", "\\")) or name.count("/") > 1
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise LoadError(f"the folder {name!r} has no config.json: save_pretrained writes one.")
    if folder.is_file():
        raise LoadError(f"{name!r} is a file; give the save_pretrained folder that it is in.")
    if looks_like_path and not folder.is_dir():
        raise LoadError(f"there is no folder {name!r}.")
    return folder


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


def _model(where: str, options: dict[str, bool]) -> nn.Module:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(where, **options)
        loader = _model_class(config)
        model, info = loader.from_pretrained(
            where, config=config, output_loading_info=True, **options
        )
    except Exception as error:  # whatever a repository's files or code raise
        raise LoadError(_explained(where, error, options)) from error
    missing = sorted(info.get("missing_keys") or ())
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if missing[3:] else "")
        note(f"{where} has no weights for {shown}: they are random, and so is what they explain.")
    found: nn.Module = model.eval()
    return found


def _model_class(config: Any) -> Any:
    """The class that a config names, else the bare model."""
    import transformers

    remote = getattr(config, "auto_map", None) or {}
    architecture = next(iter(getattr(config, "architectures", None) or ()), None)
    for auto, code in remote.items():
        if architecture and code.endswith(f".{architecture}") and hasattr(transformers, auto):
            return getattr(transformers, auto)
    return getattr(transformers, architecture or "", None) or transformers.AutoModel


def _explained(where: str, error: Exception, options: dict[str, bool]) -> str:
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    if Path(where).is_dir():
        return f"the model in {where!r} cannot be loaded: {first}"
    if options.get("local_files_only"):
        return (
            f"there is no folder {where!r}, and as a hub id it is neither in the cache nor can "
            f"the hub be reached from here."
        )
    return f"there is no folder {where!r}, and as a hub id it cannot be loaded: {first}"


def _processor(where: str, options: dict[str, bool]) -> tuple[Any, tuple[str, ...]]:
    """The first that loads: the model's processor, tokenizer or image processor."""
    import transformers

    failures: list[str] = []
    for name in ("AutoProcessor", "AutoTokenizer", "AutoImageProcessor"):
        try:
            return getattr(transformers, name).from_pretrained(where, **options), tuple(failures)
        except Exception as error:  # noqa: BLE001 - a model may well have none of them
            failures.append(f"{name}: {str(error).strip().partition(chr(10))[0]}")
    return None, tuple(failures)


def _parts(processor: Any) -> tuple[Any, Any, Any]:
    """(processor for both, tokenizer, image processor), None where there is none."""
    import transformers

    if isinstance(processor, transformers.PreTrainedTokenizerBase):
        return None, processor, None
    if isinstance(processor, transformers.ProcessorMixin):
        tokenizer = getattr(processor, "tokenizer", None)
        image_processor = getattr(processor, "image_processor", None)
        return processor, tokenizer, image_processor
    is_for_images = "pixel_values" in getattr(processor, "model_input_names", ())
    return None, None, processor if is_for_images else None


def _has_words(tokenizer: Any) -> bool:
    """Whether there is more than special tokens.

    Without its files transformers makes up an empty tokenizer, to which every word is unknown.
    """
    return len(tokenizer) > len(tokenizer.all_special_tokens)


# ---- factories ----------------------------------------------------------------------------------


def is_factory(name: str) -> bool:
    """Whether a name has the form ``package.module:factory``."""
    module, colon, function = name.partition(":")
    dotted = all(part.isidentifier() for part in module.split("."))
    return bool(colon) and dotted and function.isidentifier()


def load_factory(name: str) -> tuple[nn.Module, Any]:
    """Call a function that returns a model and its inputs.

    Raises
    ------
    LoadError
        When the function is not found, fails or returns something else.
    """
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    factory = _factory(*name.split(":"))
    try:
        made = factory()
    except Exception as error:
        raise LoadError(f"{name}() raised {type(error).__name__}: {error}") from error
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise LoadError(
            f"{name}() returned {_described(made)}; it must return a torch.nn.Module and its "
            f"inputs: (model, inputs)."
        )
    return made


def _factory(module_name: str, function: str) -> Callable[[], Any]:
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a missing module, or whatever its code raises
        raise LoadError(
            f"module {module_name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    factory = getattr(module, function, None)
    if not callable(factory):
        close = difflib.get_close_matches(function, dir(module), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise LoadError(f"module {module_name!r} has no function {function!r}.{hint}")
    found: Callable[[], Any] = factory
    return found


def _described(made: Any) -> str:
    if isinstance(made, tuple):
        return f"a tuple of ({', '.join(type(item).__name__ for item in made)})"
    return f"something of type {type(made).__name__}"
