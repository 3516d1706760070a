"""Training of a retrieval head on a CLIP, by InfoNCE over the batch of all ranks or by REINFORCE on recall."""

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import nn

from train.configs.retrieval import RetrievalRecipe
from train.core.report import card
from train.core.trainer import TaskTrainer
from train.data.hard_negatives import alike
from train.data.pair_batches import PairBatches
from train.data.pairs import CaptionPair, GroupedSampler, read_pairs
from train.tasks.adapters import add_lora, merge_lora
from train.tasks.backbone import towers
from train.tasks.contrastive import ContrastiveLoss, ContrastiveTask, SigmoidContrast, TrimmedContrast, frame_features
from train.tasks.heads import build_retrieval_model
from train.tasks.recall import RecallReward
from videollm.errors import ConfigError
from videollm.retrieval import metrics
from videollm.retrieval import model as directory
from videollm.retrieval.head import unit
from videollm.retrieval.heads.teachclip import AttentiveAggregation
from videollm.retrieval.inputs import words_of
from videollm.retrieval.model import RetrievalModel


class RetrievalTask(ContrastiveTask):
    """A retrieval head on a CLIP."""

    recipe: RetrievalRecipe
    collate: PairBatches

    def __init__(self, recipe: RetrievalRecipe):
        self.model = build_retrieval_model(recipe)
        set_trained(self.model, recipe)
        pairs = read_pairs(Path(recipe.dataset.data))
        super().__init__(recipe, pairs)
        teachers = self.teachers()
        self.module = self.objective(teachers)
        self.groups, self.chunk = parameter_groups(self.model, recipe), recipe.objective.chunk
        layers = max(m.head.hidden_layers for m in (self.model, *teachers))
        self.collate = self._batches(pairs, layers)
        self.tested = None
        if recipe.dataset.eval_data:
            self.tested = self._batches(read_pairs(Path(recipe.dataset.eval_data)), layers)
        if recipe.objective.mine:
            self.sampler.mined = partial(mined, self.model, self.collate, self.sampler)

    def teachers(self) -> Sequence[RetrievalModel]:
        """Returns the trained models that the objective reads."""
        return ()

    def objective(self, teachers: Sequence[RetrievalModel]) -> ContrastiveLoss:
        """Returns the loss that the run minimises."""
        own = self.recipe.objective
        if own.objective == "recall":
            return RecallReward(self.model, recall_at=own.recall_at, samples=own.samples)
        if own.objective == "sigmoid":
            if self.model.logit_bias is None:
                raise ConfigError(
                    f"objective sigmoid needs a bias, which {self.recipe.network.init} lacks; start from a backbone "
                    "or choose objective contrast"
                )
            return SigmoidContrast(self.model)
        if own.objective == "trim":
            return TrimmedContrast(self.model, own.wrong_captions)
        return ContrastiveLoss(self.model, sums=own.sums)

    def _batches(self, pairs: Sequence[CaptionPair], layers: int) -> PairBatches:
        # The first rank decodes and encodes into the cache, which the others then read.
        with PartialState().main_process_first():
            visual, text = towers(self.model)
            return PairBatches(pairs, self.recipe, visual, layers, words_of(text, self.recipe.dataset.max_words))

    def score(self) -> dict[str, float]:
        return evaluate(self.model, self.tested) if self.tested else {}

    def finish(self, trainer: TaskTrainer) -> dict[str, float]:
        for tower in towers(self.model):
            merge_lora(tower)
        self.log = trainer.state.log_history
        return super().finish(trainer)

    def write(self, found: dict[str, float]) -> None:
        text = card(self.recipe, "train/retrieval.py", found, self.log, [f"head {self.model.config.head.kind}"])
        directory.save(self.model, Path(self.recipe.output), text)


@torch.no_grad()
def encode_pairs(model: RetrievalModel, batches: PairBatches, size: int = 64) -> tuple[Any, Any]:
    """Returns the TextFeatures of all pairs and the VideoRepr of all videos, on the CPU."""
    device = next(model.parameters()).device
    texts, videos = [], []
    for start in range(0, len(batches.pairs), size):
        batch = batches.texts([p.caption for p in batches.pairs[start : start + size]])
        texts.append(model.encode_text(batch["ids"].to(device), batch["text_mask"].to(device)))
    for start in range(0, len(batches.frames.parts), size):
        rows = list(range(start, min(start + size, len(batches.frames.parts))))
        batch = {k: v.to(device) for k, v in batches.videos(rows).items()}
        videos.append(model.head.encode_video(frame_features(model, batch), batch["mask"]))
    return tuple(
        type(parts[0])(*(torch.cat([getattr(p, name) for p in parts]).cpu() for name in names))
        for parts, names in ((texts, ("tokens", "mask", "embed")), (videos, ("embed", "frames", "mask")))
    )


def evaluate(model: RetrievalModel, batches: PairBatches) -> dict[str, float]:
    """Returns the measures of `videollm.retrieval.metrics` in both directions, such as text_to_video_R1."""
    model.eval()
    text, video = encode_pairs(model, batches)
    with torch.no_grad():
        scores = model.head.score(text, video)
    found = metrics.evaluate(metrics.Scores.of(scores), batches.video_of)
    return {f"{way}_{name}": value for way, values in found.items() for name, value in values.items()}


def parameter_groups(model: RetrievalModel, recipe: RetrievalRecipe) -> list[dict[str, Any]]:
    """Returns the trained parameters by learning rate. Biases are not decayed.

    Towers and the temperature have the rate of the backbone. The frame weights of head "attentive" may have their own,
    and all other parameters have that of the head.
    """
    optimizer = recipe.optimizer
    attention = (
        {id(p) for layer in (model.head.hidden, model.head.weight) for p in layer.parameters()}
        if isinstance(model.head, AttentiveAggregation)
        else set()
    )
    in_towers = {id(p) for tower in towers(model) for p in tower.parameters()}
    rates: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            backbone = id(parameter) in in_towers or name in ("logit_scale", "temperature", "logit_bias")
            fine = optimizer.attention_learning_rate if id(parameter) in attention else 0.0
            rate = optimizer.backbone_learning_rate if backbone else fine or optimizer.learning_rate
            rates.setdefault((rate, name.endswith("bias")), []).append(parameter)
    return [
        {"params": parameters, "lr": rate} | ({"weight_decay": 0.0} if bias else {})
        for (rate, bias), parameters in rates.items()
    ]


def set_trained(model: RetrievalModel, recipe: RetrievalRecipe) -> None:
    """Freezes, adapts or trains each tower. Prompts are part of a tower and exist before."""
    for tower, how in zip(towers(model), (recipe.network.visual, recipe.network.text), strict=True):
        if how == "lora":
            add_lora(tower, recipe.network.lora_rank)
        else:
            for name, parameter in tower.named_parameters():
                parameter.requires_grad_(how == "train" or (how == "prompt" and name == "prompts"))


def mined(model: RetrievalModel, batches: PairBatches, order: GroupedSampler, epoch: int) -> list[int]:
    """Returns the order of an epoch in which groups of pairs that the model finds similar follow one another.

    The first epoch is shuffled, because an untrained model does not know which pairs are similar.
    """
    if epoch == 0:
        return order.shuffled(epoch)
    was_training = model.training
    model.eval()
    text, video = encode_pairs(model, batches)
    model.train(was_training)
    vectors = unit(text.embed) + unit(video.embed)[batches.video_of]
    firsts = unit(vectors[torch.tensor([group[0] for group in order.groups])])
    size = max(1, batches.recipe.dataset.batch_size * len(order.groups) // order.count)
    rng = random.Random(batches.recipe.seed + epoch)
    chosen = [alike(rng.sample(range(len(firsts)), len(firsts)), firsts, size, rng)]
    if dist.is_initialized():
        dist.broadcast_object_list(chosen)  # ranks round differently, and must agree on the order
    return [row for g in chosen[0] for row in order.groups[g]]
