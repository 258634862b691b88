"""Write all pages, look at each in a browser: ``python -m tools.pages FOLDER`` (needs Chromium).

Each page is opened at two widths, light and dark. Said is what should not happen: messages of the
browser, requests, sideways scrolling, what axe-core finds, and numbers that are not the explanation's.
Pictures of all are in ``FOLDER/shots``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.browser import Visit, launched
from tools.pages.contents import pages
from tools.pages.page import Page, write
from tools.pages.reading import wrong_numbers

WIDTHS = (1280, 390)
MODES = ("light", "dark")


def main() -> int:
    """Write, look, and say what is wrong."""
    parser = argparse.ArgumentParser(prog="tools.pages", description=__doc__)
    parser.add_argument("folder", type=lambda text: Path(text).resolve())
    parser.add_argument("--only", default="", help="pages whose names begin so")
    options = parser.parse_args()
    chosen = (page for page in pages() if page.name.startswith(options.only))
    made = write(chosen, options.folder)
    (options.folder / "shots").mkdir(exist_ok=True)
    faults: list[str] = []
    with launched() as browser:
        for page, result in made:
            faults += look(browser, options.folder, page, result)
    print(f"{len(made)} pages, {len(faults)} faults")
    print("\n".join(faults))
    return bool(faults)


def look(browser: Browser, folder: Path, page: Page, result: Any) -> list[str]:
    """Open a page in every way, and say what is wrong with it."""
    faults: list[str] = []
    for width in WIDTHS:
        for mode in MODES:
            view = {"viewport": {"width": width, "height": 900}, "color_scheme": mode}
            with Visit(browser, folder / f"{page.name}.html", **view) as visit:
                visit.page.wait_for_timeout(150)
                shot = folder / "shots" / f"{page.name}-{width}-{mode}.png"
                visit.page.screenshot(path=shot, full_page=True)
                found = [*visit.complaints, *visit.beyond_disk(), *visit.serious_faults()]
                wide = visit.page.evaluate("document.documentElement.scrollWidth")
                found += [f"{wide} pixels wide"] if wide > width else []
                if (width, mode) == (1280, "light"):
                    found += wrong_numbers(visit.page, page, result)
                faults += [f"{page.name} {width} {mode}: {each}" for each in found]
    return faults


if __name__ == "__main__":
    sys.exit(main())
