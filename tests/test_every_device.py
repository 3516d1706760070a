"""Every command on a device that is not the CPU: nothing is left behind there, and answers are those of the CPU."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from data_gen.make_world import main as make_world
from serve.api.app import create_app
from serve.config import ServerConfig
from serve.runtime.service import Service
from tests.device import FakeCudaTensor, fake_cuda
from tests.retrieval.test_rerank import model as retrieval_model
from tests.train.rows import write_rows
from videollm import checkpoint
from videollm.chat.session import ChatSession
from videollm.cli import main
from videollm.config import EncoderConfig, LoraConfig
from videollm.device import resolve_device
from videollm.encoders.build import build_encoder
from videollm.errors import ConfigError
from videollm.evaluate.lmms import Responder
from videollm.features.encode import encode_video
from videollm.inference.sampling import GenerationConfig
from videollm.inference.vllm import VLLMEngine
from videollm.models.processor import Message
from videollm.presets import DEBUG
from videollm.retrieval import model as heads
from videollm.retrieval.recogniser import Recogniser

SAMPLE = str(Path(__file__).parents[1] / "scripts/samples/sample.mp4")
SHORT = GenerationConfig(max_new_tokens=8)


# --- the detector


@pytest.mark.parametrize(
    "mistake",
    [
        lambda there: there + torch.ones(2),
        lambda there: torch.cat([there, torch.ones(2)]),
        lambda there: torch.ones(2)[there.long()],
        lambda there: torch.nn.functional.embedding(torch.tensor([0]), there[None]),
        lambda there: torch.nn.Linear(2, 2)(there),
        lambda there: torch.nn.functional.scaled_dot_product_attention(there[None], there[None], torch.ones(1, 2)),
        lambda there: there.masked_fill(torch.ones(2, dtype=torch.bool), 0),
        lambda there: there.numpy(),
    ],
)
@pytest.mark.parametrize("inference", [True, False])
def test_a_tensor_that_is_left_behind_is_found(mistake: Callable[[torch.Tensor], Any], inference: bool):
    with fake_cuda(), torch.inference_mode(inference):
        there = torch.ones(2).to("cuda:0")
        with pytest.raises((RuntimeError, TypeError), match="cuda"):
            mistake(there)


def test_what_cuda_allows_passes():
    with fake_cuda() as operations:
        there = torch.tensor([1.0, 2.0], device="cuda:0")
        changed = there * torch.tensor(2.0)  # a scalar
        changed[torch.tensor([0])] = 7.0  # indices
        changed += there
        assert isinstance(changed, FakeCudaTensor) and changed.device == torch.device("cuda:0")
        assert changed.tolist() == [8.0, 6.0] and float(changed.sum()) == 14.0
        assert torch.equal(changed.cpu(), torch.tensor([8.0, 6.0])) and not isinstance(changed.cpu(), FakeCudaTensor)
        assert operations.count > 3
    assert not torch.cuda.is_available()


def test_a_batch_that_stays_on_the_cpu_is_found():
    """What reranking by likelihood did before."""
    with fake_cuda():
        model = checkpoint.load("debug", "cuda")
        segments = encode_video(SAMPLE, model.encoder, model.config.sampling).segments(
            model.config, model.encoder.vocabulary
        )
        prompt = model.processor([Message("user", "What?")], segments)
        with pytest.raises(RuntimeError, match="same device"):
            model.llm(torch.tensor([prompt.ids], device=model.device), prompt.visual())


# --- commands


def result(capsys: pytest.CaptureFixture[str], *arguments: object, device: str) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json", "--device", device]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


COMMANDS = {
    "ask": ["ask", SAMPLE, "What is it?", "--model", "debug", "--max-new-tokens", "8"],
    "caption": ["caption", SAMPLE, "--model", "debug", "--frames", "4"],
    "dense captions": ["caption", SAMPLE, "--model", "debug", "--dense", "--frames", "16"],
    "classify": ["classify", SAMPLE, "--model", "debug", "--labels", "cat,dog"],
    "moments": ["moments", SAMPLE, "a cat", "--model", "debug"],
    "keyframes": ["keyframes", SAMPLE, "--model", "debug", "-n", "2"],
    "described keyframes": ["keyframes", SAMPLE, "--model", "debug", "-n", "2", "--describe"],
}


def without_costs(found: dict[str, Any]) -> dict[str, Any]:
    receipt = {k: v for k, v in found.get("receipt", {}).items() if k not in ("ms", "device")}
    return found | {"receipt": receipt}


def same(a: Any, b: Any) -> bool:
    """Equal but for the rounding of numbers."""
    if isinstance(a, float):
        return a == pytest.approx(b, abs=2e-3)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize("name", list(COMMANDS))
def test_commands_about_one_video(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch, fake_cuda() as operations:
        patch.setenv("VIDEOLLM_CACHE", str(tmp_path))  # empty, because features that are read from it need no encoder
        found = result(capsys, *COMMANDS[name], device="cuda")
    expected = result(capsys, *COMMANDS[name], device="cpu")
    assert operations.count > 0
    assert same(without_costs(found), without_costs(expected))
    if "receipt" in found:
        assert (found["receipt"]["device"], expected["receipt"]["device"]) == ("cuda:0", "cpu")


def test_auto_takes_the_gpu_and_the_variable_overrules_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with fake_cuda():
        assert result(capsys, *COMMANDS["ask"], device="auto")["receipt"]["device"] == "cuda:0"
        assert resolve_device() == torch.device("cpu")  # what the suite sets
        monkeypatch.setenv("VIDEOLLM_DEVICE", "cuda:0")
        assert resolve_device() == torch.device("cuda", 0)
        monkeypatch.delenv("VIDEOLLM_DEVICE")
        assert resolve_device() == resolve_device("auto") == torch.device("cuda", 0)
        with pytest.raises(ConfigError, match=r"cuda:3.*has 1"):
            resolve_device("cuda:3")


def test_plan_counts_the_memory_of_the_device(capsys: pytest.CaptureFixture[str]):
    with fake_cuda():
        found = result(capsys, "plan", SAMPLE, "--model", "debug", device="cuda")
    assert found["device"] == "cuda:0" and found["device_memory_mb"] == pytest.approx((16 << 30) / 1e6, rel=1e-3)


def test_chat_saves_and_resumes_between_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    saved = tmp_path / "talk"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"What?\n/receipt\nAnd?\n/save {saved}\n/quit\n"))
    with fake_cuda():
        arguments = ["chat", SAMPLE, "--model", "debug", "--max-new-tokens", "8", "--frames", "8", "--device", "cuda"]
        assert main(arguments) == 0
        there = ChatSession.resume(checkpoint.load("debug", "cuda"), saved)
        answer = there.ask("Again?", SHORT)
    here = ChatSession.resume(checkpoint.load("debug", "cpu"), saved)
    assert len(here.messages) == 4 and here.ask("Again?", SHORT).text == answer.text


def test_index_search_rerank_and_questions_to_an_index(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    index = ["--index", str(tmp_path / "index")]
    heads.save(retrieval_model("xclip"), tmp_path / "head", "")
    made = ["index", SAMPLE, *index, "--model", "debug", "--workers", "1"]
    searches = (
        ["search", "a cat", *index],
        ["search", "--like", SAMPLE, *index],
        ["search", "a cat", *index, "--rerank", "debug"],
        ["search", "a cat", *index, "--rerank", str(tmp_path / "head")],
        ["ask", "What is it?", *index, "--model", "debug", "--max-new-tokens", "8"],
    )
    with fake_cuda() as operations:
        assert result(capsys, *made, device="cuda")["added"] == 1
        assert operations.count > 0
        found = [result(capsys, *search, device="cuda") for search in searches]
    expected = [result(capsys, *search, device="cpu") for search in searches]
    assert all(map(same, found, expected))


def test_a_recogniser_names_its_classes(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    Recogniser(retrieval_model("mean"), (("cup", "cat"), ("rest", "move")), 0, 4).save(tmp_path, "")
    with fake_cuda() as operations:
        found = result(capsys, "classify", SAMPLE, "--model", tmp_path, device="cuda")
        assert operations.count > 0
    assert same(found, result(capsys, "classify", SAMPLE, "--model", tmp_path, device="cpu"))


def test_summarize_and_features(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    board = ["--storyboard", str(tmp_path / "board.png")]
    with fake_cuda() as operations:
        found = result(capsys, "summarize", SAMPLE, "--model", "debug", "-n", "2", *board, device="cuda")
        assert len(found["parts"]) == 2 and operations.count > 0
    rows = write_rows(tmp_path / "rows.jsonl")
    with fake_cuda() as operations:
        made = ["features", rows, "--model", "debug", "--out", tmp_path / "features"]
        assert result(capsys, *made, device="cuda")["new"] >= 1 and operations.count > 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    sizes = ["--size", "64", "--seconds", "2", "3", "--processes", "1"]
    assert make_world(["--out", str(out), "--split", "test=2", "unseen=2", *sizes]) == 0
    return out


@pytest.mark.parametrize("task", ["mcqa", "openqa", "caption", "retrieval", "grounding", "trust"])
def test_eval(
    task: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VIDEOLLM_CACHE", str(tmp_path / "cache"))
    with fake_cuda() as operations:
        arguments = ["eval", task, "--model", "debug", "--data", world, "--limit", "2", "--out", tmp_path / "gpu"]
        assert main([*map(str, arguments), "--device", "cuda"]) == 0, capsys.readouterr().err
    assert operations.count > 0


def test_lmms_and_a_local_judge(tmp_path: Path):
    from videollm.evaluate.judge import LocalJudge

    with fake_cuda() as operations:
        respond = Responder("debug", "cuda")
        assert isinstance(respond("What?", [SAMPLE], {"max_new_tokens": 8}), str)
        judge = LocalJudge(checkpoint.load("debug", "cuda"))
        assert judge.model.device.type == "cuda" and operations.count > 0


def test_the_server(tmp_path: Path):
    clip = "data:video/mp4;base64," + base64.b64encode(Path(SAMPLE).read_bytes()).decode()
    video = {"type": "video_url", "video_url": {"url": clip}}
    question = {"role": "user", "content": [video, {"type": "text", "text": "What is it?"}]}
    with fake_cuda() as operations:
        service = Service(ServerConfig(model="debug", engine="local"), checkpoint.load("debug", "cuda"))
        with TestClient(create_app(service), base_url="http://127.0.0.1:8000") as client:

            def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
                answer = client.post(f"/v1/{path}", json=body)
                assert answer.status_code == 200, answer.text
                return answer.json()

            assert client.get("/health").json()["device"] == "cuda:0"
            asked = {"model": "debug", "messages": [question], "max_tokens": 8, "temperature": 0}
            first = post("chat/completions", asked)
            assert post("chat/completions", asked | {"temperature": 1, "seed": 3, "logprobs": True, "top_logprobs": 2})
            assert first["receipt"]["device"] == "cuda:0" and operations.count > 0
            assert len(post("embeddings", {"model": "debug", "input": "a cat"})["data"]) == 1
            assert post("embeddings", {"model": "debug", "input": [video]})["data"]
            assert post("videos/caption", {"model": "debug", "video": {"url": clip}, "dense": True})["captions"]
            assert post("videos/summarize", {"model": "debug", "video": {"url": clip}, "parts": 2})["parts"]
    text = ChatSession(checkpoint.load("debug", "cpu"), SAMPLE).ask("What is it?", SHORT).text
    assert first["choices"][0]["message"]["content"] == text


def test_prompts_for_vllm_leave_the_gpu():
    """What is sent to the server is on the CPU, whatever made it."""
    with fake_cuda():
        model = checkpoint.load("debug", "cuda")
        session = ChatSession(model, SAMPLE)
        prompt = model.processor([Message("user", "What?")], session.segments)
        sent = VLLMEngine(model, "http://localhost:1")._prompt(prompt, session._cache)
    raw = torch.load(io.BytesIO(base64.b64decode(sent["prompt_embeds"])), weights_only=True)
    assert raw.device.type == "cpu" and raw.shape == (len(prompt), 64)


# --- models


def test_checkpoints_with_adapters_load_and_export_beside_a_gpu(tmp_path: Path):
    """Through transformers' and PEFT's own loading. Export stays on the CPU."""
    adapted = replace(DEBUG, llm=replace(DEBUG.llm, lora=LoraConfig(r=4)))
    with fake_cuda():
        model = checkpoint.build(adapted, "cuda")
        assert {p.device.type for p in model.llm.parameters()} == {"cuda"}
        checkpoint.save(model, tmp_path / "trained")
        assert main(["export", str(tmp_path / "trained"), "--out", str(tmp_path / "out"), "--dtype", "float32"]) == 0
        texts = []
        for name in ("trained", "out"):
            loaded = checkpoint.load(str(tmp_path / name), "cuda")
            assert {p.device.type for p in loaded.llm.parameters()} == {"cuda"}
            texts.append(ChatSession(loaded, SAMPLE).ask("What?", SHORT).text)
    here = ChatSession(checkpoint.load(str(tmp_path / "out"), "cpu"), SAMPLE).ask("What?", SHORT).text
    assert texts == [here, here]


@pytest.mark.parametrize("config", [EncoderConfig(kind="debug"), EncoderConfig()], ids=lambda config: config.kind)
def test_encoders_encode_there_and_videos_come_back(config: EncoderConfig):
    expected = encode_video(SAMPLE, build_encoder(config, "cpu"), DEBUG.sampling)
    with fake_cuda() as operations:
        encoder = build_encoder(config, "cuda")
        found = encode_video(SAMPLE, encoder, DEBUG.sampling)
        texts = encoder.encode_text(["a cat", "a small dog"])
        assert {x.device.type for x in (texts.tokens, texts.mask, texts.embed)} == {"cuda"} and operations.count > 0
    assert not any(isinstance(x, FakeCudaTensor) for x in found.tensors().values())
    torch.testing.assert_close(found.features.embed, expected.features.embed, atol=5e-2, rtol=5e-2)
