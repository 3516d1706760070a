"""Optimizers that PyTorch does not have in the form that is needed here."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

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


class MuonAdamW(Optimizer):
    """Muon for matrices (Jordan et al. 2024) and AdamW for all other parameters.

    Muon makes the momentum of a matrix orthogonal before it takes the step, so that directions in which gradients are
    small are learnt too. Its steps are scaled to the size of AdamW's (Liu et al. 2025), so that both have one learning
    rate. Parameters with more than two dimensions, which convolutions have, are matrices with a row for each output.

    Args:
        matrices: Parameters with at least two dimensions.
        others: All other parameters, such as embeddings and biases, which are not decayed.
    """

    def __init__(
        self, matrices: Sequence[nn.Parameter], others: Sequence[nn.Parameter], lr: float, weight_decay: float
    ):
        # The views share the memory of the parameters, and get their gradients before each step.
        self.views = [(p, nn.Parameter(p.detach().flatten(1))) for p in matrices]
        views = [view for _, view in self.views]
        self.parts: list[Optimizer] = []
        if views:
            options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "adjust_lr_fn": "match_rms_adamw"}
            self.parts.append(torch.optim.Muon(views, **options))
        if others:
            self.parts.append(torch.optim.AdamW(others, lr=lr, weight_decay=0.0))
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for p, view in self.views:
            view.grad = None if p.grad is None else p.grad.flatten(1)
        for part, group in zip(self.parts, self.param_groups, strict=True):
            # A schedule changes the groups of this optimizer, and loading a state replaces groups and state.
            part.param_groups, part.state = [group], self.state
            part.step()


def muon(module: nn.Module, lr: float, weight_decay: float) -> MuonAdamW:
    """Returns the optimizer of what is trained in `module`: Muon for the weights of linear layers and convolutions."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    weights = {id(m.weight) for m in module.modules() if isinstance(m, layers)}
    # The rows of embeddings and of output layers are words, each with a gradient of its own.
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            weights.discard(id(part.weight))
        if isinstance(part, PreTrainedModel) and (output := part.get_output_embeddings()) is not None:
            weights.discard(id(output.weight))
    trained = [p for p in module.parameters() if p.requires_grad]
    return MuonAdamW(
        [p for p in trained if id(p) in weights], [p for p in trained if id(p) not in weights], lr, weight_decay
    )
