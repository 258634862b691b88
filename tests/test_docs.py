"""The documentation's code runs, and what it names exists."""

import re
from pathlib import Path

import pytest

from fxplain.evaluation import registry as metric_registry
from fxplain.methods import registry, rules
from fxplain.tokens import (
    concatenating,
    contraction,
    mapping,
    movement,
    normalising,
    op_table,
    pointwise,
    reductions,
)
from fxplain.tokens import rules as token_rules
from tests.long_run import quickly

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "examples" / "models" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
WITH_CODE = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]

LONG = {"find-a-circuit", "evaluation", "draw"}
"""What only the long run runs."""
QUICK = {page.stem for page in WITH_CODE} - LONG


def stem(page: Path) -> str:
    return page.stem


pages = pytest.mark.parametrize("page", PAGES, ids=stem)


def code_of(page: Path) -> str:
    """The page's Python blocks as one module, each line at its own line number."""
    lines, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            line = ""
        lines.append(line if inside else "")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "page", quickly(WITH_CODE, QUICK, lambda page: page.stem), ids=lambda page: page.stem
)
def test_code_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op_table, "TABLE", op_table.TABLE.copy())
    monkeypatch.setattr(registry, "_METHODS", registry._METHODS.copy())
    monkeypatch.setattr(metric_registry, "_METRICS", metric_registry._METRICS.copy())
    exec(compile(code_of(page), str(page), "exec"), {"__name__": "docs"})


@pages
def test_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:fxplain|tests|docs|examples)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link


def test_each_equation_has_its_function() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d, ]+) \|.*\| `(\w+)` \|$", text, re.MULTILINE)
    assert [n for numbers, _ in rows for n in re.findall(r"\d+", numbers)] == [
        "5", "6", "7", "8", "9", "10", "11",
    ]  # fmt: skip
    for numbers, name in rows:
        documented = getattr(rules, name).__doc__
        for number in re.findall(r"\d+", numbers):
            assert re.search(rf"\b{number}\b", documented), (name, number)
    assert {name for _, name in rows} | {"route_update"} == set(rules.__all__)


def test_each_named_rule_exists() -> None:
    text = (ROOT / "docs" / "how-to" / "add-an-op.md").read_text(encoding="utf-8")
    modules = {
        "movement": movement,
        "concatenating": concatenating,
        "rules": token_rules,
        "pointwise": pointwise,
        "reductions": reductions,
        "contraction": contraction,
        "mapping": mapping,
        "normalising": normalising,
    }
    named = re.findall(rf"`({'|'.join(modules)})\.(\w+)`", text)
    assert len(named) > 10
    for module, name in named:
        assert name in modules[module].__all__, f"{module}.{name}"


def test_the_order_of_packages_is_the_import_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (order,) = re.findall(r"^    (capture -> .*)$", text, re.MULTILINE)
    packages = order.split(" -> ")
    for place, package in enumerate(packages):
        for source in (ROOT / "fxplain" / package).rglob("*.py"):
            imported = re.findall(r"^from fxplain\.(\w+)", source.read_text(), re.MULTILINE)
            later = set(packages[place + 1 :]) & set(imported)
            assert not later, f"{source} imports {later}"
