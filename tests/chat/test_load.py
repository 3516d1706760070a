"""A model that is loaded to chat with answers as the model that can also be trained, and needs far fewer imports."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from tests.fork_server import python
from videollm.chat.load import load_to_chat
from videollm.chat.session import ChatSession
from videollm.checkpoint import load
from videollm.config import LoraConfig
from videollm.cpu.llama_weights import LlamaWeights
from videollm.cpu.transformers_llama import weights_of
from videollm.features.cache import FeatureCache
from videollm.inference.runner import make_runner
from videollm.inference.sampling import GenerationConfig
from videollm.model import SHIPPED
from videollm.models.chat_llm import ChatLLM
from videollm.models.processor import Message
from videollm.models.virtual_tokens import save_virtual_tokens

SAMPLE = Path(__file__).parents[2] / "scripts" / "samples" / "sample.mp4"
# Each takes a large part of a second to import, or brings one that does.
UNUSED = {
    "accelerate",
    "bitsandbytes",
    "gradio",
    "open_clip",
    "openvino",
    "peft",
    "pydantic",
    "scipy",
    "sklearn",
    "timm",
    "torch._dynamo",
    "torch._inductor",
    "torchvision",
    "transformers.modeling_utils",
    "transformers.models.auto",
    "transformers.models.llama",
    "videollm.checkpoint",
}


def test_answers_are_equal_to_those_of_the_full_model(tmp_path: Path):
    quick, full, cache = load_to_chat("lite", "cpu"), load("lite", "cpu"), FeatureCache(tmp_path)
    assert isinstance(quick.llm, ChatLLM)
    answers = []
    for model in (quick, full):
        session = ChatSession(model, SAMPLE, features=cache)
        answers.append([session.ask(question) for question in ("What is shown?", "And then?")])
    for one, other in zip(*answers, strict=True):
        assert (one.text, one.evidence) == (other.text, other.evidence)
    own, trained = quick.llm.language_model, weights_of(full.llm.language_model)
    assert isinstance(own, LlamaWeights) and own.shape == trained.shape and own.tensors.keys() == trained.tensors.keys()
    assert all(torch.equal(tensor, trained.tensors[name]) for name, tensor in own.tensors.items())
    x = torch.randn(5, 576, generator=torch.Generator().manual_seed(0))
    logits = []
    for model in (quick, full):
        runner = make_runner(model.llm.language_model)
        logits.append(runner.forward([(x, runner.begin())]))
    # Products depend a little on where in memory a matrix lies, which differs for a mapped file.
    assert torch.allclose(*logits, rtol=0, atol=1e-4)


def test_virtual_tokens_are_read_by_both(tmp_path: Path):
    tuned = tmp_path / "tuned"
    shutil.copytree(SHIPPED / "lite", tuned, ignore=shutil.ignore_patterns("adapter"))
    record = json.loads((tuned / "config.json").read_text())
    record["model"]["llm"]["lora"] = asdict(LoraConfig(kind="prompt", virtual_tokens=4))
    (tuned / "config.json").write_text(json.dumps(record))
    weight = 0.1 * torch.randn(4, 576, generator=torch.Generator().manual_seed(0))
    save_virtual_tokens(weight, record["model"]["llm"]["source"], tuned)
    cache, answers = FeatureCache(tmp_path / "cache"), []
    for model in (load_to_chat(str(tuned), "cpu"), load(str(tuned), "cpu")):
        answer = ChatSession(model, SAMPLE, features=cache).ask("What is shown?", GenerationConfig(max_new_tokens=8))
        answers.append(answer.text)
        assert model.llm.virtual_tokens is not None and torch.equal(model.llm.virtual_tokens.weight, weight)
        assert model.processor([Message("user", "Hi")]).ids[:5] == [-3, -4, -5, -6, 1]
    assert answers[0] == answers[1] != ""


def test_a_question_about_a_cached_video_imports_little():
    question = ["ask", str(SAMPLE), "What is shown?", "--device", "cpu", "--json"]
    program = f"from videollm.cli import main; import sys; assert main({question}) == 0; print(*sys.modules)"
    subprocess.run([python(), "-m", "videollm.cli", *question], check=True)  # fills the cache of features
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert sorted(set(run.stdout.splitlines()[-1].split()) & UNUSED) == []
