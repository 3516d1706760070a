"""More requests than the server takes, and clients that go away."""

import json
import socket
import time

import httpx
import pytest

from tests.serve.conftest import Server, Start


@pytest.fixture(scope="module")
def small(start: Start) -> Server:
    return start("--model", "debug", "--waiting", "2", "--body-bytes", "1000000", "--answers", "2000")


def body(**more: object) -> dict:
    return {"model": "debug", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 500, **more}


def busy(server: Server) -> int:
    return httpx.get(f"{server.url}/health").json()["waiting"]


def until_busy(server: Server, count: int) -> None:
    end = time.monotonic() + 120
    while busy(server) != count:
        assert time.monotonic() < end, f"waited 120 s for {count} requests inside"
        time.sleep(0.01)


def send(server: Server, **more: object) -> socket.socket:
    """A request whose answer is not waited for: so many answers that no machine makes them all meanwhile."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    data = json.dumps(body(n=2000, temperature=2, **more)).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    sender = socket.create_connection((host, int(port)))
    sender.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return sender


def test_a_full_queue_turns_away_at_once_and_a_disconnect_stops_the_model(small: Server):
    streaming, whole = send(small, stream=True), send(small)
    until_busy(small, 2)
    assert streaming.recv(1000).startswith(b"HTTP/1.1 200")
    large = body(messages=[{"role": "user", "content": "a" * 900_000}])  # refused without being read
    started = time.monotonic()
    refused = httpx.post(f"{small.url}/v1/chat/completions", json=large)
    assert time.monotonic() - started < 5
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "server_busy"
    assert 1 <= int(refused.headers["retry-after"]) <= 60

    streaming.close()
    whole.close()
    until_busy(small, 0)
    prompts = small.metric('videollm_step_seconds_count{step="generate"}')
    quick = httpx.post(f"{small.url}/v1/chat/completions", json=body(max_tokens=1), timeout=300)
    assert quick.status_code == 200
    # One answer more: both chats stopped within a token.
    assert small.metric('videollm_step_seconds_count{step="generate"}') == prompts + 1
