"""Rows, their features, and in which order they come."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.train.rows import CAPTIONS, SAMPLE, sample, write_rows
from train.core.samplers import Order, grouped, mixture
from train.data.captions import Captions, Narrations, PairCollator
from train.data.conversations import Conversations
from train.data.features import VideoFeatures
from train.data.hard_negatives import alike
from train.data.rows import InstructionRows, is_caption
from train.data.text_changes import VERBS, VerbSwap, mask_words
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.config import SamplingConfig
from videollm.errors import DataError
from videollm.features.encode import encode_video, stored_video
from videollm.features.shards import FeatureShards
from videollm.models.aligner import Aligner
from videollm.models.processor import IGNORE, collate
from videollm.presets import DEBUG


@pytest.fixture(scope="module")
def model() -> Model:
    return checkpoint.build(DEBUG)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


@pytest.fixture
def features(model: Model, tmp_path: Path) -> VideoFeatures:
    return VideoFeatures(shards=FeatureShards(tmp_path / "features"), encoder=model.encoder, config=model.config)


def test_features_from_shards_are_those_of_the_video_and_much_quicker(model: Model, features: VideoFeatures):
    sampling = model.config.sampling
    direct = encode_video(SAMPLE, model.encoder, sampling)
    started = perf_counter()
    stored_video(SAMPLE, model.encoder, sampling, features.shards)
    first_s = perf_counter() - started
    again = FeatureShards(features.shards.root)
    read_s = []
    for _ in range(5):
        started = perf_counter()
        read = stored_video(SAMPLE, model.encoder, sampling, again)
        read.features.tokens.sum()
        read_s.append(perf_counter() - started)
    assert min(read_s) * 20 <= first_s
    for a, b in zip(read.tensors().values(), direct.tensors().values(), strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)
    assert read.metadata() == direct.metadata()


def test_a_shard_that_was_cut_off_loses_only_its_last_entry(tmp_path: Path):
    shards = FeatureShards(tmp_path)
    for i in range(3):
        shards.put(str(i), {"x": torch.full((2, 3), i, dtype=torch.bfloat16), "none": torch.zeros(0, 4)}, {"i": i})
    (index,) = tmp_path.glob("*.jsonl")
    index.write_bytes(index.read_bytes()[:-5])
    again = FeatureShards(tmp_path)
    assert len(again) == 2 and again.get("2") is None
    entry = again.get("1")
    assert entry is not None and entry.meta == {"i": 1}
    assert entry.tensors["x"].dtype == torch.bfloat16 and (entry.tensors["x"] == 1).all()
    assert entry.tensors["none"].shape == (0, 4)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_does_not_grow_with_what_is_read(tmp_path: Path):
    shards = FeatureShards(tmp_path)
    for i in range(48):
        shards.put(str(i), {"x": torch.full((1_000_000,), float(i))}, {})
    before, most = resident_bytes(), 0
    for i in range(48):
        entry = shards.get(str(i))
        assert entry is not None and entry.tensors["x"].mean() == i
        most = max(most, resident_bytes() - before)
    assert most < 40e6  # of 192 MB


def test_a_part_is_cut_from_the_whole_and_always_shows_something(rows: Path, features: VideoFeatures):
    read = InstructionRows([str(rows)])
    assert features.prepare(read, 0) == 0
    assert len(features.shards) == 2  # the video once, although ten rows show it, and the image
    by_id = {s.id: features.video(s) for s in read if s.video}
    assert by_id["1"].times_s.min() >= 0 and by_id["1"].times_s.max() < 4
    assert len(by_id["5"].times_s) == 1 and by_id["5"].times_s[0] == pytest.approx(9.0, abs=0.1)
    assert len(by_id["image"].times_s) == 1
    features.prepare(read, 0)
    assert len(features.shards) == 2


def test_a_sampling_by_count_samples_each_part(model: Model, tmp_path: Path):
    config = replace(model.config, sampling=SamplingConfig(frames=6))
    features = VideoFeatures(shards=FeatureShards(tmp_path), encoder=model.encoder, config=config)
    part = features.video(sample("x", "qa", "a", "b", start=4.0, end=8.0))
    assert len(part.times_s) == 6 and part.times_s.min() >= 4 and part.times_s.max() < 8


def test_bad_videos_are_named_or_counted(tmp_path: Path, features: VideoFeatures):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    file = tmp_path / "rows.jsonl"
    good = [sample(str(i), "qa", "a", str(i)) for i in range(3)]
    file.write_text("".join(r.to_json() + "\n" for r in [*good, sample("bad", "qa", "a", "b", video="broken.mp4")]))
    with pytest.raises(DataError, match=r"row bad: .*broken\.mp4"):
        features.prepare(InstructionRows([str(file)]), skip_bad=0)
    kept = InstructionRows([str(file)])
    assert features.prepare(kept, skip_bad=1) == 1
    assert [r.id for r in kept] == ["0", "1", "2"] and kept.sizes == [3]


def test_conversations_of_videos_images_and_text(rows: Path, features: VideoFeatures, model: Model):
    read = InstructionRows([str(rows)])
    features.prepare(read, 0)
    prompts = Conversations(read, features, model.processor, 1000)
    batch = collate([prompts[i] for i in range(len(read))], model.processor.tokenizer.pad_token_id)
    counts = [len(prompts[i].segments) for i in range(len(read))]
    assert [counts[i] for i, s in enumerate(read) if not s.video] == [0, 0]
    assert [len(prompts[i].segments[0].times_s) for i, s in enumerate(read) if s.id == "image"] == [1]
    for i, row in enumerate(read):
        learnt = [x for x in batch["labels"][i].tolist() if x != IGNORE]  # type: ignore[union-attr]
        text = model.processor.tokenizer.decode(learnt)
        assert text == "".join(f"{answer}<|im_end|>" for _, answer in row.turns())
    told = [len(prompts[i]) - length for i, length in enumerate(prompts.lengths())]
    assert [told[i] for i, s in enumerate(read) if not s.video] == [0, 0]
    per_segment = [n / count for n, count in zip(told, counts, strict=True) if count]
    assert min(per_segment) > 0 and max(per_segment) < 2 * min(per_segment)  # the text of its times
    merged = Conversations(read, features, model.processor, len(prompts[6]) - 1)
    assert len(merged[6]) < len(prompts[6]) and len(merged[6].segments) < len(prompts[6].segments)
    with pytest.raises(DataError, match=r"row 0: takes .* the limit is 50"):
        Conversations(read, features, model.processor, 50)[0]


@pytest.mark.parametrize("kind", [Captions, Narrations])
def test_pairs_are_the_same_for_the_same_draw(kind: type[Captions], rows: Path, features: VideoFeatures):
    read = InstructionRows([str(rows)], is_caption)
    assert len(read) == len(CAPTIONS)
    features.prepare(read, 0)
    one, two = kind(read, features), kind(read, features)
    drawn = [(one[d].text, one[d].segment.start_s, one[d].segment.end_s) for d in range(30)]
    assert drawn == [(two[d].text, two[d].segment.start_s, two[d].segment.end_s) for d in range(30)]
    texts = {text for text, _, _ in drawn}
    known = {text for _, _, text in CAPTIONS}
    assert texts == known if kind is Captions else len(texts) > 5 and all(any(k in t for k in known) for t in texts)


def test_a_batch_holds_what_its_losses_read(rows: Path, features: VideoFeatures, model: Model):
    read = InstructionRows([str(rows)], is_caption)
    features.prepare(read, 0)
    aligner = Aligner(model.llm.temporal, model.processor.tokenizer)
    pairs = Captions(read, features)
    collate_pairs = PairCollator(model.processor.tokenizer, aligner, frozenset({"mlm", "verbs"}))
    made = collate_pairs([pairs[i] for i in range(6)])["pairs"]
    assert made.prompt is None and made.words is None
    assert made.has_changed.tolist() == [True, False, True, True, True, True]
    chosen = made.masked_labels != IGNORE
    assert chosen.any(1).all() and (made.masked.ids[chosen] == aligner.mask_id).all()
    assert torch.equal(made.masked.ids[~chosen], made.texts.ids[~chosen])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 7), st.floats(0.5, 3), st.booleans())
def test_an_epoch_has_every_row_once_and_draws_never_repeat(sizes: list[int], batch: int, epochs: float, group: bool):
    lengths = list(range(sum(sizes))) if group else None
    order = Order(sizes=tuple(sizes), epochs=epochs, batch=batch, seed=1, lengths=lengths)
    draws, rows = order.draws, sum(sizes)
    assert len(draws) == int(rows * epochs) // batch * batch
    assert len(set(draws)) == len(draws)
    first = [d % rows for d in draws[:rows]]
    assert len(set(first)) == len(first)
    assert draws == Order(sizes=tuple(sizes), epochs=epochs, batch=batch, seed=1, lengths=lengths).draws


def test_weights_give_each_source_its_share():
    counts = Counter(row < 10 for row in mixture((10, 90), (3.0, 1.0), random.Random(0)))
    assert counts == {True: 75, False: 25}
    each = Counter(row for row in mixture((10, 90), (3.0, 1.0), random.Random(0)) if row < 10)
    assert set(each.values()) <= {7, 8}  # in turn, not by chance


def test_grouping_by_length_saves_padding():
    rng = random.Random(0)
    lengths = [max(20, int(rng.lognormvariate(4.5, 0.6))) for _ in range(2000)]

    def padded(order: list[int]) -> int:
        return sum(16 * max(lengths[i] for i in order[at : at + 16]) for at in range(0, len(order), 16))

    plain = mixture((2000,), None, rng)
    made = grouped(plain, lengths, 16, rng)
    assert sorted(made) == sorted(plain)
    assert padded(plain) / padded(made) > 1.3


def test_batches_of_what_looks_alike():
    rng = random.Random(0)
    centres = torch.eye(8)[torch.arange(64) % 8]
    embeds = torch.nn.functional.normalize(centres + 0.1 * torch.randn(64, 8), dim=-1)
    order = mixture((64,), None, rng)
    made = alike(order, embeds, 4, rng)
    assert sorted(made) == list(range(64))

    def within(rows: list[int]) -> float:
        batches = [embeds[rows[i : i + 4]] for i in range(0, 64, 4)]
        return torch.stack([(b @ b.T).mean() for b in batches]).mean().item()

    assert within(made) > within(order) + 0.3


def test_verbs_change_and_nothing_else():
    swap, rng = VerbSwap.read(), random.Random(0)
    assert swap("A cat sleeps.", rng) is None
    for _ in range(20):
        changed = swap("A red star moves up and to the left.", rng)
        assert changed and changed.startswith("A red star moves ") and changed != "A red star moves up and to the left."
    assert swap("A door opens.", rng) == "A door closes."
    phrases = [p for line in VERBS.read_text().splitlines() for p in line.split("|")]
    assert len({p.strip() for p in phrases}) == len(phrases)


def test_masking_takes_words_and_leaves_the_start():
    ids = torch.arange(40).view(2, 20) + 100
    mask = torch.arange(20) < torch.tensor([[20], [2]])
    masked, labels = mask_words(ids, mask, 7, random.Random(0))
    assert (labels[:, 0] == IGNORE).all() and (masked[labels != IGNORE] == 7).all()
    assert (labels[0] != IGNORE).sum() == 3 and labels[1, 1] == ids[1, 1]
