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
from typing import Any

import torch
from torch import nn

from train.configs.contrastive import ContrastiveConfig
from train.core.gather import gather
from train.core.gradcache import TensorBatch, average_over_ranks, cached_backward
from train.core.trainer import TaskTrainer
from train.data.pairs import CaptionPair
from train.tasks.epochs import EpochTask
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


class ContrastiveTask(EpochTask):
    """A contrastive run, of a CLIP from scratch or of a retrieval head.

    Attributes:
        module: The loss.
        chunk: The number of pairs that are encoded at a time, 0 for all.
    """

    recipe: ContrastiveConfig
    module: ContrastiveLoss
    chunk: int = 0

    def __init__(self, recipe: ContrastiveConfig, pairs: Sequence[CaptionPair]):
        super().__init__(recipe, [pair.group for pair in pairs])

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
