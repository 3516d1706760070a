"""GRPO: what an answer is worth, the step's gradient, learning, and the command at toy size."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tests.train.rows import sample
from train import rl
from train.configs.rl import DEBUG_RL
from train.data.conversations import Conversations
from train.data.features import VideoFeatures
from train.data.rows import InstructionRows
from train.tasks.grpo import Policy, advantages, checkable, gain, reward
from videollm import checkpoint
from videollm.errors import ConfigError
from videollm.models.processor import IGNORE, Prompt
from videollm.presets import DEBUG

CHOICE = sample("choice", "choice/order", "What comes first?\nA. A cat\nB. A rocket", "A. A cat")
LOCATE = replace(
    sample("locate", "locate/event", "When is there coffee?", "From 0:04.0 to 0:08.0."), answer_times=((4.0, 8.0),)
)


@pytest.mark.parametrize(
    ("row", "text", "worth"),
    [
        (CHOICE, "A. A cat", 1),
        (CHOICE, " A", 1),
        (CHOICE, "B. A rocket", 0),
        (CHOICE, "a", 1),
        (CHOICE, "(A)", 1),
        (CHOICE, "A: a cat", 1),
        (CHOICE, "The answer is A", 1),
        (CHOICE, "The answer is B", 0),
        (CHOICE, "A rocket comes first.", 0),  # an article is no choice
        (CHOICE, "A cat", 0),
        (CHOICE, "C.", 0),  # there is no such option
        (CHOICE, "Aa", 0),
        (CHOICE, "", 0),
        (LOCATE, "From 0:04.0 to 0:08.0.", 1),
        (LOCATE, "It can be seen from 0:06 to 0:10.", 2 / 6),
        (LOCATE, "From 0:00:04 to 0:00:08", 1),
        (LOCATE, "From 0:08 to 0:04.", 0),
        (LOCATE, "At 0:05.", 0),
        (LOCATE, "From 0:04 to 0:08, then to 0:09.", 0),
        (LOCATE, "From 0:04.0 to 0:08.0.0.0", 0),  # this is no time
    ],
)
def test_answers_are_worth_what_they_say(row, text: str, worth: float):
    assert reward(row, text) == pytest.approx(worth)


def test_advantages_compare_answers_to_one_question():
    found = advantages(torch.tensor([[1.0, 0, 0, 1], [0.5, 0.5, 0.5, 0.5], [0, 0.2, 0.4, 0.6]]))
    torch.testing.assert_close(found[0], torch.tensor([1.0, -1, -1, 1]), atol=1e-3, rtol=0)
    assert not found[1].any()
    assert found.sum(1).abs().max() < 1e-5 and (found[2].diff() > 0).all()


def test_the_gain_has_an_interval_over_clips():
    clips = [str(i // 2) for i in range(200)]
    mean, low, high = gain([0.0] * 200, [0.0, 1.0] * 100, clips)
    assert (mean, low, high) == (0.5, 0.5, 0.5)  # every clip gains as much
    mean, low, high = gain([0.0] * 200, [1.0, 1.0, -1.0, -1.0] * 50, clips)
    assert mean == 0 and low < -0.1 < 0.1 < high


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A checkpoint that knows nothing, and rows."""
    checkpoint.save(checkpoint.build(DEBUG), tmp_path / "start")
    other = sample("caption", "caption/short", "Describe it.", "A cat.")
    (tmp_path / "rows.jsonl").write_text("".join(row.to_json() + "\n" for row in (CHOICE, other, LOCATE)))
    return tmp_path


def policy(folder: Path, worth, **changes) -> tuple[Policy, InstructionRows]:
    recipe = DEBUG_RL.changed(tokens=6, **changes)
    model = checkpoint.load_directory(folder / "start", trainable=True)
    model.llm.language_model.requires_grad_(True)
    rows = InstructionRows([str(folder / "rows.jsonl")], checkable)
    features = VideoFeatures.at(str(folder / "features"), model.encoder, model.config)
    return Policy(model, Conversations(rows, features, model.processor, 2048), recipe, worth), rows


def test_only_rows_that_can_be_checked_are_used(start: Path):
    _, rows = policy(start, reward)
    assert [row.id for row in rows] == ["choice", "locate"]


def test_the_loss_is_the_weighted_log_probability_of_the_answers(start: Path):
    """Against one pass for each answer alone."""
    made, rows = policy(start, reward, temperature=0.7)
    answers, weights = [[[70, 71, 1], [80, 1]], [[90, 1], [70, 1]]], torch.tensor([[0.5, -2.0], [1.5, 0.25]])
    expected, whole = torch.zeros(()), []
    for row, drawn, own in zip(rows, answers, weights, strict=True):
        asked = made.asked(row)
        whole.append([Prompt([*asked.ids, *a], [*[IGNORE] * len(asked), *a], asked.segments) for a in drawn])
        for ids, weight in zip(drawn, own, strict=True):
            log_p = F.log_softmax(
                made.model.llm(torch.tensor([[*asked.ids, *ids]]), asked.visual()).logits[0] / 0.7, -1
            )
            expected = expected + weight * sum(log_p[len(asked) - 1 + i, token] for i, token in enumerate(ids)) / 9
    torch.testing.assert_close(made.weighted_log_p(whole, weights), expected)


def test_drawn_answers_stop_at_their_end_and_greedy_ones_are_alike(start: Path):
    made, rows = policy(start, reward)
    prompt = made.asked(rows[0])
    drawn, stops = made.draw(prompt, 16), made.model.processor.stop_ids
    assert len(drawn) == 16 and len({tuple(ids) for ids in drawn}) > 1
    assert all(len(ids) <= 6 and not stops & set(ids[:-1]) for ids in drawn)
    assert made.draw(prompt, 1, greedy=True) == made.draw(prompt, 1, greedy=True)


def test_answers_that_are_worth_more_become_likelier(start: Path):
    def letters(row, text: str) -> float:
        return sum(c in "abcdefghij" for c in text) / 6

    torch.manual_seed(0)
    made, rows = policy(start, letters, group=8)
    one = [rows[0]]
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    before = made.examine(one)
    for _ in range(15):
        made(one)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    curve = made.curve
    assert made.examine(one)["drawn"][0] > before["drawn"][0] + 0.25 and curve[-1] > curve[0] + 0.25


def test_the_command_writes_a_checkpoint_and_the_curve(start: Path, capsys: pytest.CaptureFixture[str]):
    files = {"init": "start", "data": "rows.jsonl", "eval_data": "rows.jsonl", "output": "out", "features": "f"}
    rl.main(["debug_rl", *(word for k, v in files.items() for word in (f"--{k}", str(start / v)))])
    report = json.loads((start / "out/reward.json").read_text())
    assert [h["step"] for h in report["held_out"]] == [0, 2] and len(report["training"]) == 2
    assert "held-out reward, greedy: 0.000 to" in (start / "out/card.md").read_text()
    assert (start / "out/reward.png").read_bytes().startswith(b"\x89PNG")
    assert checkpoint.load(str(start / "out")).config.llm.source == "own:language_model"
    before, after = (load_file(start / name / "projector.safetensors") for name in ("start", "out"))
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["questions"] == 2


def test_bad_values_are_named():
    for changes, message in (({"group": 1}, "group is 1"), ({"temperature": 0.0}, "temperature is 0")):
        with pytest.raises(ConfigError, match=message):
            DEBUG_RL.changed(**changes)
