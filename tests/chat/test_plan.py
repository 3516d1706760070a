"""What a plan counts, against what a run takes."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen3Config

from videollm.chat.plan import kv_bytes, make_plan
from videollm.cli import main
from videollm.errors import ConfigError
from videollm.inference.runner import make_runner
from videollm.presets import CLIP_B32_SMOLLM2, CLIP_L14_QWEN

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
SIZES = {"vocab_size": 90, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3}
HEADS = {"num_attention_heads": 6, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    "config",
    [
        Qwen3Config(**SIZES, **HEADS, head_dim=16),  # wider than 48 / 6, as Qwen3-0.6B's are
        LlamaConfig(**SIZES, **HEADS),
    ],
    ids=["qwen3", "llama"],
)
def test_keys_and_values_take_what_is_planned(config: PretrainedConfig):
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    runner, length = make_runner(model), 256  # what the CPU's runner reserves at first
    cache = runner.begin()
    runner.forward([(torch.randn(length, 48), cache)])
    assert cache.nbytes == length * kv_bytes(config, torch.float32)


def test_a_plan_without_a_model_hub_says_what_is_missing_in_one_line(capsys: pytest.CaptureFixture[str]):
    for model in (CLIP_B32_SMOLLM2, CLIP_L14_QWEN):
        assert main(["plan", str(SAMPLE), "--model", model.name]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{model.llm.source} cannot be loaded" in line and "give its directory" in line


def test_a_plan_is_for_a_device():
    plan = make_plan(SAMPLE, "debug", device="cpu")
    assert plan.device == "cpu" and plan.device_memory_mb > 1000
    assert "debug on cpu" in str(plan) and "too little" not in str(plan)
    with pytest.raises(ConfigError, match="cuda:99"):
        make_plan(SAMPLE, "debug", device="cuda:99")
