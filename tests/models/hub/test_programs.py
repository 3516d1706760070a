"""A tiny random Qwen3-VL directory in the programs: command line, sessions, adapters, 4-bit weights and the server."""

import base64
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

from scripts.tiny_hub.__main__ import write
from tests.serve.conftest import asked, data_url, starting
from videollm import checkpoint
from videollm.chat.plan import make_plan
from videollm.chat.session import ChatSession
from videollm.cli.main import main
from videollm.config import SamplingConfig
from videollm.datasets.schema import Message
from videollm.errors import CheckpointError, ConfigError
from videollm.evaluate.subject import Subject
from videollm.inference.sampling import GenerationConfig

SCRIPTS = Path(__file__).parents[3] / "scripts"
SAMPLE = SCRIPTS / "samples/sample.mp4"
SIX = SamplingConfig(frames=6)
SHORT = GenerationConfig(max_new_tokens=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "tiny-qwen3-vl"
    write("qwen3_vl", folder)
    return folder


def load(folder: Path, **options: object) -> checkpoint.Model:
    return checkpoint.load(str(folder), evidence_encoder="debug", **options)  # type: ignore[arg-type]


def test_ask_gives_evidence_and_a_receipt_with_the_frames_times(folder: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--model", str(folder), "--evidence-encoder", "debug", "--frames", "6", "--max-new-tokens", "4"]
    assert main(["ask", str(SAMPLE), "What is it?", *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["receipt"]["model"] == "tiny-qwen3-vl" and found["receipt"]["frames"] == 6
    assert found["evidence"][0]["start"] < found["evidence"][0]["end"] <= 12


def test_the_prompt_has_the_presentation_times(folder: Path):
    model = load(folder)
    session = ChatSession(model, SAMPLE, sampling=SamplingConfig(times_s=(1.0, 2.0, 5.0, 6.0)))
    prompt = model.processor([Message("user", "Hi")], session.segments)
    text = model.processor.tokenizer.decode(prompt.ids)
    assert "<1.5 seconds>" in text and "<5.5 seconds>" in text  # two frames share one group of tokens


def test_a_plan_counts_the_tokens_of_the_run(folder: Path):
    receipt = ChatSession(load(folder), SAMPLE, sampling=SIX).ask("Hi", SHORT).receipt
    plan = make_plan(SAMPLE, str(folder), SIX)
    assert (plan.frames, plan.visual_tokens) == (6, receipt.visual_tokens)
    assert abs(plan.prompt_tokens - receipt.prompt_tokens) < 40


def test_what_does_not_fit_is_sampled_thinner_and_said(folder: Path):
    model = load(folder)
    whole = ChatSession(model, SAMPLE, sampling=SamplingConfig(fps=2.0))
    need = whole.ask("Hi", SHORT).receipt.prompt_tokens
    prompt = replace(model.config.prompt, context=need - 20)
    config = replace(model.config, prompt=prompt)
    smaller = replace(model, config=config)
    receipt = ChatSession(smaller, whole.video).ask("Hi", SHORT).receipt
    assert receipt.prompt_tokens + 4 <= need - 20 and receipt.merged_from and receipt.truncated


def test_a_saved_conversation_continues(folder: Path, tmp_path: Path):
    model = load(folder)
    session = ChatSession(model, SAMPLE, sampling=SIX)
    session.ask("Hi", SHORT)
    session.save(tmp_path / "talk")
    assert ChatSession.resume(model, tmp_path / "talk").ask("And?", SHORT).text == session.ask("And?", SHORT).text


def test_an_adapter_changes_the_answers_and_the_hash(folder: Path, tmp_path: Path):
    from peft import LoraConfig, get_peft_model

    plain = load(folder)
    adapted = get_peft_model(
        load(folder).llm.language_model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(str(tmp_path))
    model = load(folder, adapter=str(tmp_path))
    assert model.config.sha != plain.config.sha
    prompt = plain.processor([Message("user", "Hi")])
    logits = [m.llm.language_model(input_ids=torch.tensor([prompt.ids])).logits for m in (plain, model)]
    assert not torch.allclose(*logits)
    with torch.inference_mode():
        assert torch.allclose(logits[1], adapted(input_ids=torch.tensor([prompt.ids])).logits, atol=0.02)  # bfloat16


def test_four_bit_weights_answer(folder: Path, tmp_path: Path):
    """On a CPU bitsandbytes multiplies only weights whose sizes are multiples of 64, so this model is larger."""
    pytest.importorskip("bitsandbytes")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = AutoConfig.from_pretrained(folder)
    config.text_config.update({"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 8})
    config.vision_config.update({"hidden_size": 64, "out_hidden_size": 64})
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path)
    model = load(tmp_path, load_in_4bit=True)
    assert "Linear4bit" in {type(module).__name__ for module in model.llm.modules()}
    assert ChatSession(model, SAMPLE, sampling=SIX).ask("Hi", SHORT).receipt.visual_tokens > 0


def test_what_cannot_be_done_is_said(folder: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="tune it with"):
        checkpoint.load_directory(folder)
    with pytest.raises(ConfigError, match="lite has its own adapter"):
        checkpoint.load("lite", adapter="x")
    with pytest.raises(CheckpointError, match=r"no adapter_model\.safetensors"):
        load(folder, adapter=str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="'bert', which is not a model for images or videos"):
        checkpoint.load(str(tmp_path))


def test_vllm_gets_the_frames_with_their_times(folder: Path):
    model = load(folder, vllm_url="http://localhost:8001")
    segments = ChatSession(model, SAMPLE, sampling=SIX).segments
    prompt: Any = model.processor([Message("user", "Hi")], segments)
    request = prompt.request()
    video, text = request["messages"][0]["content"]
    kind, *frames = video["video_url"]["url"].split(",")
    assert (kind, text) == ("data:video/jpeg;base64", {"type": "text", "text": "Hi"})
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(frame)))) for frame in frames]
    assert np.array_equal(np.stack(shown).transpose(0, 3, 1, 2), torch.cat([s.tokens for s in segments]))
    times = {"fps": 1000.0, "frames_indices": [1000, 3000, 5000, 7000, 9000, 11000], "total_num_frames": 12000}
    assert request["media_io_kwargs"] == {"video": {"num_frames": -1, **times}}

    several: Any = model.processor([Message("user", "Hi")], videos=[(0, segments), (0, segments)])
    request = several.request()
    kinds = [part["type"] for part in request["messages"][0]["content"]]
    assert kinds.count("image_url") == 12 and "media_io_kwargs" not in request
    with pytest.raises(ConfigError, match="adapter is for a model that runs here, and the server at http://localhost"):
        load(folder, vllm_url="http://localhost:8001", adapter="x")


def test_vllm_is_started_with_the_options_of_the_model(folder: Path):
    """scripts/vllm/serve.sh asks for them."""
    script = [sys.executable, str(SCRIPTS / "vllm/options.py")]
    made = subprocess.run([*script, str(folder)], capture_output=True, text=True, check=True).stdout.splitlines()
    assert made == [f"--model={folder}", f"--served-model-name={folder.name}", "--trust-request-mm-kwargs"]
    made = subprocess.run([*script, "lite"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "--enable-prompt-embeds" in made and "--max-model-len=2048" in made


def test_answers_have_likelihoods(folder: Path):
    subject = Subject(load(folder), [], [])
    assert all(score < 0 for score in subject.likelihoods(None, "What is it?", ["A cat.", "A rocket."]))


def test_the_server_answers_and_reuses_the_conversation(folder: Path, tmp_path: Path):
    with starting(tmp_path) as start:
        server = start("--model", str(folder), "--evidence-encoder", "debug").ready()
        client, clip = server.client(), data_url(SAMPLE.read_bytes())
        options = {"model": folder.name, "max_tokens": 4, "extra_body": {"video": {"frames": 4}}}
        one, two = (client.chat.completions.create(messages=asked(clip), **options) for _ in range(2))
        assert one.choices[0].message.content == two.choices[0].message.content
        assert one.usage.prompt_tokens > 40
        assert server.metric('videollm_tokens_total{kind="cached"}') > 0
