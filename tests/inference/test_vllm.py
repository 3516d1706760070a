"""The engine for vLLM against servers that answer as vLLM does, and that fail; `tests/vllm` has the real one."""

import base64
import io
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch

from data_gen.make_world import main as make_world
from videollm import checkpoint
from videollm.chat.session import ChatSession
from videollm.cli.main import main
from videollm.config import LoraConfig
from videollm.errors import ConfigError, EngineError
from videollm.features.encode import SegmentFeatures
from videollm.inference.engine import PromptCache
from videollm.inference.sampling import GenerationConfig, Token
from videollm.inference.vllm import VLLMEngine
from videollm.models.processor import Message, Prompt
from videollm.presets import DEBUG

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
MODEL = checkpoint.load("debug")
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer, bodies: list[Any] | None = None, port: int = 0) -> Iterator[VLLMEngine]:
    """An engine for a server that answers every completion so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            assert self.path == "/v1/completions"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if bodies is not None:
                bodies.append(body)
            answer(self)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield VLLMEngine(MODEL, f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()


def says(*lines: str, status: int = 200) -> Answer:
    """So many lines, then the connection closes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.end_headers()
        handler.wfile.write("".join(f"{line}\n\n" for line in lines).encode())

    return answer


def chunk(*ids: int, logprobs: dict | None = None, **more: Any) -> str:
    choice = {"index": 0, "text": "", "token_ids": ids, "logprobs": logprobs, "finish_reason": None}
    return f"data: {json.dumps({'object': 'text_completion', 'choices': [choice]} | more)}"


USAGE = chunk(usage={"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 7}}, choices=[])
DONE = "data: [DONE]"


def text_prompt() -> Prompt:
    return MODEL.processor([Message("user", "Hi")])


def video_prompt() -> Prompt:
    tokens = torch.randn(8, 5, 16, generator=torch.Generator().manual_seed(0))
    return MODEL.processor(
        [Message("user", "Hi")], [SegmentFeatures(0, 4, tokens, torch.arange(8) / 2, torch.zeros(16), ())]
    )


def test_tokens_come_without_the_end_of_turn_and_reuse_is_reported():
    stop, cache = min(MODEL.processor.stop_ids), PromptCache()
    with serving(says(": ping", chunk(70), chunk(71, 72), chunk(stop), USAGE, DONE)) as engine:
        assert engine.alive()
        assert list(engine.stream(text_prompt(), cache, GenerationConfig())) == [Token(70), Token(71), Token(72)]
    assert cache.reused == 7


def test_logprobs_are_the_likeliest_best_first():
    scores = {"token_logprobs": [-2.0], "top_logprobs": [{"token_id:9": -2.0, "token_id:4": -0.5, "token_id:5": -1.5}]}
    with serving(says(chunk(9, logprobs=scores), DONE)) as engine:
        (token,) = engine.stream(text_prompt(), PromptCache(), GenerationConfig(logprobs=2))
    assert token == Token(9, -2.0, ((4, -0.5), (5, -1.5)))


def test_a_prompt_goes_as_ids_or_with_a_video_as_embeddings():
    bodies: list[Any] = []
    generation = GenerationConfig(max_new_tokens=5, temperature=0.5, top_p=0.9, seed=3)
    prompts = text_prompt(), video_prompt()
    with serving(says(DONE), bodies) as engine:
        for prompt in prompts:
            assert list(engine.stream(prompt, PromptCache(), generation)) == []
    first, second = bodies
    assert first["prompt"] == prompts[0].ids and "prompt_embeds" not in first and "prompt" not in second
    sent = torch.load(io.BytesIO(base64.b64decode(second["prompt_embeds"])), weights_only=True)
    expected = MODEL.llm.embed_prompt(torch.tensor([prompts[1].ids]), prompts[1].visual())[0]
    torch.testing.assert_close(sent, expected.detach())
    for body in bodies:
        assert (body["max_tokens"], body["temperature"], body["top_p"], body["seed"]) == (5, 0.5, 0.9, 3)
        assert set(body["stop_token_ids"]) == MODEL.processor.stop_ids and body["stream"]


def test_virtual_tokens_go_as_embeddings_without_a_video_too():
    bodies: list[Any] = []
    lora = LoraConfig(kind="prompt", virtual_tokens=3)
    model = checkpoint.build(replace(DEBUG, llm=replace(DEBUG.llm, lora=lora)))
    prompt = model.processor([Message("user", "Hi")])
    with serving(says(DONE), bodies) as engine:
        engine.llm = model.llm
        assert list(engine.stream(prompt, PromptCache(), GenerationConfig())) == []
    sent = torch.load(io.BytesIO(base64.b64decode(bodies[0]["prompt_embeds"])), weights_only=True)
    assert len(sent) == len(text_prompt()) + 3 and model.llm.virtual_tokens is not None
    torch.testing.assert_close(sent[:3], model.llm.virtual_tokens.weight.detach())


def test_a_later_turn_has_only_its_words_embedded_and_sends_the_same():
    bodies: list[Any] = []
    ran: list[int] = []
    hook = MODEL.llm.temporal.register_forward_hook(lambda *_: ran.append(1))
    first = video_prompt()
    messages = [Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "What is it?")]
    second = MODEL.processor(messages, first.segments)
    cache = PromptCache()
    with serving(says(DONE), bodies) as engine:
        for prompt, kept in ((first, cache), (second, cache), (second, cache.fork(3)), (second, PromptCache())):
            list(engine.stream(prompt, kept, GenerationConfig()))
    hook.remove()
    assert len(ran) == 3 and cache.nbytes > 0  # not for the second, which begins as the first does
    sent = [torch.load(io.BytesIO(base64.b64decode(body["prompt_embeds"])), weights_only=True) for body in bodies]
    assert len(sent[1]) == len(second) > len(sent[0])
    assert torch.equal(sent[1], sent[3]) and torch.equal(sent[2], sent[3])


def refusal(message: str) -> str:
    return json.dumps({"error": {"message": message, "type": "BadRequestError", "code": 400}})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            says(refusal("You must set `--enable-prompt-embeds`"), status=400),
            "refused the request with status 400: You must set",
        ),
        (says("<html>no such thing</html>", status=502), "refused the request with status 502: <html>no such"),
        (
            says(chunk(70), 'data: {"error": {"message": "EngineCore died", "code": 500}}'),
            "ended the stream early: EngineCore died",
        ),
        (says(chunk(70)), "ended the stream in the middle"),
        (says(chunk(70), chunk(71)[:20]), "does not answer"),
        (lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), "does not answer"),
    ],
)
def test_what_can_go_wrong_has_a_clear_error(answer: Answer, said: str):
    with serving(answer) as engine, pytest.raises(EngineError, match=said):
        list(engine.stream(text_prompt(), PromptCache(), GenerationConfig()))


def test_nothing_listening():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        engine = VLLMEngine(MODEL, f"http://127.0.0.1:{free.getsockname()[1]}")
        assert not engine.alive()
        with pytest.raises(EngineError, match=f"{engine.url} does not answer"):
            list(engine.stream(text_prompt(), PromptCache(), GenerationConfig()))


@pytest.mark.parametrize("url", ["localhost:8001", "ftp://localhost", "http://", "8001"])
def test_what_is_no_url_is_refused(url: str):
    with pytest.raises(ConfigError, match="it must be like http://localhost:8001"):
        VLLMEngine(MODEL, url)


@pytest.mark.parametrize("command", [["ask", str(SAMPLE), "Hi"], ["chat", str(SAMPLE)], ["caption", str(SAMPLE)]])
def test_commands_have_vllm_answer(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi\n"))
    bodies: list[Any] = []
    with serving(says(chunk(70), chunk(71), DONE), bodies) as engine:
        options = ["--model", "debug", "--engine", "vllm", "--vllm-url", engine.url, "--frames", "4", "--json"]
        assert main([*command, *options]) == 0
    assert json.loads(capsys.readouterr().out.strip("> \n"))["text"] == MODEL.processor.tokenizer.decode([70, 71])
    (body,) = bodies
    assert body["prompt_embeds"]


def test_an_evaluation_has_vllm_answer(tmp_path: Path):
    world, out, bodies = tmp_path / "world", tmp_path / "out", []
    assert make_world(["--out", str(world), "--split", "test=2", "--size", "64", "--seconds", "2", "2"]) == 0
    with serving(says(chunk(70), DONE), bodies) as engine:
        command = ["eval", "openqa", "--model", "debug", "--engine", "vllm", "--vllm-url", engine.url, "--limit", "1"]
        assert main([*command, "--data", str(world), "--out", str(out)]) == 0
    assert len(bodies) == len((out / "predictions.jsonl").read_text().splitlines()) > 1


def test_the_engine_and_its_url_are_given_together(capsys: pytest.CaptureFixture[str]):
    for wrong in (["--engine", "vllm"], ["--vllm-url", "http://localhost:8001"]):
        assert main(["ask", str(SAMPLE), "Hi", "--model", "debug", *wrong]) == 2
        assert "give --engine vllm and --vllm-url together" in capsys.readouterr().err


@pytest.mark.parametrize("headers", [True, False])
def test_closing_the_engine_ends_the_wait_for_a_first_token(headers: bool):
    asked, gone = Event(), Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        if headers:
            handler.send_response(200)
            handler.end_headers()
        asked.set()
        assert handler.rfile.read(1) == b""  # until the other side hangs up
        gone.set()

    with serving(silent) as shared:
        engine = shared.of("somebody")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(list, engine.stream(text_prompt(), PromptCache(), GenerationConfig()))
            assert asked.wait(30)
            engine.close()
            assert isinstance(waiting.exception(30), EngineError)
        assert gone.wait(30)
        with pytest.raises(EngineError, match="was closed"):
            list(engine.stream(text_prompt(), PromptCache(), GenerationConfig()))


def test_owners_share_no_prefixes():
    bodies: list[Any] = []
    with serving(says(DONE), bodies) as engine:
        for asking in (engine, engine.of("one"), engine.of("two")):
            list(asking.stream(text_prompt(), PromptCache(), GenerationConfig()))
    assert [body["cache_salt"] for body in bodies] == [None, "one", "two"]


def test_closing_a_stream_hangs_up():
    gone = Event()

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(f"{chunk(70)}\n\n".encode())
        except ConnectionError:
            gone.set()

    with serving(endless) as engine:
        stream = engine.stream(text_prompt(), PromptCache(), GenerationConfig())
        assert next(stream) == Token(70)
        stream.close()
        assert gone.wait(30)


def test_a_session_talks_through_it():
    """Stop texts end the answer although vLLM would go on."""
    ids = MODEL.processor.tokenizer("Yes. No.", add_special_tokens=False)["input_ids"]
    with serving(says(*(chunk(i) for i in ids), DONE)) as engine:
        chat = ChatSession(MODEL, SAMPLE, engine=engine)
        assert chat.ask("Is it?").text == "Yes. No."
        assert chat.ask("Is it?", GenerationConfig(stop=(" No",))).text == "Yes."
