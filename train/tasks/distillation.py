"""A head taught by finer ones: TeachCLIP's coarse and fine losses (Tian et al. 2024) from any trained models."""

from collections.abc import Sequence
from typing import Self, cast

import torch
from torch import nn

from train.tasks.contrastive import Batch, Contrast, Rows, encode, frame_features, texts_of, videos_of
from videollm.errors import ConfigError
from videollm.retrieval.heads.teachclip import AttentiveAggregation
from videollm.retrieval.heads.xclip import sentence_frame_weights
from videollm.retrieval.losses import teaching_loss
from videollm.retrieval.model import RetrievalModel


class DistilledContrast(Contrast):
    """0.2 InfoNCE + coarse + 2 fine. Teachers see the same batch, of all ranks, and do not change. Where the official
    code reads padded frames (`official_compat` of the student's head), so does the fine loss; otherwise it does not.
    """

    def __init__(self, model: RetrievalModel, teachers: Sequence[RetrievalModel]):
        super().__init__(model)
        if not isinstance(model.head, AttentiveAggregation):
            raise ConfigError(f"head {model.config.head.kind!r} has no frame weights to teach: choose 'attentive'")
        self.student: AttentiveAggregation = model.head
        self.teachers = cast(Sequence[RetrievalModel], nn.ModuleList(teachers).requires_grad_(False))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for teacher in self.teachers:
            teacher.eval()
        return self

    def encode(self, batch: Batch) -> Rows:
        real = torch.ones_like(batch["mask"]) if self.student.official_compat else batch["mask"]
        frames = frame_features(self.model, batch)
        rows = encode(self.model, frames, batch)
        rows["weights"] = self.student.frame_weights(frames, batch["mask"]).masked_fill(~real, 1)  # log 1: no loss
        with torch.no_grad():
            for i, teacher in enumerate(self.teachers):
                frames = frame_features(teacher, batch)
                taught = encode(teacher, frames, batch)
                weights = sentence_frame_weights(texts_of(taught), frames.embed) * real
                rows |= {f"teacher{i}_{name}": x for name, x in taught.items()}
                rows[f"teacher{i}_weights"] = weights / weights.sum(1, keepdim=True)
        return rows

    def contrast(self, rows: Rows) -> torch.Tensor:
        logits = self.model.logits(texts_of(rows), videos_of(rows))
        taught = [
            {n.removeprefix(f"teacher{i}_"): x for n, x in rows.items() if n.startswith(f"teacher{i}_")}
            for i in range(len(self.teachers))
        ]
        with torch.no_grad():
            targets = [t.logits(texts_of(r), videos_of(r)) for t, r in zip(self.teachers, taught, strict=True)]
        return teaching_loss(logits, rows["weights"], targets, [r["weights"] for r in taught])
