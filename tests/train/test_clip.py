"""A CLIP from scratch: it learns, and what it leaves is an open_clip model."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.train import tiny
from train import dense, retrieval
from train.clip import train
from train.configs.dense import WORLD_FRAMES
from train.data.pair_batches import FrameCaptions
from train.data.pairs import CaptionPair, VideoInterval, read_pairs
from train.data.world import annotations, clip_pairs, flip_direction, frame_pairs, picture
from train.experiments.motion import words
from train.tasks.backbone import load_backbone, save_backbone, towers, whiten
from train.tasks.clip import zero_shot
from train.tasks.heads import build_clip
from videollm.config import EncoderConfig
from videollm.encoders.open_clip import OpenClipEncoder
from videollm.errors import CheckpointError, ConfigError
from videollm.retrieval.clip import VisionTransformer
from videollm.retrieval.inputs import normalise
from videollm.retrieval.model import load
from videollm.retrieval.world_clip import WorldVisionTransformer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clip")
    tiny.make(made)
    return made


def test_training_learns_which_caption_is_of_which_frame(folder: Path):
    files = {name: str(folder / "frames.jsonl") for name in ("data", "eval_data")}
    recipe = tiny.CLIP.changed(output=str(folder / "trained"), cache=str(folder / "cache"), **files)
    recipe = recipe.changed(epochs=6, batch_size=32, width=32, embed_dim=32)
    before = zero_shot(build_clip(recipe), FrameCaptions(read_pairs(Path(recipe.dataset.data)), recipe))
    after = train(recipe)
    assert before["candidates"] == after["candidates"] > 20
    assert after["text_to_video_MnR"] < before["text_to_video_MnR"] / 2
    assert load_backbone(f"local-dir:{folder / 'trained'}")[0].config.width == 32


def test_the_directory_is_an_open_clip_model(folder: Path):
    """The same numbers through our towers and through the encoder that `videollm index` uses."""
    encoder = OpenClipEncoder(EncoderConfig(name="tiny", pretrained=f"local-dir:{folder / 'clip'}", dtype="float32"))
    vision, text = load_backbone(f"local-dir:{folder / 'clip'}")
    pixels = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    own = vision(normalise(pixels)[:, None], torch.ones(2, 1, dtype=torch.bool)).embed[:, 0]
    theirs = encoder.encode_frames(pixels).embed
    assert torch.allclose(torch.nn.functional.normalize(own, dim=-1), theirs, atol=1e-5)
    ids = encoder.tokenizer(["a red star moves up"])
    words = text(ids, ids > 0).embed
    found = encoder.encode_text(["a red star moves up"]).embed
    assert torch.allclose(torch.nn.functional.normalize(words, dim=-1), found, atol=1e-5)


def test_a_backbone_is_saved_and_loaded_whole(tmp_path: Path):
    model = build_clip(tiny.CLIP)
    save_backbone(tmp_path, *towers(model), model.logit_scale)
    for tower, loaded in zip(towers(model), load_backbone(f"local-dir:{tmp_path}"), strict=True):
        assert tower.config == loaded.config
        assert all(torch.equal(p, loaded.state_dict()[n]) for n, p in tower.state_dict().items())


def test_whitening_makes_frames_vary_alike_along_all_axes():
    torch.manual_seed(0)
    vision = towers(build_clip(tiny.CLIP).eval())[0]
    assert isinstance(vision, VisionTransformer)
    frames, mask = torch.randn(300, 1, 3, 32, 32), torch.ones(300, 1, dtype=torch.bool)
    with torch.no_grad():
        vision.proj *= torch.logspace(0, -1.5, 16)
        seen = vision(frames, mask).embed[:, 0]
        whiten(vision, seen)
        white = vision(frames, mask).embed[:, 0]
    spread = torch.linalg.eigvalsh(torch.cov(white.T)).sqrt()
    before = torch.linalg.eigvalsh(torch.cov(seen.T)).clamp(min=0).sqrt()
    assert spread[-1] < 1.01 and spread[4] > 10 * before[4] / before[-1]
    torch.testing.assert_close(white.mean(0), torch.zeros(16), atol=1e-3, rtol=0)


def test_a_clip_on_a_tower_that_was_trained_with_the_truth(folder: Path, tmp_path: Path):
    words(tmp_path / "words", 20, 0)
    tower = {"num_videos": 16, "llm": str(tmp_path / "words"), "output": str(tmp_path / "tower")}
    dense.train(WORLD_FRAMES.changed(**tower))
    files = {"data": str(folder / "frames.jsonl"), "cache": str(folder / "cache"), "output": str(tmp_path / "clip")}
    train(tiny.CLIP.changed(tower=tower["output"], epochs=1, **files))
    vision, _ = load_backbone(f"local-dir:{tmp_path / 'clip'}")
    trained = load_file(tmp_path / "tower" / "projector.safetensors")
    assert isinstance(vision, WorldVisionTransformer)
    assert all(torch.equal(x, trained[f"temporal.tower.{name}"]) for name, x in vision.tower.state_dict().items())
    found = retrieval.train(
        tiny.recipe(folder, backbone=f"local-dir:{tmp_path / 'clip'}", head="stan", visual="freeze")
    )
    assert found["text_to_video_MnR"] >= 1
    kept = load(folder / "out").visual
    assert isinstance(kept, WorldVisionTransformer)
    assert all(torch.equal(x, vision.state_dict()[name]) for name, x in kept.state_dict().items())


def test_an_open_clip_folder_of_a_hub_also_has_the_config_of_transformers(tmp_path: Path):
    model = build_clip(tiny.CLIP)
    save_backbone(tmp_path, *towers(model), model.logit_scale)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    assert load_backbone(f"local-dir:{tmp_path}")[0].config == towers(model)[0].config


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("local-dir:nowhere", CheckpointError, "open_clip_config.json"),
        ("ViT-B-32-quickgelu", CheckpointError, "ARCHITECTURE:WEIGHTS"),
    ],
)
def test_a_backbone_that_is_not_there(name: str, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        load_backbone(name)


def test_frames_are_decoded_once_and_drawn_from_their_part(folder: Path):
    recipe = tiny.CLIP.changed(cache=str(folder / "cache"))
    pairs = read_pairs(folder / "frames.jsonl")
    data = FrameCaptions(pairs, recipe)
    assert data.store.pixels.shape == (16, 8, 3, 32, 32)
    for (row, inside), pair in zip(data.choices, pairs, strict=True):
        assert inside.tolist() == [
            k for k, t in enumerate(data.store.times_s[row]) if pair.part.start <= t < pair.part.end
        ]
    batch = data(list(range(8)))["batch"]
    for seen, (row, inside) in zip(batch["pixels"][:, 0].numpy(), data.choices, strict=False):
        assert any(np.array_equal(seen, data.store.pixels[row, k]) for k in inside)
    with pytest.raises(ConfigError, match=r"2\.9.*max_frames"):
        FrameCaptions([CaptionPair(VideoInterval(pairs[0].part.video, 2.95, 2.99), "nothing")], recipe)


def test_captions_of_frames_follow_what_changes(folder: Path):
    for known in annotations(folder / "world/order"):
        last = len(known["objects"][0]["track"]) - 1
        for event in known["events"]:
            things = {thing["id"]: thing for thing in known["objects"]}
            if event["kind"] == "change_colour" and len(known["events"]) == 1:
                shape = things[event["object"]]["shape"]
                assert f"{event['from']} {shape}" in picture(known, 0)
                assert f"{event['to']} {shape}" in picture(known, last)
        assert all(len(picture(known, frame)) > 5 for frame in (0, last))


def test_frames_of_a_clip_with_different_captions_are_one_group(folder: Path):
    pairs = [*frame_pairs(folder / "world/order", 8)]
    clips = {p.part.video: [q for q in pairs if q.part.video == p.part.video] for p in pairs}
    assert len(clips) == 16 and max(map(len, clips.values())) == 4
    for some in clips.values():
        assert len({p.group for p in some}) == 1
        assert all(a.caption != b.caption and a.part.end < b.part.start for a, b in pairwise(some))


def test_order_pairs_are_groups_with_wrong_captions(folder: Path):
    pairs = clip_pairs(folder / "world/order")
    assert [p.group for p in pairs[::2]] == [p.group for p in pairs[1::2]] and len({p.group for p in pairs}) == 8
    for pair, other in zip(pairs, [pairs[i ^ 1] for i in range(len(pairs))], strict=True):
        assert pair.false and not {pair.caption, other.caption} & set(pair.false)
        flipped = flip_direction(pair.caption)
        assert (flipped in pair.false) == (flipped is not None and flipped != other.caption)
    assert any(len(p.false) == 3 for p in pairs) and any(len(p.false) < 3 for p in pairs)


@pytest.mark.parametrize(
    ("caption", "flipped"),
    [
        ("A red star moves to the left, then it turns blue.", "A red star moves to the right, then it turns blue."),
        ("A cup moves up and to the right.", "A cup moves down and to the left."),
        ("A cup moves down.", "A cup moves up."),
        ("A cup rotates clockwise.", None),
    ],
)
def test_directions_are_flipped(caption: str, flipped: str | None):
    assert flip_direction(caption) == flipped
