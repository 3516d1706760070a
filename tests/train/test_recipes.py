"""Recipes: every shipped one is whole, impossible ones say why, and the command line shows them."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from train.core.stages import deepspeed_config, parse, training_arguments

from train.configs.stages import RECIPES, Recipe, recipe
from train.core import command
from videollm.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_whole(name: str):
    made = RECIPES[name]
    assert made.name == name and made.config.name == made.model
    config = deepspeed_config(made)
    assert (config is None) == (made.zero == 0)
    if config is not None:
        zero = config["zero_optimization"]
        assert zero["stage"] == made.zero
        assert ("offload_optimizer" in zero) == made.offload
        assert ("offload_param" in zero) == (made.offload and made.zero == 3)
    assert made.config.llm.load_in_4bit == name.endswith("qlora") or "_qlora_zero" in name


def test_there_are_variants_of_each_large_recipe():
    for base in ("clip_b32_smollm2_stage1", "clip_l14_qwen7b_stage2"):
        for variant in ("zero1", "zero2", "zero3", "zero2_offload", "zero3_offload"):
            assert f"{base}_{variant}" in RECIPES
    assert "clip_l14_qwen7b_stage2_qlora_zero2" in RECIPES and "clip_l14_qwen7b_stage2_qlora_zero3" not in RECIPES


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("lite_stage9", {}, "there are debug_stage1"),
        ("debug_stage1", {"colour": 1}, "no field colour"),
        ("debug_stage1", {"zero": 4}, "zero is 4"),
        ("debug_stage1", {"videos": 1}, "less than batch_size"),
        ("debug_stage1", {"contrastive": 0.0, "caption": 0.0}, "no loss has a weight"),
        ("debug_stage1", {"itc": 1.0}, "give data"),
        ("debug_stage1", {"init": "x"}, "init is for stage 2"),
        ("debug_stage2", {"tune": "adapter"}, "has no LoRA"),
        ("debug_stage2", {"batch_size": 8, "accumulate": 3}, "multiple of accumulate"),
        ("debug_stage2", {"offload": True, "zero": 1}, "offload needs ZeRO stage 2 or 3"),
        ("debug_stage2", {"offload": True}, "offload needs ZeRO stage 2 or 3"),
        ("lite_stage2", {"load_in_4bit": True, "zero": 3}, "cannot shard 4-bit"),
        ("lite_stage2", {"load_in_4bit": True, "tune": "full"}, "cannot be trained"),
        ("lite_stage1", {"load_in_4bit": True}, "for stage 2"),
        ("world_stage2", {"batches": "alike"}, "alike is for stage 1"),
        ("world_stage2", {"evaluate_rows": 3}, "evaluate_rows is for stage 2 with evaluation"),
        ("lite_stage2", {"evaluation": "x"}, "evaluation needs data"),
    ],
)
def test_impossible_recipes_are_refused(name: str, changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        recipe(name, changes)


def test_ranks_must_share_the_batch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="multiple of 3"):
        training_arguments(recipe("debug_stage2", {}))


def test_help_has_every_field_with_its_meaning_and_the_recipes_default(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse(2, ["lite_stage2", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    about = Recipe.help()
    for f in fields(Recipe):
        if f.name not in ("name", "stage"):
            default = str(getattr(RECIPES["lite_stage2"], f.name)) or '""'
            assert " ".join(f"{about[f.name]} (default: {default})".split()) in shown.replace("- ", "-") or (
                f"--{f.name.replace('_', '-')}" in shown and f"(default: {default})" in shown
            )


def test_print_config_is_json_with_the_deepspeed_config(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse(2, ["world_stage2", "--zero", "2", "--neftune", "5", "--print-config"])
    shown = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert shown["neftune"] == 5.0 and shown["deepspeed"]["zero_optimization"]["stage"] == 2


def test_bad_options_exit_with_2():
    done = subprocess.run(
        [sys.executable, "train/stage1.py", "debug_stage1", "--zero", "7"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "zero is 7" in done.stderr


def test_a_missing_extra_is_said_before_a_run_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        command.run(lambda _: pytest.fail("it began"), RECIPES["debug_stage1"])
    said = capsys.readouterr().err.rstrip()
    assert stopped.value.code == 2 and said.endswith("it comes with pip install 'videollm[train]'")
