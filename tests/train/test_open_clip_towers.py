"""Retrieval training on towers of open_clip that are not built as OpenAI's: tiny random ones of each family."""

import csv
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.retrieval.library import BLUE, GREEN, RED, WHITE, write_film
from train import retrieval
from train.configs.retrieval import RETRIEVAL
from train.tasks.backbone import load_backbone
from train.tasks.heads import build_retrieval_model
from videollm.cli import main
from videollm.errors import ConfigError
from videollm.retrieval import model as directory
from videollm.retrieval.index import Index
from videollm.retrieval.inputs import normalise_for, words_of
from videollm.retrieval.losses import sigmoid_loss
from videollm.retrieval.rerank import rerank
from videollm.retrieval.search import search

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
SIGLIP_TEXT = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
FAMILIES: dict[str, dict[str, Any]] = {
    "resnet": {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64}},
    "convnext": {
        "vision_cfg": {"image_size": 32, "timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear"}
    },
    "eva": {
        "vision_cfg": {"image_size": 224, "timm_model_name": "eva02_tiny_patch14_224", "timm_proj": None}
        | {"timm_pool": "token"},
        "custom_text": True,
    },
    "siglip": {"vision_cfg": VIT, "text_cfg": TEXT | SIGLIP_TEXT, "custom_text": True, "init_logit_bias": -10},
}
ASKED = "a green thing"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("towers")
    with (made / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "caption"])
        for name, colour in {"red": RED, "green": GREEN, "blue": BLUE, "white": WHITE}.items():
            write_film(made / "films" / f"{name}.mp4", [colour] * 2)
            rows.writerow([f"films/{name}.mp4", f"a {name} thing"])
    return made


def backbone(folder: Path, family: str) -> str:
    """A directory of open_clip with random weights."""
    place = folder / family
    if not place.is_dir():
        place.mkdir()
        torch.manual_seed(0)
        preprocess = {"size": FAMILIES[family]["vision_cfg"]["image_size"], "mean": [0.5] * 3, "std": [0.5] * 3}
        resize = {"resize_mode": "squash" if family == "siglip" else "shortest"}
        model_cfg = {"embed_dim": 16, "text_cfg": TEXT, **FAMILIES[family]}
        config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess | resize}
        (place / "open_clip_config.json").write_text(json.dumps(config))
        made = open_clip.create_model(f"local-dir:{place}", pretrained_image=False)
        save_file({k: v.contiguous() for k, v in made.state_dict().items()}, place / "open_clip_model.safetensors")
    return f"local-dir:{place}"


def options(folder: Path, family: str, output: Path, **more: str) -> list[str]:
    given = {
        "backbone": backbone(folder, family),
        "data": str(folder / "pairs.csv"),
        "eval-data": str(folder / "pairs.csv"),
        "cache": str(folder / "cache"),
        "output": str(output),
        "max-frames": "2",
        "epochs": "2",
        "objective": "sigmoid" if family == "siglip" else "contrast",
        **more,
    }
    return ["debug", *(word for name, value in given.items() for word in (f"--{name}", value))]


@pytest.mark.parametrize("family", FAMILIES)
def test_towers_are_trained_indexed_and_rerank(folder: Path, tmp_path: Path, family: str):
    name = backbone(folder, family)
    theirs: Any = open_clip.create_model(name).eval()
    vision, text = (tower.eval() for tower in load_backbone(name))
    size = vision.config.image_size
    pixels, (ids, mask) = torch.randint(256, (2, 1, 3, size, size)), words_of(text, 32)(["a red thing", ASKED])
    with torch.no_grad():
        video = normalise_for(vision, pixels)
        seen = vision(video, torch.ones(2, 1, dtype=torch.bool)).embed[:, 0]
        torch.testing.assert_close(seen, theirs.encode_image((pixels[:, 0] / 255 - 0.5) / 0.5), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(text(ids, mask).embed, theirs.encode_text(ids), rtol=1e-4, atol=1e-5)

    retrieval.main(options(folder, family, tmp_path / "out"))
    before, made = load_file(folder / family / "open_clip_model.safetensors"), directory.load(tmp_path / "out")
    assert made.visual is not None
    own = {f"visual.{n}": x for n, x in made.visual.model.state_dict().items()}  # type: ignore[union-attr]
    changed = {n for n, x in own.items() if not torch.equal(x, before[n])}
    assert changed and not [n for n in changed if "running_" in n]
    assert (made.logit_bias is not None) == (family == "siglip")
    assert "text_to_video_R1" in (tmp_path / "out/card.md").read_text()

    place = tmp_path / "index"
    assert main(["index", str(folder / "films"), "--index", str(place), "--model", str(tmp_path / "out")]) == 0
    found = search(Index.open(place), ASKED)
    again = rerank(made, ASKED, found)
    assert len(found) == 4 and sorted(m.path for m in found) == sorted(m.path for m in again)
    assert all(-1.001 <= m.score <= 1.001 for m in again)


def test_a_frozen_tower_is_not_changed(folder: Path, tmp_path: Path):
    retrieval.main(options(folder, "resnet", tmp_path, visual="freeze", head="transformer"))
    before, made = load_file(folder / "resnet/open_clip_model.safetensors"), directory.load(tmp_path)
    assert made.visual is not None
    state = made.visual.model.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(x, before[f"visual.{n}"]) for n, x in state.items())


@pytest.mark.parametrize("changes", [{"head": "xclip"}, {"visual": "lora"}, {"text": "prompt"}, {"head": "stan"}])
def test_what_other_towers_lack_is_refused(folder: Path, changes: dict[str, str]):
    recipe = RETRIEVAL["debug"].changed(backbone=backbone(folder, "resnet"), **changes)
    with pytest.raises(ConfigError, match="OpenAI's"):
        build_retrieval_model(recipe)


def test_the_sigmoid_loss_is_open_clips():
    torch.manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    scale, bias = torch.tensor(10.0), torch.tensor(-3.0)
    expected = open_clip.loss.SigLipLoss()(image, text, scale, bias)
    torch.testing.assert_close(sigmoid_loss(scale * text @ image.T + bias), expected)
