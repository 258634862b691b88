"""Finding: the files that a path, a folder or a glob names."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from glob import glob, has_magic
from pathlib import Path

from fxplain.errors import LoadError

__all__ = ["TEXTS", "find_files", "kind_of"]

MOST_OTHERS = 100_000
"""Of what is looked at and not read: a folder with more of it is no folder of data."""

TEXTS = frozenset({".txt", ".txt.gz"})
"""Kinds that are data only where they are alone: beside a table or pictures they tell of these."""


def find_files(name: str, kinds: Collection[str]) -> list[Path]:
    """The files of these kinds, in order; of one that is named, whatever its kind.

    Links to folders are not followed, so that none is looked into twice.

    Parameters
    ----------
    name
        A path to a file or a folder, or a glob.
    kinds
        Endings, as `kind_of` tells them.

    Raises
    ------
    LoadError
        When there is none, or the folder holds far more than data.
    """
    try:
        found = _found(name, kinds)
    except (OSError, RuntimeError, ValueError) as error:  # no such home, loops, a NUL in a path
        raise LoadError(f"{name!r} cannot be looked through: {error}") from error
    if not found:
        raise LoadError(f"{name!r} has no file to read ({', '.join(kinds)}).")
    return found


def kind_of(file: Path) -> str:
    """The ending that tells what a file holds, under that of gzip.

    Examples
    --------
    >>> kind_of(Path("a/b.c.CSV.gz")), kind_of(Path("photo.old.jpg"))
    ('.csv.gz', '.jpg')
    """
    ends = [end.lower() for end in file.suffixes[-2:]]
    return "".join(ends) if len(ends) == 2 and ends[1] == ".gz" else "".join(ends[-1:])


def _found(name: str, kinds: Collection[str]) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [p for p in _below(path, name, kinds) if kind_of(p) in kinds]
        return [p for p in found if kind_of(p) not in TEXTS] or found
    if not has_magic(name):
        raise LoadError(f"there is no file or folder {name!r}.")
    if "**" not in path.parts:
        return [Path(p) for p in sorted(glob(str(path))) if Path(p).is_file()]
    fixed = next(i for i, part in enumerate(path.parts) if has_magic(part))
    root, pattern = Path(*path.parts[:fixed]), path.parts[fixed:]
    below = _below(root, name, kinds)
    return [p for p in below if _is_of(p.relative_to(root).parts, pattern)]


def _below(root: Path, name: str, kinds: Collection[str]) -> list[Path]:
    return sorted(_walked(root, name, kinds))


def _walked(root: Path, name: str, kinds: Collection[str]) -> Iterator[Path]:
    """All files below a folder."""
    others = 0
    for folder, _, files in os.walk(root):
        others += 1
        for file in files:
            path = Path(folder, file)
            others += kind_of(path) not in kinds
            if path.is_file():
                yield path
        if others > MOST_OTHERS:
            raise LoadError(
                f"{name!r} holds more than {MOST_OTHERS:,} folders and files that are no data: name "
                f"the folder of the data, or a glob such as DIR/*.csv."
            )


def _is_of(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path is one of a pattern in which ``**`` is any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        seen = next((i for i, part in enumerate(parts) if part.startswith(".")), len(parts))
        return any(_is_of(parts[i:], pattern[1:] or ("*",)) for i in range(seen + 1))
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatchcase(parts[0], pattern[0]) and _is_of(parts[1:], pattern[1:])
