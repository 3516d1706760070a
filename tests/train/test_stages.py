"""Both stages for real, at toy size: plain python, the deepspeed launcher on two ranks, resuming, and refusals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train.recipes import RECIPES, recipe
from train.run import deepspeed_config
from train.stage1 import contrastive
from train.stage2 import start
from videollm import checkpoint
from videollm.errors import ConfigError

ROOT = Path(__file__).parents[2]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("stage1")
    run(sys.executable, "train/stage1.py", "debug_stage1", "--output", str(output))
    return output


def test_stage1_moves_the_projector_and_nothing_else(stage1: Path):
    before = checkpoint.projector_state(checkpoint.build(recipe("debug_stage1", {}).config).llm)
    after = load_file(stage1 / "projector.safetensors")
    assert before.keys() == after.keys()
    moved = [k for k in before if not torch.equal(before[k], after[k])]
    assert any(k.startswith("temporal.") for k in moved)
    assert load_file(stage1 / "checkpoint-2" / "trained.safetensors").keys() == {
        *(f"llm.{k}" for k in before),
        "log_scale",
    }


def test_stage2_starts_from_stage1_and_resumes_to_the_same_weights(stage1: Path, tmp_path: Path):
    started = checkpoint.projector_state(start(recipe("debug_stage2", {"init": str(stage1)})).llm)
    assert all(torch.equal(v, started[k]) for k, v in load_file(stage1 / "projector.safetensors").items())
    command = [sys.executable, "train/stage2.py", "debug_stage2", "--init", str(stage1), "--save-every", "1"]
    run(*command, "--output", str(tmp_path / "whole"))
    run(*command, "--output", str(tmp_path / "again"), "--resume", str(tmp_path / "whole" / "checkpoint-1"))
    a, b = (load_file(tmp_path / d / "projector.safetensors") for d in ("whole", "again"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert checkpoint.load(str(tmp_path / "whole")).config.name == "debug"


def test_stage2_goes_on_from_the_adapter_of_a_stage2_before():
    shipped = checkpoint.SHIPPED / "lite"
    model = start(recipe("lite_stage2_short", {"init": str(shipped), "frozen_dtype": "float32"}))
    saved, adapter = load_file(shipped / "adapter/adapter_model.safetensors"), model.llm.language_model.state_dict()
    assert saved
    for name, tensor in saved.items():
        assert torch.equal(adapter[name.replace(".weight", ".default.weight")], tensor)
    assert all(p.requires_grad for n, p in model.llm.named_parameters() if "lora_" in n)


@pytest.mark.parametrize("zero", ["2", "3"])
def test_two_ranks_of_deepspeed_train_like_one_process(stage1: Path, tmp_path: Path, zero: str):
    common = ["debug_stage2", "--init", str(stage1)]
    run(sys.executable, "train/stage2.py", *common, "--output", str(tmp_path / "one"))
    deepspeed = str(Path(sys.executable).parent / "deepspeed")
    launch = [deepspeed, "--num_accelerators", "2", "--master_port", str(29600 + os.getpid() % 300)]
    output = str(tmp_path / "two")
    run(*launch, "train/stage2.py", *common, "--output", output, "--zero", zero, DS_ACCELERATOR="cpu")
    one, two = (load_file(tmp_path / d / "projector.safetensors") for d in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[k], two[k], atol=2e-3) for k in one)


def test_contrastive_is_low_for_matches_and_spares_equal_texts():
    eye = torch.eye(4)
    assert contrastive(eye, eye, torch.tensor(20.0)) < 0.01 < contrastive(eye, eye.flip(0), torch.tensor(20.0))
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    half = torch.log(torch.tensor(2.0)) * 2 / 3  # two right answers each: their entropy is all that remains
    assert contrastive(twins, twins, torch.tensor(100.0)) == pytest.approx(half.item(), abs=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_whole(name: str):
    made = RECIPES[name]
    assert made.name == name and made.config.name == made.model
    assert deepspeed_config(made)["zero_optimization"]["stage"] == made.zero


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("lite_stage9", {}, "there are debug_stage1"),
        ("debug_stage1", {"colour": 1}, "no field colour"),
        ("debug_stage1", {"zero": 4}, "zero is 4"),
        ("debug_stage1", {"videos": 1}, "less than batch_size"),
    ],
)
def test_impossible_recipes_are_refused(name: str, changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        recipe(name, changes)


def test_bad_options_exit_with_2():
    done = subprocess.run(
        [sys.executable, "train/stage1.py", "debug_stage1", "--zero", "7"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "zero is 7" in done.stderr
