"""`--engine openai` against a real OpenAI-compatible server: `videollm serve` with a tiny random Qwen2-VL."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from data_gen.make_world import main as make_world
from scripts.tiny_hub.__main__ import write
from tests.serve.conftest import SAMPLE, Server, asked, data_url, starting
from videollm import checkpoint
from videollm.chat.answer import Answer
from videollm.chat.session import ChatSession
from videollm.cli.main import main
from videollm.config import SamplingConfig
from videollm.datasets.schema import Message
from videollm.errors import ConfigError, ContextOverflowError
from videollm.inference.sampling import GenerationConfig

KEY, NAME = "0123456789abcdef", "tiny-qwen2-vl"
EVIDENCE = ["--evidence-encoder", "debug"]
SIX = SamplingConfig(frames=6)
SHORT = GenerationConfig(max_new_tokens=6)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It refuses more than eight pictures."""
    folder = tmp_path_factory.mktemp("tiny")
    write("qwen2_vl", folder / NAME)
    with starting(folder) as start, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        yield start("--model", str(folder / NAME), *EVIDENCE, "--api-key", KEY, "--json-bytes", "4194304").ready()


@pytest.fixture(scope="module")
def session(server: Server) -> ChatSession:
    return new_session(server, SIX)


def new_session(server: Server, sampling: SamplingConfig) -> ChatSession:
    model = checkpoint.load(NAME, server_url=f"{server.url}/v1", evidence_encoder="debug")
    return ChatSession(model, SAMPLE, sampling=sampling)


def at(url: str, name: str = NAME) -> list[str]:
    return ["--engine", "openai", "--url", url, "--model", name, *EVIDENCE]


def test_an_answer_is_the_servers_with_our_evidence_and_the_times_that_were_sent(
    server: Server, capsys: pytest.CaptureFixture[str]
):
    options = [*at(f"{server.url}/v1"), "--frames", "6", "--max-new-tokens", "6", "--json"]
    assert main(["ask", str(SAMPLE), "What is it?", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    session = new_session(server, SIX)
    messages: Any = session.model.processor([Message("user", "What is it?")], session.segments).request()["messages"]  # type: ignore[attr-defined]
    kinds = [part["type"] for part in messages[0]["content"]]
    assert kinds == ["text", *["text", "image_url"] * 6, "text"]
    assert messages[0]["content"][3]["text"] == "[0:03.0]"
    completion = server.client(KEY).chat.completions.create(model=NAME, messages=messages, max_tokens=6)
    assert found["text"] == completion.choices[0].message.content.strip() != ""
    receipt, usage = found["receipt"], completion.usage
    assert (receipt["prompt_tokens"], receipt["completion_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert receipt["times_s"] == [1.0, 3.0, 5.0, 7.0, 9.0, 11.0] and receipt["device"] == "server"
    assert receipt["finish"] == "length" and receipt["thinned_from"] is None
    assert 0 <= found["evidence"][0]["start"] < found["evidence"][0]["end"] <= 12


def test_an_answer_streams_and_a_second_turn_has_the_first(session: ChatSession):
    *pieces, first = session.stream("What is it?", SHORT)
    assert isinstance(first, Answer) and len(pieces) > 1 and "".join(map(str, pieces)) == first.text
    second = session.ask("And then?", SHORT).receipt
    assert second.cached_tokens > first.receipt.prompt_tokens / 2


def test_frames_are_thinned_until_the_server_takes_them_and_that_is_said(server: Server):
    receipt = new_session(server, SamplingConfig(frames=20)).ask("Hi", SHORT).receipt
    assert (receipt.frames, receipt.thinned_from, receipt.truncated) == (5, 20, True)
    assert receipt.times_s == pytest.approx([0.3 + 2.4 * n for n in range(5)], abs=0.13)


def test_a_text_that_is_too_long_is_an_error_of_the_context(session: ChatSession):
    with pytest.raises(ContextOverflowError, match=r"the server says: .* characters of text"):
        session.ask("word " * 40_000)


@pytest.mark.parametrize(
    ("path", "name", "key", "said"),
    [
        ("/v1", NAME, "another key", "refuses the key in OPENAI_API_KEY (status 401"),
        ("/v1", NAME, None, "refuses a request without a key; set OPENAI_API_KEY"),
        ("/v1", "gpt", KEY, f"has no model 'gpt'; it has {NAME}"),
        ("", NAME, KEY, "check the URL, which ends in /v1"),
    ],
)
def test_what_a_server_refuses_is_named(
    path: str,
    name: str,
    key: str | None,
    said: str,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.delenv("OPENAI_API_KEY")
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    assert main(["ask", str(SAMPLE), "Hi", *at(server.url + path, name), "--frames", "1"]) == 2
    assert said in capsys.readouterr().err


def test_a_server_that_does_not_run_is_named(capsys: pytest.CaptureFixture[str]):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        assert main(["caption", str(SAMPLE), *at(url), "--frames", "1"]) == 2
    assert f"the server at {url} does not answer" in capsys.readouterr().err


def test_options_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["ask", str(SAMPLE), "Hi", "--engine", "openai"]) == 2
    assert "give --engine openai and --url together" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="load_in_4bit is for a model that runs here"):
        checkpoint.load(NAME, server_url="http://localhost/v1", load_in_4bit=True)


def test_an_evaluation_reads_choices_from_answers(server: Server, tmp_path: Path):
    world, out = tmp_path / "world", tmp_path / "out"
    assert make_world(["--out", str(world), "--split", "test=2", "--size", "64", "--seconds", "2", "2"]) == 0
    command = ["eval", "mcqa", *at(f"{server.url}/v1"), "--data", str(world), "--limit", "1", "--out", str(out)]
    assert main(command) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["scores"]["accuracy"]["items"] == 1 and {"blank", "text_only"} <= set(report["controls"])
    assert report["model"]["language_model"] == f"server:{server.url}/v1"
    predicted = (out / "predictions.jsonl").read_text()
    assert '"answer"' in predicted
    assert main(command) == 0 and (out / "predictions.jsonl").read_text() == predicted  # nothing is asked again


def test_our_server_stands_in_front_of_it(server: Server, session: ChatSession, tmp_path: Path):
    with starting(tmp_path) as start:
        front = start(*at(f"{server.url}/v1")).ready()
        client: Any = openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0, timeout=120)
        more = {"model": NAME, "max_tokens": 6, "extra_body": {"video": {"frames": 6}}}
        made = client.chat.completions.create(messages=asked(data_url(SAMPLE.read_bytes())), **more)
        assert made.choices[0].message.content == new_session(server, SIX).ask("What is it?", SHORT).text
        assert made.receipt["device"] == "server" and made.choices[0].evidence
        assert made.usage.prompt_tokens == made.receipt["prompt_tokens"] > 0
        with pytest.raises(openai.BadRequestError, match="logprobs: the model's server does not tell its tokens"):
            client.chat.completions.create(messages=asked(data_url(SAMPLE.read_bytes())), logprobs=True, **more)
