"""Work that nobody waits for any more ends, and ends before its place is given away."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from serve.runtime.executor import ExecutorEngine, ModelExecutor, StoppedError, run_in_new_thread
from tests.serve.conftest import Server, Start
from videollm.inference.engine import PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.models.processor import Prompt


class Endless:
    """An engine whose answers do not end by themselves."""

    def __init__(self) -> None:
        self.made, self.begun = 0, Event()

    def stream(self, prompt: Any, cache: Any, generation: Any) -> Iterator[int]:
        while True:
            self.made += 1
            self.begun.set()
            yield self.made


def test_a_caption_ends_when_its_client_has_gone():
    executor, endless = ModelExecutor(), Endless()
    engine = ExecutorEngine(endless, executor)  # type: ignore[arg-type]
    ended: list[str] = []

    def caption() -> None:
        try:
            for _ in engine.stream(Prompt([], []), PromptCache(), GenerationConfig()):
                pass
        except StoppedError:
            ended.append("caption")
            raise

    async def scenario() -> None:
        asking = asyncio.create_task(run_in_new_thread(caption, stop=engine.stopped.set))
        await asyncio.to_thread(endless.begun.wait)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        ended.append("task")  # so that its place is free only now

    asyncio.run(scenario())
    assert ended == ["caption", "task"]
    with pytest.raises(StoppedError):
        next(engine.stream(Prompt([], []), PromptCache(), GenerationConfig()))
    executor.close()


def test_a_long_text_ends_with_the_part_in_work():
    executor, parts, begun, go_on = ModelExecutor(), [], Event(), Event()

    def work() -> Iterator[int]:
        for number in range(1000):
            parts.append(number)
            begun.set()
            go_on.wait()
            yield number

    async def consume() -> None:
        async for _ in executor.run_parts(work()):
            pass

    async def scenario() -> None:
        asking = asyncio.create_task(consume())
        await asyncio.to_thread(begun.wait)
        asking.cancel()
        other = asyncio.create_task(executor.run(len, "next"))
        await asyncio.sleep(0)
        assert not asking.done() and not other.done()  # the part is in work, and is waited for
        go_on.set()
        assert await other == 4
        await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(scenario())
    assert parts == [0]
    executor.close()


def test_closing_does_not_wait_for_ever():
    executor, go_on = ModelExecutor(), Event()

    async def scenario() -> None:
        asyncio.get_running_loop().call_later(1, go_on.set)
        job = asyncio.create_task(executor.run(go_on.wait))
        await asyncio.sleep(0)
        assert not await asyncio.to_thread(executor.close, 0.05)
        await job
        assert await asyncio.to_thread(executor.close, 5)

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def patient(start: Start) -> Server:
    """A server that reads texts of any length."""
    long = ["--text", "4000000", "--json-bytes", "8000000", "--drain-s", "1"]
    return start("--model", "debug", *long).ready()


def send(server: Server, path: str, body: dict) -> socket.socket:
    """Sends a request without waiting for its answer."""
    data, address = json.dumps(body).encode(), urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port))
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    connection.sendall(head.encode() + b"\r\n\r\n" + data)
    return connection


def active(server: Server) -> int:
    return httpx.get(f"{server.url}/health", timeout=60).json()["waiting"]


def until_active(server: Server, count: int) -> None:
    end = time.monotonic() + 120
    while active(server) != count:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_others_are_answered_during_a_long_text_and_after_its_client_has_gone(patient: Server):
    connection = send(patient, "/v1/embeddings", {"model": "debug", "input": "word " * 200_000})
    until_active(patient, 1)
    ask = {"model": "debug", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    started = time.monotonic()
    assert httpx.post(f"{patient.url}/v1/chat/completions", json=ask, timeout=120).status_code == 200
    assert active(patient) == 1 and time.monotonic() - started < 30  # the text takes a minute and more
    connection.close()
    until_active(patient, 0)
    assert time.monotonic() - started < 60


def test_told_to_stop_it_ends_although_a_text_is_being_read(patient: Server):
    connection = send(patient, "/v1/embeddings", {"model": "debug", "input": "word " * 600_000})
    until_active(patient, 1)
    started = time.monotonic()
    assert patient.stop() == 0 and time.monotonic() - started < 60
    connection.close()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("embeddings", {"model": "debug", "input": "a" * 140_000}),
        ("embeddings", {"model": "debug", "input": ["a" * 70_000] * 2}),
        ("chat/completions", {"model": "debug", "messages": [{"role": "user", "content": "a" * 140_000}]}),
        ("responses", {"model": "debug", "input": "a" * 140_000}),
    ],
)
def test_text_has_a_limit(server: Server, path: str, body: dict):
    refused = httpx.post(f"{server.url}/v1/{path}", json=body, timeout=60)
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "text_too_long"
