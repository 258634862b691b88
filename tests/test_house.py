"""Rules of the house that no linter checks."""

import ast
import importlib.metadata
import json
import re
import signal
import subprocess
import sys
import types
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fxplain
import fxplain_command
from tests.long_run import ONE_IN

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "fxplain").rglob("*.py"))

HEAVY = {"sympy", "jinja2", "matplotlib", "PIL", "rich", "transformers", "typer"}
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


@pytest.mark.parametrize("name", ONE_IN)
def test_what_the_long_run_tries_is_there(name):
    path, test = name.split("::")
    assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")


def test_the_command_can_be_stopped_while_it_imports(monkeypatch):
    """A signal ends it then; afterwards it is Python's again."""
    handlers = []

    class Commands(types.ModuleType):
        def __getattr__(self, name):
            handlers.append(signal.getsignal(signal.SIGINT))
            if name == "main":
                return lambda: handlers.append(signal.getsignal(signal.SIGINT))
            raise AttributeError(name)

    monkeypatch.setitem(sys.modules, "fxplain.cli", Commands("fxplain.cli"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        fxplain_command.main()
        assert {*handlers[:-1]} == {signal.SIG_DFL}
        assert handlers[-1] is signal.default_int_handler
        handlers.clear()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        fxplain_command.main()
        assert {*handlers} == {signal.SIG_IGN}
    finally:
        signal.signal(signal.SIGINT, before)


def test_version_is_said_once():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert fxplain.__version__ == importlib.metadata.version("fxplain") == project["version"]
    changes = re.search(r"^## (\S+) \((\S+)\)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    version, date = changes.groups()
    assert version == project["version"]
    assert f"\nversion: {version}\ndate-released: {date}\n" in cited


PACKAGES = sorted({path.parent for path in SOURCES} - {ROOT / "fxplain"})


def _imports(path: Path, package: str) -> set[str]:
    """The modules of its own package that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not _for_types(node, path):
            if node.module == package:
                found.update(alias.name for alias in node.names)
            elif node.module.startswith(f"{package}."):
                found.add(node.module.removeprefix(f"{package}.").partition(".")[0])
    return found


def _for_types(node: ast.ImportFrom, path: Path) -> bool:
    """Whether an import is there for types alone: indented at the top of a file, as no function's."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guards = [n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    return any(node.lineno == child.lineno for guard in guards for child in guard.body)


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
def test_imports_of_a_package_make_no_circle(folder):
    package = ".".join(folder.relative_to(ROOT).parts)
    files = {path.stem: path for path in folder.glob("*.py") if path.stem != "__init__"}
    order = TopologicalSorter(
        {name: _imports(p, package) & files.keys() for name, p in files.items()}
    )
    order.prepare()
