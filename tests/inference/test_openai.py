"""The client of OpenAI-compatible servers against real servers that are busy, broken, strict or away."""

import asyncio
import itertools
import socket
import threading
import time
from typing import Any

import pytest

from tests.inference.chat_server import Answer, chat_server
from videollm.inference.openai import RETRIES, ChatClient, Completion, EndpointError, RefusedError

SCHEMA = {"type": "object", "properties": {"score": {"type": "number"}}, "required": ["score"]}
SOON = {"Retry-After": "0.001"}  # the waits of the openai package are seconds otherwise


def ask(url: str, times: int = 1, **options: Any) -> list[Completion]:
    """Completions of requests at the same time."""

    async def run() -> list[Completion]:
        async with ChatClient(url, "m", **options) as client:
            asked = (
                client.complete([{"role": "user", "content": "Hi"}], SCHEMA, seed=n, temperature=0, max_tokens=9)
                for n in range(times)
            )
            return await asyncio.gather(*asked)

    return asyncio.run(run())


def test_a_request_says_what_is_asked_and_a_completion_what_it_cost():
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> Answer:
        bodies.append(body)
        return 200, "{}", {}

    with chat_server(answer) as url:
        assert ask(url) == [Completion("{}", 10, 5)]
        assert ask(url + "/") == [Completion("{}", 10, 5)]
    (body, _) = bodies
    assert (body["model"], body["seed"], body["temperature"], body["max_tokens"]) == ("m", 0, 0, 9)
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    schema = body["response_format"]["json_schema"]
    assert schema["schema"] == SCHEMA and schema["strict"] is True


@pytest.mark.parametrize(("key", "header"), [("secret", "Bearer secret"), (None, None)])
def test_the_key_is_sent_if_there_is_one(key: str | None, header: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")  # the caller decides, not the package
    headers: list[dict[str, str]] = []
    with chat_server(lambda body: (200, "{}", {}), headers) as url:
        ask(url, key=key)
    assert headers[0].get("authorization") == header


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_busy_server_is_asked_again_after_the_time_it_names(status: int):
    answers = iter([(status, "busy", SOON), (status, "busy", SOON), (200, "{}", {})])
    started = time.perf_counter()
    with chat_server(lambda body: next(answers)) as url:
        assert ask(url)[0].text == "{}"
    # Without the header the package would wait for more than a second: 0.5 s, then 1 s, less a quarter at most.
    assert time.perf_counter() - started < 1


def test_a_server_that_stays_busy_is_given_up_after_all_tries():
    count = itertools.count()

    def answer(body: dict[str, Any]) -> Answer:
        next(count)
        return 503, "overloaded", SOON

    with chat_server(answer) as url, pytest.raises(EndpointError, match=r"answers 503: .*overloaded"):
        ask(url)
    assert next(count) == RETRIES + 1


def test_a_reply_that_is_cut_off_is_asked_for_again(fast_retries: None):
    answers = iter([(200, "{}", {"Content-Length": "5000"}), (200, "whole", {})])
    with chat_server(lambda body: next(answers)) as url:
        assert ask(url)[0].text == "whole"


def test_a_server_that_is_too_slow_is_asked_again(fast_retries: None):
    free, count = threading.Event(), itertools.count()

    def answer(body: dict[str, Any]) -> Answer:
        if next(count) == 0:
            free.wait(30)
        return 200, "{}", {}

    with chat_server(answer) as url:
        assert ask(url, timeout_s=0.3)[0].text == "{}"
        free.set()


def test_a_server_that_is_away_is_named(fast_retries: None):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        said = rf"{url}/chat/completions gave no answer in 6 tries \(ConnectError .*\); check that"
        with pytest.raises(EndpointError, match=said):
            ask(url)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_is_not_tried_again(status: int):
    count = itertools.count()

    def answer(body: dict[str, Any]) -> Answer:
        next(count)
        return status, "not for you", {}

    with chat_server(answer) as url, pytest.raises(EndpointError, match=f"answers {status}: .*not for you"):
        ask(url)
    assert next(count) == 1


def test_a_server_without_schemas_is_asked_with_less_from_then_on():
    formats: list[str | None] = []

    def answer(body: dict[str, Any]) -> Answer:
        formats.append(body.get("response_format", {}).get("type"))
        return (400, "unknown response_format", {}) if formats[-1] else (200, "{}", {})

    async def run(url: str) -> None:
        async with ChatClient(url, "m") as client:
            for _ in range(2):
                await client.complete([], SCHEMA, seed=0, temperature=0, max_tokens=9)

    with chat_server(answer) as url:
        asyncio.run(run(url))
    assert formats == ["json_schema", "json_object", None, None]


def test_a_request_that_a_good_server_rejects_is_the_only_one_lost():
    async def run(url: str) -> None:
        async with ChatClient(url, "m") as client:
            await client.complete([], SCHEMA, seed=0, temperature=0, max_tokens=9)
            with pytest.raises(RefusedError, match=r"answers 400: .*too long"):
                await client.complete([], SCHEMA, seed=1, temperature=0, max_tokens=9)
            assert (await client.complete([], SCHEMA, seed=2, temperature=0, max_tokens=9)).text == "{}"

    with chat_server(lambda body: (400, "too long", {}) if body["seed"] == 1 else (200, "{}", {})) as url:
        asyncio.run(run(url))


def test_a_server_that_rejects_everything_cannot_be_used():
    with chat_server(lambda body: (400, "no", {})) as url, pytest.raises(EndpointError, match="answers 400"):
        ask(url, times=3)


def test_a_page_that_is_no_api_is_told():
    with (
        chat_server(lambda body: (200, "", {"Content-Type": "text/html", "Content-Length": "3"})) as url,
        pytest.raises(EndpointError, match="gave no chat completion"),
    ):
        ask(url)


def test_requests_keep_to_the_rate_and_to_the_number_in_flight():
    flying, most, lock = 0, 0, threading.Lock()
    starts: list[float] = []

    def answer(body: dict[str, Any]) -> Answer:
        nonlocal flying, most
        with lock:
            starts.append(time.perf_counter())
            flying += 1
            most = max(most, flying)
        time.sleep(0.02)  # the work of a server, so that requests overlap
        with lock:
            flying -= 1
        return 200, "{}", {}

    with chat_server(answer) as url:
        ask(url, times=12, concurrency=3)
        assert 1 < most <= 3
        starts.clear()
        ask(url, times=5, rate=20)
    assert max(starts) - min(starts) >= 4 / 20 - 0.03  # the first one leaves at once


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of the package after a broken connection, which no header can shorten."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
