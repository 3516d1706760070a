"""The optimizer that CLIP4Clip and its successors train with."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

TENSOR_CLIP = 1.0


class BertAdam(Optimizer):
    """Adam without bias correction, with decoupled weight decay (CLIP4Clip `modules/optimization.py`):

        m ← β1 m + (1-β1) g;  v ← β2 v + (1-β2) g²;  p ← p - lr (m / (√v + ε) + wd p)

    where g is the gradient of one tensor, whose norm is clipped to 1 before the step, independently of other tensors.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                nn.utils.clip_grad_norm_(p, TENSOR_CLIP)
                state = self.state[p]
                if not state:
                    state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
                m = state["m"].mul_(beta1).add_(p.grad, alpha=1 - beta1)
                v = state["v"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                p.sub_(m / (v.sqrt() + group["eps"]) + group["weight_decay"] * p, alpha=group["lr"])
