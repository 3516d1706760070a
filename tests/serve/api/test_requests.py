"""What clients of OpenAI's API send beyond a question: what is accepted, and how a refusal names what is wrong."""

import base64
from typing import Any

import httpx
import pytest

from serve.api.bodies import parse_body
from serve.api.errors import APIError
from serve.api.schemas.chat import ChatRequest
from serve.api.schemas.responses import ResponsesRequest
from serve.runtime.conversation import read_conversation
from tests.serve.conftest import SAMPLE, Server
from tests.serve.recorded import assert_answered, recorded_requests
from videollm.models.language import debug_tokenizer
from videollm.models.processor import Message
from videollm.models.tokenizer import token_bytes

HI = [{"role": "user", "content": "Hi"}]
CALLER = {
    "user": "somebody",
    "safety_identifier": "a1",
    "metadata": {"chat": "7"},
    "service_tier": "auto",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
}
HARMLESS = {
    **CALLER,
    "store": True,
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning_effort": "low",
    "modalities": ["text"],
    "verbosity": "low",
    "logit_bias": {},
    "frequency_penalty": 0,
    "response_format": {"type": "text"},
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
}


def parsed(body: dict[str, Any], model: Any = ChatRequest) -> Any:
    return parse_body(model, httpx.Request("POST", "http://a", json=body).content, 1 << 20)


def refusal(body: dict[str, Any], model: Any = ChatRequest) -> APIError:
    with pytest.raises(APIError) as refused:
        parsed(body, model)
    return refused.value


def test_fields_that_change_no_answer_are_accepted(server: Server):
    body = {"model": "debug", "messages": HI, "max_tokens": 2} | HARMLESS | {"stream": False, "stream_options": None}
    assert httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=300).status_code == 200
    body = CALLER | {
        "model": "debug",
        "input": "Hi",
        "max_output_tokens": 2,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
        "tools": [],
        "tool_choice": "none",
        "truncation": "auto",
        "background": False,
        "top_logprobs": 0,
    }
    made = httpx.post(f"{server.url}/v1/responses", json=body, timeout=300)
    assert made.status_code == 200 and made.json()["text"]["format"] == {"type": "text"}


def test_recorded_requests_of_other_clients_are_answered(server: Server, clip: str):
    """See `recorded_requests`. Requests with functions are sent by test_tools.py."""
    for one in recorded_requests(clip):
        if not one["body"].get("tools"):
            assert_answered(server, "debug", one)


def test_messages_of_all_roles_become_a_conversation():
    sent = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}],
            "name": "A",
        },
        {"role": "developer", "content": "Be kind."},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
            "tool_calls": [],
        },
        {"role": "tool", "content": "21 degrees", "tool_call_id": "call_1"},
        {"role": "user", "content": "So?"},
    ]
    made = read_conversation(parsed({"model": "debug", "messages": sent}).messages)
    assert made.messages == [
        Message("system", "Be brief.\n\nBe kind."),
        Message("user", "Hi"),
        Message("assistant", ""),
        Message("user", "21 degrees\nSo?"),
    ]


def test_files_and_pictures_in_the_forms_of_openai(server: Server):
    data = base64.b64encode(SAMPLE.read_bytes()).decode()
    wrapped = "\n".join(data[at : at + 76] for at in range(0, len(data), 76)) + "\n"  # as the command base64 writes it
    unpadded = f"data:application/mp4;base64,{data.rstrip('=')}"
    parts = [
        {"type": "file", "file": {"file_data": f"data:video/mp4;base64,{data}", "filename": "a.mp4"}},
        {"type": "video_url", "video_url": {"url": f"data:VIDEO/MP4;BASE64, {wrapped}"}},
        {
            "type": "image_url",
            "image_url": {"url": unpadded, "detail": "high"},
        },
        {"type": "text", "text": "What is it?"},
    ]
    body = {"model": "debug", "messages": [{"role": "user", "content": parts}], "max_tokens": 1}
    made = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=300).json()
    assert [video["frames"] for video in made["receipt"]["videos"]] == [24, 24, 1]


@pytest.mark.parametrize(
    ("part", "field", "message"),
    [
        (
            {"type": "image_url", "image_url": {"url": "a", "detail": "huge"}},
            "image_url.detail",
            "'low', 'auto' or 'high'",
        ),
        ({"type": "image_url", "image_url": {"url": 1}}, "image_url.url", "valid string"),
        ({"type": "image_url"}, "image_url", "Field required"),
        ({"type": "input_audio", "input_audio": {}}, "type", "'input_audio' is not one of 'text', 'video_url'"),
        ({"text": "Hi"}, "type", "missing"),
        ({"type": "text", "text": "a", "colour": 1}, "colour", "unsupported parameter"),
        ({"type": "file", "file": {"file_data": "AAAA"}}, "file.file_data", "\\^data:"),
        ({"type": "file", "file": {"filename": "a"}}, "file", "give either file_id or file_data"),
        (7, "", "dictionary"),
    ],
)
def test_a_refusal_names_the_field_inside_a_list(part: Any, field: str, message: str):
    sent = [{"role": "user", "content": [{"type": "text", "text": "Hi"}, part]}]
    refused = refusal({"model": "debug", "messages": sent})
    assert refused.param == f"messages.0.content.1.{field}".rstrip(".") and refused.param in str(refused)
    with pytest.raises(APIError, match=message):
        raise refused


def test_a_refusal_names_the_field_of_other_requests():
    assert refusal({"model": "debug", "messages": [{"role": "user"}]}).param == "messages.0"
    assert refusal({"model": "debug", "messages": HI, "stop": ["a", 1]}).param == "stop.1"
    assert refusal({"model": "debug", "messages": HI, "modalities": ["audio"]}).param == "modalities.0"
    tools = [{"type": "function", "function": {"name": "f", "parameters": []}}]
    assert refusal({"model": "debug", "messages": HI, "tools": tools}).param == "tools.0.function.parameters"
    part = {"type": "input_image", "image_url": "a", "detail": "x"}
    sent = [{"role": "user", "content": [part]}]
    assert refusal({"model": "debug", "input": sent}, ResponsesRequest).param == "input.0.content.0.detail"


def test_head_is_answered_as_get_without_a_body(server: Server):
    for path in ("/health", "/ready", "/v1/models", "/metrics"):
        answer = httpx.head(f"{server.url}{path}")
        assert answer.status_code == 200 and answer.content == b"" and answer.headers["content-type"]
    assert httpx.head(f"{server.url}/v1/nothing").status_code == 404


def test_bias_and_penalties_change_answers(server: Server):
    def answer(**more: Any) -> str:
        body = {"model": "debug", "messages": HI, "max_tokens": 12, "temperature": 2, "seed": 1} | more
        made = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=300)
        return made.json()["choices"][0]["message"]["content"]

    a = debug_tokenizer()("a")["input_ids"][0]
    assert answer(logit_bias={str(a): 100}) == "a" * 12
    plain = answer(temperature=0, logit_bias={str(a): 9})
    varied = answer(temperature=0, logit_bias={str(a): 9}, frequency_penalty=2, presence_penalty=2)
    assert plain == "a" * 12 and 0 < varied.count("a") < 12


def test_bytes_of_tokens_are_those_of_parts_of_characters(server: Server):
    body = {"model": "debug", "messages": HI, "temperature": 2, "seed": 3, "logprobs": True, "max_tokens": 40}
    made = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=300).json()["choices"][0]
    tokens = made["logprobs"]["content"]
    assert any("\ufffd" in token["token"] for token in tokens)
    assert all(len(token["bytes"]) == 1 for token in tokens)  # the debug tokenizer has one token a byte
    text = b"".join(bytes(token["bytes"]) for token in tokens).decode(errors="replace").strip()
    assert text == made["message"]["content"]
    tokenizer = debug_tokenizer()
    ids = tokenizer("é\U0001f600")["input_ids"]
    assert b"".join(token_bytes(tokenizer, token) for token in ids).decode() == "é\U0001f600"
