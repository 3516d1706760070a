"""The page in a real browser, against the server as a user starts it. Screenshots are left in runs/screenshots."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pysubs2
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from tests.retrieval.test_sensed import write_talk
from tests.senses.test_speech import SHORT
from tests.serve.conftest import ROOT, SAMPLE, Server, Start
from videollm.retrieval.index import Index

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"
FIRST_PAINT_MS = 2000
WAIT_MS = 120_000
PICTURES = ROOT / "runs/screenshots"
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, which scripts/test.sh installs where it may."""
    found = shutil.which("chromium")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no chromium")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        launched = playwright.chromium.launch(executable_path=found, args=arguments)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def lite(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The default model on loopback, with an index of a folder of videos."""
    folder = tmp_path_factory.mktemp("videos")
    shutil.copy(SAMPLE, folder / "holiday.mp4")
    Index.create(folder / "index").update([str(folder / "holiday.mp4")])
    return start("--index", str(folder / "index")).ready()


@pytest.fixture(scope="module")
def guarded(start: Start) -> Server:
    """The page alone, with keys and a small limit for uploads."""
    keys = ["--api-key", FIRST, "--api-key", SECOND]
    return start("--model", "debug", "--media-bytes", "2000000", *keys, module="serve.web").ready()


Open = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Opens the page in a browser that was never there; with a key, logged in. Any request to elsewhere fails."""
    contexts: list[BrowserContext] = []

    def visit(server: Server, key: str = "", path: str = "/", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        if key:
            assert context.request.post(f"{server.url}/login", form={"key": key}).ok
        page = context.new_page()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        hosts: set[str] = set()
        page.goto(server.url + path)
        expect(page.locator("#timeline .vl-cell")).to_have_count(3)
        assert hosts - {""} == {urlsplit(server.url).netloc}  # data: has none
        return page

    yield visit
    for context in contexts:
        context.close()


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def ask(page: Page, question: str) -> Locator:
    """The bubbles of answers, once the last has its evidence."""
    count = page.locator("#chat .message.bot").count()
    page.locator("#question textarea").fill(question)
    page.keyboard.press("Enter")
    expect(page.locator("#chat .message.bot")).to_have_count(count + 1)
    return answered(page)


def answered(page: Page) -> Locator:
    expect(page.locator("#chat .message.bot").last.locator(".vl-chip").first).to_be_visible()
    expect(page.locator("#question .stop-button")).to_have_count(0)
    return page.locator("#chat .message.bot")


def chosen(page: Page) -> str:
    return page.locator("#choice select").evaluate("select => select.selectedOptions[0].innerText")


def now(page: Page) -> float:
    return page.evaluate("document.querySelector('#player video').currentTime")


def at(page: Page, seconds: float) -> None:
    page.wait_for_function(f"Math.abs(document.querySelector('#player video').currentTime - {seconds}) < 0.01")


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def saved(page: Page, link: Locator) -> str:
    with page.expect_download() as download:
        link.click()
    return Path(download.value.path()).read_text()


# --- the default model


def test_the_example_plays_at_once(lite: Server, visit: Open):
    page = visit(lite)
    paints = page.evaluate("performance.getEntriesByType('paint').map(e => [e.name, e.startTime])")
    assert dict(paints)["first-contentful-paint"] < FIRST_PAINT_MS
    player = page.locator("#player video")
    page.wait_for_function("document.querySelector('#player video').readyState >= 2")
    assert player.evaluate("v => [v.duration, v.videoWidth > 0, v.error]") == [pytest.approx(12, abs=0.1), True, None]
    cells = page.locator("#timeline .vl-cell")
    assert ["cat" in cells.nth(0).inner_text(), "rocket" in cells.nth(2).inner_text()] == [True, True]
    cells.nth(1).click()
    at(page, 4)
    expect(cells.nth(1)).to_have_attribute("aria-current", "")
    picture(page, "desktop-light")


def test_an_answer_streams_in_and_its_evidence_leads_to_the_video(lite: Server, visit: Open):
    page = visit(lite)
    page.evaluate("""() => {
        window.seen = [];
        const look = () => seen.push(document.querySelector("#chat .message.bot")?.innerText ?? "");
        new MutationObserver(look).observe(document.querySelector("#chat"),
            { subtree: true, childList: true, characterData: true });
    }""")
    answer = ask(page, "What is in this video?").first
    said = answer.inner_text().split("\n")[0]
    assert "cat" in said
    seen = {text.split("\n")[0] for text in page.evaluate("seen")}
    assert any(said.startswith(part) and 3 < len(part) < len(said) for part in seen)
    chip = answer.locator(".vl-chip", has_text="0:08–")
    assert chip.locator("img").evaluate("i => i.naturalWidth") > 0
    chip.click()
    at(page, 8)
    answer.locator(".vl-chip", has_text="0:04–").focus()  # by keyboard as well
    page.keyboard.press("Enter")
    at(page, 4)
    picture(page, "chat")

    stored = json.loads(saved(page, page.get_by_role("link", name="JSON")))
    (turn,) = stored["turns"]
    assert (turn["question"], turn["answer"]) == ("What is in this video?", said)
    assert len(turn["evidence"]) == 3 and turn["receipt"]["model"] == "lite"
    text = saved(page, page.get_by_role("link", name="Markdown"))
    assert f"**What is in this video?**\n\n{said}\n" in text and "- 0:08-0:12: rocket" in text

    tab(page, "What the model saw")
    expect(page.locator("#receipt .vl-frame")).to_have_count(24)
    facts = page.locator("#receipt").inner_text()
    assert all(fact in facts for fact in ("24 used", "visual", "in the prompt", "first token", " ms"))
    page.locator("#receipt .vl-frame", has_text="0:11.5").click()
    at(page, 11.5)
    picture(page, "receipt")


def test_no_answer_is_lost_by_retry_edit_undo_or_reload(lite: Server, visit: Open):
    page, generated = visit(lite), 'videollm_step_seconds_count{step="generate"}'
    page.get_by_text("What comes first?").click()  # one of those suggested
    first = answered(page).first.inner_text()
    ask(page, "Is there a cup?")
    count = lite.metric(generated)
    page.get_by_role("button", name="Edit").first.click()
    page.locator("#chat textarea").fill("How does it end?")
    page.get_by_role("button", name="Submit").first.click()
    expect(page.locator("#chat .message.user")).to_have_text(["How does it end?"])
    until(lambda: lite.metric(generated) == count + 1)
    assert answered(page).count() == 1 and "rocket" in page.locator("#chat .message.bot").inner_text().split("\n")[0]
    page.get_by_role("button", name="Undo").click()  # the edit: both questions are there again
    expect(page.locator("#chat .message.bot")).to_have_count(2)
    assert page.locator("#chat .message.bot").first.inner_text() == first
    page.get_by_role("button", name="Undo").click()  # the second question, which returns to the input
    expect(page.locator("#chat .message.bot")).to_have_count(1)
    expect(page.locator("#question textarea")).to_have_value("Is there a cup?")

    page.reload()
    expect(page.locator("#chat .message.bot")).to_have_count(1)
    assert page.locator("#chat .message.bot").inner_text() == first
    page.get_by_role("link", name="中文").click()
    expect(page.get_by_role("tab", name="对话")).to_be_visible()
    expect(page.locator("#chat .message.bot")).to_contain_text(first.split("\n")[0])

    count = lite.metric(generated)
    page.get_by_role("button", name="Retry").click()
    until(lambda: lite.metric(generated) >= count + 1)
    answered(page)
    other = page.locator("#chat .message.bot").inner_text()
    assert other != first or page.get_by_test_id("toast-body").count() == 1  # another answer, or the reason for none


def test_captions_and_their_files(lite: Server, visit: Open):
    page = visit(lite)
    tab(page, "Captions")
    page.locator("#describe").click()
    rows = page.locator("#captions li")
    expect(rows).to_have_count(3)
    rows.nth(2).get_by_role("button").click()
    at(page, 8)
    srt = pysubs2.SSAFile.from_string(saved(page, page.get_by_role("link", name="SRT")), "srt")
    assert [(e.start, round(e.end, -2)) for e in srt] == [(0, 4000), (4000, 8000), (8000, 12000)]
    assert "cat" in srt[0].plaintext
    vtt = saved(page, page.get_by_role("link", name="VTT"))
    assert vtt.startswith("WEBVTT") and "00:00:08.000 --> " in vtt.replace("\n00:08", "\n00:00:08")
    picture(page, "captions")


def test_a_search_leads_to_the_moment_of_another_video(lite: Server, visit: Open):
    page = visit(lite)
    tab(page, "Search")
    page.locator("#query textarea").fill("a cup of coffee")
    page.keyboard.press("Enter")
    best = page.locator("#found .vl-moment").first
    expect(best).to_contain_text("holiday.mp4")
    assert "0:04" in best.inner_text() and best.locator("img").evaluate("i => i.naturalWidth") > 0
    picture(page, "search")
    before = page.locator("#player video").get_attribute("src")
    best.click()
    expect(page.locator("#player video")).to_have_attribute("aria-label", "holiday.mp4")
    at(page, 4)
    assert page.locator("#player video").get_attribute("src") != before
    assert chosen(page) == "holiday.mp4"

    page.get_by_role("radio", name="This video").check()
    page.locator("#query textarea").fill("rocket")
    page.keyboard.press("Enter")
    here = page.locator("#found .vl-moment[data-seek]").first
    expect(here).to_contain_text("0:08")
    here.click()
    at(page, 8)


def test_a_storyboard(lite: Server, visit: Open):
    page = visit(lite)
    tab(page, "Summary")
    page.locator("#summarize").click()
    parts = page.locator("#summary .vl-part")
    expect(parts).to_have_count(3)
    assert "espresso" in parts.nth(1).inner_text()
    parts.nth(1).get_by_role("button").click()
    at(page, 4)
    picture(page, "summary")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_MS / 1000
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_answer_is_stopped_and_what_there_is_of_it_stays(start: Start, endless: Path, visit: Open):
    server = start("--model", str(endless)).ready()
    page = visit(server)
    page.locator("#question textarea").fill("What is it?")
    page.keyboard.press("Enter")
    answer, stop = page.locator("#chat .message.bot"), page.locator("#question .stop-button")
    expect(answer).to_contain_text("aaaa")
    stop.click()
    expect(stop).to_have_count(0)
    until(lambda: server.metric("videollm_requests_active") == 0)
    expect(answer).to_contain_text("Stopped.")
    passes, said = server.metric("videollm_batch_size_count"), answer.inner_text().removesuffix("Stopped.").strip()
    assert 4 <= len(said) < passes < 20_000 and set(said) == {"a"}  # the model can go on for 30,000
    picture(page, "stopped")
    expect(page.locator("#question .submit-button")).to_be_visible()
    (turn,) = json.loads(saved(page, page.get_by_role("link", name="JSON")))["turns"]
    assert set(turn["answer"]) == {"a"} and turn["receipt"] is None and turn["evidence"] == []
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#chat .message")).to_have_count(0)
    assert server.metric("videollm_batch_size_count") == passes  # the model has stood still since


# --- keys, uploads, looks; what is said does not matter


def test_nobody_gets_in_without_a_key(guarded: Server, browser: Browser):
    assert httpx.get(f"{guarded.url}/", follow_redirects=False).headers["location"] == "/login"
    page = browser.new_page()
    page.goto(guarded.url)
    page.get_by_label("API key").fill("wrong-key-0123456789")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is not a key of this server.")
    page.get_by_label("API key").fill(FIRST)
    page.keyboard.press("Enter")
    expect(page.locator("#timeline .vl-cell")).to_have_count(3)
    (cookie,) = (dict(one) for one in page.context.cookies())
    assert str(cookie["name"]).startswith("videollm-") and cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    page.get_by_role("link", name="Log out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.context.close()


def test_what_the_page_does_not_need_cannot_be_reached(guarded: Server):
    visitor = httpx.Client(base_url=guarded.url)
    for method, path in [
        ("GET", "/en/"),
        ("GET", "/en/config"),
        ("POST", "/en/gradio_api/queue/join"),
        ("GET", "/en/gradio_api/queue/data?session_hash=a"),
        ("GET", "/media/file-1"),
        ("POST", "/media"),
    ]:
        assert visitor.request(method, path).status_code in (303, 401), path
    assert visitor.post("/login", data={"key": FIRST}).status_code == 303
    assert visitor.get("/en/").status_code == 200
    for method, path in [
        ("POST", "/en/gradio_api/upload"),
        ("GET", f"/en/gradio_api/file={SAMPLE}"),
        ("GET", f"/en/file={SAMPLE}"),
        ("GET", "/en/gradio_api/proxy=http://127.0.0.1/"),
        ("POST", "/en/gradio_api/component_server"),
        ("POST", "/en/gradio_api/run/ask"),
        ("POST", "/en/gradio_api/call/ask"),
        ("POST", "/en/gradio_api/vibe-edit"),
        ("GET", "/en/gradio_api/runs"),
        ("GET", "/en/monitoring"),
        ("GET", "/gradio_api/info"),
    ]:
        assert visitor.request(method, path).status_code in (401, 404), (
            path
        )  # 401: not the page's, so a key is asked for
    assert visitor.get("/v1/models", headers={"Authorization": f"Bearer {FIRST}"}).status_code == 404  # the page alone
    elsewhere = visitor.post("/en/gradio_api/queue/join", json={}, headers={"Origin": "https://evil.example"})
    assert elsewhere.status_code == 403
    framed = visitor.get("/en/").headers["content-security-policy"]
    assert "default-src 'self'" in framed and "frame-ancestors 'none'" in framed


def test_an_upload_is_for_its_session_alone(guarded: Server, visit: Open):
    page = visit(guarded, FIRST)
    page.locator(".vl-attach input").set_input_files(
        {"name": "猫 & <b>.mp4", "mimeType": "video/mp4", "buffer": SAMPLE.read_bytes()}
    )
    expect(page.locator("#player video")).to_have_attribute("aria-label", "猫 & <b>.mp4")
    assert chosen(page) == "猫 & <b>.mp4"
    page.wait_for_function("document.querySelector('#player video').readyState >= 2")
    address = page.locator("#player video").get_attribute("src") or ""
    assert page.context.request.get(guarded.url + address).body() == SAMPLE.read_bytes()
    stranger = visit(guarded, SECOND)
    same_key = visit(guarded, FIRST)
    for other in (stranger, same_key):
        assert other.context.request.get(guarded.url + address).status == 404
        assert "猫" not in other.content()
    with page.expect_request("**/queue/data**") as listening:
        ask(page, "What is it?")
    tab_hash = parse_qs(urlsplit(listening.value.url).query)["session_hash"][0]
    listened = stranger.context.request.get(f"{guarded.url}/en/gradio_api/queue/data?session_hash={tab_hash}")
    assert listened.status == 404
    picture(page, "upload")


def test_a_bad_file_is_refused_with_a_reason_and_the_page_goes_on(guarded: Server, visit: Open):
    page = visit(guarded, FIRST)
    shown = page.locator("#player video").get_attribute("src") or ""
    page.locator(".vl-attach input").set_input_files(
        {"name": "bad.mp4", "mimeType": "video/mp4", "buffer": b"nonsense" * 999}
    )
    problem = page.get_by_test_id("toast-body")
    expect(problem).to_contain_text("not a video or image")
    picture(page, "bad-file")
    expect(page.locator("#player video")).to_have_attribute("src", shown)
    page.locator(".vl-attach input").set_input_files(
        {"name": "big.mp4", "mimeType": "video/mp4", "buffer": bytes(3_000_000)}
    )
    expect(page.locator("#attach [role=alert]")).to_contain_text("larger than")
    assert ask(page, "What is it?").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_in_one_column(guarded: Server, visit: Open, scheme: str):
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    page = visit(guarded, FIRST, color_scheme=scheme, **phone)
    ask(page, "What is it?")
    assert page.evaluate("document.documentElement.scrollWidth") == 390 == page.evaluate("innerWidth")
    boxes = [page.locator(name).bounding_box() for name in ("#player", "#timeline", "#chat", "#settings")]
    tops = [box["y"] for box in boxes if box]
    assert len(tops) == 4 and tops == sorted(tops)
    picture(page, f"phone-{scheme}")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, dark[4:-1].split(","))) < 150) == (scheme == "dark")


def test_light_and_dark_are_chosen_and_remembered(guarded: Server, visit: Open):
    page = visit(guarded, FIRST, color_scheme="light")
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("body.dark")).to_have_count(1)
    page.reload()
    expect(page.locator("#timeline .vl-cell")).to_have_count(3)
    expect(page.locator("body.dark")).to_have_count(1)
    picture(page, "desktop-dark")


def test_the_page_speaks_chinese(guarded: Server, visit: Open):
    page = visit(guarded, FIRST, locale="zh-CN")
    names = [tab.inner_text() for tab in page.get_by_role("tab").all()]
    assert names == ["对话", "字幕", "文字记录", "搜索", "摘要", "模型所见"]
    ask(page, "What is it?")
    picture(page, "chinese")
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("tab", name="Captions")).to_be_visible()


def test_what_is_said_and_seen_has_lanes_boxes_and_a_transcript(guarded: Server, visit: Open, tmp_path: Path):
    page = visit(guarded, FIRST)
    tab(page, "Transcript")
    page.locator("#listen").click()
    expect(page.locator("#transcript")).to_contain_text("The video has no sound.")
    lanes = page.locator("#lanes .vl-lane")
    cups = lanes.filter(has_text="cup").locator(".vl-bar")
    assert lanes.filter(has_text="cat").count() == 1
    shown = page.locator("#player canvas")
    expect(shown).to_have_attribute("data-shown", "1")  # the cat
    cups.first.click()
    at(page, 4)
    expect(cups.first).to_have_attribute("aria-current", "")
    player, boxes = page.locator("#player video").bounding_box(), shown.bounding_box()
    assert player and boxes and boxes["width"] <= player["width"] and boxes["x"] >= player["x"]

    write_talk(tmp_path / "talk.mp4", SHORT)
    page.locator(".vl-attach input").set_input_files(tmp_path / "talk.mp4")
    expect(page.locator("#player video")).to_have_attribute("aria-label", "talk.mp4")
    expect(lanes).to_have_count(0)  # those of the other video
    page.locator("#listen").click()
    line = page.locator("#transcript li")
    expect(line).to_contain_text("disposed young man")
    line.get_by_role("button").click()
    expect(line).to_have_attribute("aria-current", "")
    expect(lanes.filter(has_text="speech").locator(".vl-bar")).to_have_count(1)
    assert "disposed young man" in saved(page, page.get_by_role("link", name="SRT"))
    picture(page, "transcript")


def test_settings_decide_what_is_looked_at(guarded: Server, visit: Open):
    page = visit(guarded, FIRST)
    page.locator("#settings button").first.click()
    page.get_by_label("In all").check()
    page.locator("#frames input").fill("5")
    page.keyboard.press("Tab")
    ask(page, "What is it?")
    tab(page, "What the model saw")
    expect(page.locator("#receipt .vl-frame")).to_have_count(5)
    assert page.locator("#model input").input_value() == "debug"
    picture(page, "settings")


def test_the_server_ends_at_once_while_the_page_is_open(guarded: Server, visit: Open):
    visit(guarded, FIRST)
    started = time.monotonic()
    assert guarded.stop() == 0
    assert time.monotonic() - started < 20
