"""The losses of the retrieval systems, as functions from logits to a scalar. Callers gather logits across ranks.

Shapes: N pairs of which text i describes video i, T frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

Method = Literal["pearson", "ce", "l1"]


def symmetric_cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Returns (CE over rows + CE over columns) / 2 of logits (N,N) with rows of texts and the right pairs on the
    diagonal.

    This is the loss of CLIP, CLIP4Clip, X-CLIP and ViCLIP. STAN and VideoCLIP train with the sum, which is twice as
    large. Logits may have F more rows, (N+F,N), for texts that describe none of the videos. They are negatives for the
    videos and have no row loss of their own.
    """
    targets = torch.arange(logits.shape[1], device=logits.device)
    return (F.cross_entropy(logits[: len(targets)], targets) + F.cross_entropy(logits.mT, targets)) / 2


def sigmoid_loss(logits: torch.Tensor) -> torch.Tensor:
    """Returns -Σ_ij log σ(y_ij z_ij) / N of logits z (N,N), where y is 1 on the diagonal and -1 elsewhere.

    This is the loss of SigLIP (Zhai et al. 2023), whose logits have a bias. Logits may have more rows, as in
    `symmetric_cross_entropy`.
    """
    signs = 2 * torch.eye(*logits.shape, device=logits.device, dtype=logits.dtype) - 1
    return -F.logsigmoid(signs * logits).sum() / logits.shape[1]


def trimmed_cross_entropy(logits: torch.Tensor, share: float) -> torch.Tensor:
    """Returns `symmetric_cross_entropy` over the pairs of the batch without the `share` of them whose loss is largest.

    Networks learn right labels before wrong ones, so that pairs with a large loss are more often wrong (Han et al.
    2018, https://arxiv.org/abs/1804.06872). Left-out pairs remain negatives of the others.
    """
    targets = torch.arange(logits.shape[1], device=logits.device)
    rows = F.cross_entropy(logits[: len(targets)], targets, reduction="none")
    losses = (rows + F.cross_entropy(logits.mT, targets, reduction="none")) / 2
    return losses.sort().values[: math.ceil(len(losses) * (1 - share))].mean()


def text_to_video_cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Returns the CE over videos of logits (N,N) with rows of texts: T2VContraLoss of VideoCLIP (Xu et al. 2021)."""
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """The methods of TeachCLIP (Tian et al. 2024), `train.py`. The defaults are the published ones.

    Args:
        coarse: How the logits of student and teachers are compared.
        fine: How their frame weights are compared.
    """

    coarse: Method = "pearson"
    fine: Method = "ce"

    @property
    def weights(self) -> tuple[float, float, float]:
        """The weights of the contrastive, the coarse and the fine loss."""
        return (1.0, 10.0, 1.0) if self.coarse == "ce" else (0.2, 1.0, 2.0)


def coarse_loss(student: torch.Tensor, teachers: Sequence[torch.Tensor], method: Method = "pearson") -> torch.Tensor:
    """Returns the distance of the student's logits (N,N) from those of each teacher, averaged over the teachers.

    With p and q the softmaxes over the rows of student and teacher, the distance is mean_i (1 - Pearson(p_i, q_i)) for
    "pearson" and mean_ij (-q_ij log p_ij) for "ce", each plus the same over columns. For "l1" it is the smooth L1
    distance of the logits.
    """
    losses = [
        F.smooth_l1_loss(student, teacher)
        if method == "l1"
        else _rows(student, teacher, method) + _rows(student.mT, teacher.mT, method)
        for teacher in teachers
    ]
    return torch.stack(losses).mean()


def fine_loss(student: torch.Tensor, teachers: Sequence[torch.Tensor], method: Method = "ce") -> torch.Tensor:
    """Returns the distance of the student's frame weights w (N,T) from those q of each teacher, averaged over the
    teachers.

    Weights sum to 1 over T. The distance is mean_it (-q_it log w_it) for "ce", mean_i (1 - Pearson(w_i, q_i)) for
    "pearson", and the smooth L1 distance for "l1".
    """
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
    """Returns the loss of TeachCLIP: 0.2 InfoNCE + coarse + 2 fine, or InfoNCE + 10 coarse + fine if coarse is "ce"."""
    teaching = teaching or Teaching()
    contrast, coarse, fine = teaching.weights
    return (
        contrast * symmetric_cross_entropy(logits)
        + coarse * coarse_loss(logits, teacher_logits, teaching.coarse)
        + fine * fine_loss(frame_weights, teacher_weights, teaching.fine)
    )


def pearson(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Returns Pearson's correlation of a and b along the last axis."""
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def _rows(student: torch.Tensor, teacher: torch.Tensor, method: Method) -> torch.Tensor:
    target = teacher.softmax(-1)
    if method == "ce":
        return -(target * student.log_softmax(-1)).mean()
    return (1 - pearson(student.softmax(-1), target)).mean()
