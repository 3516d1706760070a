"""A report's page in a real browser: it stands alone, nothing runs over, and bars are as long as their values say."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.evaluate.conftest import evaluate, report
from videollm.evaluate.html import page as as_html

PICTURES = Path(__file__).parents[2] / "runs/screenshots"


@pytest.fixture(scope="module")
def out(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("report")
    assert evaluate("mcqa", "--model", "debug", "--data", world, "--limit", 8, "--out", made) == 0
    return made


@pytest.fixture(scope="module")
def page(out: Path) -> Iterator[Page]:
    found = shutil.which("chromium")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no chromium")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        opened = browser.new_page(viewport={"width": 1000, "height": 900})
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto((out / "report.html").as_uri())
        assert asked == [(out / "report.html").as_uri()]
        PICTURES.mkdir(parents=True, exist_ok=True)
        opened.screenshot(path=PICTURES / "report.png", full_page=True)
        yield opened
        browser.close()


def test_nothing_runs_over_the_page(page: Page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    outside = """[...document.querySelectorAll('svg')].flatMap(svg => {
        const frame = svg.getBoundingClientRect()
        return [...svg.querySelectorAll('text, rect')].filter(part => {
            const box = part.getBoundingClientRect()
            return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1
        }).map(part => part.textContent)
    })"""
    assert page.evaluate(outside) == []


def test_bars_are_as_long_as_their_values(page: Page, out: Path):
    found = report(out)
    values = [found["scores"]["accuracy"]["value"], *(c["accuracy"]["value"] for c in found["controls"].values())]
    plot = page.locator("svg").first
    widths = [float(bar.get_attribute("width") or 0) for bar in plot.locator("rect").all()]
    assert len(widths) == len(values) == 7
    longest = max(values)
    assert [w / max(widths) for w in widths] == pytest.approx([v / longest for v in values], abs=0.01)


def test_what_a_reader_asks_is_on_it(page: Page, out: Path):
    text = page.inner_text("body")
    found = json.loads((out / "report.json").read_text())
    for part in ("debug", found["model"]["config_sha"], found["predictions"]["sha256"][:12], "bootstrap", "chance"):
        assert part in text
    assert all(name in text for name in found["controls"])
    assert page.locator("h2").all_inner_texts()[0] == "Score and controls"


def test_texts_of_data_sets_and_models_are_escaped(out: Path):
    values = json.loads((out / "report.json").read_text())
    markup = "<script>alert('x')</script>"
    values["data"]["notes"] = [markup]
    values["slices"] = {markup: {markup: values["scores"]}}
    values["sections"] = {markup: {"head": [markup], "rows": [[markup]]}}
    made = as_html(markup, [values])
    assert "<script" not in made
    # In the title, a note, the heading of a slice, its bar, the heading of a section, its head and its cell.
    assert made.count("&lt;script&gt;") == 7
