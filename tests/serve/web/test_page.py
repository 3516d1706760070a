"""The page in a real browser, against the server as a user starts it. Screenshots are left in runs/screenshots."""

import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import av
import httpx
import numpy as np
import pysubs2
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, FloatRect, Locator, Page, expect, sync_playwright

from scripts.tiny_hub.__main__ import write
from tests.retrieval.test_sensed import write_talk
from tests.senses.test_speech import SHORT
from tests.serve.conftest import ROOT, SAMPLE, Server, Start
from tests.serve.showing import SAYS, save_showing
from videollm.decoders.media import GENERATED
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
    """The default model on loopback, with an index of a folder of videos, and a camera that plays the sample."""
    folder = tmp_path_factory.mktemp("videos")
    shutil.copy(SAMPLE, folder / "holiday.mp4")
    Index.create(folder / "index").update([str(folder / "holiday.mp4")])
    return start("--index", str(folder / "index"), "--camera", f"clip={SAMPLE}").ready()


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

    def visit(server: Server, key: str = "", path: str = "/", segments: int = 3, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        if key:
            assert context.request.post(f"{server.url}/login", form={"key": key}).ok
        page = context.new_page()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        hosts: set[str] = set()
        page.goto(server.url + path)
        expect(page.locator("#timeline .vl-cell")).to_have_count(segments)
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


def answered(page: Page, evidence: bool = True) -> Locator:
    if evidence:
        expect(page.locator("#chat .message.bot").last.locator(".vl-chip").first).to_be_visible()
    expect(page.locator("#question .submit-button")).to_be_visible()
    return page.locator("#chat .message.bot")


def assert_accessible(page: Page) -> None:
    """Nothing on the page hinders whoever uses a screen reader or a keyboard, or sees little."""
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"]) for one in found if one["impact"] in ("serious", "critical")] == []


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


def test_an_example_is_a_click_away_from_an_answer(lite: Server, visit: Open):
    page = visit(lite)
    expect(page.locator(".vl-example")).to_have_count(3)
    page.locator(".vl-example", has_text="An astronaut").click()
    answer = answered(page)
    expect(answer).to_contain_text("1 person")
    expect(page.locator("#player video")).to_have_attribute("aria-label", "An astronaut")
    expect(page.locator(".vl-welcome")).to_have_count(0)
    expect(page.locator("#timeline .vl-cell")).to_have_count(2)
    chips = answer.locator(".vl-chip")
    expect(chips).to_have_count(1)
    expect(chips).to_contain_text("0:00–0:04")  # where the person is, and not the rocket after it


def test_evidence_is_evidence(lite: Server, visit: Open):
    page = visit(lite)
    chips = ask(page, "When is the cup shown?").locator(".vl-chip")
    expect(chips).to_have_count(1)
    expect(chips).to_contain_text("0:04–0:08")
    page.locator("#question textarea").fill("Is there a zebra?")
    page.keyboard.press("Enter")
    expect(page.locator("#chat .message.bot")).to_have_count(2)
    unknown = answered(page, evidence=False).last
    expect(unknown).to_contain_text("I cannot tell")
    assert unknown.locator(".vl-chip").count() == 0


def test_the_chinese_page_sends_what_the_model_reads(lite: Server, visit: Open):
    page = visit(lite, locale="zh-CN")
    page.locator(".vl-question", has_text="最先出现的是什么？").click()
    expect(page.locator("#chat .message.user")).to_have_text(["What comes first?"])
    expect(answered(page)).to_contain_text("cat")
    page.locator("#question textarea").fill("有猫吗？")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("toast-body")).to_contain_text("只懂英语")
    answered(page, evidence=False)


def test_the_documentation_of_the_api_needs_no_network(lite: Server, browser: Browser):
    page = browser.new_page()
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.goto(f"{lite.url}/docs")
    expect(page.locator(".opblock", has_text="/v1/chat/completions")).to_be_visible()
    assert hosts - {""} == {urlsplit(lite.url).netloc}
    picture(page, "docs")
    page.close()


def test_no_answer_is_lost_by_retry_edit_undo_or_reload(lite: Server, visit: Open):
    page, generated = visit(lite), 'videollm_step_seconds_count{step="generate"}'
    page.locator(".vl-question", has_text="What comes first?").click()
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
    expect(page.locator("#chat .message.bot").first).to_have_text(first, use_inner_text=True)
    page.get_by_role("button", name="Undo").click()  # the second question, which returns to the input
    expect(page.locator("#chat .message.bot")).to_have_count(1)
    expect(page.locator("#question textarea")).to_have_value("Is there a cup?")

    page.reload()
    expect(page.locator("#chat .message.bot")).to_have_count(1)
    expect(page.locator("#chat .message.bot")).to_have_text(first, use_inner_text=True)
    page.get_by_role("link", name="中文").click()
    expect(page.get_by_role("tab", name="对话")).to_be_visible()
    expect(page.locator("#chat .message.bot")).to_contain_text(first.split("\n")[0])

    count = lite.metric(generated)
    page.get_by_role("button", name="Retry").click()
    until(lambda: lite.metric(generated) >= count + 1)
    answer, reason = page.locator("#chat .message.bot"), page.get_by_test_id("toast-body")
    until(lambda: answer.inner_text() != first or reason.count() == 1)  # another answer, or the reason for none


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
    here = page.locator("#found .vl-moment").first
    expect(here).to_contain_text("0:08–")  # the moment found before ended at 0:08
    here.click()
    at(page, 8)
    page.locator("#choice select").select_option(label="An astronaut")
    expect(page.locator("#found .vl-moment")).to_have_count(0)  # they were moments of the other video
    expect(page.locator("#timeline .vl-cell")).to_have_count(2)


def test_a_moment_is_saved_as_a_clip(lite: Server, visit: Open):
    page = visit(lite)
    answer = ask(page, "When is the cup shown?")
    assert_part(page, answer.get_by_role("link", name="Save 0:04–0:08 as a clip"), "sample 4.00-8.00.mp4")
    picture(page, "clip")
    tab(page, "Search")
    page.locator("#query textarea").fill("rocket")
    page.keyboard.press("Enter")
    found = page.locator("#found .vl-found", has_text="holiday.mp4").first
    assert_part(page, found.get_by_role("link", name="Save 0:08–0:12 as a clip"), "holiday 8.00-12.00.mp4")


def assert_part(page: Page, link: Locator, name: str) -> None:
    """The link leads to a file that holds the frames of the sample from the first to the second time of its name."""
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == name
    start_s, end_s = map(float, name.removesuffix(".mp4").split()[-1].split("-"))
    promised = [pixels for time_s, pixels in frames_of(SAMPLE) if start_s <= time_s < end_s]
    sent = [pixels for _, pixels in frames_of(download.value.path())]
    assert len(sent) == len(promised) > 30
    assert max(np.abs(a - b).mean() for a, b in zip(sent, promised, strict=True)) < 3


def frames_of(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24").astype(int)) for frame in container.decode(video=0)]


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


def test_a_stream_is_watched_with_alerts_and_asked_about(lite: Server, visit: Open):
    page = visit(lite, viewport={"width": 1440, "height": 900})
    tab(page, "Live")
    expect(page.locator("#player")).to_be_hidden()  # another video is no part of the stream
    page.locator("#live-source input").fill("http://127.0.0.1:1/live.m3u8")
    page.locator("#live-source input").press("Enter")
    page.locator("#live-watch").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("opens no remote addresses")
    page.get_by_test_id("toast-close").click()  # Gradio's own message has a button within a button
    expect(page.get_by_test_id("toast-body")).to_have_count(0)
    page.locator("#live-source input").fill("clip")
    page.locator("#live-source input").press("Enter")
    page.locator("#live-when textarea").fill("a cat\nthere is a rocket")
    page.locator("#live-watch").click()
    expect(page.locator("#live-screen img")).to_be_visible()
    expect(page.locator("#live-alerts .vl-event-alert")).to_have_count(3)
    alerts = page.locator("#live-alerts .vl-event-alert").all_inner_texts()
    assert ["rocket begins" in alerts[0], "cat ends" in alerts[1], "cat begins" in alerts[2]] == [True] * 3
    rows = page.locator("#live-timeline .vl-live-row")
    expect(rows).to_have_count(3)  # the clip has come to its end
    assert [word in row for word, row in zip(("rocket", "espresso", "cat"), rows.all_inner_texts(), strict=True)]
    expect(page.locator("#live-timeline .vl-live-row img")).to_have_count(3)

    page.get_by_label("The last minute").check()
    page.locator("#live-question textarea").fill("What is in the video?")
    page.keyboard.press("Enter")
    evidence = page.locator("#live-answers .vl-chip")
    expect(evidence).to_have_count(3)
    assert "cat" in page.locator("#live-answers .vl-card p").inner_text()
    began = rows.last.locator(".vl-time").inner_text()[:8]  # by the wall clock
    assert evidence.first.locator(".vl-time").inner_text().startswith(began)
    assert_accessible(page)
    picture(page, "live")

    other = page.context.new_page()
    other.goto(f"{lite.url}/zh/")
    tab(other, "直播")
    other.get_by_role("button", name="clip").click()
    expect(other.locator("#live-timeline .vl-live-row")).to_have_count(3)
    other.get_by_role("button", name="停止观看").click()
    expect(other.locator("#live-screen")).to_contain_text("没有正在显示的流")
    assert httpx.get(f"{lite.url}/v1/streams").json()["data"] == []


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
    page.get_by_role("button", name="Stop").click()
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
        ("GET", "/clip/example?start=0&end=1"),
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
        clip = address.replace("/media/", "/clip/").partition("#")[0]
        assert other.context.request.get(f"{guarded.url}{clip}?start=0&end=1").status == 404
        assert "猫" not in other.content()
    beyond = page.context.request.get(f"{guarded.url}{clip}?start=50&end=60")
    assert beyond.status == 400 and "no frame starts between 50.000 and 60.000 s" in beyond.text()
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
    composer = page.locator("#composer").bounding_box()
    assert composer and composer["y"] > 0 and composer["y"] + composer["height"] <= 844  # in sight without scrolling
    tab(page, "What the model saw")
    expect(page.locator("#receipt .vl-facts")).to_be_visible()
    tab(page, "Chat")
    picture(page, f"phone-{scheme}")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, dark[4:-1].split(","))) < 150) == (scheme == "dark")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_no_label_of_a_tab_is_cut(guarded: Server, visit: Open, locale: str):
    page = visit(guarded, FIRST, locale=locale)
    for width, height in ((1440, 900), (1280, 800), (1024, 768), (390, 844), (320, 568)):
        page.set_viewport_size({"width": width, "height": height})
        tabs = page.get_by_role("tablist").last
        outer = box_of(tabs)
        for label in tabs.get_by_role("tab").all():
            inner = box_of(label)
            assert outer["x"] <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"] <= width
            assert label.evaluate("label => label.scrollWidth <= label.clientWidth"), label.inner_text()


def box_of(element: Locator) -> FloatRect:
    box = element.bounding_box()
    assert box is not None, element
    return box


def test_thumbnails_of_a_portrait_video_show_all_of_it(guarded: Server, visit: Open, tmp_path: Path):
    """The clip is red at the top, where heads are, and blue at the bottom."""
    pixels = np.full((320, 180, 3), 128, np.uint8)
    pixels[:48], pixels[-48:] = (255, 0, 0), (0, 0, 255)
    with av.open(str(tmp_path / "portrait.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], "yuv420p"
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    page = visit(guarded, FIRST)
    page.locator(".vl-attach input").set_input_files(tmp_path / "portrait.mp4")
    expect(page.locator("#player video")).to_have_attribute("aria-label", "portrait.mp4")
    expect(page.locator("#timeline .vl-cell").first).to_be_visible()
    answer = ask(page, "What is it?")
    assert_whole(page.locator("#timeline .vl-cell img").first)
    assert_whole(answer.locator(".vl-chip img").first)
    picture(page, "portrait")
    tab(page, "What the model saw")
    assert_whole(page.locator("#receipt .vl-frame img").first)


def assert_whole(thumbnail: Locator) -> None:
    """The screen shows a picture of the portrait clip from top to bottom, in its shape."""
    expect(thumbnail).to_be_visible()
    shown = np.asarray(Image.open(io.BytesIO(thumbnail.screenshot())).convert("RGB")).astype(int)
    column = shown[:, shown.shape[1] // 2]
    red, blue = ((column[:, one] - column[:, other] > 100).mean() for one, other in ((0, 2), (2, 0)))
    assert red == pytest.approx(0.15, abs=0.05) == blue
    row = shown[len(shown) // 2]
    assert (row > 64).all(-1).sum() / len(shown) == pytest.approx(180 / 320, abs=0.06)


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
    assert names == ["对话", "字幕", "文字记录", "搜索", "摘要", "直播", "模型所见"]
    page.get_by_role("button", name="结尾是什么？").click()
    expect(page.locator("#chat .message.user")).to_have_text(["结尾是什么？"])  # this model is not for English only
    answered(page)
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
    radio = page.get_by_role("radio", name="In all")
    radio.check()
    look = "radio => [getComputedStyle(radio).backgroundImage, getComputedStyle(radio).backgroundColor]"
    page.mouse.move(0, 0)
    before = radio.evaluate(look)
    radio.hover()
    assert radio.evaluate(look) == before != page.get_by_label("Automatic").evaluate(look)
    page.locator("#frames input").fill("5")
    page.keyboard.press("Tab")
    ask(page, "What is it?")
    tab(page, "What the model saw")
    expect(page.locator("#receipt .vl-frame")).to_have_count(5)
    assert page.locator("#model input").input_value() == "debug"
    picture(page, "settings")


def test_what_a_model_shows_is_below_its_answer(start: Start, visit: Open, tmp_path: Path):
    model = save_showing(tmp_path)
    decoders = [word for kind in ("image", "audio") for word in (f"--{kind}-decoder", str(tmp_path / kind))]
    page = visit(start("--model", str(model), *decoders, "--steps", "1", "--size", "16").ready())
    answer = ask(page, "What is it?").last
    expect(answer).to_contain_text(SAYS)

    def is_shown() -> None:
        shown = page.locator("#chat .message.bot").last.locator(".vl-shown")
        expect(shown.get_by_text("Generated by the model")).to_have_count(2)
        expect(shown.get_by_text("this server makes no video; start it with --video-decoder PIPELINE")).to_be_visible()
        until(lambda: shown.locator("img").evaluate("img => img.naturalWidth") == 16)
        until(lambda: shown.locator("audio").evaluate("sound => sound.duration") > 0)

    is_shown()
    picture(page, "generated")
    assert_accessible(page)
    with page.expect_download() as download:
        page.locator(".vl-shown .vl-save").first.click()
    with Image.open(download.value.path()) as image:
        assert GENERATED in image.info["XML:com.adobe.xmp"]
    assert page.locator("#choice option").all_inner_texts().count("picture.png") == 0
    page.reload()
    is_shown()


def test_a_video_model_of_transformers_answers(start: Start, visit: Open, tmp_path: Path):
    write("qwen3_vl", tmp_path / "tiny-qwen3-vl")
    server = start("--model", str(tmp_path / "tiny-qwen3-vl"), "--evidence-encoder", "debug", module="serve.web")
    page = visit(server.ready(), segments=6)
    ask(page, "What is it?")
    tab(page, "What the model saw")
    expect(page.locator("#receipt .vl-frame")).to_have_count(24)  # two a second
    expect(page.locator("#receipt")).to_contain_text("tiny-qwen3-vl")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_everybody_can_use_the_page(guarded: Server, visit: Open, locale: str):
    page = visit(guarded, FIRST, locale=locale, reduced_motion="reduce")  # no colours on their way to others
    assert_accessible(page)
    ask(page, "What is it?")
    for width, height in ((390, 844), (1440, 900)):
        page.set_viewport_size({"width": width, "height": height})
        for name in page.get_by_role("tab").all():
            name.click()
            assert_accessible(page)
    page.locator("[data-theme]").click()
    page.get_by_role("tab").first.click()
    assert_accessible(page)
    page.locator("[popovertarget]").focus()
    page.keyboard.press("Enter")
    history = page.locator("#conversations")
    expect(history.locator("[data-enter]").first).to_be_visible()
    assert_accessible(page)
    history.locator("button").last.focus()
    page.keyboard.press("Tab")  # past the end of the list, which closes it
    expect(history).to_be_hidden()


def test_a_conversation_is_listed_and_outlives_the_server(start: Start, guarded: Server, visit: Open):
    page = visit(guarded, FIRST)
    said = ask(page, "Which conversation is this?").inner_text()
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator("#chat .message")).to_have_count(0)
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="Which conversation is this?").first.click()
    expect(page.locator("#chat .message.bot")).to_have_text([said], use_inner_text=True)
    page.wait_for_url("**/en/?c=*")
    query = urlsplit(page.url).query

    started = time.monotonic()
    assert guarded.stop() == 0  # while the page is open
    assert time.monotonic() - started < 20
    again = start("--model", "debug", "--api-key", FIRST, module="serve.web", VIDEOLLM_STATE=f"{guarded.log}.state")
    page = visit(again.ready(), FIRST, path=f"/en/?{query}")
    expect(page.locator("#chat .message.bot")).to_have_text([said], use_inner_text=True)
    page.get_by_role("button", name="Conversations").click()
    row = page.locator("#conversations li", has_text="Which conversation is this?").first
    row.get_by_role("button", name="Delete").click()
    row.get_by_role("button", name="Restore").click()
    expect(row.locator("[data-enter]")).to_be_visible()
