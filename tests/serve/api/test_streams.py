"""Streams over HTTP: a camera that is watched, its events, questions about it, and what a request may not open."""

import json
from collections.abc import Iterator
from functools import partial
from time import monotonic
from typing import Any

import httpx
import pytest
import torch

from scripts.live_sources import SECONDS, HLSServer
from tests.live.conftest import WAIT_S, write_clip
from tests.senses.test_speech import SHORT, SHORT_TEXT, sound, words
from tests.serve.conftest import Server, Start, asked
from videollm.video.audio import SAMPLE_RATE

KEY, OTHER = "a-key-of-the-first-user", "a-key-of-the-second-user"


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HLSServer]:
    said = sound(SHORT)
    pauses = torch.zeros(SECONDS, 10 * SAMPLE_RATE)[: SECONDS // 10]
    pauses[:, : len(said)] = said  # every ten seconds
    server = HLSServer(tmp_path_factory.mktemp("hls"), partial(write_clip, sound=pauses.flatten()))
    yield server
    server.close()


@pytest.fixture(scope="module")
def watching(start: Start, camera: HLSServer) -> Server:
    options = ["--model", "debug", "--camera", f"door={camera.url}", "--allow-remote", "--streams", "2"]
    options += ["--senses", "objects,speech"]
    return start(*options, VIDEOLLM_API_KEYS=f"{KEY},{OTHER}")


def call(server: Server, method: str, path: str, body: Any = None, key: str = KEY) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.request(method, f"{server.url}/v1{path}", json=body, headers=headers, timeout=WAIT_S)


def metric(server: Server, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {KEY}"}).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def events(server: Server, stream: str, last: str, **headers: str) -> list[tuple[str, dict[str, Any]]]:
    """Reads events until one of the kind `last`."""
    found, until = [], monotonic() + WAIT_S
    headers |= {"Authorization": f"Bearer {KEY}"}
    with httpx.stream("GET", f"{server.url}/v1/streams/{stream}/events", headers=headers, timeout=WAIT_S) as response:
        assert response.status_code == 200 and response.headers["content-type"].startswith("text/event-stream")
        number = ""
        for line in response.iter_lines():
            assert monotonic() < until, found
            if line.startswith("id: "):
                number = line[4:]
            if line.startswith("data: "):
                found.append((number, json.loads(line[6:])))
                if found[-1][1]["event"] == last:
                    break
    return found


def test_a_camera_is_watched_and_asked_about(watching: Server, camera: HLSServer):
    made = call(watching, "POST", "/streams", {"source": "door", "fps": 2, "when": ["Is it bright?"]}).json()
    assert (made["object"], made["source"], made["status"]) == ("stream", "door", "connecting")
    seen = events(watching, made["id"], "segment")
    kinds = [event["event"] for _, event in seen]
    assert kinds[0] == "connected" and kinds[-1] == "segment"
    segment = seen[-1][1]
    assert segment["start"] < segment["end"] and segment["start"][:10] == segment["end"][:10]
    again = events(watching, made["id"], "segment", **{"Last-Event-ID": seen[-1][0]})
    assert int(again[0][0]) == int(seen[-1][0]) + 1  # continues after what was received

    body = {"model": "debug", "messages": asked(f"stream://{made['id']}?last=30", "What is it?")}
    answer = call(watching, "POST", "/chat/completions", body).json()
    used = answer["receipt"]["videos"][0]
    assert answer["choices"][0]["finish_reason"] and used["frames"] >= 8 and used["duration"] <= 45
    assert used["starts_at"][:10] == segment["start"][:10]
    assert segment["objects"] == {} and used["senses"] == ["objects", "speech"]  # empty pictures

    number, sentence = events(watching, made["id"], "speech")[-1]
    assert segment["start"] <= sentence["end"]
    # Watching may begin in the middle of a sentence, and a stretch may end in one. The source says it again and again.
    for _ in range(4):
        if words(sentence["text"]) == SHORT_TEXT:
            break
        number, sentence = events(watching, made["id"], "speech", **{"Last-Event-ID": number})[-1]
    assert words(sentence["text"]) == SHORT_TEXT and sentence["language"] == "en"

    now = call(watching, "GET", f"/streams/{made['id']}").json()
    assert now["status"] == "connected" and now["counts"]["frames"] >= 8 and now["bytes"] > 0 and now["lag_s"] < 30
    assert metric(watching, "videollm_streams") == 1 and metric(watching, "videollm_stream_bytes") > 0
    assert [s["id"] for s in call(watching, "GET", "/streams").json()["data"]] == [made["id"]]

    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        assert call(watching, method, f"/streams/{made['id']}{path}", key=OTHER).status_code == 404
    refused = call(watching, "POST", "/chat/completions", body, key=OTHER)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "stream_not_found")

    busy = call(watching, "POST", "/streams", {"source": "door"})
    assert (busy.status_code, busy.json()["error"]["code"]) == (429, "too_many_streams")  # half of them is one key's
    assert call(watching, "DELETE", f"/streams/{made['id']}").json()["deleted"]
    assert call(watching, "GET", f"/streams/{made['id']}").status_code == 404
    assert metric(watching, "videollm_streams") == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"source": "http://127.0.0.1:1/live.m3u8"}, "127.0.0.1 is not a public address"),
        ({"source": "http://169.254.169.254/latest"}, "169.254.169.254 is not a public address"),
        ({"source": "rtsp://127.0.0.1/cam"}, "give a camera of this server"),
        ({"source": "/etc/passwd"}, "give a camera of this server"),
        ({"source": "file:///etc/passwd"}, "give a camera of this server"),
        ({"source": "door", "webhook": "http://localhost/hook"}, "localhost is not a public address"),
        ({"source": "door", "fps": 100}, "fps"),
        ({"source": "door", "when": ["x"] * 9}, "when"),
    ],
)
def test_what_a_request_may_not_open(watching: Server, body: dict[str, Any], reason: str):
    refused = call(watching, "POST", "/streams", body)
    assert refused.status_code in (400, 422) and reason in refused.json()["error"]["message"]
    assert metric(watching, "videollm_streams") == 0


def test_a_server_ends_with_its_streams(start: Start, camera: HLSServer):
    server = start("--model", "debug", "--camera", f"door={camera.url}")
    stream = httpx.post(f"{server.url}/v1/streams", json={"source": "door"}, timeout=WAIT_S).json()["id"]
    with httpx.stream("GET", f"{server.url}/v1/streams/{stream}/events", timeout=WAIT_S) as response:
        lines = response.iter_lines()
        next(lines)
        server.process.terminate()
        rest = "\n".join(lines)
    assert '"reason": "it was stopped"' in rest
    assert server.process.wait(timeout=WAIT_S) == 0
