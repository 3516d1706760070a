"""Distillation, in which a head that is fast to search with learns from finer ones (TeachCLIP, Tian et al. 2024)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self, cast

import torch
from torch import nn

from train.configs.retrieval import RetrievalRecipe
from train.core.gradcache import TensorBatch
from train.tasks.backbone import towers
from train.tasks.contrastive import ContrastiveLoss, EncodedRows, encode, frame_features, texts_of, videos_of
from train.tasks.retrieval import RetrievalTask
from videollm.errors import ConfigError
from videollm.retrieval import model as directory
from videollm.retrieval.heads.teachclip import AttentiveAggregation
from videollm.retrieval.heads.xclip import sentence_frame_weights
from videollm.retrieval.losses import teaching_loss
from videollm.retrieval.model import RetrievalModel


class DistilledContrast(ContrastiveLoss):
    """0.2 InfoNCE + coarse + 2 fine.

    Teachers encode the same batch of all ranks, and are not trained. The fine loss of the official code reads padded
    frames. This one does so too if `official_compat` of the student's head is set.

    Raises ConfigError if the student has no frame weights.
    """

    def __init__(self, model: RetrievalModel, teachers: Sequence[RetrievalModel]):
        super().__init__(model)
        if not isinstance(model.head, AttentiveAggregation):
            raise ConfigError(f"head {model.config.head.kind!r} has no frame weights to teach; choose head 'attentive'")
        self.student: AttentiveAggregation = model.head
        self.teachers = cast(Sequence[RetrievalModel], nn.ModuleList(teachers).requires_grad_(False))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for teacher in self.teachers:
            teacher.eval()
        return self

    def encode(self, batch: TensorBatch) -> EncodedRows:
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

    def compare(self, rows: EncodedRows) -> torch.Tensor:
        logits = self.model.logits(texts_of(rows), videos_of(rows))
        taught = [
            {n.removeprefix(f"teacher{i}_"): x for n, x in rows.items() if n.startswith(f"teacher{i}_")}
            for i in range(len(self.teachers))
        ]
        with torch.no_grad():
            targets = [t.logits(texts_of(r), videos_of(r)) for t, r in zip(self.teachers, taught, strict=True)]
        return teaching_loss(logits, rows["weights"], targets, [r["weights"] for r in taught])


class DistillationTask(RetrievalTask):
    """A retrieval head that learns from trained heads."""

    def teachers(self) -> Sequence[RetrievalModel]:
        folders = [folder for folder in self.recipe.objective.teachers.split(",") if folder]
        return [load_teacher(Path(folder), self.recipe, self.model) for folder in folders]

    def objective(self, teachers: Sequence[RetrievalModel]) -> ContrastiveLoss:
        return DistilledContrast(self.model, teachers)


def load_teacher(folder: Path, recipe: RetrievalRecipe, student: RetrievalModel) -> RetrievalModel:
    """Loads a trained head.

    Raises ConfigError if the student's tower is frozen and the teacher has another one, because both read its features.
    """
    loaded = directory.load(folder)
    own, theirs = (towers(m)[0].state_dict() for m in (student, loaded))
    differs = any(n not in theirs or not torch.equal(p, theirs[n]) for n, p in own.items())
    if recipe.network.visual == "freeze" and differs:
        raise ConfigError(f"{folder} has another visual tower than the frozen one; set visual to train")
    return loaded
