"""What a visitor of the page can make the server keep and log, by requests that no browser sends."""

import asyncio
import time
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from fastapi import FastAPI

from serve.config import Limits
from serve.runtime.files import FileStore
from serve.security.auth import ANYBODY, ApiKeys
from serve.web.history import History
from serve.web.sessions import MAX_TABS, PageSessions, SessionGuard
from serve.web.tabs import EVENTS_S, MAX_EVENTS, TAB_S, GradioTabs, TabGuard
from tests.serve.conftest import Server, Start

JOIN = "/en/gradio_api/queue/join"
MiB = 1 << 20


@pytest.fixture(scope="module")
def debug(start: Start) -> Server:
    return start("--model", "debug").ready()


def visit(server: Server) -> httpx.Client:
    visitor = httpx.Client(base_url=server.url, timeout=60)
    assert visitor.get("/en/").status_code == 200
    return visitor


def functions(visitor: httpx.Client) -> dict[str, dict[str, Any]]:
    """The page's functions by name; of several of one name, the last."""
    return {one["api_name"]: one for one in visitor.get("/en/config").json()["dependencies"]}


def join(visitor: httpx.Client, tab: Any, function: Any, *data: Any) -> httpx.Response:
    return visitor.post(JOIN, json={"session_hash": tab, "fn_index": function, "data": data})


def settings(model: str = "debug", sampling: str = "auto") -> tuple[Any, ...]:
    return model, sampling, 2, 16, 0


def test_other_sites_and_parts_of_pages_open_no_session(debug: Server):
    for headers in (
        {"Sec-Fetch-Dest": "image", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "none"},
    ):
        refused = httpx.get(f"{debug.url}/en/", headers=headers)
        assert refused.status_code == 403 and "set-cookie" not in refused.headers
    led = httpx.get(f"{debug.url}/en/", headers={"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"})
    assert led.status_code == 200 and "refresh" in led.text and "set-cookie" not in led.headers
    policy = visit(debug).get("/en/").headers["content-security-policy"]
    assert "form-action 'self'" in policy and "base-uri 'self'" in policy


def test_events_that_nobody_fetches_are_bounded(debug: Server):
    visitor = visit(debug)
    load = functions(visitor)["load_page"]["id"]
    statuses = [join(visitor, "one", load, *settings()).status_code for _ in range(MAX_EVENTS + 2)]
    assert statuses == [200] * MAX_EVENTS + [429] * 2
    unknown = functions(visitor)["ask"]["id"]
    assert join(visitor, "two", unknown).json()["error"]["code"] == "no_tab"  # one that this server has ended


async def joined(folder: Path) -> None:
    with gr.Blocks(analytics_enabled=False) as blocks:
        blocks.load(lambda: None)
    tabs, history = GradioTabs(), History(folder / "state")
    sessions = PageSessions(FileStore(folder, Limits()), history, ApiKeys(()), drop_tab=tabs.drop)
    tabs.blocks["en"] = blocks
    app = gr.mount_gradio_app(FastAPI(), blocks, "/en")
    app.add_middleware(TabGuard, sessions=sessions, tabs=tabs, max_bytes=1000)
    app.add_middleware(SessionGuard, sessions=sessions, keys=ApiKeys(()))
    kept: list[Any] = [blocks.state_holder.session_data, blocks._queue.pending_messages_per_session]
    kept += [blocks._queue.pending_event_ids_session]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as visitor:
        visitor.cookies["videollm-None"] = sessions.open(ANYBODY)
        for number in range(3 * MAX_TABS):
            for _ in range(2):
                body = {"session_hash": f"tab{number}", "fn_index": 0, "data": []}
                assert (await visitor.post(JOIN, json=body)).status_code == 200
    assert [len(one) for one in kept] == [MAX_TABS] * 3
    assert len(blocks._queue.event_ids_to_events) == len(blocks._queue) == 2 * MAX_TABS
    for age, left in ((EVENTS_S, [MAX_TABS, 0, 0]), (TAB_S, [0, 0, 0])):
        for _, _, tab in sessions.tabs():
            tab.used_at -= age + 1
        tabs.expire(sessions)
        assert [len(one) for one in kept] == left and len(blocks._queue.event_ids_to_events) == 0


def test_what_gradio_keeps_of_tabs_is_bounded_and_goes_with_their_browsers(tmp_path: Path):
    """6,000 events that nobody fetched took a gibibyte. Here, Gradio's queue is not started: all of them wait."""
    asyncio.run(joined(tmp_path))


def test_a_session_reaches_its_own_tabs_and_functions_only(debug: Server):
    visitor, stranger = visit(debug), visit(debug)
    known = functions(visitor)
    load = known["load_page"]["id"]
    assert join(visitor, "mine", load, *settings()).status_code == 200
    assert join(stranger, "mine", load, *settings()).status_code == 404
    cancel = {"session_hash": "mine", "fn_index": load, "event_id": "a"}
    assert stranger.post("/en/gradio_api/cancel", json=cancel).status_code == 404
    assert stranger.get("/en/gradio_api/heartbeat/mine").status_code == 404
    for function in (9999, -1, None, "0", 0.5, True):
        assert join(visitor, "mine", function).status_code == 404, function
    for name in (None, 5, "", "a" * 65, "a\n", ["a"]):
        assert join(visitor, name, load).status_code == 400, name
    for body, status in ((b"[]", 400), (b"{", 400), (b'"' + b"a" * 2 * MiB + b'"', 413)):
        answer = visitor.post(JOIN, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status and "error" in answer.json()


def test_what_is_sent_can_neither_forge_lines_of_the_log_nor_control_a_terminal(debug: Server):
    visitor = visit(debug)
    load = functions(visitor)["load_page"]["id"]
    forged = "2026-01-01 00:00:00,000 INFO serve: forged"
    assert join(visitor, "log", load, *settings(sampling=f"x\n{forged}\x1b[2J\u202e{'y' * 9000}")).status_code == 200
    end, said = time.monotonic() + 60, ""
    while "Error: " not in (said := debug.log.read_bytes().decode().partition("Traceback")[2]):
        assert time.monotonic() < end
    assert "forged" in said and "\x1b" not in said and "\u202e" not in said
    assert not any(line.startswith("2026-01-01") for line in said.splitlines())
    assert max(map(len, said.splitlines())) < 3000
