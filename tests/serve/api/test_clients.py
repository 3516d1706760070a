"""The default model behind the server, other clients than OpenAI's own, and requests that a machine thought up."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.serve.conftest import SAMPLE, Server, Start, asked
from videollm.retrieval.index import Index


@pytest.fixture(scope="module")
def lite(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Server:
    index = tmp_path_factory.mktemp("index") / "videos"
    Index.create(index).update([str(SAMPLE)])
    return start("--index", str(index), "--media-root", str(SAMPLE.parent)).ready()


def test_the_default_model_answers_rightly_and_remembers(lite: Server):
    client, messages = lite.client(), asked(SAMPLE.as_uri(), "What is in this video?")
    first = client.chat.completions.create(model="lite", messages=messages)
    assert first.choices[0].message.content == "A cat, then an espresso, then a rocket. 1 cup is seen."
    assert first.choices[0].finish_reason == "stop"
    messages += [first.choices[0].message, {"role": "user", "content": "What comes first?"}]
    second = client.chat.completions.create(model="lite", messages=messages)
    assert "cat" in second.choices[0].message.content.lower()
    assert second.usage.prompt_tokens_details.cached_tokens > 0.7 * second.usage.prompt_tokens
    assert second.receipt["ms"]["first_token"] < first.receipt["ms"]["first_token"] + first.receipt["ms"]["decode"]


def test_the_senses_look_at_the_videos_of_requests(lite: Server):
    client = lite.client()

    def answer(question: str) -> str:
        made = client.chat.completions.create(model="lite", messages=asked(SAMPLE.as_uri(), question))
        return made.choices[0].message.content

    assert answer("Is there a person?") == "Nobody was seen."
    assert answer("What is said?") == "The video has no sound."


def test_search_finds_the_moment_and_names_the_file_as_requests_may(lite: Server):
    found = httpx.post(f"{lite.url}/v1/videos/search", json={"query": "a cat", "limit": 2}, timeout=300).json()["data"]
    assert found[0]["video"] == SAMPLE.as_uri() and found[0]["start"] == 0 and len(found) == 2
    like = {"type": "video_url", "video_url": {"url": found[0]["video"]}}
    body = {"like": like, "options": {"start": 8.5}, "limit": 1}
    (moment,) = httpx.post(f"{lite.url}/v1/videos/search", json=body, timeout=300).json()["data"]
    assert moment["start"] >= 7.5


def test_langchain(server: Server, clip: str):
    chat = ChatOpenAI(
        base_url=f"{server.url}/v1", api_key=SecretStr("none"), model="debug", temperature=2, seed=5, max_retries=0
    )
    message = HumanMessage(asked(clip)[0]["content"])
    whole = chat.invoke([message])
    assert whole.content and whole.response_metadata["finish_reason"] == "length"
    assert "".join(str(chunk.content) for chunk in chat.stream([message])) == whole.content


def test_curl_uploads_and_streams(server: Server):
    def curl(path: str, *arguments: str) -> str:
        command = ["curl", "-sSfN", f"{server.url}/v1/{path}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    file = json.loads(curl("files", "-F", "purpose=user_data", "-F", f"file=@{SAMPLE}"))["id"]
    content = [{"type": "file", "file": {"file_id": file}}, {"type": "text", "text": "What comes first?"}]
    body = {"model": "debug", "messages": [{"role": "user", "content": content}], "stream": True, "max_tokens": 9}
    said = curl("chat/completions", "-H", "Content-Type: application/json", "-d", json.dumps(body))
    *chunks, done = [line.removeprefix("data: ") for line in said.split("\n\n") if line]
    assert done == "[DONE]"
    last = json.loads(chunks[-1])
    assert last["choices"][0]["finish_reason"] == "length" and last["receipt"]["completion_tokens"] == 9
    assert last["receipt"]["videos"][0]["source"] == file and last["choices"][0]["evidence"]


def test_no_request_that_fits_the_document_breaks_the_server(server: Server, tmp_path: Path):
    command = [
        "run",
        f"{server.url}/openapi.json",
        "--checks",
        "not_a_server_error",
        "--max-examples",
        "8",
        "--seed",
        "1",
    ]
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert httpx.get(f"{server.url}/ready").status_code == 200
