"""The live page in a browser: ask, strike out, silence, take along."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import fxplain
from fxplain.serving import Desk, create_app
from tests import small_pretrained
from tests.browser import AXE, MISSING, each_form, find_browser, launched

pytestmark = pytest.mark.skipif(find_browser() is None, reason=MISSING)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    uvicorn = pytest.importorskip("uvicorn")
    folder = small_pretrained.save("classifier", tmp_path_factory.mktemp("models"))
    app = create_app(Desk(fxplain.from_pretrained(folder)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as made:
        yield made


def opened(browser: Browser, address: str, **context: object) -> tuple[Page, list[str]]:
    page = browser.new_context(**context).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message) or dialog.dismiss())
    beyond = lambda request: request.url.startswith((address, "data:"))  # noqa: E731
    page.on("request", lambda request: beyond(request) or complaints.append(request.url))
    page.goto(address)
    return page, complaints


def ask(page: Page, text: str = "the movie was great") -> None:
    page.get_by_label("Text").fill(text)
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#result")).to_be_visible(timeout=60_000)


@each_form
def test_a_whole_journey(browser: Browser, address: str, width: int, mode: str) -> None:
    page, complaints = opened(
        browser,
        address,
        viewport={"width": width, "height": 800},
        color_scheme=mode,
        bypass_csp=True,
    )
    ask(page)
    before = page.locator("#answer tbody").inner_text()
    word = page.get_by_role("button", name="great")
    word.click()
    expect(page.locator("#effect")).to_contain_text("Score")
    expect(word).to_have_attribute("aria-pressed", "true")
    page.locator("#heads button").first.click()
    expect(page.locator("#map table")).to_be_visible()
    page.get_by_label("Silence this head").check()
    expect(page.locator("#heads button").first).to_have_class("silent")
    page.get_by_role("button", name="Draw it").click()
    expect(page.locator("#curve polyline")).to_have_count(2)
    page.get_by_role("button", name="Put everything back").click()
    expect(page.locator("#answer tbody")).to_have_text(before, use_inner_text=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert page.evaluate("axe.run().then((found) => found.violations.map((one) => one.id))") == []
    assert complaints == []
    page.context.close()


def test_by_keyboard(browser: Browser, address: str) -> None:
    page, complaints = opened(browser, address)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("the movie was bad")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#result")).to_be_visible()
    page.get_by_role("button", name="bad", exact=True).focus()
    page.keyboard.press("Space")
    expect(page.locator("#effect")).to_contain_text("Score")
    assert complaints == []
    page.context.close()


def test_hostile_text_is_shown_as_text(browser: Browser, address: str) -> None:
    page, complaints = opened(browser, address)
    ask(page, "<script>alert(1)</script><img src=x onerror=alert(2)>")
    assert page.locator("#modalities img, #modalities script").count() == 0
    assert complaints == []
    page.context.close()


def test_what_is_wrong_is_said(browser: Browser, address: str) -> None:
    page, _ = opened(browser, address)
    page.get_by_label("Text").fill("the " * 500)
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#status")).to_contain_text("token")
    assert not page.locator("#result").is_visible()
    page.context.close()


def test_the_report_opens(browser: Browser, address: str, tmp_path: Path) -> None:
    page, _ = opened(browser, address)
    ask(page)
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Static report").click()
    expect(popup.value.locator("h1")).to_contain_text("Bert")
    assert "fxplain.from_pretrained" in page.locator("#snippet").inner_text()
    page.context.close()
