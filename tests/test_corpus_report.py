"""The index of a corpus, in a browser: from disk, shaded, searched, quick with many rows."""

import json
import re

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from fxplain.corpora import write_report
from tests import browser
from tests.made_corpora import failed, row, write

NASTY = "</script><img src=x onerror=alert(1)> \u2028 😀 cat"
MANY = 100_000


def rows(count):
    made = [
        row(f"r{i}", f"the cat number{i} sat", [1, 4, 2, i % 5], ("good", "bad")[i % 2])
        for i in range(count)
    ]
    for i, one in enumerate(made):
        one |= {"probability": (i % 100) / 100, "label": "good"}
    return made


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    made = [*rows(1500), row("nasty", NASTY, [1] * (len(NASTY.split()) - 1) + [-9])]
    made.append(failed("torn", "", "InputError: the text is empty."))
    return write_report(write(folder / "rows", made), folder / "report", minimum=2)


def test_the_data_is_scripts_of_ascii(page):
    files = sorted(path.name for path in (page.parent / "data").iterdir())
    assert files == ["rows-0000.js", "rows-0001.js", "summary.js"]
    text = (page.parent / "data" / "rows-0001.js").read_bytes().decode("ascii")
    first, data = re.fullmatch(r"corpus\.rows\((\d+), (.*)\);\n", text).groups()
    assert int(first) == 1000
    assert len(json.loads(data)) == 502


def test_rows_beyond_the_most_are_left_out_and_said(tmp_path):
    page = write_report(write(tmp_path / "rows", rows(30)), tmp_path / "report", rows=20)
    assert "the first 20 are shown" in (page.parent / "data" / "summary.js").read_text()


needs_browser = pytest.mark.skipif(browser.find_browser() is None, reason=browser.MISSING)


@pytest.fixture(scope="module")
def chromium():
    with browser.launched() as launched:
        yield launched


def loaded(visit, count):
    visit.page.wait_for_function(
        "said => document.getElementById('count').textContent === said",
        arg=f"{count:,} of {count:,} rows",
    )


def shows(locator, beginning):
    expect(locator).to_have_text(re.compile(f"^{re.escape(beginning)}"), timeout=5000)


@needs_browser
def test_the_index_is_searched_sorted_and_read(page, chromium):
    with browser.Visit(chromium, page) as visit:
        loaded(visit, 1502)
        count, first = visit.page.locator("#count"), visit.page.locator(".one").first
        visit.page.fill("#query", "number77")
        shows(count, "11 of")
        visit.page.select_option("#class", "good")
        shows(count, "5 of")
        visit.page.fill("#query", "")
        visit.page.select_option("#class", "")
        visit.page.select_option("#sort", "unsure")
        shows(first, "r0good0.0%")
        visit.page.select_option("#state", "wrong")
        shows(first, "r1bad")
        visit.page.select_option("#state", "error")
        shows(first, "torn")
        visit.page.select_option("#state", "")
        visit.page.fill("#high", "0.105")
        shows(count, "165 of")
        visit.page.select_option("#measure", "score")
        shows(count, "0 of")
        visit.page.fill("#high", "")
        visit.page.fill("#token", "cat")
        shows(count, "1,501 of")
        assert not visit.complaints
        assert not [url for url in visit.requests if not url.startswith("file:")]


@needs_browser
def test_a_row_opens_with_its_numbers_and_by_its_address(page, chromium):
    with browser.Visit(chromium, page) as visit:
        loaded(visit, 1502)
        visit.page.fill("#query", "nasty")
        shows(visit.page.locator("#count"), "1 of")
        visit.page.locator(".one").first.click()
        dialog = visit.page.locator("dialog")
        assert "nasty: good" in dialog.inner_text()
        marks = dialog.locator("mark").all_inner_texts()
        assert marks[-2:] == ["😀", "cat"]
        assert "".join(dialog.locator(".whole").all_inner_texts()).startswith("</script><img")
        visit.page.keyboard.press("Escape")
        visit.page.fill("#query", "number5 ")
        shows(visit.page.locator(".one").first, "r5bad")
        visit.page.locator("#list").focus()
        visit.page.keyboard.press("ArrowDown")
        visit.page.keyboard.press("Enter")
        assert "r5: bad" in dialog.inner_text()
        shown = dialog.locator("mark").evaluate_all("all => all.map(one => one.title)")
        assert shown == ["1.00", "4.00", "2.00", "0.00"]
        assert not visit.complaints
        assert not visit.serious_faults()
        address = visit.page.url
        assert address.endswith("#row=5")
        fresh = visit.context.new_page()
        fresh.goto(address)
        fresh.wait_for_selector("dialog[open]")
        assert "r5: bad" in fresh.locator("dialog").inner_text()


@needs_browser
def test_what_is_chosen_is_printed_alone(page, chromium):
    with browser.Visit(chromium, page) as visit:
        loaded(visit, 1502)
        visit.page.evaluate("window.print = () => { window.asked = true; }")
        visit.page.fill("#query", "number77")
        shows(visit.page.locator("#count"), "11 of")
        visit.page.click("#print")
        assert visit.page.evaluate("window.asked")
        visit.page.emulate_media(media="print")
        articles = visit.page.locator("#printed article")
        assert articles.count() == 11
        assert all(text.startswith("r77") for text in articles.all_inner_texts())
        assert articles.first.locator("mark").count()
        assert articles.first.is_visible()
        assert not visit.page.locator("main").is_visible()
        visit.page.emulate_media(media="screen")
        visit.page.fill("#query", "")
        shows(visit.page.locator("#count"), "1,502 of")
        command = "window.dispatchEvent(new Event('beforeprint'))"  # what the browser's own does
        visit.page.evaluate(command)
        assert articles.count() == 500
        said = visit.page.locator("#printed p").text_content()
        assert said.endswith("1,502 of 1,502 rows; the first 500 are printed.")
        visit.page.locator(".one").nth(1).click()
        visit.page.evaluate(command)
        assert articles.all_text_contents()[0].startswith("r1 ")
        assert articles.count() == 1
        assert not visit.complaints


@needs_browser
def test_a_picture_is_a_map_of_its_tokens_that_a_class_token_does_not_outshine(tmp_path, chromium):
    patches = [f"{y},{x}" for y in range(2) for x in range(3)]
    lies = {"grids": '{"pixel_values": [2, 3]}', "tokens": ["cls", *patches]}
    lies |= {"starts": [None] * 7, "ends": [None] * 7, "special": [True] + [False] * 6}
    picture = row("a", " ".join(patches), [0, 0, 0, 2, -1, 0], **lies) | {"text": "b/cat.png"}
    picture["relevance"][0] = 9.0
    page = write_report(write(tmp_path / "rows", [picture]), tmp_path / "report", minimum=1)
    with browser.Visit(chromium, page) as visit:
        loaded(visit, 1)
        seen = visit.page.locator(".one canvas").evaluate(
            "map => [...map.getContext('2d').getImageData(0, 0, 3, 2).data]"
        )
        assert seen[3::4] == [0, 0, 0, 217, 108, 0]  # 0.85 of 255, and half of that
        assert seen[12] > seen[14]  # orange for
        assert seen[16] < seen[18]  # blue against
        visit.page.fill("#query", "CAT.png")
        shows(visit.page.locator("#count"), "1 of 1")
        visit.page.locator(".one").click()
        assert visit.page.locator("dialog canvas").is_visible()
        assert not visit.complaints
        assert not visit.serious_faults()


@needs_browser
@pytest.mark.slow
def test_a_hundred_thousand_rows_are_quick(tmp_path, chromium):
    page = write_report(write(tmp_path / "rows", rows(MANY)), tmp_path / "report")
    with browser.Visit(chromium, page) as visit:
        loaded(visit, MANY)
        for action in (
            "document.getElementById('query').value = `number${i}`; corpusInput()",
            "document.getElementById('sort').value = ['sure', 'unsure'][i % 2]; corpusInput()",
            "document.getElementById('list').scrollTop = 40000 * (i + 1)",
        ):
            visit.page.evaluate(
                "window.corpusInput = () => document.getElementById('query').dispatchEvent("
                "new Event('input', {bubbles: true}))"
            )
            assert visit.milliseconds(action) < 200, action
