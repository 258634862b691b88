"""What the scripts share: the command line, streaming from the hub, and the evaluation."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

import fxplain
from examples.miniature.methods import BASELINES, CORRECTED, compared_methods
from fxplain.reports import to_rich

METHODS = ("generic", CORRECTED, "transformer_attribution", *BASELINES)
DRY_METHODS = ("generic", "raw_attention")
DRY_SAMPLES = 3

Record = Mapping[str, Any]
"""A row of a data set as the hub has it."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes
    ----------
    model : nn.Module
    records : iterable of mapping
        The data set's rows.
    encode : callable
        From a record to the examples of it; none where it cannot be used.
    settings : mapping
        Further arguments of `fxplain.evaluate`.
    """

    model: nn.Module
    records: Iterable[Record]
    encode: Callable[[Record], Iterable[fxplain.Example]]
    settings: Mapping[str, Any] = field(default_factory=dict)


Prepare = Callable[[argparse.Namespace], Subject]


def run(
    about: str | None,
    real: Prepare,
    dry: Prepare,
    arguments: Sequence[str] | None,
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> fxplain.Evaluation:
    """Evaluate a subject from the command line, print the table, and save what is asked for.

    Parameters
    ----------
    about : str
        The script's docstring.
    real, dry : callable
        Make the subject from the hub's files, and from none.
    arguments : sequence of str
        Of the command line.
    add_options : callable
        Adds the script's own.
    """
    options = _options(about, arguments, add_options)
    samples = options.samples or (DRY_SAMPLES if options.dry_run else 500)
    torch.manual_seed(options.seed)  # of a dry run's weights
    subject = (dry if options.dry_run else real)(options)
    chosen = options.methods or (DRY_METHODS if options.dry_run else METHODS)
    found = fxplain.evaluate(
        subject.model.eval(),
        islice(_examples(subject), samples),
        {label: asked for label, asked in compared_methods().items() if label in chosen},
        seed=options.seed,
        batch_size=1,  # records differ in size
        progress=lambda done, _: print(f"{done} of {samples} samples", flush=True),
        **subject.settings,
    )
    Console().print(to_rich(found))
    if options.json:
        found.to_json(options.json)
    return found


def _examples(subject: Subject) -> Iterator[fxplain.Example]:
    for record in subject.records:
        yield from subject.encode(record)


def stream(name: str, split: str, columns: Sequence[str]) -> Iterable[Record]:
    """A data set's rows as they come from the hub; only the columns that are needed.

    Raises
    ------
    SystemExit
        When `datasets` is not installed or the hub does not give it, with what to do.
    """
    try:
        datasets = import_module("datasets")
    except ImportError as error:
        raise SystemExit(
            f"reading {name!r} needs the datasets package: pip install 'fxplain[paper]'; "
            f"--dry-run needs none."
        ) from error
    try:
        rows: Iterable[Record] = datasets.load_dataset(name, split=split, streaming=True)
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"the data set {name!r} cannot be read: {error}\nIt needs a connection and, where its "
            f"page asks for it, your agreement and `hf auth login`; --dry-run needs neither."
        ) from error
    return rows.select_columns(list(columns))  # type: ignore[attr-defined]


def from_hub(load: Callable[..., Any], name: str, **options: Any) -> Any:
    """What a class's `from_pretrained` loads.

    Raises
    ------
    SystemExit
        When it cannot be loaded, with what to do.
    """
    try:
        return load(name, **options)
    except OSError as error:
        raise SystemExit(
            f"{name!r} cannot be loaded: {error}\nIt needs a connection, or the files in the cache; "
            f"--dry-run needs neither."
        ) from error


def _options(
    about: str | None,
    arguments: Sequence[str] | None,
    add_options: Callable[[argparse.ArgumentParser], None] | None,
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="small random weights and data")
    parser.add_argument(
        "--samples", type=int, help=f"how many (default 500; of a dry run {DRY_SAMPLES})"
    )
    parser.add_argument(
        "--methods", nargs="+", choices=[*compared_methods()], metavar="METHOD", help="rows"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the results")
    if add_options:
        add_options(parser)
    return parser.parse_args(arguments)
