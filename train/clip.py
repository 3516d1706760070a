"""Pre-train a CLIP from scratch on frames with captions. `[deepspeed|python] train/clip.py RECIPE [--field value]`

Symmetric InfoNCE with a learned temperature (Radford et al. 2021). A row of the data is a part of a video with its
caption; each time it is seen, one of the part's frames is drawn. The directory that comes out is an open_clip model:
`local-dir:DIRECTORY` names it to `train/retrieval.py --backbone`, to open_clip and to every preset.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train.configs.contrastive import CLIPS, ClipRecipe
from train.core.command import parse, run
from train.core.contrastive import ContrastTrainer, training_arguments
from train.data.frames import FrameStore, frame_store
from train.data.pairs import GroupedSampler, Pair, Part, read_pairs
from train.tasks.backbone import save_trunk, towers
from train.tasks.contrastive import Contrast
from videollm.errors import ConfigError
from videollm.retrieval import metrics
from videollm.retrieval.clip import TextConfig, VisionConfig
from videollm.retrieval.inputs import Words, normalise
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel


class FrameCaptions:
    """Rows' numbers to a batch of single frames. Frames of whole videos are decoded once, however many parts have
    captions of their own."""

    def __init__(self, pairs: Sequence[Pair], recipe: ClipRecipe):
        whole = [Part(p.part.video) for p in pairs]
        self.store: FrameStore = frame_store(
            whole, fps=recipe.fps or None, max_frames=recipe.max_frames, size=recipe.image, cache=Path(recipe.cache)
        )
        row = {part: i for i, part in enumerate(self.store.parts)}
        self.captions = [p.caption for p in pairs]
        self.choices = [(row[w], self._inside(row[w], p.part)) for w, p in zip(whole, pairs, strict=True)]
        self.words = Words(recipe.max_words)
        self.random = np.random.default_rng(recipe.seed)

    def _inside(self, row: int, part: Part) -> np.ndarray:
        times = self.store.times_s[row]
        inside = np.flatnonzero((times >= (part.start or 0)) & (times < (np.inf if part.end is None else part.end)))
        if not len(inside):
            raise ConfigError(f"{part.video}: no frame lies in {part.start} to {part.end} s; raise max_frames or fps")
        return inside

    def __call__(self, rows: list[int]) -> dict[str, dict[str, torch.Tensor]]:
        frames = [self.store.pixels[v, self.random.choice(inside)] for v, inside in (self.choices[i] for i in rows)]
        ids, text_mask = self.words([self.captions[i] for i in rows])
        pixels = torch.from_numpy(np.stack(frames))[:, None]
        mask = torch.ones(len(rows), 1, dtype=torch.bool)
        return {"batch": {"ids": ids, "text_mask": text_mask, "pixels": pixels, "mask": mask}}


def build(recipe: ClipRecipe) -> RetrievalModel:
    torch.manual_seed(recipe.seed)
    width, embed_dim = recipe.width, recipe.embed_dim
    model = RetrievalModel(
        RetrievalConfig(
            vision=VisionConfig(
                width=width,
                layers=recipe.layers,
                heads=recipe.heads,
                mlp_width=4 * width,
                patch=recipe.patch,
                grid=recipe.image // recipe.patch,
                embed_dim=embed_dim,
            ),
            text=TextConfig(
                width=width,
                layers=recipe.text_layers,
                heads=recipe.heads,
                mlp_width=4 * width,
                context=recipe.context,
                embed_dim=embed_dim,
            ),
            head=HeadConfig(kind="plain_mean"),
            temperature=recipe.temperature,
        )
    )
    positions = towers(model)[0].positional_embedding
    with torch.no_grad():
        positions[1:] = 0.5 * waves(recipe.image // recipe.patch, width)
    return model


def waves(grid: int, width: int) -> torch.Tensor:
    """(grid * grid, width): sines and cosines of column and row, as MAE's (He et al. 2021). They are learned on. From
    CLIP's small random start a tower this size learns no places: after 550 batches of 64 it names the column of a
    single thing by chance (0.18 of six), from these 0.73."""
    wave = 10000 ** -(torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    angles = [place.flatten()[:, None] * wave for place in (columns, rows)]
    return torch.cat([turned(angle) for angle in angles for turned in (torch.sin, torch.cos)], 1)


@torch.no_grad()
def zero_shot(model: RetrievalModel, data: FrameCaptions, count: int = 512) -> dict[str, float]:
    """Recall of each frame's caption among those of `count` frames, and of frames by captions; the first frame of each
    of `count` rows spread over the data, those with equal captions counted as right once."""
    rows = list(
        {data.captions[i]: i for i in range(0, len(data.captions), max(1, len(data.captions) // count))}.values()
    )
    texts, frames = [], []
    for start in range(0, len(rows), 64):
        batch = data(rows[start : start + 64])["batch"]
        texts.append(model.encode_text(batch["ids"], batch["text_mask"]).embed)
        frames.append(model.encode_frames(normalise(batch["pixels"]), batch["mask"]).embed[:, 0])
    unit = [torch.nn.functional.normalize(torch.cat(x), dim=-1) for x in (texts, frames)]
    found = metrics.evaluate(metrics.Scores.product(*unit))
    return {f"{way}_{k}": v for way, values in found.items() for k, v in values.items()} | {"candidates": len(rows)}


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(CLIPS, "Pre-train a CLIP from scratch on frames with captions.", argv))


def train(recipe: ClipRecipe) -> dict[str, float]:
    arguments = training_arguments(recipe)
    pairs = read_pairs(Path(recipe.data))
    model = build(recipe)
    with arguments.main_process_first():
        collate = FrameCaptions(pairs, recipe)
    trainer = ContrastTrainer(
        Contrast(model),
        arguments,
        recipe,
        rows=len(pairs),
        collate=collate,
        order=GroupedSampler(pairs, recipe.seed),
        groups=[{"params": list(model.parameters())}],
    )
    trainer.train_from(recipe.resume)
    model.eval()
    found: dict[str, Any] = {}
    if recipe.test:
        found = zero_shot(model, FrameCaptions(read_pairs(Path(recipe.test)), recipe))
        print(found)
    if trainer.is_world_process_zero():
        save_trunk(Path(recipe.output), *towers(model), model.logit_scale)
    return found


if __name__ == "__main__":
    main()
