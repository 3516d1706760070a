"""Tiny random video models of transformers in a real vLLM, which runs all of them: bash scripts/vllm/test.sh."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from transformers import AutoConfig, AutoModelForImageTextToText

from data_gen.make_world import main as make_world
from scripts.tiny_hub.__main__ import write
from tests.precision import in_float32
from tests.serve.conftest import SAMPLE
from tests.vllm.both import Both, starting_both
from videollm.chat.session import ChatSession
from videollm.checkpoint import load
from videollm.cli import main
from videollm.config import SamplingConfig
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.model import Model
from videollm.models.processor import Message

pytestmark = pytest.mark.vllm

QUESTION = "What is it?"
SIX = SamplingConfig(frames=6)
SHORT = GenerationConfig(max_new_tokens=8)
HEAD = 32  # the smallest head that vLLM's attention on a CPU has


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen3_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / request.param
    write(request.param, folder)
    config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    rope = config.text_config.rope_parameters | {"mrope_section": [HEAD // 4, HEAD // 8, HEAD // 8]}
    config.text_config.update({"head_dim": HEAD, "hidden_size": 4 * HEAD, "rope_parameters": rope})
    wide = "out_hidden_size" if hasattr(config.vision_config, "out_hidden_size") else "hidden_size"
    config.vision_config.update({wide: 4 * HEAD})  # of what the tower gives to the language model
    AutoModelForImageTextToText.from_config(config, trust_remote_code=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def both(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with starting_both(folder, tmp_path_factory.mktemp("log"), "--dtype float32 --max-model-len 8192") as made:
        yield made


@pytest.fixture(scope="module")
def local(folder: Path) -> Model:
    with in_float32():
        return load(str(folder), evidence_encoder="debug")


@pytest.mark.parametrize("frames", [6, 1, 0])
def test_prompt_and_greedy_tokens_are_those_of_the_local_model(both: Both, folder: Path, local: Model, frames: int):
    """About a video, about a picture, and about nothing."""
    served = load(str(folder), vllm_url=both.vllm_url, evidence_encoder="debug")
    prompts: list[Any] = []
    for model in (local, served):
        segments = ChatSession(model, SAMPLE, sampling=SamplingConfig(frames=frames)).segments if frames else ()
        prompts.append(model.processor([Message("user", QUESTION)], segments))
    ours, sent = prompts
    body = {"model": folder.name, "max_tokens": 8, "temperature": 0, "return_token_ids": True, **sent.request()}
    reply = httpx.post(f"{both.vllm_url}/v1/chat/completions", json=body, timeout=300).json()
    expected = LocalEngine(local.llm, local.processor.stop_ids).stream(ours, PromptCache(), SHORT)
    assert reply["prompt_token_ids"] == ours.ids
    made = reply["choices"][0]["token_ids"]
    assert [i for i in made if i not in local.processor.stop_ids] == [token.id for token in expected]


def characters(text: str | None) -> str:
    """Returns the whole characters of a text. A token of the tiny tokenizers is a byte, and vLLM may keep back the
    bytes of an incomplete character."""
    return (text or "").replace("\ufffd", "").strip()


def test_the_server_answers_with_evidence_and_the_turn_after_it_hits_vllms_cache(both: Both, local: Model):
    expected = ChatSession(local, SAMPLE, sampling=SIX).ask(QUESTION, SHORT)
    reply = both.ask(QUESTION, max_tokens=8, extra_body={"video": {"frames": 6}})
    assert characters(reply.choices[0].message.content) == characters(expected.text)
    assert reply.usage.prompt_tokens == expected.receipt.prompt_tokens
    again = both.ask(QUESTION, max_tokens=8, extra_body={"video": {"frames": 6}})
    assert again.usage.prompt_tokens_details.cached_tokens > reply.usage.prompt_tokens / 2


def test_ask_and_eval_have_vllm_answer(
    both: Both, folder: Path, local: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    engine = ["--engine", "vllm", "--vllm-url", both.vllm_url, "--model", str(folder), "--evidence-encoder", "debug"]
    asked = ["ask", str(SAMPLE), QUESTION, "--frames", "6", "--max-new-tokens", "8", "--json"]
    assert main([*asked, *engine]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = ChatSession(local, SAMPLE, sampling=SIX).ask(QUESTION, SHORT)
    assert characters(found["text"]) == characters(expected.text)
    assert found["receipt"]["prompt_tokens"] == expected.receipt.prompt_tokens
    assert found["receipt"]["times_s"] == [*expected.receipt.times_s] and found["evidence"]

    world, out = tmp_path / "world", tmp_path / "out"
    assert make_world(["--out", str(world), "--split", "test=2", "--size", "64", "--seconds", "2", "2"]) == 0
    assert main(["eval", "mcqa", *engine, "--data", str(world), "--limit", "1", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["scores"]["accuracy"]["items"] == 1 and {"blank", "text_only"} <= set(report["controls"])


def test_frames_are_thinned_to_vllms_context_and_that_is_said(both: Both, folder: Path):
    served = load(str(folder), vllm_url=both.vllm_url, evidence_encoder="debug")
    session = ChatSession(served, SAMPLE, sampling=SamplingConfig(frames=24))
    receipt = session.ask("x" * 8130, GenerationConfig(max_new_tokens=64)).receipt
    assert receipt.thinned_from == 24 and receipt.truncated and receipt.frames == len(receipt.times_s) < 24
