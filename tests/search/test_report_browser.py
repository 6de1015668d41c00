"""The report in a browser: clicked through, reached by keyboard, read in both themes and on a narrow screen."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mernas.search.finished import open_run
from mernas.search.report import make_report
from mernas.search.run import SearchResult

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LEAST_CONTRAST = 4.5  # of text, WCAG 2.2, 1.4.3

# Luminance contrast of every visible piece of text with what lies under it; transparent layers are blended.
CONTRASTS = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(rgba(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".visually-hidden, #tip, script, style, title")) continue;
    const svg = element.closest("svg");
    const style = getComputedStyle(element);
    let ground = behind(element);
    if (svg && element.closest(".diagram")) {
      const box = element.parentElement.querySelector("rect.box");
      const inside = box && !/box-shape/.test(element.getAttribute("class"));
      if (inside) ground = over(rgba(getComputedStyle(box).fill), ground);
    }
    const ink = over(rgba(svg ? style.fill : style.color), ground);
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    found.push([(high + 0.05) / (low + 0.05), element.textContent.trim().slice(0, 40)]);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as the system has it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive a browser")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs chromium, chromium-browser or google-chrome on the path")
    with sync_api.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module", params=["report", "comparison"])
def file(request: pytest.FixtureRequest, finished: SearchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = open_run(finished.folder)
    path = tmp_path_factory.mktemp("page") / f"{request.param}.html"
    path.write_text(make_report([run] if request.param == "report" else [run, run]), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Page]:
    """A page that may say nothing on the console and ask for nothing but itself."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url != file.as_uri() else None)
    page.goto(file.as_uri())
    yield page
    assert said == []
    context.close()


def only_report(file: Path) -> None:
    if file.stem != "report":
        pytest.skip("what the comparison does not have")


def focused(page: Page, script: str) -> Any:
    return page.evaluate(f"(() => {{ const one = document.activeElement; return {script}; }})()")


def test_the_theme_is_toggled_and_kept(opened: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    before = opened.evaluate(paper)
    button = opened.get_by_role("button", name="Dark colours")
    button.click()
    after = opened.evaluate(paper)
    assert after != before
    assert opened.get_by_role("button", name="Light colours").is_visible()
    opened.reload()
    assert opened.evaluate(paper) == after


def test_the_system_asks_for_dark_and_gets_it(browser: Browser, file: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(file.as_uri())
    assert max(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))) < 64
    page.close()


def test_the_first_tab_leads_past_the_navigation(opened: Page) -> None:
    opened.keyboard.press("Tab")
    assert focused(opened, "one.textContent") == "Skip to the content"
    opened.keyboard.press("Enter")
    assert focused(opened, "one.id") == "content"


def test_marks_are_reached_by_tab_and_say_what_they_are(opened: Page) -> None:
    marks = opened.locator(".front-chart.wide .mark")
    count = marks.count()
    assert count >= 2
    marks.first.focus()
    names = []
    for place in range(count):
        if place:
            opened.keyboard.press("Tab")
        assert focused(opened, "one.classList.contains('mark')")
        tip = opened.locator("#tip")
        assert tip.is_visible()
        text = tip.inner_text()
        assert "UF1" in text
        assert focused(opened, "one.getAttribute('aria-label')") == text.replace("\n", ". ")
        box = tip.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 1280
        names.append(text.partition("\n")[2])
    opened.keyboard.press("Escape")
    assert opened.locator("#tip").is_hidden()
    assert len(names) == count


def test_hovering_shows_the_same_words_as_focusing(opened: Page) -> None:
    mark = opened.locator(".front-chart.wide .mark .halo").first
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box is not None
    opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expected = opened.locator(".front-chart.wide .mark").first.get_attribute("data-tip")
    assert opened.locator("#tip").inner_text() == expected


def test_inner_trials_are_stepped_through_with_arrow_keys(opened: Page, file: Path) -> None:
    only_report(file)
    layer = opened.locator(".front-chart.wide .trials")
    layer.focus()
    first = opened.locator("#tip").inner_text()
    assert first.startswith("Inner trial of the final study")
    assert "selection score" in first
    opened.keyboard.press("End")
    last = opened.locator("#tip").inner_text()
    sizes = [int(re.findall(r"([\d,]+) parameters", text)[0].replace(",", "")) for text in (first, last)]
    assert sizes[0] < sizes[1]
    assert layer.get_attribute("aria-valuenow") == layer.get_attribute("aria-valuemax")
    assert layer.get_attribute("aria-valuetext") == last.replace("\n", ". ")
    cursor = opened.locator(".front-chart.wide .cursor").bounding_box()
    assert cursor is not None
    opened.keyboard.press("Escape")
    opened.locator("h2").first.focus()
    # The same dot under the pointer says the same.
    opened.mouse.move(cursor["x"] + cursor["width"] / 2 + 3, cursor["y"] + cursor["height"] / 2)
    if not opened.evaluate("document.querySelector('.front-chart.wide .mark:hover') !== null"):
        opened.wait_for_function("text => document.querySelector('#tip').innerText === text", arg=last, timeout=5_000)


def test_cards_open_and_yaml_is_copied(opened: Page, file: Path, finished: SearchResult) -> None:
    only_report(file)
    run = open_run(finished.folder)
    card = opened.locator("details.card[id^=pipeline]").first
    if not card.evaluate("one => one.open"):
        card.locator("summary").first.click()
    card.get_by_text(re.compile("^YAML of pipeline")).first.click()
    opened.bring_to_front()  # only the page in front may use the clipboard
    button = card.get_by_role("button", name=re.compile("Copy YAML"))
    button.click()
    opened.locator("#said", has_text="YAML copied").wait_for(state="attached")  # waiting by a script needs eval
    copied = opened.evaluate("navigator.clipboard.readText()")
    genotype = str(card.locator("summary .mono").first.inner_text())
    assert copied == run.genotype(genotype).to_yaml()


def test_a_link_to_a_pipeline_opens_its_card(opened: Page, file: Path) -> None:
    only_report(file)
    opened.locator("#pipelines td a").last.click()
    target = opened.evaluate("location.hash")
    assert opened.locator(f"details{target}").evaluate("one => one.open")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(browser: Browser, file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(file.as_uri())
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = page.locator(".front-chart:visible")
    assert shown.count() == 1
    assert page.evaluate(
        "[...document.querySelectorAll('.front-chart text')].filter(one => one.checkVisibility())"
        ".every(one => one.getBoundingClientRect().height >= 8)"
    )
    page.close()


@pytest.mark.parametrize("baseline", ["logistic regression", "a baseline whose name is as long as this one"])
def test_the_tables_of_estimates_show_every_column_on_a_laptop_s_screen(
    browser: Browser, file: Path, baseline: str
) -> None:
    only_report(file)
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.goto(file.as_uri())
    widths = page.evaluate(
        """(name) => [...document.querySelectorAll('.scroll:has(thead .nested-ink):has(.rule-off)')].map(box => {
          box.querySelector('.rule-off th').firstChild.textContent = name + ' ';
          for (const one of box.querySelectorAll('td.range:nth-child(7)')) one.textContent = '123,456 to 234,567';
          return [box.scrollWidth, box.clientWidth];
        })""",
        baseline,
    )
    assert len(widths) == 2
    assert all(needed <= shown for needed, shown in widths), widths
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_told_from_its_ground(browser: Browser, file: Path, theme: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]  # a literal
    page.goto(file.as_uri())
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 50
    assert [text for contrast, text in contrasts if contrast < LEAST_CONTRAST] == []
    page.close()


def test_a_screen_reader_finds_a_name_for_everything_that_can_be_used(opened: Page) -> None:
    nameless = opened.evaluate(
        """() => [...document.querySelectorAll("a, button, summary, [tabindex='0'], [role=img], [role=region]")]
        .filter((one) => one.checkVisibility())
        .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim())).map((one) => one.outerHTML)"""
    )
    assert nameless == []
    snapshot = opened.locator("main").aria_snapshot()
    assert "heading" in snapshot
    assert "table" in snapshot


def test_it_prints_with_every_card_open_and_on_white(opened: Page, file: Path) -> None:
    only_report(file)
    opened.get_by_role("button", name="Dark colours").click()
    opened.emulate_media(media="print")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.get_by_role("button", name="Light colours").is_hidden()
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.evaluate("[...document.querySelectorAll('details.card')].every(one => one.open)")
    assert opened.pdf().startswith(b"%PDF")
