"""What anybody who reaches the server can do to it, without a key: connections, headers, forms of other sites."""

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serve.conftest import SAMPLE, Server, Start


@pytest.fixture(scope="module")
def tight(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server with small limits, and its folder of temporary files."""
    folder = tmp_path_factory.mktemp("temporary")
    limits = ["--connections", "30", "--header-s", "1", "--header-bytes", "5000", "--body-s", "1"]
    files = ["--files", "3", "--files-bytes", "8000000"]
    yield start("--model", "debug", *limits, *files, TMPDIR=str(folder)), folder


def connect(server: Server, data: bytes = b"") -> socket.socket:
    host, _, port = server.url.removeprefix("http://").partition(":")
    made = socket.create_connection((host, int(port)), timeout=20)
    made.sendall(data)
    return made


def ended(connection: socket.socket) -> bytes:
    """Reads until the server closes the connection. Raises TimeoutError after 20 s."""
    data = b""
    try:
        while piece := connection.recv(1 << 16):
            data += piece
    except ConnectionResetError:  # while there was more to send
        pass
    return data


def test_forty_uploads_at_once_stay_within_the_keys_room(tight: tuple[Server, Path]):
    server, folder = tight

    def send(size: int) -> int:
        form = {"files": {"file": ("a.mp4", bytes(size))}, "data": {"purpose": "vision"}}
        return httpx.post(f"{server.url}/v1/files", timeout=100, **form).status_code

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(send, [3_000_000] * 40))
    kept = list(folder.glob("videollm-serve-*/files/*"))
    assert answers.count(200) == len(kept) <= 2 and sum(path.stat().st_size for path in kept) <= 8_000_000
    assert set(answers) <= {200, 413, 429, 503}
    client = server.client()
    for file in client.files.list():
        client.files.delete(file.id)
    assert [send(1000) for _ in range(4)] == [200, 200, 200, 429]
    for file in client.files.list():
        client.files.delete(file.id)


def test_names_that_are_no_text_and_forms_of_other_sites_are_refused(tight: tuple[Server, Path]):
    server, folder = tight
    body = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="\\ud800.mp4"\r\n\r\nabc\r\n--b--\r\n'
    )

    def send(path: str, kind: str, **headers: str) -> httpx.Response:
        kind = f"multipart/form-data; boundary=b{kind}"
        return httpx.post(f"{server.url}{path}", content=body, headers={"Content-Type": kind, **headers})

    assert send("/v1/files", "; charset=raw_unicode_escape").json()["error"]["code"] == "invalid_form"
    assert list(server.client().files.list()) == []
    for path in ("/v1/files", "/v1/audio/transcriptions", "/media"):
        refused = send(path, "", Origin="https://evil.example")
        assert refused.status_code == 403 and refused.json()["error"]["code"] == "wrong_origin"
    assert list(folder.glob("videollm-serve-*/files/*")) == []
    assert send("/v1/files", "", Origin=server.url).status_code == 200


def test_large_and_slow_heads_end_with_their_connection(tight: tuple[Server, Path]):
    server, _ = tight
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    started = time.monotonic()
    assert ended(connect(server)).startswith(b"HTTP/1.1 408")
    assert ended(connect(server, head)).startswith(b"HTTP/1.1 408")
    again = connect(server, head + b"\r\n")
    assert again.recv(1 << 16).startswith(b"HTTP/1.1 200")
    again.sendall(head)  # the second request of a connection
    assert b"HTTP/1.1 408" in ended(again)
    assert time.monotonic() - started < 15
    for large in (head + b"A: " + b"a" * 9000, head + b"A: a\r\n" * 2000 + b"\r\n", b"GET /" + b"a" * 9000):
        assert ended(connect(server, large)).startswith(b"HTTP/1.1 431")
    endless = connect(server, head + b"A: ")
    with pytest.raises(OSError):
        for _ in range(1000):
            endless.sendall(b"a" * (1 << 16))
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_silent_connections_lock_nobody_out(tight: tuple[Server, Path]):
    server, _ = tight
    silent = [connect(server) for _ in range(100)]
    assert httpx.get(f"{server.url}/health").status_code == 200
    assert sum(ended(one).startswith(b"HTTP/1.1 503") for one in silent) >= 70
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_a_body_of_single_bytes_holds_no_place(tight: tuple[Server, Path]):
    server, _ = tight
    head = (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
    )
    slow = connect(server, head + b"\r\n{")
    slow.settimeout(0.1)
    started, answer = time.monotonic(), b""
    while not answer:
        assert time.monotonic() - started < 15
        try:
            answer = slow.recv(1 << 16)
        except TimeoutError:
            slow.sendall(b" ")
    assert answer.startswith(b"HTTP/1.1 408")
    slow.close()


def test_a_killed_server_leaves_uploads_that_the_next_one_deletes(start: Start, tmp_path: Path):
    """In any other way that it ends, its folder ends with it."""
    server = start("--model", "debug", TMPDIR=str(tmp_path))
    server.client().files.create(file=SAMPLE, purpose="vision")
    server.process.kill()
    server.process.wait()
    assert len(list(tmp_path.glob("videollm-serve-*/files/*"))) == 1
    server = start("--model", "debug", TMPDIR=str(tmp_path))
    assert list(tmp_path.glob("videollm-serve-*/files/*")) == []
    server.process.send_signal(signal.SIGHUP)  # as of a terminal that is closed
    server.process.wait(timeout=60)
    assert list(tmp_path.glob("videollm-*")) == []  # Gradio makes a folder of its own
