"""Rules of the house that no linter checks."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fxplain

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "fxplain").rglob("*.py"))

HEAVY = {"jinja2", "matplotlib", "PIL", "rich", "transformers", "typer"}
EMPTY_NAMES = {"common", "handler", "helper", "helpers", "manager", "misc", "util", "utils"}
MOST_LINES = 600


def test_import_is_light():
    code = "import json, sys, fxplain; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    imported = {name.partition(".")[0] for name in json.loads(run.stdout)}
    assert not imported & HEAVY


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_holds_one_concept(path):
    assert path.stem not in EMPTY_NAMES
    assert len(path.read_text(encoding="utf-8").splitlines()) < MOST_LINES


def test_version_is_said_once():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert fxplain.__version__ == importlib.metadata.version("fxplain") == project["version"]
