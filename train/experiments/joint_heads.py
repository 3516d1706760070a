"""Train several heads at once on one CLIP: its visual tower is frozen, and its text tower learns from all of them.

The captions of a batch, the most expensive part of a step, are encoded once for all heads. One process, without
teachers and without GradCache.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import cast

import torch
from torch import nn

from train.configs.retrieval import RetrievalRecipe
from train.core.gradcache import TensorBatch
from train.core.report import card
from train.core.trainer import run_task
from train.data.pair_batches import PairBatches
from train.data.pairs import read_pairs
from train.tasks.backbone import towers
from train.tasks.contrastive import ContrastiveLoss, ContrastiveTask, encode_texts, frame_features, texts_of
from train.tasks.heads import build_retrieval_model
from train.tasks.retrieval import set_trained
from videollm.errors import ConfigError
from videollm.retrieval import model as directory
from videollm.retrieval.losses import symmetric_cross_entropy
from videollm.retrieval.model import RetrievalModel


class JointLoss(ContrastiveLoss):
    """The mean of the models' symmetric InfoNCE losses; all models share the towers of the first one."""

    def __init__(self, models: Sequence[RetrievalModel]):
        super().__init__(models[0])
        for model in models:
            model.text, model.visual = models[0].text, models[0].visual
        self.models = cast(Sequence[RetrievalModel], nn.ModuleList(models))

    def forward(self, batch: TensorBatch) -> dict[str, torch.Tensor]:
        text = texts_of(encode_texts(self.model, batch))
        losses = []
        for model in self.models:
            video = model.head.encode_video(frame_features(model, batch), batch["mask"])
            losses.append(symmetric_cross_entropy(model.logits(text, video)))
        return {"loss": torch.stack(losses).mean()}

    def limit_scale(self) -> None:
        for model in self.models:
            ContrastiveLoss(model).limit_scale()


class JointHeadsTask(ContrastiveTask):
    """One head a recipe. Everything but the heads follows the first recipe; each recipe's output gets its model."""

    recipe: RetrievalRecipe

    def __init__(self, recipes: Mapping[str, RetrievalRecipe]):
        first = next(iter(recipes.values()))
        if first.network.visual != "freeze":
            raise ConfigError(
                f"visual is {first.network.visual!r}; set it to freeze: heads that learn together share a frozen tower"
            )
        pairs = read_pairs(Path(first.dataset.data))
        super().__init__(first, pairs)
        self.recipes = list(recipes.values())
        self.models = [build_retrieval_model(r) for r in self.recipes]
        set_trained(self.models[0], first)
        self.module = JointLoss(self.models)
        layers = max(m.head.hidden_layers for m in self.models)
        self.collate = PairBatches(pairs, first, towers(self.models[0])[0], layers)
        text = list(self.models[0].text.parameters())
        heads = {id(p): p for p in chain(*(m.parameters() for m in self.models)) if p.requires_grad}
        for parameter in text:
            heads.pop(id(parameter), None)
        self.groups = [
            {"params": text, "lr": first.optimizer.backbone_learning_rate},
            {"params": list(heads.values()), "lr": first.optimizer.learning_rate},
        ]

    def score(self) -> dict[str, float]:
        return {}

    def write(self, found: dict[str, float]) -> None:
        for model, own in zip(self.models, self.recipes, strict=True):
            text = card(own, "train/experiments/joint_heads.py", found, [], [f"head {own.network.head}"])
            directory.save(model, Path(own.output), text)


def train_jointly(recipes: Mapping[str, RetrievalRecipe]) -> None:
    """Train the heads and write each model."""
    run_task(JointHeadsTask(recipes))
