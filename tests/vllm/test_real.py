"""The exported lite model behind a real vLLM, started by scripts/vllm/serve.sh: bash scripts/vllm/test.sh.

The first test that asks waits for vLLM to start, which takes minutes.
"""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from time import perf_counter

import httpx
import openai
import psutil
import pytest

from tests.serve.conftest import SAMPLE, Server, starting
from tests.vllm.both import Both, starting_both
from videollm.chat.session import ChatSession
from videollm.checkpoint import load
from videollm.export import export
from videollm.inference.engine import PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.inference.vllm import VLLMEngine
from videollm.model import Model, find
from videollm.models.processor import Message

pytestmark = pytest.mark.vllm

QUESTIONS = ("What is in this video?", "What comes first?", "Is there a dog?")
AT_ONCE = 16


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, source = tmp_path_factory.mktemp("exported") / "lite", find("lite")
    assert source
    export(source, folder)
    return folder


@pytest.fixture(scope="module")
def model(exported: Path) -> Model:
    return load(str(exported))


@pytest.fixture(scope="module")
def both(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with starting_both(exported, tmp_path_factory.mktemp("log"), f"--max-num-seqs {AT_ONCE}") as made:
        yield made


def test_greedy_answers_are_those_of_the_local_engine(both: Both, model: Model):
    local = [ChatSession(model, SAMPLE).ask(question).text for question in QUESTIONS]
    assert [both.ask(question).choices[0].message.content for question in QUESTIONS] == local
    engine = VLLMEngine(model, both.vllm_url)
    chat = ChatSession(model, SAMPLE, engine=engine)
    assert chat.ask(QUESTIONS[0]).text == local[0]
    hello = model.processor([Message("user", "Hello, who are you?")])  # without a video: as token ids
    reference = ChatSession(model, SAMPLE).engine
    made, expected = (
        list(by.stream(hello, PromptCache(), GenerationConfig(max_new_tokens=12, logprobs=2)))
        for by in (engine, reference)
    )
    assert [token.id for token in made] == [token.id for token in expected]
    for a, b in zip(made, expected, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=0.15) and len(a.top) == 2 and a.top[0][0] == a.id


def test_turn_two_hits_the_prefix_cache(both: Both, model: Model):
    chat = ChatSession(model, SAMPLE, engine=VLLMEngine(model, both.vllm_url))
    chat.ask("Which animal is in it?")
    hits = both.metric("vllm:prefix_cache_hits_total")
    receipt = chat.ask("And after that?").receipt
    print(f"turn 2: {receipt.cached_tokens} of {receipt.prompt_tokens} tokens from vLLM's prefix cache")
    assert receipt.cached_tokens > receipt.prompt_tokens / 2
    assert both.metric("vllm:prefix_cache_hits_total") - hits == receipt.cached_tokens


def test_seeds_stops_and_several_answers(both: Both):
    settings = {"temperature": 1.5, "seed": 7, "max_tokens": 24}
    one, two = (both.ask(QUESTIONS[0], n=2, **settings) for _ in range(2))
    texts = [choice.message.content for choice in one.choices]
    assert texts == [choice.message.content for choice in two.choices] and texts[0] != texts[1]
    word = texts[0].split()[2]
    stopped = both.ask(QUESTIONS[0], stop=word, **settings).choices[0]
    assert stopped.message.content == texts[0][: texts[0].index(word)] and stopped.finish_reason == "stop"


def test_sixteen_at_once_are_five_times_as_fast(both: Both):
    """Long answers about one uploaded clip; rounds of both, so that other work on the machine meets both."""
    client, ratios = both.client, []
    file = client.files.create(file=SAMPLE, purpose="user_data").id

    def tokens(number: int) -> int:
        content = [{"type": "file", "file": {"file_id": file}}, {"type": "text", "text": f"{number}: tell a story."}]
        messages = [{"role": "user", "content": content}]
        made = client.chat.completions.create(
            model="lite", messages=messages, max_tokens=64, temperature=2, seed=number
        )
        return made.usage.completion_tokens

    def rate(at_once: int, requests: int) -> float:
        with ThreadPoolExecutor(at_once) as pool:
            started = perf_counter()
            return sum(pool.map(tokens, range(requests))) / (perf_counter() - started)

    rate(AT_ONCE, AT_ONCE)
    for _ in range(3):
        alone, together = rate(1, 2), rate(AT_ONCE, 2 * AT_ONCE)
        print(f"tokens/s: alone {alone:.1f}, {AT_ONCE} at once {together:.1f}, {together / alone:.1f} times as many")
        ratios.append(together / alone)
    assert median(ratios) >= 5


def test_a_client_that_goes_away_ends_vllms_work(both: Both):
    with both.ask(QUESTIONS[0], max_tokens=300, temperature=2, stream=True) as stream:
        chunks = iter(stream)
        for _ in range(5):
            next(chunks)
    made = both.metric("vllm:generation_tokens_total")
    both.until(lambda: both.metric("vllm:num_requests_running") == 0)
    more = both.metric("vllm:generation_tokens_total") - made
    print(f"tokens that vLLM made after the client had gone: {more:.0f} of 300")
    assert more <= 20


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_before_its_first_token_leaves_vllms_queue(both: Both, stream: bool):
    # Without a video, our server would say what it is for, and vLLM would not be asked.
    file = both.client.files.create(file=SAMPLE, purpose="user_data").id
    content = [{"type": "file", "file": {"file_id": file}}, {"type": "text", "text": "Tell a story."}]
    long = {"prompt": "Hello", "max_tokens": 400, "ignore_eos": True, "stream": True}
    with httpx.Client(timeout=300) as vllm, ExitStack() as others:
        for _ in range(AT_ONCE):
            others.enter_context(vllm.stream("POST", f"{both.vllm_url}/v1/completions", json=long))
        both.until(lambda: both.metric("vllm:num_requests_running") == AT_ONCE)
        client = HTTPConnection(both.url.removeprefix("http://"))
        body = {"model": "lite", "messages": [{"role": "user", "content": content}], "stream": stream}
        client.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        both.until(lambda: both.metric("vllm:num_requests_waiting") == 1)
        client.close()
        started = perf_counter()
        both.until(lambda: both.metric("vllm:num_requests_waiting") == 0)
        print(f"out of vLLM's queue {perf_counter() - started:.2f} s after the client had gone")
        assert both.metric("vllm:num_requests_running") == AT_ONCE  # it left, it was not served
    both.until(lambda: both.metric("vllm:num_requests_running") == 0)


def test_two_replicas_in_front_of_one_vllm(both: Both, exported: Path, tmp_path: Path):
    with starting(tmp_path) as start:
        second: Server = start("--model", str(exported), "--engine", "vllm", "--vllm-url", both.vllm_url).ready()
        other = replace(both, url=second.url)
        with ThreadPoolExecutor(6) as pool:
            texts = list(
                pool.map(lambda i: (both, other)[i % 2].ask(QUESTIONS[i // 2]).choices[0].message.content, range(6))
            )
    assert texts[::2] == texts[1::2]


def test_killing_vllm_is_survived(both: Both):
    """The server stays, says so, and answers again as soon as vLLM does."""
    with both.ask(QUESTIONS[0], max_tokens=300, temperature=2, stream=True) as stream:
        events = iter(stream)
        next(events)
        (vllm,) = (
            process
            for process in psutil.Process(both.process.pid).children(recursive=True)
            if "vllm.entrypoints.openai.api_server" in process.cmdline()
            and "vllm.entrypoints.openai.api_server" not in (process.parent() or process).cmdline()
        )
        vllm.send_signal(signal.SIGKILL)
        with pytest.raises(openai.APIError, match="the language model's server"):
            list(events)
    with pytest.raises(openai.InternalServerError) as refused:
        both.ask(QUESTIONS[0])
    assert refused.value.status_code == 503 and refused.value.code == "engine_unavailable"
    assert both.health()["engine"] == "down" and httpx.get(f"{both.url}/ready").status_code == 503
    started = perf_counter()
    both.until(lambda: both.health()["status"] == "ok")
    print(f"answers again {perf_counter() - started:.0f} s after vLLM was killed")
    assert both.ask(QUESTIONS[0]).choices[0].message.content
