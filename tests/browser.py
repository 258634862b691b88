"""The browser that the HTML tests drive: the machine's own, found as a user would name it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu"]
AXE = Path(__file__).parent / "assets" / "axe-core.js"

MISSING = (
    f"no browser to open pages in: install Chromium (any of {', '.join(NAMES)} on PATH), or name one "
    f"in FXPLAIN_CHROMIUM"
)

each_form = pytest.mark.parametrize(
    ("width", "mode"),
    [
        (1280, "light"),
        (375, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.slow),
        pytest.param(375, "light", marks=pytest.mark.slow),
    ],
)
"""A desk and a phone, in light and in dark; two of the four are for the long run."""


def find_browser() -> str | None:
    """The browser's path, if there is one."""
    named = os.environ.get("FXPLAIN_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launched() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """A page from disk, with everything on it that should not happen."""

    def __init__(self, browser: Browser, file: Path, **context: object) -> None:
        self.context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, **context}
        )
        self.page: Page = self.context.new_page()
        self._session: CDPSession | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.own = file.as_uri()
        self.page.goto(self.own)

    def _console(self, message) -> None:
        self.complaints.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def beyond_disk(self) -> list[str]:
        """What the page asked for that is neither itself nor inside it."""
        return [url for url in self.requests if not url.startswith(("data:", self.own))]

    def serious_faults(self) -> list[str]:
        """What axe-core finds that is serious or critical."""
        self.page.evaluate(AXE.read_text(encoding="utf-8") + "\nundefined;")
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{fault['id']}: {[node['html'][:120] for node in fault['nodes'][:3]]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]

    def values(self, modality: int) -> list[float]:
        """The numbers of a modality's words or buttons, as they are shown."""
        options = self.page.locator(".panel").nth(modality).locator("[data-value]")
        return options.evaluate_all("all => all.map(one => Number(one.dataset.value))")

    def milliseconds(self, action: str) -> float:
        """What the page's own thread computes for an action, up to the frame that shows it.

        The least of five, in time of that thread: how busy the machine is says nothing. JavaScript of a
        counter `i`.
        """
        found = []
        for i in range(5):
            before = self.computed()
            self.times(action, 1, i)
            found.append(self.computed() - before)
        return min(found)

    def computed(self) -> float:
        """Milliseconds that the page's own thread has computed for."""
        if self._session is None:
            self._session = self.context.new_cdp_session(self.page)
            self._session.send("Performance.enable", {"timeDomain": "threadTicks"})
        told = self._session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(one["value"] for one in told if one["name"] == "TaskDuration")

    def times(self, action: str, count: int, first: int = 0) -> list[float]:
        """Milliseconds from an action to the frame that shows it, so many times."""
        return self.page.evaluate(
            f"""async () => {{
                const frame = () => new Promise(requestAnimationFrame);
                const times = [];
                for (let i = {first}; i < {first + count}; i++) {{
                    await frame();
                    const start = performance.now();
                    {action};
                    await frame();
                    await frame();
                    times.push(performance.now() - start);
                }}
                return times;
            }}"""
        )
