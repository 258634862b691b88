"""``python -m tests.bad_input``: every value at every door; prints what is neither refused nor fine."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fxplain
from tests.bad_input.door import Door
from tests.bad_input.doors import GROUPS

__all__ = ["main", "tried"]

SECONDS = 60


class Hung(BaseException):
    """It took longer than a user waits."""


def _hung(*args: Any) -> None:
    raise Hung


def tried(door: Door, value: str) -> str:
    """What came of a value at a door: "refused", "fine", or what is wrong about it."""
    before = signal.signal(signal.SIGALRM, _hung)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            door.call(door.values[value]())
    except fxplain.FxplainError as error:
        return "refused" if str(error).strip() else "WRONG: an error that says nothing"
    except Hung:
        return "WRONG: hangs"
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        if value in door.own:
            return "fine"
        last = traceback.extract_tb(error.__traceback__)[-1]
        own = [f for f in traceback.extract_tb(error.__traceback__) if "/fxplain/" in f.filename]
        place = own[-1] if own else last
        where = f"{place.filename.rpartition('/fxplain/')[2]}:{place.lineno}"
        return f"WRONG: {type(error).__name__} at {where}: {str(error)[:90]!r}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return "fine" if value in door.fine else "WRONG: answered"


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main() -> int:
    """Print what is wrong, and how many were tried; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.bad_input", description=__doc__)
    parser.add_argument("--only", default="", help="doors whose name holds this")
    parser.add_argument("--group", choices=[*GROUPS], help="of doors; by default all")
    options = parser.parse_args()
    only = options.only
    groups = [options.group] if options.group else [*GROUPS]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, _inside(folder):  # some values are paths
        for door in (door for group in groups for door in GROUPS[group]()):
            if only not in door.name:
                continue
            for value in door.values:
                said = tried(door, value)
                counts[said.partition(":")[0]] += 1
                if said.startswith("WRONG"):
                    print(f"{door.name:45s} {value:15s} {said.removeprefix('WRONG: ')}", flush=True)
    print(dict(counts))
    return int(counts["WRONG"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
