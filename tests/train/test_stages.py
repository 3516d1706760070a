"""Both stages for real, at toy size: plain python, two ranks of DeepSpeed, killed and resumed, on simulated and on real
videos."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.train import processes
from tests.train.rows import write_rows
from train import stage1, stage2
from train.configs.stage1 import DEBUG_STAGE1
from train.configs.stage2 import CHECKPOINT_STAGE2, DEBUG_STAGE2, STAGE2
from train.tasks.video_llm import starting_model
from videollm import checkpoint
from videollm.chat.caption import caption
from videollm.errors import ConfigError
from videollm.features.encode import encode_video
from videollm.model import SHIPPED, projector_state
from videollm.models.aligner import load_aligner
from videollm.models.visual_prompting import VisualBatch

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "scripts/samples/sample.mp4"
LOSSES = ("contrastive", "caption", "itc", "itm", "itg", "mlm", "mfm", "mvm", "order", "verbs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def rows(folder: Path) -> Path:
    return write_rows(folder / "rows.jsonl")


@pytest.fixture(scope="module")
def aligned(folder: Path, rows: Path) -> Path:
    """Stage 1 on real rows, with every loss."""
    output = folder / "stage1"
    arguments = ["debug_stage1", "--data", str(rows), "--eval-data", str(rows), "--output", str(output)]
    arguments += ["--features", str(folder / "features"), "--batch-size", "4", "--save-every", "2", "--epochs", "2"]
    for loss in LOSSES:
        arguments += [f"--{loss}", "1"]
    stage1.main(arguments)
    return output


def stage2_arguments(folder: Path, rows: Path, aligned: Path, output: str, *more: str) -> list[str]:
    fixed = ["debug_stage2", "--data", str(rows), "--init", str(aligned), "--output", str(folder / output)]
    fixed += ["--features", str(folder / "features"), "--conversation-tokens", "900", "--batch-size", "4"]
    return [*fixed, "--epochs", "3", "--save-every", "2", "--log-every", "1", *more]


def losses(output: Path) -> list[tuple[int, float]]:
    last = max(output.glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [(h["step"], h["loss"]) for h in history if "loss" in h]


def weights(output: Path) -> dict[str, torch.Tensor]:
    return {f"{p.name}/{k}": v for p in output.rglob("*.safetensors") if "checkpoint-" not in str(p)
            for k, v in load_file(p).items()}  # fmt: skip


def test_after_stage1_one_checkpoint_captions_and_searches(aligned: Path):
    before = projector_state(checkpoint.build(DEBUG_STAGE1.model_config).llm)
    after = load_file(aligned / "projector.safetensors")
    assert before.keys() == after.keys() and any(not torch.equal(before[k], after[k]) for k in before)
    model = checkpoint.load(str(aligned))
    video = encode_video(SAMPLE, model.encoder, model.config.sampling)
    assert caption(model, video).receipt.visual_tokens > 0

    aligner = load_aligner(aligned, model.llm.temporal, model.processor.tokenizer)
    segments = video.segments(model.config, model.encoder.vocabulary)
    embeds = aligner.embed_segments(VisualBatch.pad([s.tokens for s in segments], [s.times_s for s in segments]))
    texts = aligner.embed_texts(["A cat.", "A cup of coffee with a spoon."])
    scores = aligner.similarity(embeds, texts)
    assert scores.shape == (len(segments), 2) and scores.abs().max() <= 1.0001
    torch.testing.assert_close(aligner.embed_texts(["A cat."]), texts[:1])  # padding is not seen


def test_a_finished_run_says_what_it_was(aligned: Path, rows: Path):
    card = (aligned / "card.md").read_text()
    assert hashlib.sha256(rows.read_bytes()).hexdigest() in card
    for word in ("training loss", "eval_loss", "kept: checkpoint-", "peak memory", "cores", "recipe `debug_stage1`"):
        assert word in card
    assert (aligned / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_checkpoint_is_the_one_that_is_kept(aligned: Path):
    state = json.loads((max(aligned.glob("checkpoint-*")) / "trainer_state.json").read_text())
    held_out = {h["step"]: h["eval_loss"] for h in state["log_history"] if "eval_loss" in h}
    best = min(held_out, key=held_out.__getitem__)
    assert len(held_out) > 1 and state["best_model_checkpoint"].endswith(f"checkpoint-{best}")
    kept = load_file(aligned / f"checkpoint-{best}" / "trained.safetensors")
    assert all(torch.equal(v, kept[f"llm.{k}"]) for k, v in load_file(aligned / "projector.safetensors").items())


@pytest.mark.parametrize(
    ("zero", "more"),
    [
        ("0", ["--neftune", "5", "--batches", "length"]),
        ("2", ["--tune", "adapter", "--lora-r", "4"]),
        ("0", ["--tune", "adapter", "--adapter", "prompt", "--virtual-tokens", "3"]),
        ("3", ["--tune", "full", "--gradient-checkpointing", "true"]),
    ],
    ids=["plain", "zero2", "prompt", "zero3"],
)
def test_killed_and_resumed_it_ends_as_if_nothing_had_happened(
    folder: Path, rows: Path, aligned: Path, zero: str, more: list[str]
):
    name = zero + ("prompt" if "prompt" in more else "")
    ranks, log = (2 if zero != "0" else 1), folder / f"zero{name}.log"

    def arguments(output: str) -> list[str]:
        return stage2_arguments(folder, rows, aligned, output, "--zero-stage", zero, "--resume", "last", *more)

    whole, again = folder / f"whole{name}", folder / f"again{name}"
    processes.run(stage2.main, arguments(whole.name), ranks=ranks, log=log)
    killed = processes.start(stage2.main, arguments(again.name), ranks=ranks, log=log)
    processes.kill_once(again / "checkpoint-2" / "complete", killed)
    assert not (again / "projector.safetensors").exists()
    processes.run(stage2.main, arguments(again.name), ranks=ranks, log=log)

    a, b = weights(whole), weights(again)
    assert a.keys() == b.keys() and len(losses(whole)) == 9
    assert losses(whole) == losses(again)
    assert all(torch.equal(a[k], b[k]) for k in a)
    started = projector_state(checkpoint.load_directory(aligned).llm)
    assert any(not torch.equal(a[f"projector.safetensors/{k}"], v) for k, v in started.items())
    loaded = checkpoint.load(str(whole))
    if zero == "3":
        assert loaded.config.llm.source == "own:language_model"
        went_on = starting_model(DEBUG_STAGE2.changed(init=str(whole), frozen_dtype="float32")).llm.state_dict()
        assert all(torch.equal(went_on[k], v) for k, v in loaded.llm.state_dict().items())
        for recipe in (DEBUG_STAGE2, CHECKPOINT_STAGE2):
            made = starting_model(recipe.changed(init=str(whole), tune="language_model", frozen_dtype="float32"))
            assert all(parameter.requires_grad for parameter in made.llm.language_model.parameters())
            assert not any(parameter.requires_grad for parameter in made.llm.temporal.parameters())
    if zero == "2":
        with pytest.raises(ConfigError, match=r"has an adapter.*tune full.*videollm export"):
            starting_model(DEBUG_STAGE2.changed(init=str(whole), tune="full"))


def test_two_ranks_train_like_one(folder: Path, rows: Path, aligned: Path):
    """The launcher itself, too."""
    common = ["--tune", "adapter", "--lora-r", "4"]
    stage2.main(stage2_arguments(folder, rows, aligned, "one", *common))
    command = [str(Path(sys.executable).parent / "deepspeed"), "--num_accelerators", "2"]
    command += ["--master_port", str(29600 + os.getpid() % 300), "train/stage2.py"]
    arguments = stage2_arguments(folder, rows, aligned, "two", *common, "--zero-stage", "2")
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    one, two = weights(folder / "one"), weights(folder / "two")
    assert one.keys() == two.keys()
    assert [loss for _, loss in losses(folder / "two")] == pytest.approx(
        [loss for _, loss in losses(folder / "one")], abs=1e-3
    )
    assert all(torch.allclose(one[k], two[k], atol=1e-3) for k in one)


def test_held_out_questions_are_answered_during_training(folder: Path, rows: Path, aligned: Path):
    more = ["--eval-data", str(rows), "--evaluate-rows", "2", "--save-every", "6"]
    stage2.main(stage2_arguments(folder, rows, aligned, "examined", *more))
    state = json.loads((folder / "examined" / "checkpoint-6" / "trainer_state.json").read_text())
    assert [h["eval_accuracy"] for h in state["log_history"] if "eval_accuracy" in h] == [0.0]
    assert "eval_accuracy" in (folder / "examined" / "card.md").read_text()


def test_simulated_videos_still_train(folder: Path):
    for stage, name in ((stage1, "simulated1"), (stage2, "simulated2")):
        init = ["--init", str(folder / "simulated1")] if stage is stage2 else []
        stage.main([f"debug_{stage.__name__.removeprefix('train.')}", "--output", str(folder / name), *init])
    assert checkpoint.load(str(folder / "simulated2")).config.name == "debug"


def test_stage2_goes_on_from_the_adapter_of_a_stage2_before():
    shipped = SHIPPED / "lite"
    model = starting_model(STAGE2["lite_stage2_short"].changed(init=str(shipped), frozen_dtype="float32"))
    saved, adapter = load_file(shipped / "adapter/adapter_model.safetensors"), model.llm.language_model.state_dict()
    assert saved
    for name, tensor in saved.items():
        assert torch.equal(adapter[name.replace(".weight", ".default.weight")], tensor)
    assert all(p.requires_grad for n, p in model.llm.named_parameters() if "lora_" in n)


@pytest.mark.parametrize(
    ("edit", "message"),
    [(lambda row: row.update(video="gone.mp4"), "row 0.*gone.mp4"), (lambda row: row.pop("task"), "row 1: .*no task")],
)
def test_bad_rows_are_named_and_end_with_2(tmp_path: Path, rows: Path, edit, message: str, capsys):
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    edit(lines[0])
    bad = tmp_path / "bad.jsonl"
    bad.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ["debug_stage1", "--data", str(bad), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        stage1.main(arguments)
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)
