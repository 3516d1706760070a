"""More requests than the server takes, and clients that go away."""

import json
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.serve.conftest import Server, Start

PASSES, ANSWERS = "videollm_batch_size_count", 'videollm_step_seconds_count{step="generate"}'


@pytest.fixture(scope="module")
def small(start: Start, endless: Path) -> Server:
    return start("--model", str(endless), "--waiting", "2", "--body-bytes", "1000000")


def body(**more: object) -> dict:
    return {"model": "endless", "messages": [{"role": "user", "content": "Hi"}], **more}


def until_active(server: Server, count: int) -> None:
    end = time.monotonic() + 120
    while httpx.get(f"{server.url}/health").json()["waiting"] != count:
        assert time.monotonic() < end, f"waited 120 s for {count} requests in work"
        time.sleep(0.01)


def send(server: Server, **more: object) -> socket.socket:
    """A request whose answer is not waited for."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    data = json.dumps(body(**more)).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    sender = socket.create_connection((host, int(port)))
    sender.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return sender


def test_a_full_queue_turns_away_at_once_and_a_disconnect_stops_the_model(small: Server):
    streaming, whole = send(small, stream=True), send(small)
    until_active(small, 2)
    assert streaming.recv(1000).startswith(b"HTTP/1.1 200")
    large = body(messages=[{"role": "user", "content": "a" * 900_000}])  # refused without being read
    started = time.monotonic()
    refused = httpx.post(f"{small.url}/v1/chat/completions", json=large)
    assert time.monotonic() - started < 5
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "server_busy"
    assert 1 <= int(refused.headers["retry-after"]) <= 60

    streaming.close()
    whole.close()
    until_active(small, 0)
    passes = small.metric(PASSES)
    assert passes > 0 == small.metric(ANSWERS)  # neither answer came to its end
    quick = httpx.post(f"{small.url}/v1/chat/completions", json=body(max_tokens=3), timeout=300)
    assert quick.json()["usage"]["completion_tokens"] == 3
    assert (small.metric(PASSES), small.metric(ANSWERS)) == (passes + 3, 1)  # nothing else has run meanwhile


def test_one_who_leaves_makes_room_for_the_next(small: Server):
    """Again and again: nothing that a request holds stays behind."""
    for _ in range(20):
        senders = [send(small, stream=number == 1) for number in range(2)]
        until_active(small, 2)
        for sender in senders:
            sender.close()
        until_active(small, 0)
    assert small.metric('videollm_answers{state="running"}') == 0 == small.metric('videollm_answers{state="waiting"}')
    assert httpx.post(f"{small.url}/v1/chat/completions", json=body(max_tokens=1)).status_code == 200
