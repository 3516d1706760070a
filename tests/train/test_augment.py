"""Random changes of the clips that training sees."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from tests.train.rows import CAPTIONS, sample, write_rows
from train import stage1, stage2
from train.configs.base import Recipe
from train.configs.retrieval import RETRIEVAL
from train.configs.stage1 import STAGE1
from train.configs.stage2 import STAGE2
from train.data.augment import CHANGES, augmented, drawn_change
from train.data.conversations import Conversations
from train.data.features import VideoFeatures
from train.data.rows import InstructionRows
from videollm import checkpoint
from videollm.errors import ConfigError
from videollm.presets import DEBUG


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    """Two clips, of 8 and of 3 frames, whose frames have the number of the frame at all pixels, times 10."""
    pixels = (10 * torch.arange(1, 9, dtype=torch.uint8))[None, :, None, None, None].repeat(2, 1, 3, 16, 16)
    mask = torch.arange(8) < torch.tensor([[8], [3]])
    return pixels.masked_fill(~mask[..., None, None, None], 255), mask


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_keeps_shapes_real_frames_and_their_order(kind: str):
    pixels, mask = clips()
    torch.manual_seed(0)
    seen = set()
    for _ in range(20):
        changed, real = augmented(pixels, mask, [kind])
        assert (changed.shape, changed.dtype, real.shape) == (pixels.shape, torch.uint8, mask.shape)
        lengths = real.sum(1)
        assert (lengths >= 1).all() and (lengths <= mask.sum(1)).all()
        assert torch.equal(real, torch.arange(8) < lengths[:, None])  # padding stays last
        assert not changed[~real].any()  # and nothing of it came into the clip
        firsts = changed[0, real[0], 0, 0, 0].tolist()
        assert firsts == sorted(firsts)
        seen.add((tuple(firsts), tuple(lengths.tolist())))
    assert len(seen) > 1 or kind == "crop"  # a crop of a frame of one colour is the same


def test_a_crop_is_a_part_of_the_frame_and_the_same_part_of_all_frames():
    torch.manual_seed(0)
    ramp = torch.arange(16, dtype=torch.uint8).expand(1, 2, 3, 16, 16).contiguous()
    changed, _ = augmented(ramp, torch.ones(1, 2, dtype=torch.bool), ["crop"])
    assert torch.equal(changed[0, 0], changed[0, 1])
    assert int(changed.max()) - int(changed.min()) < 15


def test_pieces_of_a_clip_are_changed_as_the_whole_and_keep_their_form():
    clip = torch.randint(256, (6, 3, 12, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    change = drawn_change(["crop", "colour"], 7)
    assert torch.equal(state, torch.get_rng_state())
    whole = change(clip)
    assert whole.shape == clip.shape and not torch.equal(whole, clip)
    assert torch.equal(torch.cat([change(clip[:4]), change(clip[4:])]), whole)
    assert torch.equal(drawn_change(["crop", "colour"], 7)(clip), whole)
    assert not torch.equal(drawn_change(["crop", "colour"], 8)(clip), whole)


def test_each_draw_of_a_row_sees_another_change_of_its_video(tmp_path: Path):
    rows = InstructionRows([str(write_rows(tmp_path / "rows.jsonl"))])
    model = checkpoint.build(DEBUG)
    plain = VideoFeatures(encoder=model.encoder, config=model.config)
    changed = replace(plain, changes=("crop", "colour"))
    first, again, other = (tokens(changed, rows, draw) for draw in (3, 3, 3 + len(rows)))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, tokens(plain, rows, 3))
    assert torch.equal(tokens(plain, rows, 3), tokens(plain, rows, 3 + len(rows)))


def tokens(features: VideoFeatures, rows: InstructionRows, draw: int) -> torch.Tensor:
    model = checkpoint.build(DEBUG)
    visual = Conversations(rows, features, model.processor, 2048)[draw].visual()
    assert visual is not None
    return visual.tokens


@pytest.mark.parametrize("stage", [stage1, stage2], ids=["stage1", "stage2"])
def test_a_stage_trains_on_changed_frames_and_resumes_exactly(stage: ModuleType, tmp_path: Path):
    rows = [sample(str(i), "caption/short", "Describe it.", *CAPTIONS[i][2:], end=2.0) for i in range(4)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(row.to_json() + "\n" for row in rows))
    name = f"debug_{stage.__name__.rpartition('.')[2]}"
    fixed = [name, "--data", str(data), "--features", "none", "--workers", "0", "--batch-size", "2"]
    fixed += ["--epochs", "1", "--save-every", "1", *(["--init", ""] if stage is stage2 else [])]

    def train(output: str, *more: str) -> dict[str, torch.Tensor]:
        stage.main([*fixed, "--output", str(tmp_path / output), *more])
        return load_file(tmp_path / output / "projector.safetensors")

    plain, changed = train("plain"), train("changed", "--augment", "crop,colour")
    shutil.copytree(tmp_path / "changed/checkpoint-1", tmp_path / "again/checkpoint-1")
    again = train("again", "--augment", "crop,colour", "--resume", "last")
    assert all(torch.equal(changed[name], again[name]) for name in changed)
    assert not all(torch.equal(changed[name], plain[name]) for name in changed)
    assert "crop,colour" in (tmp_path / "changed/card.md").read_text()


@pytest.mark.parametrize("recipe", [STAGE1["debug_stage1"], STAGE2["debug_stage2"]], ids=lambda recipe: recipe.name)
def test_what_a_stage_cannot_augment_is_refused(recipe: Recipe):
    for changes, message in (
        ({"augment": "speed", "data": "x", "features": "none"}, "augment has speed; choose from crop, colour"),
        ({"augment": "crop", "features": "none"}, "give data, or leave augment out"),
        ({"augment": "crop", "data": "x"}, "set features none and workers 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            recipe.changed(**changes)


def test_what_cannot_be_augmented_is_refused():
    with pytest.raises(ConfigError, match="augment has blur; choose from crop, colour"):
        RETRIEVAL["debug"].changed(augment="crop,blur")
    with pytest.raises(ConfigError, match="frozen"):
        RETRIEVAL["world"].changed(augment="crop")
