"""The base class of temporal modules, which turn the frame tokens of one segment into a fixed number of query tokens.

Shapes: B segments, T frames, N tokens per frame, D encoder width, Q query tokens, H language-model width.
"""

import torch
from torch import nn


class TemporalModule(nn.Module):
    """Turns frame tokens (B,T,N,D) into query tokens (B,Q,H). Frames whose mask is False never change the result."""

    def __init__(self, queries: int):
        super().__init__()
        self.queries = queries

    def forward(self, tokens: torch.Tensor, times_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns the query tokens (B,Q,H).

        Args:
            tokens: Frame tokens (B,T,N,D), for any T and N.
            times_s: Absolute times of the frames in seconds (B,T).
            mask: bool (B,T), True at real frames. Each row has at least one.
        """
        return self.compress(*clean(tokens, times_s, mask), mask)

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Implements `forward`. Subclasses override it.

        Args:
            tokens: Frame tokens (B,T,N,D), zero at padding.
            elapsed_s: float32 seconds since the first real frame of each row (B,T), zero at padding.
            mask: bool (B,T), True at real frames.
        """
        raise NotImplementedError


def clean(tokens: torch.Tensor, times_s: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns tokens with zeros at padding, and float32 seconds since the first real frame of each row.

    The arguments are those of `TemporalModule.forward`. Padding is set to zero because it may hold NaN, which a weight
    of zero would not remove.
    """
    start_s = times_s.masked_fill(~mask, float("inf")).amin(1, keepdim=True)
    elapsed_s = (times_s - start_s).masked_fill(~mask, 0).float()
    return tokens.masked_fill(~mask[..., None, None], 0), elapsed_s


def init_weights(module: nn.Module) -> None:
    """Initialises a layer as BERT does, with a truncated normal of 0.02 and zero biases. For `nn.Module.apply`."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
