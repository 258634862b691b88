"""The live page in a browser: ask, strike out, silence, take along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from scipy.io import wavfile

import fxplain
from fxplain.serving import Desk
from tests import small_pretrained
from tests.browser import AXE, MISSING, each_form, find_browser, launched

pytestmark = pytest.mark.skipif(find_browser() is None, reason=MISSING)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@contextmanager
def served(root: Path, name: str, *others: str) -> Iterator[str]:
    """The address of a page of a small model, and of others to compare with."""
    address_of = pytest.importorskip("tests.live_server").address_of
    made = [fxplain.from_pretrained(small_pretrained.save(each, root)) for each in (name, *others)]
    with address_of(Desk(made[0], others=dict(zip(others, made[1:], strict=True)))) as address:
        yield f"{address}/"


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with served(root, "classifier", "reranker") as made:
        yield made


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
    beyond = lambda request: request.url.startswith((address, "data:", "blob:"))  # noqa: E731
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
    page.keyboard.press("Tab")  # the method
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#result")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="bad", exact=True).focus()
    page.keyboard.press("Space")
    expect(page.locator("#effect")).to_contain_text("Score")
    assert complaints == []
    page.context.close()


def test_hostile_text_is_shown_as_text(browser: Browser, address: str) -> None:
    page, complaints = opened(browser, address, viewport={"width": 390, "height": 800})
    ask(page, "<script>alert(1)</script><img src=x onerror=alert(2)> " + 300 * "w")
    assert page.locator("#modalities img, #modalities script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
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


def clean(page: Page) -> None:
    """Nothing that axe-core finds, and no wider than the screen."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert page.evaluate("axe.run().then((found) => found.violations.map((one) => one.id))") == []
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_two_methods_and_two_models(browser: Browser, address: str) -> None:
    page, complaints = opened(browser, address, bypass_csp=True)
    ask(page)
    for other, said in (("rollout", "By rollout"), ("reranker", "By reranker, generic")):
        page.get_by_label("Compare with").select_option(other)
        page.get_by_role("button", name="Compare").click()
        expect(page.locator("#compared h3").first).to_contain_text(said, timeout=30_000)
        expect(page.locator("#compared .unit")).to_have_count(6)
    clean(page)
    assert complaints == []
    page.context.close()


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_writes_and_what_is_pointed_at_is_explained(
    browser: Browser, root: Path, mode: str
) -> None:
    with served(root, "gpt2") as address:
        page, complaints = opened(
            browser,
            address,
            bypass_csp=True,
            color_scheme=mode,
            viewport={"width": 390, "height": 800},
        )
        page.get_by_label("Text").fill("the movie was")
        page.get_by_label("Tokens to write").fill("3")
        page.get_by_role("button", name="Let it write").click()
        tokens = page.locator("#written button")
        expect(tokens).to_have_count(3, timeout=60_000)
        tokens.nth(2).hover()
        expect(page.locator("#written-token")).to_contain_text("score")
        expect(tokens.nth(2)).to_have_attribute("aria-pressed", "true")
        tokens.nth(0).focus()
        expect(tokens.nth(0)).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#written-from .unit").first).to_be_visible()
        clean(page)
        assert complaints == []
        page.context.close()


def test_an_image_is_chosen_and_a_patch_struck_out(browser: Browser, root: Path) -> None:
    from PIL import Image

    Image.fromarray(small_pretrained.picture()).save(root / "picture.png")
    with served(root, "vit") as address:
        page, complaints = opened(browser, address, bypass_csp=True)
        page.get_by_label("Image").set_input_files(root / "picture.png")
        expect(page.locator("#chosen-image")).to_have_text("picture.png")
        page.get_by_role("button", name="Explain").click()
        patches = page.locator(".patches button")
        expect(patches).to_have_count(16, timeout=60_000)
        patches.nth(1).focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(patches.nth(5)).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#effect")).to_contain_text("Score")
        (root / "words.png").write_text("no picture")
        page.get_by_label("Image").set_input_files(root / "words.png")
        expect(page.locator("#chosen-image")).to_have_text("words.png")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("#status")).to_contain_text("cannot be read")
        clean(page)
        page.context.close()
    assert [each for each in complaints if "422" not in each] == []


def test_a_pair_of_texts(browser: Browser, root: Path) -> None:
    with served(root, "reader") as address:
        page, complaints = opened(browser, address, bypass_csp=True)
        page.get_by_label("Text", exact=True).fill("who lived in london?")
        page.get_by_label("Second text").fill("ada lovelace lived in london")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("#result")).to_be_visible(timeout=60_000)
        page.get_by_role("button", name="lovelace").first.click()
        expect(page.locator("#effect")).to_contain_text("Score")
        clean(page)
        assert complaints == []
        page.context.close()


def test_two_people_at_once_see_their_own(browser: Browser, address: str) -> None:
    pages = [opened(browser, address)[0] for _ in range(2)]
    for page, text in zip(pages, ("the cat was bad", "the dog was great"), strict=True):
        page.get_by_label("Text").fill(text)
    for page in pages:
        page.get_by_role("button", name="Explain").click()
    for page, own, foreign in zip(pages, ("cat", "dog"), ("dog", "cat"), strict=True):
        expect(page.locator("#result")).to_be_visible(timeout=60_000)
        expect(page.locator("#modalities")).to_contain_text(own)
        expect(page.locator("#modalities")).not_to_contain_text(foreign)
        page.context.close()


def test_the_snippet_is_copied_and_does_what_was_seen(
    browser: Browser, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page, _ = opened(browser, address, permissions=["clipboard-read", "clipboard-write"])
    ask(page)
    page.get_by_role("button", name="great").click()
    expect(page.locator("#effect")).to_contain_text("Score")
    first = page.locator("#effect").inner_text()
    page.locator("#heads button").first.click()
    page.get_by_label("Silence this head").check()
    expect(page.locator("#effect")).not_to_have_text(first)
    page.get_by_role("button", name="Copy as Python").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    names: dict[str, Any] = {}
    exec(copied, names)
    assert capsys.readouterr().out
    after = float(names["e"].intervene(names["cut"]).scores[0, 0])
    assert f"Score {after:.4}" in page.locator("#effect").inner_text()
    page.context.close()


@pytest.mark.slow
def test_a_recording_is_heard_and_struck_out(browser: Browser, root: Path) -> None:
    wavfile.write(root / "tone.wav", 44_100, small_pretrained.recording(0.5, 44_100))
    (root / "tone.mp3").write_bytes(b"ID3" + bytes(500))
    with served(root, "wav2vec2") as address:
        page, complaints = opened(
            browser, address, viewport={"width": 390, "height": 800}, bypass_csp=True
        )
        page.locator("#audio").set_input_files(root / "tone.wav")
        expect(page.locator("#chosen-audio")).to_have_text("tone.wav")
        page.get_by_role("button", name="Explain").click()
        moments = page.locator(".bars button")
        expect(moments).to_have_count(25, timeout=60_000)  # as of 16,000 samples a second
        expect(page.locator("audio")).to_have_count(1)
        page.wait_for_function("document.querySelector('audio').duration > 0.49")
        moments.nth(0).focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        expect(moments.nth(1)).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#effect")).to_contain_text("Score")
        clean(page)
        page.locator("#audio").set_input_files(root / "tone.mp3")
        expect(page.locator("#chosen-audio")).to_contain_text("cannot be read")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("#status")).to_contain_text("tone.mp3 cannot be read")
        page.context.close()
    assert complaints == []


FILM = """async () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 24 });
  const drawn = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(20), { mimeType: "video/webm;codecs=vp8" });
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.start();
  for (let i = 0; i < 12; i++) {
    drawn.fillStyle = `rgb(${i * 20}, 90, ${255 - i * 20})`;
    drawn.fillRect(0, 0, 32, 24);
    await new Promise((done) => setTimeout(done, 50));
  }
  const ended = new Promise((done) => (recorder.onstop = done));
  recorder.stop();
  await ended;
  return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
}"""
"""A film that grows from blue to red, as a browser records it: it tells its length at its end only."""


@pytest.mark.slow
def test_a_video_is_opened_by_the_browser(browser: Browser, root: Path) -> None:
    with served(root, "videomae") as address:
        page, complaints = opened(browser, address, bypass_csp=True)
        (root / "film.webm").write_bytes(bytes(page.evaluate(FILM)))
        page.get_by_label("Video").set_input_files(root / "film.webm")
        expect(page.locator("#chosen-video")).to_have_text("film.webm", timeout=30_000)
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("figure")).to_have_count(2, timeout=60_000)
        page.locator(".patches button").nth(17).click()
        expect(page.locator("#effect")).to_contain_text("Score")
        clean(page)
        page.context.close()
    assert complaints == []
