"""The comparison of projectors, at toy size: everything is written, and what is there is not made again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from train import stage1, stage2
from train.configs.clip import CLIPS
from train.experiments import compare_projectors
from train.experiments.compare_projectors import KINDS, PROJECTORS, main, shuffled
from train.tasks.backbone import save_backbone, towers
from train.tasks.heads import build_clip
from videollm import checkpoint
from videollm.features.encode import SegmentFeatures
from videollm.models.processor import IGNORE, Message, Prompt


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projectors")
    model = build_clip(CLIPS["clip_debug"])
    save_backbone(folder / "clip", *towers(model), model.logit_scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_projectors, "REPEATS", 2)
        for name in ("ALIGN", "RECIPE", "TEXT"):  # processors without products in bfloat16 take minutes for a step
            patch.setattr(compare_projectors, name, getattr(compare_projectors, name).changed(bf16=False))
        main(arguments(folder))
    return folder


def arguments(folder: Path) -> list[str]:
    return ["--out", str(folder), "--encoder", f"local-dir:{folder / 'clip'}", "--clips", "20", "--epochs", "0.2"]


def test_all_projectors_have_the_same_tokens_questions_and_start(out: Path):
    found = json.loads((out / "table.json").read_text())
    assert tuple(found) == PROJECTORS
    assert len({(f["tokens"], f["questions"]) for f in found.values()}) == 1
    for f in found.values():
        assert set(f["kinds"]) <= set(KINDS) and f["questions"] > 20
        assert f["interval"][0] <= f["all"] <= f["interval"][1]
        assert f["step_ms"] > 0 and f["first_token_ms"] > 0
        assert 0 <= f["unseen"] <= 1 and 0 <= f["in order, shuffled"] <= 1
    cards = [(out / kind / "card.md").read_text() for kind in PROJECTORS]
    assert len({next(line for line in card.splitlines() if "train.jsonl" in line and "sha256" in line)
                for card in cards}) == 1  # fmt: skip
    assert all("captions.jsonl" in (out / f"{kind}_stage1" / "card.md").read_text() for kind in PROJECTORS)
    assert len((out / "table.md").read_text().splitlines()) == 2 + len(found["pool"]["kinds"]) + 9
    assert (out / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_control_moves_frames_and_nothing_else():
    frames = torch.randn(6, 2, 4)
    segment = SegmentFeatures(0.0, 3.0, frames, torch.arange(6) / 2, torch.ones(4), ())
    made = shuffled(Prompt([1, 2], [IGNORE, 2], [segment]), np.random.default_rng(0))
    (other,) = made.segments
    assert (made.ids, made.labels) == ([1, 2], [IGNORE, 2]) and torch.equal(other.times_s, segment.times_s)
    assert not torch.equal(other.tokens, frames)
    assert sorted(other.tokens.flatten(1).tolist()) == sorted(frames.flatten(1).tolist())


def test_what_is_there_is_not_made_again(out: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compare_projectors, "REPEATS", 2)
    for stage in (stage1, stage2):
        monkeypatch.setattr(stage, "train", lambda recipe: pytest.fail("trained again"))
    before = {p: p.stat().st_mtime_ns for p in (out / "train.jsonl", out / "llm/config.json")}
    main([*arguments(out), "--projectors", "pool"])
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_right_is_what_greedy_decoding_writes(out: Path):
    """The model's own greedy answers count as right, and anything else as wrong."""
    model = checkpoint.load(str(out / "pool"))
    questions = [[Message("user", f"What is number {i}?")] for i in range(4)]
    made = []
    for asked in questions:
        prompt = model.processor(asked)
        ids = model.llm.generate(
            torch.tensor([prompt.ids]), max_new_tokens=12, do_sample=False,
            eos_token_id=sorted(model.processor.stop_ids), pad_token_id=1,
        )  # fmt: skip
        made.append((prompt, ids[0].tolist()))
    own = [prompt for prompt, _ in made]
    for prompt, ids in made:
        prompt.ids, prompt.labels = [*prompt.ids, *ids], [*prompt.labels, *ids]
    assert compare_projectors.answered(model, own).all()
    for prompt in own[1:3]:
        wrong = (prompt.ids[-1] + 1) % 200 + 2
        prompt.ids[-1] = prompt.labels[-1] = wrong
    assert compare_projectors.answered(model, own).tolist() == [True, False, False, True]
