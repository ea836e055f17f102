"""The pages in a real browser: no error, slider, hover, keyboard, zoom, both themes, two widths.

They run where playwright (`pip install -e '.[browser]'`) and a Chromium on the PATH are installed.
"""

import json
import shutil

import numpy as np
import pytest

from genjax.report import embedding, judging, rendering
from genjax.report.page import Chart, Frame, Note, Page, Points, Section, Series, Sheets, Table
from tests.report.test_rendering import HOSTILE, every_block

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), "")
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not PROGRAM, reason="no Chromium on the PATH"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        program = started.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield program
        program.close()


@pytest.fixture
def opened(browser, tmp_path):
    """A function (html, options of a context) -> the page, and what its console said."""
    contexts = []

    def opened(html, **options):
        path = tmp_path / "page.html"
        path.write_text(html)
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.extend(elsewhere(request.url)))
        page.goto(path.as_uri())
        return page, said

    yield opened
    for context in contexts:
        context.close()


def elsewhere(url):
    """A request that leaves the file."""
    return [] if url.startswith(("file:", "data:", "blob:")) else [url[:80]]


def frames(n, size=32):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, size, size, 3), "u1")
    uris = map(embedding.array_uri, images)
    return [Frame(f"step {i}", uri, size, size, i) for i, uri in enumerate(uris)]


def a_page(sheets=5, charts=2):
    x = list(range(0, 1000, 10))
    y = [100 / (1 + i / 50) for i in x]
    score = Series("score", [0, 500, 990], [3, 2, 1], [2, 1, 0.5], [4, 3, 1.5], 0.25)
    both = [Series("train", x, y), Series("test", x, y[::-1])]
    curves = [Chart("loss", both, marks=[(500, "m")])] * charts
    linked = [Sheets(name, frames(sheets), linked=True) for name in ("a", "b")]
    profile = Chart("profile", [Series("s", [1, 2], [3, 4])], "level")
    table = Table(["setting", "value"], [["--run.steps", "7"]] * 5, "Settings", frozenset({0}))
    note = Note("N.", "t", "a", "alarm")
    return Page(
        "a run",
        [
            Section("overview", "Overview", [*linked, note], layout="overview"),
            Section("curves", "Curves", [*curves, Chart("scores", [score])]),
            Section("inside", "Inside", [profile, Points("p", [(0, 1)], [0])]),
            Section("settings", "Settings", [table], layout="stack"),
        ],
    )


def readings(page):
    return page.locator("[data-chart=curves-0] .legend output").all_inner_texts()


def test_slider_by_mouse_and_keyboard(opened):
    page, said = opened(rendering.render(a_page()))
    figure = page.locator("[data-sheets=overview-0]")
    slider, other = figure.locator("input"), page.locator("[data-sheets=overview-1]")
    image = [figure.locator("img").get_attribute("src")]
    assert figure.locator("output").inner_text() == "step 4"  # the last
    slider.press("ArrowLeft")
    assert (figure.locator("output").inner_text(), slider.input_value()) == ("step 3", "3")
    assert slider.get_attribute("aria-valuetext") == "step 3"
    image.append(figure.locator("img").get_attribute("src"))
    assert other.locator("output").inner_text() == "step 3"  # they are linked
    slider.press("Home")
    assert other.locator("output").inner_text() == "step 0"
    slider.click()  # in its middle
    assert figure.locator("output").inner_text() == "step 2"
    image.append(figure.locator("img").get_attribute("src"))
    assert len(set(image)) == 3
    figure.locator("button").click()
    playwright.expect(figure.locator("output")).to_have_text("step 4", timeout=5000)
    assert figure.locator("button").inner_text() == "Play"  # it stops at the end
    assert said == []


def test_hover_zoom_and_keyboard_of_charts(opened):
    page, said = opened(rendering.render(a_page()))
    chart = page.locator("[data-chart=curves-0]")
    svg, at = chart.locator("svg"), chart.locator(".at")
    svg.scroll_into_view_if_needed()
    playwright.expect(at).to_have_text("last value")
    assert readings(page) == ["4.808", "100"]
    box = svg.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 57, middle)
    assert at.inner_text() == "step 0"
    assert readings(page) == ["100", "4.808"]
    # The other charts of the same axis follow, the others do not.
    assert page.locator("[data-chart=curves-1] .at").inner_text() == "step 0"
    assert page.locator("[data-chart=inside-0] .at").inner_text() == ""
    # Drag to zoom: the first and last ticks change, in both.
    ticks = page.locator("[data-chart=curves-1] .tick.middle")
    before = ticks.all_text_contents()
    page.mouse.move(box["x"] + 100, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, middle, steps=3)
    page.mouse.up()
    assert ticks.all_text_contents() != before
    page.locator("[name=reset]").click()
    assert ticks.all_text_contents() == before
    svg.focus()
    page.mouse.move(0, 0)
    svg.press("Home")
    assert at.inner_text() == "step 0"
    svg.press("ArrowRight")
    svg.press("Shift+ArrowRight")
    assert at.inner_text() == "step 110"
    svg.press("+")
    assert ticks.all_text_contents() != before
    svg.press("Escape")
    assert (ticks.all_text_contents(), at.inner_text()) == (before, "last value")
    assert said == []


def test_log_scale_smoothing_and_hidden_curves(opened):
    page, said = opened(rendering.render(a_page()))
    svg = page.locator("[data-chart=curves-0] svg")
    svg.scroll_into_view_if_needed()
    line = svg.locator("path.line").first
    linear = line.get_attribute("d")
    page.locator("[name=log]").check()
    assert line.get_attribute("d") != linear
    page.locator("[name=log]").uncheck()
    assert line.get_attribute("d") == linear
    assert svg.locator("path.line").count() == 2
    page.locator("[name=smooth]").press("End")
    assert svg.locator("path.line").count() == 4  # each with what it was
    page.locator("[name=smooth]").press("Home")
    button = page.locator("[data-chart=curves-0] .legend button").first
    button.click()
    assert (button.get_attribute("aria-pressed"), svg.locator("path.line").count()) == ("false", 1)
    bands = page.locator("[data-chart=curves-2] svg")
    assert (bands.locator(".band").count(), bands.locator(".floor").count()) == (1, 1)
    assert svg.locator("path.alarm title").text_content() == "m"
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_both_themes_fit_narrow_and_wide_windows(opened, scheme, width):
    size = {"width": width, "height": 800}
    page, said = opened(rendering.render(a_page()), viewport=size, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(246, 247, 249)", "rgb(18, 21, 27)"
    assert page.evaluate(paper) == (light if scheme == "light" else dark)
    page.locator("#theme").click()
    assert page.evaluate(paper) == light
    page.locator("#theme").press("Enter")
    assert page.evaluate(paper) == dark
    page.reload()
    assert page.evaluate(paper) == dark  # it is remembered
    assert page.evaluate(CONTRAST) == []
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.evaluate(CONTRAST) == []
    assert said == []


# Texts whose contrast with what lies behind them is under 4.5, WCAG 2's level AA.
CONTRAST = """() => {
  const parts = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = c.map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    if (![...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !node.getClientRects().length || node.closest("script, .skip, [disabled]")) continue;
    let behind = node, back;
    do { back = parts(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; } while (back[3] === 0 && behind);
    const style = getComputedStyle(node), front = parts(node.closest("svg") && node.tagName === "text" ? style.fill : style.color);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(`${node.tagName}.${node.className} ${node.textContent.slice(0, 20)} ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return bad;
}"""  # noqa: E501


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(opened):
    page, _ = opened(rendering.render(a_page()))
    page.locator("[data-chart=inside-0]").scroll_into_view_if_needed()
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, svg[tabindex], progress, img')].filter("
        "(e) => !(e.getAttribute('aria-label') || e.alt || e.textContent.trim()"
        " || e.labels?.length))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []
    page.evaluate("window.scrollTo(0, 0)")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))
    count = page.evaluate("document.querySelectorAll('a, button, input, [tabindex=\"0\"]').length")
    assert len(reached) >= min(count, 20)


def test_hostile_texts_run_nothing(opened):
    hostile = every_block(HOSTILE)
    page, said = opened(rendering.render(hostile))
    page.locator("[data-chart]").scroll_into_view_if_needed()
    page.wait_for_timeout(200)
    assert page.evaluate("typeof hacked") == "undefined"
    assert page.locator("img[src=x]").count() == 0
    assert said == []
    # The policy holds where the escaping would not: a script of a stranger does not run.
    hurt = rendering.render(a_page(1, 1)).replace("<main>", "<main><script>hacked = 1</script>")
    page, said = opened(hurt)
    assert page.evaluate("typeof hacked") == "undefined"
    assert any("Content Security Policy" in line for line in said)


def test_a_large_page_opens_at_once(opened):
    x = list(range(1000))
    noise = np.random.default_rng(0).normal(size=(24, 1000)).cumsum(1).tolist()
    charts = [Chart("c", [Series("a", x, y), Series("b", x, y[::-1])]) for y in noise]
    sheets = Sheets("samples", frames(100, 128))
    page, said = opened(
        rendering.render(Page("p", [Section("o", "o", [sheets]), Section("c", "c", charts)]))
    )
    timing = page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart")
    assert timing < 3000  # a third of it where nothing else runs
    page.locator("[data-sheets] input").press("Home")
    assert page.locator("[data-sheets] output").inner_text() == "step 0"
    assert said == []


def test_judging_by_keyboard_mouse_and_undo(opened, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "u1")
    html = judging.judge_page(images, "Real or drawn?", "ab" * 8, "tell", "genjax report RUN")
    page, said = opened(html, accept_downloads=True)
    page.locator("#start").click()
    assert page.locator("#count").inner_text() == "1 of 4"
    shown = [page.locator("#image").get_attribute("src")]
    page.keyboard.press("r")
    page.keyboard.press("ArrowRight")
    page.locator("[data-answer=drawn]").click()
    assert page.locator("#count").inner_text() == "4 of 4"
    page.keyboard.press("u")
    page.keyboard.press("Backspace")
    assert page.locator("#count").inner_text() == "2 of 4"
    assert page.locator("#bar").evaluate("bar => bar.value") == 1
    shown.append(page.locator("#image").get_attribute("src"))
    page.reload()  # nothing is lost
    page.locator("#start").click()
    assert page.locator("#count").inner_text() == "2 of 4"
    for key in "drd":
        page.keyboard.press(key)
    assert page.locator("#done").is_visible()
    with page.expect_download() as download:
        page.locator("#done .save").click()
    download.value.save_as(tmp_path / "answers.json")
    saved = json.loads((tmp_path / "answers.json").read_text())
    assert saved["answers"] == ["real", "drawn", "real", "drawn"]
    assert (saved["id"], saved["mode"]) == ("ab" * 8, "tell")
    assert shown == [embedding.array_uri(image) for image in images[:2]]
    assert said == []


def test_the_page_does_not_know_the_answers(opened):
    images = np.zeros((3, 8, 8, 1), np.uint8)
    real = judging.judge_page(images, "t", "0" * 16, "tell", "c")
    page, _ = opened(real)
    data = json.loads(page.locator("#page-data").text_content())
    assert data.keys() == {"id", "mode", "images"}
    assert len(set(data["images"])) == 1  # equal images are equal, whoever drew them
