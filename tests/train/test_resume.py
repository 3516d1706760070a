"""A run that was killed while it wrote a checkpoint never goes on from that."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train import tiny
from train import clip, retrieval, stage1
from train.core.resume import COMPLETE, complete_checkpoint
from videollm.errors import ConfigError


@given(st.dictionaries(st.integers(1, 2000), st.booleans(), max_size=6))
def test_the_last_is_the_newest_whole_one(tmp_path_factory: pytest.TempPathFactory, found: dict[int, bool]):
    output = tmp_path_factory.mktemp("run")
    for step, whole in found.items():
        (output / f"checkpoint-{step}").mkdir()
        if whole:
            (output / f"checkpoint-{step}" / COMPLETE).write_text("adamw")
    steps = [step for step, whole in found.items() if whole]
    assert complete_checkpoint(output, "last", "adamw") == (str(output / f"checkpoint-{max(steps)}") if steps else None)
    assert complete_checkpoint(output, "", "adamw") is None
    for step, whole in found.items():
        named = str(output / f"checkpoint-{step}")
        if whole:
            assert complete_checkpoint(output, named, "adamw") == named
        else:
            with pytest.raises(ConfigError, match="not a complete checkpoint"):
                complete_checkpoint(output, named, "adamw")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside the pairs, out/checkpoint-2 of a run, with a note in its log, and the same torn as out/checkpoint-4."""
    made = tmp_path_factory.mktemp("resume")
    tiny.make(made)
    retrieval.train(tiny.recipe(made, save_every=2))
    whole, torn = (made / "out" / f"checkpoint-{step}" for step in (2, 4))
    shutil.rmtree(torn, ignore_errors=True)
    shutil.copytree(whole, torn)
    (torn / COMPLETE).unlink()
    weights = (torn / "trained.safetensors").read_bytes()
    (torn / "trained.safetensors").write_bytes(weights[: len(weights) // 2])
    state = json.loads((whole / "trainer_state.json").read_text())
    (whole / "trainer_state.json").write_text(json.dumps(state | {"log_history": [{"step": 2, "note": 1.0}]}))
    return made


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (retrieval.main, ["debug", "--backbone", "local-dir:clip", "--data", "pairs.jsonl"]),
        (clip.main, ["clip_debug", "--data", "pairs.jsonl"]),
        (stage1.main, ["debug_stage1"]),
    ],
    ids=["retrieval", "clip", "stage1"],
)
def test_a_torn_checkpoint_is_refused_in_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[list[str]], None],
    arguments: list[str],
):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--resume", "out/checkpoint-4", "--output", "new"])
    assert stopped.value.code == 2
    assert "out/checkpoint-4 is not a complete checkpoint" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("first", "then"), [("adamw", "muon"), ("muon", "adamw")])
def test_another_optimizer_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], first: str, then: str
):
    monkeypatch.chdir(tmp_path)
    arguments = ["debug_stage1", "--output", "run", "--save-every", "1", "--resume", "last"]
    stage1.main([*arguments, "--optimizer", first])
    with pytest.raises(SystemExit) as stopped:
        stage1.main([*arguments, "--optimizer", then])
    assert stopped.value.code == 2
    refused = capsys.readouterr().err.splitlines()[-1]
    assert f"has the state of the optimizer '{first}', and this run uses '{then}'" in refused


def test_the_last_whole_one_is_gone_on_from(folder: Path):
    recipe = tiny.recipe(folder, save_every=2, epochs=2)
    retrieval.train(recipe.changed(resume="last"))  # over the torn one
    assert complete_checkpoint(folder / "out", "last", "adamw") == str(folder / "out/checkpoint-8")
    state = json.loads((folder / "out/checkpoint-8/trainer_state.json").read_text())
    assert {"step": 2, "note": 1.0} in state["log_history"]
