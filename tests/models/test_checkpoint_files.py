"""A damaged or hostile checkpoint directory is one CheckpointError that names the file, whatever is wrong in it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from videollm import checkpoint
from videollm.config import LoraConfig
from videollm.errors import CheckpointError
from videollm.presets import DEBUG

ADAPTER, PROJECTOR = "adapter/adapter_model.safetensors", "projector.safetensors"
SETTINGS, CONFIG = "adapter/adapter_config.json", "config.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    lora = LoraConfig(r=2, targets=("q_proj", "v_proj"))
    checkpoint.save(checkpoint.build(replace(DEBUG, llm=replace(DEBUG.llm, lora=lora))), directory)
    return directory


def tensors(file: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        state = load_file(directory / file)
        change(state)
        save_file(state, directory / file)

    return damage


def fields(file: str, **values: Any) -> Callable[[Path], None]:
    """Sets fields, whose names may be paths with two underlines between the parts."""

    def damage(directory: Path) -> None:
        record = json.loads((directory / file).read_text())
        for name, value in values.items():
            *above, last = name.split("__")
            inner = record
            for part in above:
                inner = inner[part]
            inner[last] = value
        (directory / file).write_text(json.dumps(record))

    return damage


def text(file: str, content: str) -> Callable[[Path], None]:
    return lambda directory: (directory / file).write_text(content) and None


def cut(file: str) -> Callable[[Path], None]:
    return lambda directory: (directory / file).write_bytes((directory / file).read_bytes()[:-50]) and None


def first(state: dict[str, torch.Tensor]) -> str:
    return min(state)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "extra head": (
        tensors(ADAPTER, lambda s: s.update({"base_model.model.lm_head.weight": torch.zeros(2, 2)})),
        ADAPTER,
    ),
    "missing tensor": (tensors(ADAPTER, lambda s: s.pop(first(s))), ADAPTER),
    "NaN": (tensors(ADAPTER, lambda s: s[first(s)].fill_(torch.nan)), ADAPTER),
    "whole numbers": (tensors(ADAPTER, lambda s: s.update({first(s): s[first(s)].int()})), ADAPTER),
    "wrong shape": (tensors(ADAPTER, lambda s: s.update({first(s): s[first(s)][:1]})), ADAPTER),
    "cut adapter": (cut(ADAPTER), ADAPTER),
    "projector of NaN": (tensors(PROJECTOR, lambda s: s[first(s)].fill_(torch.nan)), PROJECTOR),
    "cut projector": (cut(PROJECTOR), PROJECTOR),
    "terabytes of rank": (fields(SETTINGS, r=1 << 40), SETTINGS),
    "terabytes everywhere": (
        lambda d: [fields(SETTINGS, r=1 << 40)(d), fields(CONFIG, model__llm__lora__r=1 << 40)(d)],
        ADAPTER,
    ),
    "terabytes of width": (fields(CONFIG, model__temporal__width=1 << 40), PROJECTOR),
    "endless layers": (fields(CONFIG, model__temporal__layers=1 << 40), PROJECTOR),
    "hanging expression": (fields(SETTINGS, target_modules="((.*)*)*x"), SETTINGS),
    "other modules": (fields(SETTINGS, target_modules=["k_proj"]), SETTINGS),
    "another kind": (fields(SETTINGS, peft_type="BOFT"), SETTINGS),
    "modules beside": (fields(SETTINGS, modules_to_save=["lm_head"]), SETTINGS),
    "code": (fields(SETTINGS, auto_map={"AutoModel": "own.Model"}), "auto_map"),
    "cut settings": (cut(SETTINGS), SETTINGS),
    "cut config": (cut(CONFIG), CONFIG),
    "nested config": (text(CONFIG, "[" * 100_000), CONFIG),
    "no object": (text(CONFIG, "[]"), CONFIG),
    "no model": (text(CONFIG, '{"format": 1}'), CONFIG),
    "field of another type": (fields(CONFIG, model__temporal__width="wide"), CONFIG),
    "object for a number": (fields(CONFIG, model__temporal__width={}), CONFIG),
    "no towers": (fields(CONFIG, towers=[]), CONFIG),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_one_error_that_names_the_file(name: str, saved: Path, tmp_path: Path):
    damage, named = DAMAGES[name]
    directory = tmp_path / "damaged"
    shutil.copytree(saved, directory)
    damage(directory)
    with pytest.raises(CheckpointError) as refused:
        checkpoint.load_directory(directory)
    assert named in str(refused.value)


def test_an_undamaged_one_loads(saved: Path):
    assert checkpoint.load_directory(saved).config.llm.lora is not None


def test_the_inner_layers_of_an_ia3_are_checked(tmp_path: Path):
    ia3 = LoraConfig(kind="ia3")
    checkpoint.save(checkpoint.build(replace(DEBUG, llm=replace(DEBUG.llm, lora=ia3))), tmp_path)
    checkpoint.load_directory(tmp_path)
    fields(SETTINGS, feedforward_modules="((.*)*)*x")(tmp_path)
    with pytest.raises(CheckpointError, match="feedforward_modules"):
        checkpoint.load_directory(tmp_path)
