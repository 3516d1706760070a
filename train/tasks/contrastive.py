"""The contrastive loss of one batch: encode, gather from all ranks, compare everything with everything.

Shapes: B pairs, T frames, L text tokens. A batch is a dict of tensors:
    ids (B,L), text_mask (B,L): captions; false_ids, false_mask (B,L): one wrong caption of each video, where wanted
    mask (B,T), and either pixels uint8 (B,T,3,S,S), or what a frozen tower made of them: embed (B,T,E) and
    tokens (B,T,K,1+P,D)
"""

import math
from collections.abc import Mapping

import torch
from torch import nn

from train.core.gather import gather
from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.retrieval.head import VideoRepr
from videollm.retrieval.inputs import normalise
from videollm.retrieval.losses import symmetric_cross_entropy
from videollm.retrieval.model import MAX_LOGIT_SCALE, RetrievalModel

Batch = Mapping[str, torch.Tensor]
Rows = dict[str, torch.Tensor]  # what encoding leaves of a batch, B rows each

_TEXT, _VIDEO = ("tokens", "mask", "embed"), ("embed", "frames", "mask")


class Contrast(nn.Module):
    """Symmetric InfoNCE over the batch of all ranks. sums: the two directions' sum, as STAN trains, not their mean."""

    def __init__(self, model: RetrievalModel, *, sums: bool = False):
        super().__init__()
        self.model = model
        self.sums = sums

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": self.loss(self.encode(batch))}

    def encode(self, batch: Batch) -> Rows:
        """What a batch, or a piece of one, leaves for the loss: rows that depend on no other row."""
        return encode(self.model, frame_features(self.model, batch), batch)

    def loss(self, rows: Rows) -> torch.Tensor:
        return self.contrast(gather(rows))

    @torch.no_grad()
    def limit_scale(self) -> None:
        """A learned temperature stays above 0.01, as CLIP's does."""
        if self.model.config.scale == "learned":
            self.model.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def contrast(self, rows: Rows) -> torch.Tensor:
        logits = self.model.logits(texts_of(rows), videos_of(rows))
        return symmetric_cross_entropy(logits) * (2 if self.sums else 1)


def encode(model: RetrievalModel, frames: FrameFeatures, batch: Batch) -> Rows:
    text = model.encode_text(batch["ids"], batch["text_mask"])
    video = model.head.encode_video(frames, batch["mask"])
    rows = {f"text_{k}": getattr(text, k) for k in _TEXT} | {f"video_{k}": getattr(video, k) for k in _VIDEO}
    if "false_ids" in batch:
        false = model.encode_text(batch["false_ids"], batch["false_mask"])
        rows |= {f"false_{k}": getattr(false, k) for k in _TEXT}
    return rows


def frame_features(model: RetrievalModel, batch: Batch) -> FrameFeatures:
    """What the model's tower makes of the frames; of kept features, as many hidden layers as its head reads."""
    if "pixels" in batch:
        return model.encode_frames(normalise(batch["pixels"]), batch["mask"])
    embed, tokens = batch["embed"], batch["tokens"]
    tokens = tokens[:, :, tokens.shape[2] - model.head.hidden_layers :]
    return FrameFeatures(tokens.float(), embed, embed.new_zeros(*embed.shape[:2], 0))


def texts_of(rows: Rows) -> TextFeatures:
    """The captions, then the false ones."""
    kinds = ("text_", "false_") if "false_embed" in rows else ("text_",)
    return TextFeatures(*(torch.cat([rows[kind + k] for kind in kinds]) for k in _TEXT))


def videos_of(rows: Rows) -> VideoRepr:
    return VideoRepr(*(rows[f"video_{k}"] for k in _VIDEO))
