"""Pre-training of a CLIP from scratch on frames with captions, with symmetric InfoNCE and a learned temperature."""

from pathlib import Path

import torch
from accelerate import PartialState

from train.configs.clip import ClipRecipe
from train.core.report import card
from train.data.pair_batches import FrameCaptions
from train.data.pairs import read_pairs
from train.tasks.backbone import save_backbone, towers
from train.tasks.contrastive import ContrastiveLoss, ContrastiveTask
from train.tasks.heads import build_clip
from videollm.retrieval import metrics
from videollm.retrieval import model as directory
from videollm.retrieval.inputs import normalise
from videollm.retrieval.model import RetrievalModel


class ClipTask(ContrastiveTask):
    """A CLIP from scratch (Radford et al. 2021)."""

    recipe: ClipRecipe

    def __init__(self, recipe: ClipRecipe):
        pairs = read_pairs(Path(recipe.dataset.data))
        super().__init__(recipe, pairs)
        self.model = build_clip(recipe)
        self.module = ContrastiveLoss(self.model)
        self.groups = [{"params": list(self.model.parameters())}]
        # The first rank decodes into the cache, which the others then read.
        with PartialState().main_process_first():
            self.collate = FrameCaptions(pairs, recipe)

    def score(self) -> dict[str, float]:
        if not self.recipe.dataset.eval_data:
            return {}
        self.model.eval()
        return zero_shot(self.model, FrameCaptions(read_pairs(Path(self.recipe.dataset.eval_data)), self.recipe))

    def write(self, found: dict[str, float]) -> None:
        if found:
            print(found)
        output = Path(self.recipe.output)
        if self.recipe.architecture.tower:  # open_clip has no such tower
            directory.save(self.model, output, card(self.recipe, "train/clip.py", found, [], ["CLIP"]))
        else:
            save_backbone(output, *towers(self.model), self.model.logit_scale)


@torch.no_grad()
def zero_shot(model: RetrievalModel, data: FrameCaptions, count: int = 512) -> dict[str, float]:
    """Returns the recall of captions by frames and of frames by captions, among `count` rows spread over the data.

    Of rows with equal captions only the last is used, because they would be correct answers to each other.
    """
    device = next(model.parameters()).device
    every = max(1, len(data.captions) // count)
    rows = list({data.captions[i]: i for i in range(0, len(data.captions), every)}.values())
    texts, frames = [], []
    for start in range(0, len(rows), 64):
        batch = {k: x.to(device) for k, x in data(rows[start : start + 64])["batch"].items()}
        texts.append(model.encode_text(batch["ids"], batch["text_mask"]).embed)
        frames.append(model.encode_frames(normalise(batch["pixels"]), batch["mask"]).embed[:, 0])
    unit = [torch.nn.functional.normalize(torch.cat(x), dim=-1) for x in (texts, frames)]
    found = metrics.evaluate(metrics.Scores.product(*unit))
    return {f"{way}_{k}": v for way, values in found.items() for k, v in values.items()} | {"candidates": len(rows)}
