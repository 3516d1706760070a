"""Clips that follow one another, with both texts, in retrieval training and stage 1."""

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.train import tiny
from tests.train.rows import CAPTIONS, SAMPLE, sample
from train import retrieval, stage1
from train.configs.retrieval import RETRIEVAL
from train.configs.stage1 import STAGE1
from train.configs.stage2 import STAGE2
from train.data.batches import fits
from train.data.captions import Captions, MixedCaptions, PairCollator
from train.data.conversations import Conversations
from train.data.features import VideoFeatures
from train.data.mix import drawn_partners, joined, mixed_clips, mixed_texts, mixed_videos
from train.data.pair_batches import PairBatches
from train.data.pairs import read_pairs
from train.data.rows import InstructionRows
from train.tasks.backbone import towers
from train.tasks.contrastive import frame_features
from train.tasks.heads import build_retrieval_model
from train.tasks.losses import word_contrast
from videollm import checkpoint
from videollm.encoders.audio import AudioFeatures
from videollm.errors import ConfigError
from videollm.features.encode import encode_video
from videollm.features.shards import FeatureShards
from videollm.presets import DEBUG
from videollm.retrieval.inputs import words_of

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=9)


def clips(lengths: list[int], width: int = 7) -> dict[str, torch.Tensor]:
    """Clips whose frame t of clip i is 10 i + t + 1, with -1 in the padding."""
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    frames = torch.arange(width) + 10 * torch.arange(len(lengths))[:, None] + 1
    return {"frames": frames.where(mask, -1)[..., None].repeat(1, 1, 2), "mask": mask}


@given(LENGTHS, st.integers(0, 99))
def test_two_that_are_mixed_follow_each_other_and_others_stay(lengths: list[int], seed: int):
    torch.manual_seed(seed)
    partners = drawn_partners(range(len(lengths)))
    assert torch.equal(partners[partners], torch.arange(len(lengths)))
    made = mixed_clips(clips(lengths), partners)
    texts = mixed_texts(
        [f"It is {i}." for i in range(len(lengths))], [f"And {i}." for i in range(len(lengths))], partners
    )
    for i, j in enumerate(partners.tolist()):
        shown = made["frames"][i, made["mask"][i], 0].tolist()
        assert not made["frames"][i, ~made["mask"][i]].any()
        assert texts[i] == (f"It is {i}." if i == j else f"It is {i}. And {j}.")
        assert shown == (
            [*range(10 * i + 1, 10 * i + lengths[i] + 1)] if i == j else slowly(lengths, i) + slowly(lengths, j)
        )


def slowly(lengths: list[int], row: int) -> list[int]:
    """Half of the frames of a clip, at even steps, one by one."""
    count = max(1, lengths[row] // 2)
    return [10 * row + k * lengths[row] // count + 1 for k in range(count)]


def test_half_of_the_clips_are_mixed_and_never_with_their_own_video():
    torch.manual_seed(0)
    drawn = [drawn_partners([i // 2 for i in range(8)]) for _ in range(200)]
    mixed = [(p != torch.arange(8)).float().mean().item() for p in drawn]
    assert sum(mixed) / len(mixed) == pytest.approx(0.5 * 6 / 7, abs=0.05)  # of seven others, one shows the same video
    assert all(p[i] != i ^ 1 for p in drawn for i in range(8))


def test_sentences_follow_one_another_in_any_language():
    assert joined("A cat ", "A dog") == "A cat. A dog"
    assert joined("Is it?", "Yes.") == "Is it? Yes." and joined("一只猫。", "一只狗。") == "一只猫。 一只狗。"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("mix")
    tiny.make(made)
    return made


def test_mixed_features_are_those_of_mixed_frames(folder: Path):
    """A frozen tower's kept features are mixed as its frames would be."""
    shown, kept = (made(folder, visual=visual) for visual in ("train", "freeze"))
    (frames, ids), (features, same_ids) = ((b["batch"], b["batch"]["ids"]) for b in (shown[1], kept[1]))
    assert torch.equal(ids, same_ids) and torch.equal(frames["mask"], features["mask"])
    again = frame_features(shown[0], frames)
    real = frames["mask"]
    torch.testing.assert_close(again.embed[real], features["embed"][real], atol=1e-5, rtol=1e-4)


def made(folder: Path, **changes: str) -> tuple:
    recipe = tiny.recipe(folder, augment="mix", **changes)
    model = build_retrieval_model(recipe).eval()
    visual, text = towers(model)
    pairs = read_pairs(folder / "pairs.jsonl")
    batches = PairBatches(pairs, recipe, visual, 1, words_of(text, recipe.dataset.max_words))
    torch.manual_seed(3)
    return model, batches(list(range(8)))


def test_a_wrong_caption_is_followed_by_the_right_one_of_the_second_clip(folder: Path):
    recipe = tiny.recipe(folder, augment="mix", false_captions=True, max_words=77)
    model = build_retrieval_model(recipe)
    visual, text = towers(model)
    batches = PairBatches(read_pairs(folder / "pairs.jsonl"), recipe, visual, 1, words_of(text, 77))
    torch.manual_seed(3)
    batch, rows = batches([*range(8)])["batch"], batches.pairs[:8]
    told = {name: [tuple(ids.tolist()) for ids in batch[name]] for name in ("ids", "false_ids")}

    def ids(firsts: Iterable[str], other: int, own: int) -> list[tuple[int, ...]]:
        texts = [first if own == other else joined(first, rows[other].caption) for first in firsts]
        return [tuple(row.tolist()) for row in batches.words(texts)[0]]

    for i in range(8):
        (follows,) = [j for j in range(8) if told["ids"][i] in ids([rows[i].caption], j, i)]
        assert told["false_ids"][i] in ids(rows[i].false, follows, i)
    assert sum(told["ids"][i] != ids([rows[i].caption], i, i)[0] for i in range(8)) in (2, 4, 6)


def test_a_head_trains_on_mixed_clips_and_resumes_exactly(folder: Path, tmp_path: Path):
    def train(name: str, **changes: str) -> dict[str, torch.Tensor]:
        retrieval.train(tiny.recipe(folder, output=str(tmp_path / name), save_every=2, **changes))
        return load_file(tmp_path / name / "model.safetensors")

    plain, mixed = train("plain"), train("mixed", augment="mix")
    (tmp_path / "again").mkdir()
    (tmp_path / "mixed/checkpoint-2").rename(tmp_path / "again/checkpoint-2")
    again = train("again", augment="mix", resume="last")
    assert all(torch.equal(mixed[name], again[name]) for name in mixed)
    assert not all(torch.equal(mixed[name], plain[name]) for name in mixed)
    assert "| augment | mix |" in (tmp_path / "mixed/card.md").read_text()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    told = [
        sample(str(i), "caption/short", "Describe it.", text, start=start, end=end)
        for i, (start, end, text) in enumerate(CAPTIONS)
    ]
    path.write_text("".join(row.to_json() + "\n" for row in told))
    return path


def test_a_mixed_video_has_half_of_the_frames_and_all_of_the_sound_of_both():
    model = checkpoint.build(DEBUG)
    whole = encode_video(SAMPLE, model.encoder, model.config.sampling)
    first, second = whole.part(0.0, 6.0), whole.part(6.0, 12.0)
    heard = replace(second, audio=AudioFeatures(torch.ones(2, 4), torch.tensor([6.0, 8.0], dtype=torch.float64)))
    mixed = mixed_videos(second, replace(first, audio=None))
    one, two = len(second.times_s) // 2, len(first.times_s) // 2
    assert len(mixed.times_s) == len(mixed.features) == one + two and mixed.audio is None
    assert mixed.times_s[0] == second.times_s[0] and mixed.times_s[one] == second.end_s
    assert (mixed.times_s.diff() > 0).all() and mixed.end_s == pytest.approx(second.end_s + 6.0)
    assert torch.equal(mixed.features.embed[one], first.features.embed[0])
    assert whole.cuts and one in mixed.cuts and [*mixed.cuts] == sorted(set(mixed.cuts))
    starts = {0.0, *(float(first.times_s[cut]) for cut in first.cuts)}
    later = mixed.times_s[[cut for cut in mixed.cuts if cut >= one]] - second.end_s
    assert len(later) == len(starts) and all(min(abs(float(t) - s) for s in starts) < 1.0 for t in later)
    both = mixed_videos(first, heard).audio
    assert both is not None and both.times_s.tolist() == pytest.approx([6.0, 8.0], abs=0.5)  # where the first ends
    twice = mixed_videos(heard, heard).audio
    assert twice is not None and twice.times_s.tolist() == pytest.approx([6, 8, 12, 14])


def test_rows_of_stage_1_are_followed_by_others_as_their_number_says(rows: Path, tmp_path: Path):
    model, read = checkpoint.build(DEBUG), InstructionRows([str(rows)])
    features = VideoFeatures(encoder=model.encoder, config=model.config, shards=FeatureShards(tmp_path))
    prompts = Conversations(read, features, model.processor, 4000)
    mixed, plain = MixedCaptions(read, features, prompts), Captions(read, features, prompts)
    pairs, again = ([MixedCaptions(read, features, prompts)[draw] for draw in range(60)] for _ in range(2))
    assert [(p.text, p.groups) for p in pairs] == [(p.text, p.groups) for p in again]
    own = {plain[draw].text: plain[draw] for draw in range(len(plain))}
    several = [p for p in pairs if p.text not in own]
    assert 15 < len(several) < 40 and len(mixed) == len(plain)
    for pair in several:
        ((first, second),) = [(a, b) for a in own.values() for b in own.values() if joined(a.text, b.text) == pair.text]
        assert pair.groups[2:] == (*first.groups[:2], *second.groups[:2])
        assert pair.prompt is not None and first.prompt is not None and second.prompt is not None
        assert len(pair.prompt.segments) <= len(first.prompt.segments) + len(second.prompt.segments)
        assert f"{pair.text}<|im_end|>" in model.processor.tokenizer.decode([i for i in pair.prompt.ids if i >= 0])
    batch = PairCollator(model.processor.tokenizer, None, frozenset())(several[:3])["pairs"]
    assert batch.groups.shape == (3, 6)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8), st.randoms())
def test_a_mix_is_a_right_answer_to_its_parts_and_to_what_shares_its_whole(
    whole: list[tuple[int, int]], draw: random.Random
):
    """Against the definition. Numbers of videos are below 10, those of texts from 10 on, those of mixes from 100 on."""
    plain = [(video, 10 + text) for video, text in whole]
    mixed = [(a, b) for a in plain for b in plain if a != b and draw.random() < 0.3]
    groups = [pair * 3 for pair in plain] + [
        (100 + hash(m) % 10**9, 100 + hash(m[::-1]) % 10**9, *m[0], *m[1]) for m in mixed
    ]
    made = fits(torch.tensor(groups), torch.tensor(groups))
    for i, one in enumerate(groups):
        for j, other in enumerate(groups):
            either_plain = min(i, j) < len(plain)
            share = set(one) & set(other) if either_plain else set(one[:2]) & set(other[:2])
            assert bool(made[i, j]) == bool(share), (one, other)


def test_parts_of_a_mix_are_no_wrong_answers_to_its_words():
    """With the groups of a mix and its first part, both texts are right for both videos."""
    eye = torch.eye(3)
    part, other, mix = (1, 11, 1, 11, 1, 11), (2, 12, 2, 12, 2, 12), (3, 13, 1, 11, 4, 14)
    right = fits(*(torch.tensor([part, other, mix]),) * 2)
    assert right.tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    videos = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.7, 0, 0.7]])
    alike = word_contrast(videos, eye, torch.tensor(1.0), right)
    logits = videos @ eye.T
    naive = [
        -(logits if rows else logits.T).log_softmax(1)[i, j] / right[i].sum() / 3
        for rows in (True, False) for i in range(3) for j in range(3) if right[i, j]
    ]  # fmt: skip
    assert alike == pytest.approx(float(sum(naive)) / 2)


def test_stage_1_trains_on_mixed_rows_and_resumes_exactly(rows: Path, tmp_path: Path):
    fixed = ["debug_stage1", "--data", str(rows), "--features", str(tmp_path / "features"), "--batch-size", "2"]
    fixed += ["--epochs", "1", "--save-every", "2", "--held-out", "0"]

    def train(output: str, *more: str) -> dict[str, torch.Tensor]:
        stage1.main([*fixed, "--output", str(tmp_path / output), *more])
        return load_file(tmp_path / output / "projector.safetensors")

    plain, mixed = train("plain"), train("mixed", "--augment", "mix")
    (tmp_path / "again").mkdir()
    (tmp_path / "mixed/checkpoint-2").rename(tmp_path / "again/checkpoint-2")
    again = train("again", "--augment", "mix", "--resume", "last")
    assert all(torch.equal(mixed[name], again[name]) for name in mixed)
    assert not all(torch.equal(mixed[name], plain[name]) for name in mixed)
    assert "| augment | mix |" in (tmp_path / "mixed/card.md").read_text()


def test_where_mixing_makes_no_sense_it_is_refused():
    rows = {"data": "x", "augment": "mix"}
    with pytest.raises(ConfigError, match="augment has mix; choose from crop, colour"):
        STAGE2["debug_stage2"].changed(**rows, features="none")
    with pytest.raises(ConfigError, match="give data, or leave augment out"):
        STAGE1["debug_stage1"].changed(augment="mix")
    with pytest.raises(ConfigError, match="overlapped draws clips of one video"):
        STAGE1["debug_stage1"].changed(**rows, overlapped=True)
    with pytest.raises(ConfigError, match="augment crop changes frames"):
        STAGE1["debug_stage1"].changed(data="x", augment="mix,crop")
    with pytest.raises(ConfigError, match="max_frames is 1"):
        RETRIEVAL["debug"].changed(augment="mix", max_frames=1)
    with pytest.raises(ConfigError, match="augment crop changes frames"):
        RETRIEVAL["world"].changed(augment="mix,crop")
    assert RETRIEVAL["world"].changed(augment="mix").dataset.mixes
