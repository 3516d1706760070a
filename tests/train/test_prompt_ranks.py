"""Prompt tuning on two ranks, with DDP and with DeepSpeed, against one process with the same batches."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.train import processes
from tests.train.rows import write_rows
from train.configs.stage2 import DEBUG_STAGE2, InstructionRecipe
from train.core.trainer import run_task
from train.data.rows import InstructionRows
from train.tasks.instruction import InstructionTask
from train.tasks.video_llm import starting_model
from videollm import checkpoint

ADAPTER = "adapter/adapter_model.safetensors"
STEPS = 9  # three epochs of twelve rows in batches of four


def recipe(folder: Path, output: str, zero_stage: int) -> InstructionRecipe:
    files = {"data": str(folder / "rows.jsonl"), "features": str(folder / "features"), "init": ""}
    return DEBUG_STAGE2.changed(
        **files, output=str(folder / output), tune="adapter", adapter="prompt", virtual_tokens=3, lora_r=0,
        zero_stage=zero_stage, batch_size=4, epochs=3, log_every=1, save_every=3, conversation_tokens=900,
        learning_rate=2e-3,
    )  # fmt: skip


def train(folder: str, output: str, zero_stage: int) -> None:
    """Trains, and keeps the prompt that this rank holds at the end."""
    task = InstructionTask(recipe(Path(folder), output, zero_stage))
    run_task(task)
    tokens = task.model.llm.virtual_tokens
    assert tokens is not None
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    save_file({"prompt": tokens.weight.detach().float()}, Path(folder) / f"{output}-rank{rank}.safetensors")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the rows, in which one process has trained."""
    folder = tmp_path_factory.mktemp("prompt")
    write_rows(folder / "rows.jsonl")
    processes.run(train, str(folder), "one", 0, log=folder / "one.log")
    return folder


def logged(output: Path) -> tuple[list[float], list[float]]:
    """The loss and the norm of the gradient at each step."""
    history = json.loads((output / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())["log_history"]
    steps = [entry for entry in history if "loss" in entry]
    return [entry["loss"] for entry in steps], [entry["grad_norm"] for entry in steps]


def test_gradients_come_in_one_order_whatever_the_rows_show(one: Path):
    """DeepSpeed adds the gradients of ranks in the order in which they come."""
    task = InstructionTask(recipe(one, "none", 0))
    names = [row.id for row in InstructionRows([str(one / "rows.jsonl")])]
    llm = task.module.train()
    orders: dict[str, list[str]] = {"video": [], "text": []}
    for kind, chosen in (("video", ("0", "1")), ("text", ("text", "text2"))):
        hooks = [
            parameter.register_post_accumulate_grad_hook(lambda _, name=name, kind=kind: orders[kind].append(name))
            for name, parameter in llm.named_parameters()
            if parameter.requires_grad
        ]
        llm(**task.collate([task.rows[names.index(name)] for name in chosen]))["loss"].backward()
        for hook in hooks:
            hook.remove()
    assert len(orders["video"]) > 10 and "virtual_tokens.weight" in orders["video"]
    assert orders["text"] == orders["video"]


@pytest.mark.parametrize("zero_stage", [0, 2])
def test_two_ranks_tune_one_prompt_as_one_process_does(one: Path, zero_stage: int):
    output = f"two{zero_stage}"
    processes.run(train, str(one), output, zero_stage, ranks=2, log=one / f"{output}.log")
    first, second, alone = (
        load_file(one / f"{name}.safetensors")["prompt"] for name in (f"{output}-rank0", f"{output}-rank1", "one-rank0")
    )
    started = starting_model(recipe(one, "none", 0)).llm.virtual_tokens
    assert started is not None and not torch.allclose(alone, started.weight.float(), atol=1e-3)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, atol=5e-5, rtol=0)
    (losses, norms), (losses_alone, norms_alone) = logged(one / output), logged(one / "one")
    assert len(losses) == STEPS
    assert losses == pytest.approx(losses_alone, abs=1e-3) and norms == pytest.approx(norms_alone, rel=1e-2)
    saved = load_file(one / output / ADAPTER)
    assert torch.equal(saved["prompt_embeddings"], first)
    loaded = checkpoint.load(str(one / output))
    assert loaded.llm.virtual_tokens is not None and torch.equal(loaded.llm.virtual_tokens.weight.cpu(), first)
