"""The parts of the experiment `objectives.py` whose tokens go through the tower or the motion stem."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from train.configs.dense import WORLD_FRAMES, DenseRecipe
from train.data.areas import TextAreas, mean_words, text_areas
from train.data.dense_truth import frame_truth
from train.data.rendered import RenderedClip, RenderedClips
from train.data.rendered_pairs import TOKEN_DIM, true_reader, true_tokens
from train.experiments.objective_runs import (
    BATCH,
    TEST_SEED,
    TRAIN_SEED,
    Collate,
    Scores,
    Sizes,
    clips,
    held_out,
    trained,
)
from train.tasks.dense import DenseTask
from train.tasks.region_contrast import RegionContrast
from videollm.model import Model
from videollm.models.motion import MotionStem

SEEN_FRAMES = 4  # of a clip, in masked pixels
PATCHES, PLACES = 8, 4  # along a side of the frame, of true tokens and of the stem's
WIDTH = 64  # of the stem


def dense_task(**choices: float) -> DenseTask:
    """Returns an untrained model of the world that reads the pixels of a few frames, with these losses and other
    choices."""
    recipe = WORLD_FRAMES.changed(llm="debug", **{"frames": 0.0, "frames_of_clip": SEEN_FRAMES} | choices)
    assert isinstance(recipe, DenseRecipe)
    return DenseTask(recipe)


def masked_pixels(sizes: Sizes, words: Path, seed: int) -> tuple[Scores, Scores]:
    """Masked pixels before dense truth of few clips."""
    pool, new = RenderedClips(sizes.clips, TRAIN_SEED), clips(sizes.tests, TEST_SEED)
    first = dense_task(mvm=1.0)
    start = held_out(first.module, first.collate, new)
    trained(first.module, first.collate, pool, sizes.pixel_steps, seed)
    found = {"mvm, pixels": (start, held_out(first.module, first.collate, new))}
    few, scores = [pool[i] for i in range(sizes.few)], []
    for steps in (2 * sizes.pixel_steps, sizes.pixel_steps):
        task = dense_task(frames=1.0)
        if scores:
            task.module.temporal.load_state_dict(first.module.temporal.state_dict())
        trained(task.module, task.collate, few, steps, seed)
        scores.append([100 * measured(task, new, name) for name in ("shape", "colour")])
    return found, {
        f"mvm, pixels: {what} of patches after dense truth of {sizes.few} clips, %": (without, with_it)
        for what, without, with_it in zip(("shapes", "colours"), *scores, strict=True)
    }


@torch.no_grad()
def measured(task: DenseTask, of: Sequence[RenderedClip], name: str) -> np.ndarray:
    """Returns a measure of each batch of `BATCH` clips."""
    starts = range(0, len(of) - BATCH + 1, BATCH)
    return np.array([float(task.module(**task.collate(of[i : i + BATCH]))["measures"][name]) for i in starts])


class RegionReader(nn.Module):
    """A motion stem that reads true tokens, and the contrast of areas with texts."""

    def __init__(self, word_width: int):
        super().__init__()
        self.stem, self.heads = MotionStem(TOKEN_DIM, WIDTH), RegionContrast(WIDTH, word_width)

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns (B,M,P,W) of true tokens (B,T,N,D)."""
        times = torch.arange(tokens.shape[1]).expand(tokens.shape[:2])
        return self.stem(tokens, times.float(), times >= 0)[0]

    def forward(self, tokens: torch.Tensor, areas: TextAreas) -> dict[str, Any]:
        loss, measures = self.heads(self.read(tokens), areas)
        return {"loss": loss, "measures": measures}


def region_items(of: Sequence[RenderedClip]) -> list[tuple[RenderedClip, torch.Tensor]]:
    """Returns clips with their true tokens."""
    return [(c, true_tokens(frame_truth(c.clip, np.arange(c.clip.frame_count), PATCHES))) for c in of]


def region_collate(model: Model) -> Collate:
    return lambda items: {
        "tokens": torch.stack([tokens for _, tokens in items]),
        "areas": text_areas([clip for clip, _ in items], PLACES, model),
    }


def regions(sizes: Sizes, words: Path, seed: int) -> tuple[Scores, Scores]:
    """Boxes against names beside clips against captions."""
    model = true_reader(words, seed)
    pool, new = (region_items(clips(n, s)) for n, s in ((sizes.clips // 2, TRAIN_SEED), (sizes.tests, TEST_SEED)))
    collate, found, scores = region_collate(model), {}, []
    width = model.llm.get_input_embeddings().weight.shape[1]  # type: ignore[union-attr]
    for part in ("clip contrast", "both"):
        torch.manual_seed(seed)
        reader = RegionReader(width)  # type: ignore[arg-type]

        def loss(output: dict[str, Any], part: str = part) -> torch.Tensor:
            return output["loss"] if part == "both" else output["measures"][part]

        start = held_out(reader, collate, new)
        trained(reader, collate, pool, sizes.after, seed, loss=loss)
        if part == "both":
            found["regions"] = start, held_out(reader, collate, new)
        scores.append(told_apart(reader, model, new))
    return found, {
        f"regions: {what}, %": (100 * without, 100 * with_it)
        for what, without, with_it in zip(("attribute swaps", "things named"), *scores, strict=True)
    }


@torch.no_grad()
def told_apart(reader: RegionReader, model: Model, items: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each clip whether it is nearer to its caption than to the same caption with one wrong attribute, and
    the share of its boxes that are nearest to their own name among the names of all clips, each (N,)."""
    known = [text_areas([clip], PLACES, model) for clip, _ in items]
    names = torch.unique(torch.cat([areas.texts[areas.is_box] for areas in known]), dim=0)
    swaps, shares = [], []
    for (clip, tokens), areas in zip(items, known, strict=True):
        seen = reader.heads.embed_areas(reader.read(tokens[None]), areas)
        texts = mean_words([clip.turns(0)[0][1], clip.annotation().negatives["attribute_swap"]["en"]], model)
        own, false = reader.heads.embed_texts(texts) @ seen[-1]
        swaps.append(float(own > false))
        nearest = names[(seen[:-1] @ reader.heads.embed_texts(names).T).argmax(1)]
        shares.append(float((nearest == areas.texts[:-1]).all(-1).double().mean()))
    return np.array(swaps), np.array(shares)
