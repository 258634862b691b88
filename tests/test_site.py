"""The documentation's site: a place for every page, a page for every error and public name."""

import importlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config

import fxplain
from examples import gallery
from fxplain import errors

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = {"gallery/index.md"}


def nav() -> list[str]:
    """The pages that the site's navigation names."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        return [page for part in inner for page in pages(part)]

    return pages(settings["nav"])


def referenced() -> list[str]:
    """Every name that the API reference describes."""
    pages = sorted((DOCS / "reference").glob("*.md"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)


def resolved(name: str) -> Any:
    """The object, or the module, of a dotted name."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError:
        return importlib.import_module(name)


def test_every_page_has_its_place() -> None:
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(nav()) == sorted(there | GENERATED)


def test_every_error_has_its_page() -> None:
    titles = {
        path.stem: path.read_text(encoding="utf-8").splitlines()[0]
        for path in (DOCS / "errors").glob("*.md")
    }
    names = {re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower(): name for name in errors.__all__}
    assert titles == {stem: f"# {name}" for stem, name in names.items()}


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_s_page_raises_it(name: str) -> None:
    stem = re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
    text = (DOCS / "errors" / f"{stem}.md").read_text(encoding="utf-8")
    assert f"except fxplain.{name} as error:" in text
    assert re.search(r"^ *assert .*(==|startswith)", text, re.MULTILINE)  # of its message
    overview = (DOCS / "errors" / "fxplain-error.md").read_text(encoding="utf-8")
    assert name == "FxplainError" or f"| [`{name}`]({stem}.md) |" in overview


def test_every_public_name_is_in_the_reference() -> None:
    described = [resolved(name) for name in referenced()]
    described += [getattr(errors, name) for name in errors.__all__]  # the page of their module
    missing = [name for name in fxplain.__all__ if getattr(fxplain, name) not in described]
    assert not missing


class Fetched(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("canonical", "next", "prev"):
            return
        wanted = "href" if tag == "link" else "src"
        if tag != "a" and given.get(wanted):
            self.urls.append(str(given[wanted]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a page that is left out or a link that leads nowhere is an error."""
    gallery.write(ROOT / "build" / "gallery")
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder)))
    return folder


@pytest.mark.slow
def test_the_site_builds_and_fetches_nothing(site: Path) -> None:
    assert (site / "assets" / "iframe-worker.js").exists()  # or mkdocs fetches it when it is read
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        reader = Fetched()
        reader.feed(page.read_text(encoding="utf-8"))
        assert not [url for url in reader.urls if re.match(r"(https?:)?//", url)], page


@pytest.mark.slow
def test_the_gallery_has_a_report_for_each_picture(site: Path) -> None:
    pictures = {path.stem for path in (site / "gallery").glob("*.png")}
    reports = {path.stem for path in (site / "gallery").glob("*.html")} - {"index"}
    assert pictures == reports
    assert "one-corner" in pictures
