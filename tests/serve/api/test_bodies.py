"""JSON bodies that cost a server much more than they cost their sender."""

import json
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from serve.api.bodies import json_bytes, parse_body
from serve.api.errors import APIError
from serve.api.schemas.base import RequestModel
from serve.api.schemas.chat import ChatRequest
from serve.api.schemas.embeddings import EmbeddingsRequest
from serve.api.schemas.responses import ResponsesRequest
from tests.serve.conftest import Server

MANY = 100_000
HI = {"model": "debug", "messages": [{"role": "user", "content": "Hi"}]}
WRONG_ENTRIES = {str(number): number for number in range(MANY)}


def refusal(model: type[RequestModel], body: Any, max_bytes: int = 1 << 30) -> APIError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(APIError) as refused:
        parse_body(model, data, max_bytes)
    return refused.value


@pytest.mark.parametrize(
    ("model", "body", "param"),
    [
        (EmbeddingsRequest, {"model": "debug", "input": [None] * MANY}, "input.0"),
        (EmbeddingsRequest, {"model": "debug", "input": [0] * MANY}, "input"),
        (EmbeddingsRequest, {"model": "debug", "input": [{"type": "text"}] * MANY}, "input.0.text"),
        (EmbeddingsRequest, {"model": "debug", "input": ["a"] * MANY}, "input"),
        (EmbeddingsRequest, {"model": "debug", "input": "a", "wrong": [0] * MANY}, "wrong"),
        (ChatRequest, {**HI, "messages": [0] * MANY}, "messages.0"),
        (ChatRequest, {**HI, "stop": [0] * MANY}, "stop.0"),
        (ChatRequest, {"model": "debug", "messages": [{**HI["messages"][0], **WRONG_ENTRIES}]}, "messages.0.0"),
        (ResponsesRequest, {"model": "debug", "input": "a", "metadata": WRONG_ENTRIES}, "metadata"),
    ],
)
def test_checks_end_at_the_first_error(model: type[RequestModel], body: dict, param: str):
    """A million wrong items took 2.6 GiB: an error was made of each, several times."""
    data = json.dumps(body).encode()
    tracemalloc.start()
    try:
        refused = refusal(model, data)
        assert tracemalloc.get_traced_memory()[1] < 40 * len(data)
    finally:
        tracemalloc.stop()
    assert refused.status == 400 and refused.param == param


@pytest.mark.parametrize(
    "text",
    ["[" * MANY, "9" * MANY, "NaN", '"\\ud83d"', ""],
    ids=["deep", "long number", "not a number", "half of a character", "missing"],
)
def test_what_is_no_json_is_said_to_be_none(text: str):
    assert refusal(ChatRequest, f'{{"model": "debug", "seed": {text}}}'.encode()).code == "invalid_json"


def test_only_data_urls_may_be_large():
    media = '"data:video/mp4;base64,' + "A" * MANY + '"'
    assert json_bytes(f'{{"url": {media}, "text": "abc"}}'.encode()) == len('{"url": ", "text": "abc"}')
    assert json_bytes(b'["data:' + b"A" * MANY) == 1  # no end
    assert json_bytes(json.dumps(['a "data: b', 1, 2]).encode()) == len('["a \\", 1, 2]')
    refused = refusal(ChatRequest, {**HI, "model": "x" * MANY}, 1000)
    assert refused.status == 413 and refused.code == "request_too_large"


def test_messages_repeat_little_of_a_request():
    refused = refusal(ChatRequest, {"x" * MANY: 1})
    assert len(str(refused)) < 200 and len(refused.param or "") < 200


def test_a_wrong_body_holds_nobody_up(server: Server):
    """The largest that is read: a mebibyte of wrong items."""
    body = json.dumps({"model": "debug", "input": [0] * 340_000})
    headers = {"Content-Type": "application/json"}

    def send(_: int) -> int:
        return httpx.post(f"{server.url}/v1/embeddings", content=body, headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(8) as clients:
        sent = [clients.submit(send, number) for number in range(24)]
        slowest = 0.0
        while not all(one.done() for one in sent):
            started = time.perf_counter()
            assert httpx.get(f"{server.url}/health", timeout=60).status_code == 200
            slowest = max(slowest, time.perf_counter() - started)
    assert {one.result() for one in sent} == {400} and slowest < 5
    large = httpx.post(f"{server.url}/v1/embeddings", content=body.replace("0", "000"), headers=headers, timeout=60)
    assert large.status_code == 413 and large.json()["error"]["code"] == "request_too_large"
