"""A small world, a small CLIP and small models of random weights, for the tests of retrieval training."""

from pathlib import Path
from typing import Any

import torch

from data_gen import make_world
from train.configs.clip import CLIPS
from train.configs.retrieval import RETRIEVAL, RetrievalRecipe
from train.data.pairs import write_pairs
from train.data.world import clip_pairs, frame_pairs
from train.tasks.backbone import save_backbone, towers
from train.tasks.heads import build_clip
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel

CLIP = CLIPS["clip_debug"]


def make(folder: Path) -> None:
    """The world's pairs, pairs.jsonl and frames.jsonl, and a CLIP that knows nothing, in clip."""
    arguments = ["--split", "order=16", "--size", "64", "--fps", "8", "--seconds", "3", "--processes", "1"]
    assert make_world.main(["--out", str(folder / "world"), *arguments]) == 0
    write_pairs(folder / "pairs.jsonl", clip_pairs(folder / "world/order"))
    write_pairs(folder / "frames.jsonl", [*frame_pairs(folder / "world/order", 8)])
    model = build_clip(CLIP)
    save_backbone(folder / "clip", *towers(model), model.logit_scale)


def recipe(folder: Path, **changes: Any) -> RetrievalRecipe:
    files = {name: str(folder / "pairs.jsonl") for name in ("data", "eval_data")}
    places = {"cache": str(folder / "cache"), "backbone": f"local-dir:{folder / 'clip'}"}
    return RETRIEVAL["debug"].changed(**{"output": str(folder / "out"), **files, **places, **changes})


def model(kind: str, temporal: str = "transformer") -> RetrievalModel:
    """A head on random towers."""
    torch.manual_seed(0)
    config = build_clip(CLIP).config
    head = HeadConfig(kind=kind, temporal=temporal, layers=1, heads=2, depth=1, max_words=12, max_frames=4)
    return RetrievalModel(RetrievalConfig(vision=config.vision, text=config.text, head=head, temperature=0.1))


def batch(rows: int, *, false: bool = False) -> dict[str, torch.Tensor]:
    """Videos of 4 frames, of which every third has 3, with captions of any words."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (rows, 4, 3, 32, 32), generator=generator, dtype=torch.uint8)
    mask = torch.ones(rows, 4, dtype=torch.bool)
    mask[::3, 3] = False

    def texts() -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.randint(1, 400, (rows, 12), generator=generator)
        ids[:, 10] = 49407
        ids[:, 11] = 0
        return ids, (ids > 0)

    ids, text_mask = texts()
    made = {"pixels": pixels, "mask": mask, "ids": ids, "text_mask": text_mask}
    if false:
        made["false_ids"], made["false_mask"] = texts()
    return made
