"""Recipes: every shipped one is complete, impossible ones say why, and the command line explains each field."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fork_server import python
from train.configs.base import Recipe, leaves
from train.configs.clip import CLIPS
from train.configs.decoding import DECODING
from train.configs.dense import DENSE
from train.configs.recognition import RECOGNITION
from train.configs.retrieval import RETRIEVAL
from train.configs.rl import RL
from train.configs.stage1 import STAGE1
from train.configs.stage2 import STAGE2
from train.configs.stages import PresetRecipe
from train.core import command
from train.core.arguments import deepspeed_config, training_arguments
from train.core.command import parse
from videollm.errors import ConfigError
from videollm.models.motion import StemModule
from videollm.models.temporal import build_temporal

ROOT = Path(__file__).parents[2]
FAMILIES: dict[str, Mapping[str, Recipe]] = {
    "stage1": STAGE1, "stage2": STAGE2, "decoding": DECODING, "dense": DENSE, "clip": CLIPS, "retrieval": RETRIEVAL,
    "recognize": RECOGNITION, "rl": RL,
}  # fmt: skip
STAGES = {**STAGE1, **STAGE2, **DECODING, **DENSE}


@pytest.mark.parametrize("name", STAGES)
def test_every_recipe_is_complete(name: str):
    made = STAGES[name]
    assert made.name == name
    config, parallelism = deepspeed_config(made), made.parallelism
    assert (config is None) == (parallelism.zero_stage == 0)
    if config is not None:
        zero = config["zero_optimization"]
        assert zero["stage"] == parallelism.zero_stage
        assert ("offload_optimizer" in zero) == parallelism.offload
        assert ("offload_param" in zero) == (parallelism.offload and parallelism.zero_stage == 3)
    if isinstance(made, PresetRecipe) and made.network.model:  # others take that of a checkpoint
        assert made.model_config.name == made.network.model
        assert made.model_config.llm.load_in_4bit == name.endswith("qlora") or "_qlora_zero" in name


def test_there_are_variants_of_each_large_recipe():
    for base in ("clip_b32_smollm2_stage1", "clip_l14_qwen7b_stage2"):
        for variant in ("zero1", "zero2", "zero3", "zero2_offload", "zero3_offload"):
            assert f"{base}_{variant}" in STAGES
    assert "clip_l14_qwen7b_stage2_qlora_zero2" in STAGE2 and "clip_l14_qwen7b_stage2_qlora_zero3" not in STAGE2


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("debug_stage1", {"colour": 1}, "no field colour"),
        ("debug_stage1", {"zero_stage": 4}, "zero_stage is 4"),
        ("debug_stage1", {"batch_size": 0}, "batch_size is 0"),
        ("debug_stage1", {"num_videos": 1}, "less than batch_size"),
        ("debug_stage1", {"contrastive": 0.0, "caption": 0.0}, "no loss has a weight"),
        ("debug_stage1", {"itc": 1.0}, "give data"),
        ("debug_stage1", {"init": "x"}, "AlignmentRecipe has no field init"),
        ("debug_stage1", {"audio": 1.0, "data": "x", "features": "none"}, "audio needs a model that hears"),
        ("debug_stage1", {"overlapped": True}, "overlapped needs data"),
        ("debug_stage1", {"batches": "alike"}, "alike needs data"),
        ("clip_b32_smollm2_stage1", {"batches": "alike", "data": "a=1,b=2"}, "leave out the weights"),
        ("clip_b32_smollm2_stage1", {"batches": "alike", "features": "none", "workers": 0}, "must be kept"),
        ("clip_b32_smollm2_stage1", {"features": "none", "workers": 2}, "workers is 2"),
        ("debug_stage2", {"tune": "adapter"}, "tune is adapter, but debug has none"),
        ("debug_stage2", {"batch_size": 8, "gradient_accumulation_steps": 3}, "multiple of gradient_accumulation"),
        ("debug_stage2", {"offload": True, "zero_stage": 1}, "offload needs ZeRO stage 2 or 3"),
        ("debug_stage2", {"offload": True}, "offload needs ZeRO stage 2 or 3"),
        ("debug_stage2", {"batches": "length"}, "batches length needs data"),
        ("debug_stage2", {"lora_r": -1}, "lora_r is -1"),
        ("debug_stage2", {"adapter": "dora"}, "dora is about a new adapter"),
        ("debug_stage2", {"adapter": "ia3", "lora_r": 4}, "an adapter ia3 has no rank"),
        ("debug_stage2", {"adapter": "prompt", "lora_r": 4}, "an adapter prompt has no rank"),
        ("debug_stage2", {"adapter": "prompt", "virtual_tokens": 0}, "virtual_tokens is 0"),
        ("debug_stage2", {"neftune": -1.0}, "neftune is -1"),
        ("debug_stage2", {"itc": 1.0}, "InstructionRecipe has no field itc"),
        ("lite_stage2", {"load_in_4bit": True, "zero_stage": 3}, "cannot shard 4-bit"),
        ("lite_stage2", {"load_in_4bit": True, "tune": "full"}, "cannot be trained"),
        ("clip_b32_smollm2_stage2", {"features": "none", "workers": 0}, "kept features"),
        ("world_stage2", {"evaluate_rows": 3}, "evaluate_rows needs eval_data"),
        ("world_stage2", {"zero_stage": 3, "optimizer": "adamw"}, "would divide the frozen projector"),
        ("hub_stage2", {"tune": "language_model", "data": "x"}, "use tune adapter, projector or full"),
        ("hub_stage2", {"adapter": "prompt", "lora_r": 0, "data": "x"}, "take lora, dora or ia3"),
        ("world_frames", {"frames": 0.0}, "no loss has a weight"),
        ("world_frames", {"model": "lite"}, "has no tower to train"),
        ("world_events", {"stem": "none"}, "the model has no motion stem"),
        ("world_frames", {"stem": "none", "frames": 0.0, "mvm": 1.0}, "the model has no motion stem"),
        ("world_frames", {"regions": 1.0}, "events and captions need whole clips"),
        ("world_frames", {"events": 1.0}, "events and captions need whole clips"),
        ("world_events", {"data": "x"}, "draws its clips"),
        ("world_frames", {"zero_stage": 3}, "zero_stage 3 does not fit"),
        ("lite_stage2", {"eval_data": "x"}, "eval_data needs data"),
        ("debug_decoding", {"data": ""}, "data is empty"),
        ("debug_decoding", {"workers": 1}, "set workers 0"),
        ("debug_decoding", {"zero_stage": 3}, "would divide the rows of the signal tokens"),
    ],
)
def test_impossible_recipes_are_refused(name: str, changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        STAGES[name].changed(**changes)


def test_the_stem_is_one_word_of_a_gpu_recipe():
    made = STAGE1["clip_b32_smollm2_stage1"].changed(stem="motion", temporal="attentive")
    patches = 7 * 7  # of a ViT-B/32
    module = build_temporal(made.model_config.temporal, 768, 2048, patches)
    assert isinstance(module, StemModule)
    tokens = module(torch.zeros(1, 8, patches, 768), torch.arange(8.0)[None], torch.ones(1, 8, dtype=torch.bool))
    assert tokens.shape == (1, 32, 2048)


def test_a_head_that_this_training_cannot_train_is_refused():
    with pytest.raises(ConfigError, match=r"head videoclip reads features of a 3D network.*videollm import-official"):
        RETRIEVAL["world"].changed(head="videoclip")


def test_ranks_must_share_the_batch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="multiple of 3"):
        training_arguments(STAGE2["debug_stage2"])


@pytest.mark.parametrize("instructions", [set(), {"avx512_bf16"}, {"amx_bf16"}])
def test_a_cpu_without_bfloat16_computes_in_float32(instructions: set[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
    monkeypatch.setenv("VIDEOLLM_DEVICE", "cpu")
    assert training_arguments(STAGE2["world_stage2"]).bf16 == bool(instructions)
    assert not training_arguments(STAGE2["world_stage2"].changed(bf16=False)).bf16


@pytest.mark.parametrize("family", FAMILIES)
def test_no_field_of_any_recipe_lacks_help_and_names_are_unique(family: str):
    """A name that two parts of a recipe shared would be one option for two fields."""
    for made in FAMILIES[family].values():
        found = [f for _, f, _ in leaves(made)]
        assert [f.name for f in found if len(f.metadata.get("help", "")) < 10] == []
        assert len({f.name for f in found}) == len(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_help_shows_every_field_with_its_meaning_and_the_recipes_default(
    family: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "1000")  # so that argparse breaks no line
    *_, made = FAMILIES[family].values()
    with pytest.raises(SystemExit):
        parse(FAMILIES[family], "About.", [made.name, "--help"])
    shown = capsys.readouterr().out
    for _, f, value in leaves(made):
        assert f"--{f.name.replace('_', '-')} " in shown
        assert f"{f.metadata['help']} (default: {str(value) or repr('')})" in shown


def test_print_config_is_json_with_the_deepspeed_config(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse(STAGE2, "About.", ["lite_stage2", "--zero-stage", "2", "--neftune", "5", "--print-config"])
    shown = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert shown["tuning"]["neftune"] == 5.0 and shown["deepspeed"]["zero_optimization"]["stage"] == 2


@pytest.mark.parametrize(
    "words",
    [["--learning-rate", "0.5"], ["--learning_rate", "0.5"], ["--optimizer.learning_rate", "0.5"],
     ["--optimizer.learning-rate=0.5"], ["--learning_rate=0.5"]],
)  # fmt: skip
def test_an_option_may_be_written_in_each_usual_way(words: list[str]):
    made = parse(STAGE1, "About.", ["debug_stage1", *words])
    assert made == STAGE1["debug_stage1"].changed(learning_rate=0.5)


def test_an_option_of_another_part_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse(STAGE1, "About.", ["debug_stage1", "--dataset.learning_rate", "0.5"])
    assert ended.value.code == 2 and "--dataset.learning_rate" in capsys.readouterr().err


def test_bad_options_exit_with_2():
    words = ["train/stage1.py", "debug_stage1", "--zero-stage", "7"]
    done = subprocess.run([python(), *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "zero_stage is 7" in done.stderr


def test_a_missing_extra_is_said_before_a_run_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        command.run(lambda _: pytest.fail("it began"), STAGE1["debug_stage1"])
    said = capsys.readouterr().err.rstrip()
    assert stopped.value.code == 2 and said.endswith("install the extra with pip install 'videollm[train]'")
