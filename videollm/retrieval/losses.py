"""Pure parts of the systems' losses: logits in, a scalar out. Gathering across ranks happens where they are called.

Shapes: N pairs, text i belongs to video i; T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

Method = Literal["pearson", "ce", "l1"]


def symmetric_cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    """(CE over rows + CE over columns) / 2 of (N,N) logits whose diagonal is right: CLIP, CLIP4Clip, X-CLIP, ViCLIP.
    STAN and VideoCLIP train with the sum, which is twice this. Rows beyond the N-th, (N+F,N), are texts that describe
    none of the videos: wrong answers for videos, no questions themselves."""
    targets = torch.arange(logits.shape[1], device=logits.device)
    return (F.cross_entropy(logits[: len(targets)], targets) + F.cross_entropy(logits.mT, targets)) / 2


def text_to_video_cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    """CE over videos of (N,N) logits, rows are texts: VideoCLIP's T2VContraLoss."""
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """TeachCLIP's methods, `train.py`. coarse: of logits; fine: of frame weights. The published default."""

    coarse: Method = "pearson"
    fine: Method = "ce"

    @property
    def weights(self) -> tuple[float, float, float]:
        """Of the contrastive, the coarse and the fine loss."""
        return (1.0, 10.0, 1.0) if self.coarse == "ce" else (0.2, 1.0, 2.0)


def coarse_loss(student: torch.Tensor, teachers: Sequence[torch.Tensor], method: Method = "pearson") -> torch.Tensor:
    """How far the student's logits (N,N) are from each teacher's, averaged over teachers. With p, q softmaxes of rows:
    "pearson": mean_i (1 - Pearson(p_i, q_i)); "ce": mean_ij (-q_ij log p_ij); each plus the same of columns.
    "l1": smooth L1 of the logits themselves."""
    losses = [
        F.smooth_l1_loss(student, teacher)
        if method == "l1"
        else _rows(student, teacher, method) + _rows(student.mT, teacher.mT, method)
        for teacher in teachers
    ]
    return torch.stack(losses).mean()


def fine_loss(student: torch.Tensor, teachers: Sequence[torch.Tensor], method: Method = "ce") -> torch.Tensor:
    """How far the student's frame weights (N,T), which sum to 1 over T, are from each teacher's, averaged over
    teachers: "ce": mean_it (-q_it log w_it); "pearson": mean_i (1 - Pearson(w_i, q_i)); "l1": smooth L1."""
    compare = {
        "ce": lambda w, q: -(q * w.log()).mean(),
        "pearson": lambda w, q: (1 - pearson(w, q)).mean(),
        "l1": F.smooth_l1_loss,
    }[method]
    return torch.stack([compare(student, teacher) for teacher in teachers]).mean()


def teaching_loss(
    logits: torch.Tensor,
    frame_weights: torch.Tensor,
    teacher_logits: Sequence[torch.Tensor],
    teacher_weights: Sequence[torch.Tensor],
    teaching: Teaching | None = None,
) -> torch.Tensor:
    """TeachCLIP's total: 0.2 InfoNCE + coarse + 2 fine (with coarse "ce": InfoNCE + 10 coarse + fine)."""
    teaching = teaching or Teaching()
    contrast, coarse, fine = teaching.weights
    return (
        contrast * symmetric_cross_entropy(logits)
        + coarse * coarse_loss(logits, teacher_logits, teaching.coarse)
        + fine * fine_loss(frame_weights, teacher_weights, teaching.fine)
    )


def pearson(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Correlation of rows."""
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def _rows(student: torch.Tensor, teacher: torch.Tensor, method: Method) -> torch.Tensor:
    target = teacher.softmax(-1)
    if method == "ce":
        return -(target * student.log_softmax(-1)).mean()
    return (1 - pearson(student.softmax(-1), target)).mean()
