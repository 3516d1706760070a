"""A server with keys and tight limits, and what happens when clients or the server itself go away."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import httpx
import openai
import psutil
import pytest

from serve.command import main
from tests.serve.conftest import SAMPLE, Server, Start, asked, data_url

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"


@pytest.fixture(scope="module")
def guarded(start: Start) -> Server:
    arguments = ["--model", "debug", "--waiting", "2", "--body-bytes", "1000000", "--media-bytes", "2000000"]
    root = ["--media-root", str(SAMPLE.parent), "--api-key", FIRST]
    return start(*arguments, *root, interpreter=sys.executable, VIDEOLLM_API_KEYS=f"{SECOND},").ready()


def headers(key: str = FIRST) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def long_chat(**more: object) -> dict:
    """A request that keeps the model busy for as long as its context lasts."""
    return {"model": "debug", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1900, **more}


def busy(server: Server) -> int:
    return httpx.get(f"{server.url}/health").json()["waiting"]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "waited for 120 s"
        time.sleep(0.01)


def test_only_keys_get_in_and_files_stay_with_their_key(guarded: Server):
    with pytest.raises(openai.AuthenticationError) as refused:
        guarded.client("wrong-key-0123456789").models.list()
    assert refused.value.code == "invalid_api_key"
    assert httpx.get(f"{guarded.url}/metrics").status_code == 401
    assert httpx.get(f"{guarded.url}/ready").status_code == 200
    first, second = guarded.client(FIRST), guarded.client(SECOND)
    uploaded = first.files.create(file=SAMPLE, purpose="vision")
    assert list(second.files.list()) == []
    with pytest.raises(openai.NotFoundError):
        second.files.retrieve(uploaded.id)
    with pytest.raises(openai.NotFoundError):
        second.chat.completions.create(model="debug", messages=asked(uploaded.id))
    for key, text in ((first, "decode"), (second, "decode")):  # nor does one key's work show to another
        made = key.chat.completions.create(model="debug", messages=asked(SAMPLE.as_uri()), max_tokens=1)
        assert made.receipt["ms"][text] > 0


def test_large_requests_are_refused_before_they_are_read(guarded: Server):
    with pytest.raises(openai.APIStatusError) as refused:
        guarded.client(FIRST).chat.completions.create(model="debug", messages=asked(data_url(b"a" * 1_500_000)))
    assert refused.value.status_code == 413 and refused.value.code == "request_too_large"
    with pytest.raises(openai.APIStatusError) as refused:
        guarded.client(FIRST).files.create(file=b"a" * 3_000_000, purpose="vision")
    assert refused.value.status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(30):
            yield b"a" * 100_000

    unsaid = httpx.post(
        f"{guarded.url}/v1/chat/completions", content=pieces(), headers=headers() | {"Content-Type": "application/json"}
    )
    assert unsaid.status_code == 413 and unsaid.json()["error"]["code"] == "request_too_large"


def test_other_names_for_loopback_and_forms_of_other_sites_are_refused(guarded: Server):
    rebound = httpx.get(f"{guarded.url}/v1/models", headers=headers() | {"Host": "evil.example"})
    assert rebound.status_code == 421 and rebound.json()["error"]["code"] == "wrong_host"
    form = httpx.post(
        f"{guarded.url}/v1/chat/completions",
        content=json.dumps(long_chat()),
        headers=headers() | {"Content-Type": "text/plain"},
    )
    assert form.status_code == 400
    preflight = httpx.options(
        f"{guarded.url}/v1/models",
        headers=headers() | {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"},
    )
    assert "access-control-allow-origin" not in preflight.headers


def test_a_killed_decoder_is_reported_and_replaced(guarded: Server):
    children = psutil.Process(guarded.process.pid).children()
    (decoder,) = [child for child in children if "serve.runtime.decoding_process" in child.cmdline()]
    assert SECOND in str(psutil.Process(guarded.process.pid).environ()) and SECOND not in str(decoder.environ())
    decoder.kill()
    until(lambda: httpx.get(f"{guarded.url}/health").json()["decoder"] == "down")
    assert httpx.get(f"{guarded.url}/ready").status_code == 503
    guarded.ready()  # by itself, since a load balancer sends no requests meanwhile
    made = guarded.client(SECOND).chat.completions.create(
        model="debug", messages=asked(SAMPLE.as_uri()), max_tokens=1, extra_body={"video": {"frames": 3}}
    )
    assert made.receipt["videos"][0]["frames"] == 3
    assert "videollm_decoder_restarts 1.0" in httpx.get(f"{guarded.url}/metrics", headers=headers()).text


def test_told_to_stop_it_finishes_what_it_has_begun(guarded: Server):
    answers: list[httpx.Response] = []

    def ask() -> None:
        body = long_chat(max_tokens=300, temperature=2, seed=1, n=8)
        answers.append(httpx.post(f"{guarded.url}/v1/chat/completions", json=body, headers=headers(), timeout=300))

    asking = Thread(target=ask)
    asking.start()
    until(lambda: busy(guarded) == 1)
    started = psutil.Process(guarded.process.pid).children()
    sockets = [Path(part) for p in started for part in p.cmdline() if part.endswith("decoding.sock")]
    assert guarded.stop() == 0
    asking.join()
    assert answers[0].status_code == 200 and answers[0].json()["usage"]["completion_tokens"] > 0
    assert sockets and not any(path.parent.exists() for path in sockets)  # nothing is left on disk


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "0.0.0.0"], "give --api-key"),
        (["--port", "70000"], "port is 70000"),
        (["--model", "none"], "'none' is neither"),
        (["--model", "debug", "--index", "none"], "none"),
    ],
)
def test_bad_options_are_one_line(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("videollm serve: ") and reason in said and said.count("\n") == 1


def test_the_command_starts_the_server_and_gives_its_exit_code():
    command = [sys.executable, "-m", "videollm.cli", "serve", "--port", "70000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "port is 70000" in done.stderr and done.stderr.count("\n") == 1
