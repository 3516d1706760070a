"""Attacks on the files that the library reads: checkpoints, adapters, indexes and the feature cache."""

import json
import logging
import os
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from scripts.attack.attacks import Outcome, Target, attack
from videollm import checkpoint
from videollm.config import LanguageModelConfig, LoraConfig
from videollm.errors import CheckpointError
from videollm.features.cache import FeatureCache
from videollm.models.language import load_language_model, load_tokenizer
from videollm.presets import DEBUG
from videollm.retrieval.index import Index

RANK = 1 << 40  # terabytes


@attack("refused without asking, nothing runs")
def code_in_a_checkpoint(target: Target) -> Outcome:
    """Standard input would answer "yes" to every question."""
    folder, mark = target.folder / "code", target.folder / "ran"
    folder.mkdir()
    (folder / "own.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    auto = {"AutoConfig": "own.A", "AutoModelForCausalLM": "own.B", "AutoTokenizer": ["own.C", None]}
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text(json.dumps({"model_type": "own", "tokenizer_class": "C", "auto_map": auto}))
    said, stdin = [], sys.stdin
    with TemporaryFile("w+") as yes:
        yes.write("y\n" * 9)
        yes.seek(0)
        sys.stdin = yes
        try:
            for load in (load_tokenizer, load_language_model):
                said.append(_refusal(load, LanguageModelConfig(source=str(folder))))
        finally:
            sys.stdin = stdin
    good = all("never run" in reason for reason in said) and not mark.exists()
    return Outcome(f"{len(said)} loads refused; ran: {mark.exists()}", good)


@attack("one CheckpointError that names the file")
def damaged_adapters(target: Target) -> Outcome:
    saved, adapter = target.folder / "adapter", "adapter/adapter_model.safetensors"
    lora = LoraConfig(r=2, targets=("q_proj", "v_proj"))
    checkpoint.save(checkpoint.build(replace(DEBUG, llm=replace(DEBUG.llm, lora=lora))), saved)

    def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
        def damage(folder: Path) -> None:
            state = load_file(folder / adapter)
            change(state)
            save_file(state, folder / adapter)

        return damage

    def settings(**values: object) -> Callable[[Path], object]:
        def damage(folder: Path) -> None:
            file = folder / "adapter/adapter_config.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | values))

        return damage

    damages = (
        tensors(lambda state: state.update({"base_model.model.lm_head.weight": torch.zeros(2, 2)})),
        tensors(lambda state: state.pop(min(state))),
        tensors(lambda state: state[min(state)].fill_(torch.nan)),
        settings(r=RANK),
        settings(target_modules="((.*)*)*x"),
        lambda folder: (folder / adapter).write_bytes((folder / adapter).read_bytes()[:-50]),
        lambda folder: (folder / "config.json").write_text("[" * 100_000),
    )
    said = []
    for number, damage in enumerate(damages):
        folder = target.folder / f"adapter{number}"
        shutil.copytree(saved, folder)
        damage(folder)
        said.append(_refusal(checkpoint.load_directory, folder))
    refused = sum("adapter" in reason or "config.json" in reason for reason in said)
    return Outcome(f"{refused} of {len(damages)} refused", refused == len(damages))


def _refusal(load: Callable[[Any], object], source: Any) -> str:
    """Returns what the loading of a source is refused with, "" if it is not."""
    try:
        load(source)
    except CheckpointError as error:
        return str(error)
    return ""


@attack("answers are about the new one")
def an_index_deleted_and_made_again(target: Target) -> Outcome:
    """While the server has the old one open. The files that are derived from the old one stay."""
    query = {"query": "red", "limit": 1}
    (old,) = target.post("/v1/videos/search", query).json()["data"]
    for table in target.index.glob("*.lance"):
        shutil.rmtree(table)
    Index.create(target.index, "debug").update([target.root / "inside/clip.mp4"])
    (new,) = target.post("/v1/videos/search", query).json()["data"]
    names = [Path(one["video"]).name for one in (old, new)]
    return Outcome(" then ".join(names), names == ["secret.mp4", "clip.mp4"] and old["score"] != new["score"])


@attack("made again from the tables")
def derived_files_cut_and_changed(target: Target) -> Outcome:
    query = {"query": "red", "limit": 1}
    before = target.post("/v1/videos/search", query).json()["data"]
    same = []
    for content in (b"", b"changed"):
        for rows in target.index.glob("local/vectors-*/float32.npy"):
            damaged = rows.read_bytes()[:-8] + content
            rows.unlink()  # the server has mapped this file, and keeps it until it looks for a new one
            rows.write_bytes(damaged)
        vectors = Index.open(target.index)  # as a server that starts
        same.append(len(vectors.vectors or ()) > 0)
    after = target.post("/v1/videos/search", query)
    good = all(same) and after.is_success and after.json()["data"] == before
    return Outcome(f"rebuilt {sum(same)} times, search {after.status_code}", good)


@attack("a miss, said once, nothing left")
def a_full_feature_cache(target: Target) -> Outcome:
    cache, tensors = FeatureCache(target.folder / "features"), {"x": torch.zeros(1 << 20)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    logging.disable(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        cache.put("a", tensors, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        logging.disable(logging.NOTSET)
    left = os.listdir(target.folder / "features")
    return Outcome(
        f"{'hit' if cache.get('a') else 'miss'}, {len(left)} files left", not left and cache.get("a") is None
    )


ATTACKS = (
    code_in_a_checkpoint,
    damaged_adapters,
    a_full_feature_cache,
    derived_files_cut_and_changed,
    an_index_deleted_and_made_again,
)
