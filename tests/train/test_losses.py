"""Losses of stage 1: BLIP-2's official numbers, one rank or two, and that each one learns what it is about."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.parity import load_parity
from tests.train import processes
from train.data.batches import PairBatch, TextBatch
from train.data.text_changes import VerbSwap, mask_words
from train.tasks.loss_inputs import LossInputs
from train.tasks.losses import (
    AlignmentModel,
    MaskedFrames,
    MaskedTubes,
    TextCaption,
    VideoTextContrast,
    VideoTextMatching,
    shuffle,
    word_contrast,
)
from videollm import checkpoint
from videollm.audio_config import AudioConfig
from videollm.models.aligner import Aligner
from videollm.models.published import blip2
from videollm.models.published.blip2 import Blip2QFormer, load_blip2
from videollm.models.qformer import QFormerConfig
from videollm.models.visual_prompting import VisualBatch
from videollm.presets import DEBUG


class OfficialAligner(nn.Module):
    """BLIP-2's own model behind what the losses ask of an `Aligner`."""

    def __init__(self, pair: Blip2QFormer):
        super().__init__()
        self.pair = pair

    def encoder_hidden_states(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pair.vision_norm(tokens), torch.ones(tokens.shape[:2], dtype=torch.bool)


class RecordedMatching(VideoTextMatching):
    def __init__(self, negatives: tuple[torch.Tensor, torch.Tensor]):
        super().__init__()
        self.recorded = negatives

    def negatives(self, view: LossInputs) -> tuple[torch.Tensor, torch.Tensor]:
        return self.recorded


def test_blip2_losses_and_gradient_norms_are_the_official_ones():
    data = load_parity("BLIP2_QFormer/blip2_stage1")
    inputs, inter, output = data["input"], data["inter"], data["output"]
    tiny = QFormerConfig(
        queries=5, width=32, layers=4, heads=4, ffn_width=64, encoder_width=48, vocab_size=41, max_positions=32
    )
    pair = Blip2QFormer(tiny, embed_dim=16, bos_id=40).eval()
    load_blip2(pair, data["state"])
    ids = inputs["input_ids"]
    pairs = PairBatch(
        videos=inputs["image_tokens"],  # type: ignore[arg-type]
        groups=torch.arange(len(ids))[:, None].expand(-1, 2),
        texts=TextBatch(ids=ids, mask=inputs["attention_mask"].bool()),
    )
    view = LossInputs(None, OfficialAligner(pair), pairs)  # type: ignore[arg-type]
    matching = RecordedMatching((inter["itm_neg_image_idx"], inter["itm_neg_text_idx"]))
    losses = [VideoTextContrast()(view), matching(view), TextCaption()(view)]
    for loss, name in zip(losses, ("loss_itc", "loss_itm", "loss_lm"), strict=True):
        torch.testing.assert_close(loss, output[name], atol=2e-6, rtol=0)
    torch.stack(losses).sum().backward()
    names = blip2.official_names(pair)
    norms = {names[n]: p.grad.norm() for n, p in pair.named_parameters(remove_duplicate=False) if p.grad is not None}
    norms["Qformer.cls.predictions.bias"] = norms["Qformer.cls.predictions.decoder.bias"]
    for name, norm in data["gradnorm"].items():
        torch.testing.assert_close(norms[name], norm, rtol=1e-4, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")


def synthetic(aligner: Aligner, rows: slice, named: list[bool] | None = None) -> PairBatch:
    """Some of eight pairs, which are always the same."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(8, 4, 5, 16, generator=generator)
    frames = [4, 3, 4, 2, 4, 4, 1, 3]
    visual = VisualBatch.pad(
        [t[:n] for t, n in zip(tokens, frames, strict=True)], [torch.arange(n) / 2.0 for n in frames]
    )
    ids, mask = aligner.tokenize([f"thing {i} moves" for i in range(8)])
    keep = torch.tensor(named or [True] * 8)
    audio = torch.randn(8, 3, 16, generator=generator)[rows][keep[rows]]
    every = torch.ones(audio.shape[:2], dtype=torch.bool)
    return PairBatch(
        videos=VisualBatch(visual.tokens[rows], visual.times_s[rows], visual.mask[rows], audio, every),
        heard=keep[rows],
        groups=torch.arange(8)[:, None].expand(-1, 2)[rows],
        texts=TextBatch(ids=ids[rows], mask=mask[rows]),
        scenes=VisualBatch(visual.tokens[rows], visual.times_s[rows], visual.mask[rows]),
        words=ids[rows, 1:],
        word_mask=mask[rows, 1:],
        named=keep[rows],
    )


NAMED = [True, True, False, True, True, True, True, True]  # so that two ranks compare unequal numbers of rows


EAR = AudioConfig(kind="mel", clips=8, token_dim=16, queries=2, width=32, layers=1, heads=2, dropout=0.0)


def alignment(*losses: str) -> AlignmentModel:
    model = checkpoint.build(replace(DEBUG, audio=EAR) if "audio" in losses else DEBUG)
    torch.manual_seed(0)
    return AlignmentModel(model.llm, model.processor.tokenizer, dict.fromkeys(losses, 1.0)).eval()


def save_gradients(folder: str) -> None:
    """One rank's share of the eight pairs, its gradients averaged over ranks as data parallel training does."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    made: dict[str, torch.Tensor] = {}
    for name in ("itc", "contrastive", "audio"):
        model = alignment(name)
        share = slice(8 // ranks * rank, 8 // ranks * (rank + 1))
        loss = model(synthetic(model.aligner or Aligner(model.llm.temporal, _tokenizer()), share, NAMED))["loss"]
        loss.backward()
        dist.all_reduce(loss_sum := loss.detach().clone())
        made[f"{name}.loss"] = loss_sum / ranks
        for parameter_name, parameter in model.named_parameters():
            if parameter.requires_grad:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                dist.all_reduce(gradient)
                made[f"{name}.{parameter_name}"] = gradient / ranks
    if rank == 0:
        save_file(made, Path(folder) / "two.safetensors")
    dist.barrier()


def _tokenizer() -> Any:
    return checkpoint.build(DEBUG).processor.tokenizer


def test_two_ranks_have_the_loss_and_gradients_of_one_with_twice_the_batch(tmp_path: Path):
    processes.run(save_gradients, str(tmp_path), ranks=2, log=tmp_path / "gather.log")
    two = load_file(tmp_path / "two.safetensors")
    for name in ("itc", "contrastive", "audio"):
        model = alignment(name)
        loss = model(synthetic(model.aligner or Aligner(model.llm.temporal, _tokenizer()), slice(0, 8), NAMED))["loss"]
        loss.backward()
        torch.testing.assert_close(two[f"{name}.loss"], loss.detach())
        moved = 0
        for parameter_name, parameter in model.named_parameters():
            if parameter.grad is not None:
                moved += int(parameter.grad.abs().sum() > 0)
                torch.testing.assert_close(two[f"{name}.{parameter_name}"], parameter.grad, atol=1e-6, rtol=1e-4)
        assert moved > 10


def test_contrastive_is_low_for_matches_and_spares_equal_texts():
    eye = torch.eye(4)
    assert word_contrast(eye, eye, torch.tensor(20.0)) < 0.01 < word_contrast(eye, eye.flip(0), torch.tensor(20.0))
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    half = torch.log(torch.tensor(2.0)) * 2 / 3  # two right answers each: their entropy is all that remains
    assert word_contrast(twins, twins, torch.tensor(100.0)) == pytest.approx(half.item(), abs=1e-4)


def test_contrastive_is_the_same_under_autocast():
    """In bfloat16 the product of a unit vector with itself is often below 1: nothing would be a right answer."""
    rows = torch.nn.functional.normalize(torch.randn(32, 48, generator=torch.Generator().manual_seed(0)), dim=1)
    exact = word_contrast(rows, rows, torch.tensor(20.0))
    with torch.autocast("cpu", torch.bfloat16):
        assert word_contrast(rows, rows, torch.tensor(20.0)) == exact


# A world of one line: a dot that moves, seen by an encoder whose tokens are what they are.
KINDS = ("left", "right")


def moving_dots(count: int, seed: int, sound: bool = False) -> tuple[VisualBatch, list[str]]:
    """A dot of one of eight colours that moves over five places in eight frames, and what it does. It can be heard."""
    rng = random.Random(seed)
    colours = torch.randn(8, 16, generator=torch.Generator().manual_seed(7))
    names = ["red", "green", "blue", "white", "pink", "brown", "grey", "black"]
    tokens, texts = torch.zeros(count, 8, 5, 16), []
    for i in range(count):
        colour, kind = rng.randrange(8), rng.randrange(2)
        places = [min(4, frame * 5 // 8) for frame in range(8)]
        for frame, place in enumerate(places[::-1] if kind == 0 else places):
            tokens[i, frame, place] = colours[colour]
        texts.append(f"{names[colour]} {KINDS[kind]}")
    times, every = torch.arange(8).expand(count, -1) / 4.0, torch.ones(count, 8, dtype=torch.bool)
    if not sound:
        return VisualBatch(tokens, times, every), texts
    noise = torch.randn(count, 8, 16, generator=torch.Generator().manual_seed(seed))
    return VisualBatch(tokens, times, every, tokens.mean(2) @ mixing() + 0.1 * noise, every), texts


def mixing() -> torch.Tensor:
    """What the colour of a dot sounds like."""
    return torch.randn(16, 16, generator=torch.Generator().manual_seed(8))


def batch(aligner: Aligner, count: int, seed: int) -> PairBatch:
    visual, texts = moving_dots(count, seed, sound=True)
    rng = random.Random(seed)
    swap = VerbSwap([KINDS])
    ids, mask = aligner.tokenize(texts)
    masked, labels = mask_words(ids, mask, aligner.mask_id, rng)
    changed_ids, changed_mask = aligner.tokenize([swap(t, rng) or t for t in texts])
    number = {t: i for i, t in enumerate(sorted(set(texts)))}
    return PairBatch(
        videos=visual,
        groups=torch.tensor([[1000 + i, number[t]] for i, t in enumerate(texts)]),
        texts=TextBatch(ids=ids, mask=mask),
        masked=TextBatch(ids=masked, mask=mask),
        masked_labels=labels,
        changed=TextBatch(ids=changed_ids, mask=changed_mask),
        has_changed=torch.ones(count, dtype=torch.bool),
        heard=torch.ones(count, dtype=torch.bool),
    )


@pytest.mark.parametrize(
    ("below", "steps"),
    [
        ({"mfm": 0.7, "order": 0.75}, 200),
        ({"mvm": 0.6, "audio": 0.6}, 160),
        ({"itc": 0.8, "itm": 0.75, "itg": 0.5, "verbs": 0.6}, 250),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_losses_learn_what_moves_where(below: dict[str, float], steps: int):
    """On dots that training never saw, each loss ends below this share of what it was before."""
    torch.manual_seed(0)
    model = alignment(*below).train()
    assert model.aligner is not None
    unseen = batch(model.aligner, 64, seed=10_000)

    def held_out() -> dict[str, float]:
        torch.manual_seed(1)
        with torch.no_grad():
            return {name: model(unseen)[name].item() for name in below}

    before = held_out()
    trained = [p for p in model.parameters() if p.requires_grad]
    frames = "order" in below
    optimizer = torch.optim.AdamW(trained, lr=2e-3 if frames else 3e-3)
    for step in range(steps):
        optimizer.zero_grad()
        model(batch(model.aligner, 32 if frames else 16, seed=step))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    after = held_out()
    assert [name for name, share in below.items() if after[name] > share * before[name]] == []


def test_masked_frames_are_some_and_never_all():
    torch.manual_seed(0)
    loss = MaskedFrames(8, 16, share=0.5)
    mask = torch.arange(8) < torch.tensor([1, 2, 5, 8])[:, None]
    for _ in range(20):
        hidden = loss.hidden_frames(mask)
        assert not (hidden & ~mask).any()
        assert hidden.sum(1).tolist() == [0, 1, 3, 4]


def test_masked_tubes_are_hidden_in_all_frames():
    class Fixed(MaskedTubes):
        def hidden_patches(self, videos: int, patches: int, device: torch.device) -> torch.Tensor:
            return torch.tensor([[1, 3]]).expand(videos, -1)

    model = alignment("mvm")
    assert model.aligner is not None
    inputs = LossInputs(model.llm, model.aligner, synthetic(model.aligner, slice(0, 8)))
    states, _ = inputs.encoder_hidden_states
    states.retain_grad()
    Fixed(32, 16)(inputs).backward()
    assert states.grad is not None
    seen = states.grad.view(8, 4, 5, -1).abs().sum((1, 3))  # of each patch in all frames
    assert not seen[:, [1, 3]].any() and (seen[:, [0, 2, 4]] > 0).all()
    for patches in (2, 5, 9):
        chosen = MaskedTubes(8, 16).hidden_patches(20, patches, torch.device("cpu"))
        assert 0 < chosen.shape[1] < patches and all(len(set(row)) == len(row) for row in chosen.tolist())


def test_only_segments_with_sound_are_compared_with_it():
    model = alignment("audio")
    made = [synthetic(Aligner(model.llm.temporal, _tokenizer()), slice(0, 8), heard) for heard in (NAMED, [False] * 8)]
    assert model(made[0])["loss"] > 0
    silent = replace(made[1], videos=replace(made[1].videos, audio=None, audio_mask=None))
    loss = model(silent)["loss"]
    loss.backward()
    assert loss == 0 and all(p.grad is None or not p.grad.any() for p in model.parameters())
    assert made[0].videos.audio is not None
    swapped = replace(made[0], videos=replace(made[0].videos, audio=made[0].videos.audio.flip(0)))
    assert model(swapped)["loss"] != model(made[0])["loss"]


def test_shuffled_frames_keep_times_and_padding():
    torch.manual_seed(0)
    tokens = torch.arange(6.0)[None, :, None, None].expand(2, 6, 1, 1)
    visual = VisualBatch(tokens, torch.arange(6.0).expand(2, -1), torch.arange(6) < torch.tensor([[6], [4]]))
    mixed = shuffle(visual, torch.tensor([False, True]))
    assert torch.equal(mixed.tokens[0], tokens[0]) and torch.equal(mixed.times_s, visual.times_s)
    order = mixed.tokens[1, :, 0, 0].tolist()
    assert sorted(order[:4]) == [0, 1, 2, 3] and order[4:] == [4, 5] and order[:4] != [0, 1, 2, 3]


def test_verbs_count_only_texts_that_have_one():
    model = alignment("verbs")
    assert model.aligner is not None
    pairs = batch(model.aligner, 4, seed=0)
    some = replace(pairs, has_changed=torch.tensor([True, False, False, False]))
    none = replace(pairs, has_changed=torch.zeros(4, dtype=torch.bool))
    assert model(none)["loss"] == 0 and model(some)["loss"] > 0


def test_texts_need_a_qformer():
    config = replace(DEBUG, temporal=replace(DEBUG.temporal, kind="pool"))
    model = checkpoint.build(config)
    with pytest.raises(ValueError, match="SpatioTemporalPool"):
        AlignmentModel(model.llm, model.processor.tokenizer, {"itc": 1.0})
