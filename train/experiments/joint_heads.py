"""Several heads at once on one CLIP: its visual tower is frozen, its text tower learns from all of them alike.

The text of a batch, what costs most, is encoded once for all heads. One process; no teachers, no pieces.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import cast

import torch
from torch import nn

from train.configs.contrastive import RetrievalRecipe
from train.core.contrastive import ContrastTrainer, training_arguments
from train.data.pairs import GroupedSampler, read_pairs
from train.retrieval import PairBatches, build, card, set_trained
from train.tasks.contrastive import Batch, Contrast, frame_features
from videollm.errors import ConfigError
from videollm.retrieval import model as directory
from videollm.retrieval.losses import symmetric_cross_entropy
from videollm.retrieval.model import RetrievalModel


class Together(Contrast):
    """The mean of the models' symmetric InfoNCE losses; they share the first one's towers."""

    def __init__(self, models: Sequence[RetrievalModel]):
        super().__init__(models[0])
        for model in models:
            model.text, model.visual = models[0].text, models[0].visual
        self.models = cast(Sequence[RetrievalModel], nn.ModuleList(models))

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        text = self.model.encode_text(batch["ids"], batch["text_mask"])
        losses = []
        for model in self.models:
            video = model.head.encode_video(frame_features(model, batch), batch["mask"])
            losses.append(symmetric_cross_entropy(model.logits(text, video)))
        return {"loss": torch.stack(losses).mean()}

    def limit_scale(self) -> None:
        for model in self.models:
            Contrast(model).limit_scale()


def train_together(recipes: Mapping[str, RetrievalRecipe]) -> None:
    """Each recipe's output gets its model. What decides the run besides the heads is the first recipe's."""
    recipe = next(iter(recipes.values()))
    if recipe.visual != "freeze":
        raise ConfigError(f"visual is {recipe.visual!r}; heads that learn together share a frozen tower")
    arguments = training_arguments(recipe)
    models = [build(r) for r in recipes.values()]
    set_trained(models[0], recipe)
    together = Together(models)
    pairs = read_pairs(Path(recipe.data))
    batches = PairBatches(pairs, recipe, models[0], max(m.head.hidden_layers for m in models))
    towers = list(models[0].text.parameters())
    heads = {id(p): p for p in chain(*(m.parameters() for m in models)) if p.requires_grad}
    for parameter in towers:
        heads.pop(id(parameter), None)
    trainer = ContrastTrainer(
        together,
        arguments,
        recipe,
        rows=len(pairs),
        collate=batches,
        order=GroupedSampler(pairs, recipe.seed),
        groups=[
            {"params": towers, "lr": recipe.backbone_learning_rate},
            {"params": list(heads.values()), "lr": recipe.learning_rate},
        ],
    )
    trainer.train_from(recipe.resume)
    for model, own in zip(models, recipes.values(), strict=True):
        directory.save(model, Path(own.output), card(own, {}))
