"""What was found, kept on disk part by part, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

from examples.miniature.experiment import Results, Run

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "miniature"
SOURCES = ("fxplain/**/*.py", "examples/tasks/*.py")
"""What all numbers depend on, beside the experiments' own modules and the model."""
OWN = (
    "methods",
    "questions",
    "lxmert",
    "visualbert",
    "clutter",
    "detection",
    "segmentation",
    "lookup",
)


@cache
def fingerprint(weights: Path) -> str:
    """Tells apart any two states of the code and of the model's files."""
    files = [file for pattern in SOURCES for file in sorted(ROOT.glob(pattern)) if file.is_file()]
    files += [Path(__file__).parent / f"{module}.py" for module in OWN]
    files += sorted(file for file in weights.iterdir() if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def kept(
    name: str, run: Run, find: Callable[[Run], Results], weights: Path, folder: Path = FOLDER
) -> Results:
    """What an earlier run found, or else what is found now, and kept.

    Files are read back as they were pickled by this module; use no others.
    """
    asked = hashlib.sha256(repr((run.samples, run.seed, run.methods)).encode())
    path = folder / f"{name}-{fingerprint(weights)}-{asked.hexdigest()[:12]}.pickle"
    if path.exists():
        results: Results = pickle.loads(path.read_bytes())
        return results
    found = find(run)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(pickle.dumps(found))
    unfinished.rename(path)
    return found
