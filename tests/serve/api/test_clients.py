"""The default model behind the server, other clients than OpenAI's own, and requests that a machine thought up."""

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import av
import httpx
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.serve.conftest import SAMPLE, Server, Start, asked, data_url
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
    assert "cup" in {found["text"] for evidence in first.choices[0].evidence for found in evidence["findings"]}
    assert first.receipt["videos"][0]["senses"] == ["speech", "objects"] and first.receipt["ms"]["objects"] > 0
    messages += [first.choices[0].message, {"role": "user", "content": "What comes first?"}]
    second = client.chat.completions.create(model="lite", messages=messages)
    assert second.choices[0].message.content == "A cat." and second.usage.completion_tokens == 0
    messages += [second.choices[0].message, {"role": "user", "content": "And then?"}]
    third = client.chat.completions.create(model="lite", messages=messages)
    assert third.usage.completion_tokens > 0
    assert third.usage.prompt_tokens_details.cached_tokens > 0.7 * third.usage.prompt_tokens
    assert third.receipt["ms"]["first_token"] < first.receipt["ms"]["first_token"] + first.receipt["ms"]["decode"]


def test_the_senses_look_at_the_videos_of_requests(lite: Server):
    client = lite.client()

    def answer(question: str) -> str:
        made = client.chat.completions.create(model="lite", messages=asked(SAMPLE.as_uri(), question))
        return made.choices[0].message.content

    assert answer("Is there a person?") == "Nobody was seen."
    assert answer("What is said?") == "The video has no sound."


def test_several_videos_and_pictures_are_each_looked_at(lite: Server, tmp_path: Path):
    """The sample is cut in two: a cat comes first, a rocket last."""
    parts = []
    for number, (start, end) in enumerate([(0, 4), (8.5, 12)]):
        path = tmp_path / f"{number}.mp4"
        cut = ["-ss", str(start), "-to", str(end), "-i", str(SAMPLE), str(path)]
        subprocess.run([get_ffmpeg_exe(), "-v", "error", *cut], check=True)
        parts.append({"type": "video_url", "video_url": {"url": data_url(path.read_bytes())}})
    client = lite.client()

    def answer(*messages: dict) -> str:
        made = client.chat.completions.create(model="lite", messages=messages)
        return made.choices[0].message.content

    def user(*content: object) -> dict:
        return {"role": "user", "content": [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]}

    which = answer(user(*parts, "Which of the two shows a cat?"))
    assert which.startswith("First video: Yes.") and "Second video: Yes." not in which
    turns = user(parts[0], "What is in this video?"), {"role": "assistant", "content": "A cat."}
    assert "rocket" in answer(*turns, user(parts[1], "What is in this video?")).lower()
    image = {"type": "image_url", "image_url": {"url": data_url(first_frame(), "image/png")}}
    assert answer(user(image, "What is said?")) == "The picture has no sound."
    assert answer(user(image, "Why?")) and "video" not in answer(user(image, "How many spoons are there?"))


def first_frame() -> bytes:
    file = BytesIO()
    with av.open(SAMPLE) as container:
        next(container.decode(video=0)).to_image().save(file, "PNG")
    return file.getvalue()


def test_a_conversation_does_not_end_at_the_context(lite: Server):
    messages = asked(SAMPLE.as_uri(), "What is in this video?")
    for _ in range(120):
        messages += [{"role": "assistant", "content": "A cat."}, {"role": "user", "content": "What comes first?"}]
    made = lite.client().chat.completions.create(model="lite", messages=messages, max_tokens=4096)
    assert made.receipt["dropped_turns"] > 0 and made.receipt["dropped_turns"] % 4 == 0
    assert "cat" in made.choices[0].message.content.lower()


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
