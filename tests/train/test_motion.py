"""The experiment about motion and order, at toy size: it goes from nothing to the table, and makes nothing twice."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from train import dense, stage2
from train.configs.dense import WORLD_EVENTS
from train.experiments import projectors
from train.experiments.motion import KINDS, main
from train.experiments.world_answers import SHUFFLES, TestClip, answered, controls
from videollm import checkpoint
from videollm.datasets.schema import read
from videollm.features.encode import SegmentFeatures


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motion")
    main(["--out", str(folder), "--scale", "0.001"])
    return folder


def test_every_score_stands_beside_its_controls(out: Path):
    found = json.loads((out / "table.json").read_text())
    for split in ("test", "unseen"):
        controls_of = {"shuffled", "reversed", "other clip"} if split == "test" else set()
        assert set(found[split]["kinds"]) == {"own", "words alone"} | controls_of
        assert set(found[split]["kinds"]["own"]) <= set(KINDS) and found[split]["questions"] > 10
        low, high = found[split]["intervals"]["all"]
        assert low <= found[split]["all"]["own"] <= high
        assert set(found[split]["readout"]["own"]) == {"kind", "event", "both events"}
    table = (out / "table.md").read_text()
    assert "| all |" in table and "| both events |" in table and "| frames |" in table
    assert (out / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_there_is_not_made_again(out: Path, monkeypatch: pytest.MonkeyPatch):
    for script in (dense, stage2):
        monkeypatch.setattr(script, "train", lambda recipe: pytest.fail("trained again"))
    before = {p: p.stat().st_mtime_ns for p in (out / "test.jsonl", out / "words/config.json", out / "table.json")}
    main(["--out", str(out), "--scale", "0.001"])
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_projectors_share_the_trained_tower_and_stem(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = "attentive, no stem"
    monkeypatch.setattr(projectors, "PROJECTORS", {name: projectors.PROJECTORS[name]})
    projectors.main(["--motion", str(out), "--out", str(tmp_path), "--clips", "16"])
    trained = load_file(out / "events" / "projector.safetensors")
    ended = load_file(tmp_path / "attentive-no_stem" / "events" / "projector.safetensors")
    assert all(torch.equal(ended[n], trained[n]) for n in ended if n.startswith("temporal.tower."))
    assert not any(".stem." in n for n in ended) and any(".stem." in n for n in trained)
    found = json.loads((tmp_path / "table.json").read_text())[name]
    assert found["parameters"] == sum(x.numel() for n, x in ended.items() if not n.startswith("temporal.tower."))
    assert len((tmp_path / "table.md").read_text().splitlines()) == 3

    merge = WORLD_EVENTS.changed(llm=str(out / "words"), temporal="merge")
    projectors.start(out, tmp_path / "start", merge)
    begun = load_file(tmp_path / "start" / "projector.safetensors")
    stem = [n for n in begun if n.startswith("temporal.module.stem.")]
    assert stem and all(torch.equal(begun[n], trained[n]) for n in stem)


def test_controls_move_frames_and_nothing_else():
    def clip(value: int) -> TestClip:
        frames = value + torch.arange(6.0)[:, None, None].expand(6, 3, 4)
        segment = SegmentFeatures(0.0, 3.0, frames, torch.arange(6) / 2, torch.ones(4), ())
        return TestClip(segment, torch.zeros(2, 3), ())

    clips = [clip(0), clip(10), clip(20), clip(30)]
    made = controls(clips)
    assert [s.tokens[0, 0, 0].item() for s in made["other clip"][0]] == [20, 30, 0, 10]
    assert len(made["shuffled"]) == SHUFFLES
    orders = []
    for shown in (*made["shuffled"], made["reversed"][0]):
        for own, other in zip(clips, shown, strict=True):
            assert torch.equal(other.times_s, own.segment.times_s)
            orders.append((other.tokens - own.segment.tokens[0, 0, 0])[:, 0, 0].tolist())
            assert sorted(orders[-1]) == [0, 1, 2, 3, 4, 5]
    assert orders[-1] == [5, 4, 3, 2, 1, 0] and len({tuple(o) for o in orders[:-4]}) > 4


def test_right_is_what_greedy_decoding_writes(out: Path):
    """The model's own greedy answer to a question counts as right, and any other as wrong."""
    model = checkpoint.load(str(out / "text"))
    samples = list(read(out / "test.jsonl"))[:6]
    clip = TestClip(
        SegmentFeatures(0.0, 3.0, torch.zeros(1), torch.zeros(1), torch.ones(1), ()), torch.zeros(2, 3), (*samples,)
    )
    right = answered(model, [clip], None)
    for sample, is_right in zip(samples, right, strict=True):
        question, answer = next(iter(sample.turns()))
        prompt = model.processor([*sample.messages[:-1]])
        ids = model.llm.generate(
            torch.tensor([prompt.ids]), max_new_tokens=40, do_sample=False,
            eos_token_id=sorted(model.processor.stop_ids),
            pad_token_id=model.processor.tokenizer.pad_token_id,
        )  # fmt: skip
        assert (model.processor.decode(ids[0].tolist()) == answer) == is_right, question
    assert right.dtype == np.bool_
