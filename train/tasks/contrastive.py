"""The contrastive loss of one batch: rows are encoded, gathered from all ranks and compared with each other.

Shapes: B pairs, T frames, L text tokens, K hidden layers, P patches, D tower width, E shared width. A batch is a dict
of tensors:

    ids (B,L), text_mask (B,L): captions
    false_ids, false_mask (B,L): one wrong caption of each video, if the recipe has them
    mask (B,T): real frames
    pixels uint8 (B,T,3,S,S), or the output of a frozen tower: embed (B,T,E) and tokens (B,T,K,1+P,D)
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from train.configs.contrastive import ContrastiveConfig
from train.core.gather import gather
from train.core.gradcache import TensorBatch, average_over_ranks, cached_backward
from train.core.optimizers import BertAdam
from train.core.schedules import lr_multiplier
from train.core.task import TrainingTask
from train.core.trainer import TaskTrainer
from train.data.pairs import CaptionPair, GroupedSampler
from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.retrieval.head import VideoRepr
from videollm.retrieval.inputs import normalise_for
from videollm.retrieval.losses import sigmoid_loss, symmetric_cross_entropy, trimmed_cross_entropy
from videollm.retrieval.model import MAX_LOGIT_SCALE, RetrievalModel

EncodedRows = dict[str, torch.Tensor]  # the encoded batch, B rows each

_TEXT, _VIDEO = ("tokens", "mask", "embed"), ("embed", "frames", "mask")


class ContrastiveLoss(nn.Module):
    """Symmetric InfoNCE over the batch of all ranks. With `sums`, both directions are added, as in STAN, instead of
    averaged."""

    def __init__(self, model: RetrievalModel, *, sums: bool = False):
        super().__init__()
        self.model = model
        self.sums = sums

    def forward(self, batch: TensorBatch) -> dict[str, torch.Tensor]:
        return {"loss": self.loss(self.encode(batch))}

    def encode(self, batch: TensorBatch) -> EncodedRows:
        """Returns the rows of a batch, or of a piece of one, that the loss reads. No row depends on another."""
        return encode(self.model, frame_features(self.model, batch), batch)

    def loss(self, rows: EncodedRows) -> torch.Tensor:
        """Returns the loss of the rows of all ranks."""
        return self.compare(gather(rows))

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Keeps a learned temperature above 0.01, as CLIP does, because training becomes unstable below."""
        if self.model.config.scale == "learned":
            self.model.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def compare(self, rows: EncodedRows) -> torch.Tensor:
        """Returns the loss of rows that were gathered before."""
        logits = self.model.logits(texts_of(rows), videos_of(rows))
        return symmetric_cross_entropy(logits) * (2 if self.sums else 1)


class TrimmedContrast(ContrastiveLoss):
    """InfoNCE over the batch of all ranks, without the `share` of its pairs whose loss is largest."""

    def __init__(self, model: RetrievalModel, share: float):
        super().__init__(model)
        self.share = share

    def compare(self, rows: EncodedRows) -> torch.Tensor:
        return trimmed_cross_entropy(self.model.logits(texts_of(rows), videos_of(rows)), self.share)


class SigmoidContrast(ContrastiveLoss):
    """SigLIP's loss over the batch of all ranks."""

    def compare(self, rows: EncodedRows) -> torch.Tensor:
        return sigmoid_loss(self.model.logits(texts_of(rows), videos_of(rows)))


def encode(model: RetrievalModel, frames: FrameFeatures, batch: TensorBatch) -> EncodedRows:
    """Encodes the captions of a batch, and its videos from their frames."""
    video = model.head.encode_video(frames, batch["mask"])
    return encode_texts(model, batch) | {f"video_{k}": getattr(video, k) for k in _VIDEO}


def encode_texts(model: RetrievalModel, batch: TensorBatch) -> EncodedRows:
    """Encodes the captions of a batch, and its wrong ones if there are any."""
    text = model.encode_text(batch["ids"], batch["text_mask"])
    rows = {f"text_{k}": getattr(text, k) for k in _TEXT}
    if "false_ids" in batch:
        false = model.encode_text(batch["false_ids"], batch["false_mask"])
        rows |= {f"false_{k}": getattr(false, k) for k in _TEXT}
    return rows


def frame_features(model: RetrievalModel, batch: TensorBatch) -> FrameFeatures:
    """Returns the frames as the model's tower encodes them, or as they were kept, with the hidden layers that the
    head reads."""
    if "pixels" in batch:
        assert model.visual is not None  # `towers` refuses models without
        return model.encode_frames(normalise_for(model.visual, batch["pixels"]), batch["mask"])
    embed, tokens = batch["embed"], batch["tokens"]
    tokens = tokens[:, :, tokens.shape[2] - model.head.hidden_layers :]
    return FrameFeatures(tokens.float(), embed, embed.new_zeros(*embed.shape[:2], 0))


def texts_of(rows: EncodedRows) -> TextFeatures:
    """Returns the captions, followed by the wrong ones."""
    kinds = ("text_", "false_") if "false_embed" in rows else ("text_",)
    return TextFeatures(*(torch.cat([rows[kind + k] for kind in kinds]) for k in _TEXT))


def videos_of(rows: EncodedRows) -> VideoRepr:
    return VideoRepr(*(rows[f"video_{k}"] for k in _VIDEO))


class RowNumbers(Dataset[int]):
    """The numbers 0 to count - 1, which the collator turns into rows."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


class ContrastiveTask(TrainingTask):
    """A contrastive run, of a CLIP from scratch or of a retrieval head.

    Attributes:
        module: The loss.
        groups: The parameters with their learning rates, for the optimizer.
        chunk: The number of pairs that are encoded at a time, 0 for all.
    """

    recipe: ContrastiveConfig
    module: ContrastiveLoss
    sampler: GroupedSampler
    groups: list[dict[str, Any]]
    chunk: int = 0

    has_own_optimizer = True

    def __init__(self, recipe: ContrastiveConfig, pairs: Sequence[CaptionPair]):
        self.recipe, self.epochs = recipe, recipe.dataset.epochs
        self.rows, self.sampler = RowNumbers(len(pairs)), GroupedSampler(pairs, recipe.seed)

    def score(self) -> dict[str, float]:
        """Returns measures on `eval_data`, or an empty dict if the recipe has none."""
        raise NotImplementedError

    def write(self, found: dict[str, float]) -> None:
        """Writes the result with its measures. It is called on the first rank."""
        raise NotImplementedError

    def create_optimizer(self) -> torch.optim.Optimizer:
        o = self.recipe.optimizer
        kind = {"adamw": partial(torch.optim.AdamW, fused=True), "bertadam": BertAdam}[o.optimizer]
        betas = (o.beta1, o.beta2)
        return kind(self.groups, lr=o.learning_rate, betas=betas, eps=o.epsilon, weight_decay=o.weight_decay)

    def lr_multiplier(self, progress: float) -> float:
        return lr_multiplier(self.recipe.optimizer.schedule, progress, self.recipe.optimizer.warmup_ratio)

    def before_step(self, trainer: TaskTrainer) -> None:
        self.module.limit_scale()

    def backward(self, trainer: TaskTrainer, inputs: Any) -> torch.Tensor | None:
        if not self.chunk:
            return None
        self.module.train()
        batch: Any = trainer._prepare_inputs(inputs)["batch"]
        with trainer.accelerator.autocast():
            loss = cached_backward(self.module, batch, self.chunk)
        average_over_ranks(self.module)
        return loss

    def after_epoch(self, trainer: TaskTrainer) -> None:
        every, state = self.recipe.dataset.evaluate_every, trainer.state
        last = state.global_step >= state.max_steps  # the last epoch is evaluated by `finish`
        due = every > 0 and round(state.epoch or 0) % every == 0
        if due and not last and (found := self.score()):
            trainer.log(found)
            self.module.train()

    def finish(self, trainer: TaskTrainer) -> dict[str, float]:
        """Returns the measures of the finished model."""
        found = self.score()
        if trainer.is_world_process_zero():
            self.write(found)
        return found
