"""The page in a real browser: streaming, fill in the middle, Tab, highlighting; offline but for its server."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium was found on PATH")
BEFORE, AFTER = "def add(a, b):\n    ", "\n    return total\n"


@pytest.fixture(scope="module")
def page(local_url: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 720})
        asked: list[str] = []
        problems: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(local_url)
        yield page
        browser.close()
    assert asked
    assert all(url.startswith((local_url, "data:")) for url in asked)
    # One request is refused on purpose.
    assert [problem for problem in problems if "400 (Bad Request)" not in problem] == []


def write(page: Any, before: str, after: str) -> None:
    """Put text into the editor, the cursor between the two, with the keyboard alone."""
    page.locator("#auto").uncheck()
    page.locator("#text").fill(before + after)
    page.locator("#text").evaluate("(text, at) => text.setSelectionRange(at, at)", len(before))
    page.locator("#text").focus()


def ghost(page: Any) -> str:
    page.locator("#state", has_text="first token").wait_for()
    return str(page.locator(".ghost").text_content())


def test_it_completes_in_the_middle_and_tab_accepts(page: Any, local_url: str) -> None:
    assert "tiny" in page.locator("#model").text_content()
    write(page, BEFORE, AFTER)
    page.keyboard.press("Control+ ")
    suggested = ghost(page)
    keys = {"prompt": BEFORE, "suffix": AFTER, "max_tokens": 64, "temperature": 0, "extent": "block"}
    expected = httpx.post(f"{local_url}/v1/completions", json=keys, timeout=60).json()["choices"][0]["text"]
    assert suggested == expected != ""
    page.keyboard.press("Tab")
    assert page.locator("#text").input_value() == BEFORE + expected + AFTER
    assert page.locator(".ghost").count() == 0
    page.keyboard.press("Control+z")
    assert page.locator("#text").input_value() == BEFORE + AFTER


def test_escape_dismisses_and_tab_then_moves_on(page: Any) -> None:
    write(page, BEFORE, "")
    page.keyboard.press("Control+ ")
    ghost(page)
    page.keyboard.press("Escape")
    assert page.locator(".ghost").count() == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") != "text"
    assert page.locator("#text").input_value() == BEFORE


def test_typing_asks_by_itself(page: Any) -> None:
    write(page, BEFORE, "")
    page.locator("#auto").check()
    page.locator("#text").focus()
    page.keyboard.press("End")
    with page.expect_request("**/v1/completions") as asked:
        page.keyboard.type("x = ")
    assert asked.value.post_data_json["prompt"] == BEFORE + "x = "
    page.keyboard.press("Escape")


def test_surprises_are_the_servers(page: Any, local_url: str, tmp_path: Path) -> None:
    write(page, "for i in é:\n    print(i)\n", "")
    page.keyboard.press("Control+Enter")
    page.locator("#surprises button").first.wait_for()
    answer = httpx.post(f"{local_url}/v1/highlight", json={"text": "for i in é:\n    print(i)\n"}, timeout=60).json()
    texts = [token["text"] for token in answer["tokens"] if token["text"]]
    assert [text for text in page.locator("mark").all_text_contents() if text] == texts
    worst = max((token for token in answer["tokens"] if token["text"].strip()), key=lambda token: token["bits"])
    first = page.locator("#surprises button").first
    assert f"{worst['bits']:.1f} bits" in first.text_content()
    first.click()
    selected = page.locator("#text").evaluate("(t) => t.value.slice(t.selectionStart, t.selectionEnd)")
    assert selected == worst["text"]


def test_errors_are_shown(page: Any) -> None:
    write(page, "x" * 3000, "")
    page.keyboard.press("Control+ ")
    page.locator("#state.error").wait_for()
    assert "more than the 255 allowed" in page.locator("#state").text_content()
