"""Token merging, in which similar tokens become one (ToMe, Bolya et al. 2023).

Shapes: B segments, T frames, N tokens per frame, D encoder width, Q query tokens, H language-model width, L remaining
tokens.
"""

import torch
import torch.nn.functional as F

from videollm.config import TemporalConfig
from videollm.models.concat import mlp
from videollm.models.pool import adaptive_pool
from videollm.models.temporal_base import TemporalModule


def merge_tokens(tokens: torch.Tensor, mask: torch.Tensor, size: int) -> torch.Tensor:
    """Merges the real tokens of each row, (B,L,D) with a mask (B,L), to (B,size,D). Their order is kept.

    The function runs rounds of ToMe's bipartite soft matching. Each round merges at most an eighth of a row and half of
    what exceeds `size`, so that the frames of a still scene are merged before tokens that differ. A merged token is the
    mean of all tokens in it, at the position of one of them. Rows with fewer than `size` tokens repeat some.
    """
    order = (~mask).byte().argsort(dim=1, stable=True)  # real tokens first
    with torch.autocast(tokens.device.type, enabled=False):  # the choice of tokens must not depend on the precision
        merged, weight = _take(tokens.float(), mask.float(), order)
        while merged.shape[1] > size:
            merged, weight = _merge_round(merged, weight, size)
        return adaptive_pool(merged, weight > 0, size).to(tokens.dtype)


def _merge_round(tokens: torch.Tensor, weight: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Runs one round on tokens (B,L,D), each the mean of `weight` (B,L) tokens. Padding, at the end, has weight 0."""
    length = tokens.shape[1]
    source, target = tokens[:, ::2], tokens[:, 1::2]
    source_weight, target_weight = weight[:, ::2], weight[:, 1::2]
    likeness = F.normalize(source, dim=-1) @ F.normalize(target, dim=-1).mT
    # Equal tokens are common in still video. Rounding lets their positions decide between them, not numerical noise.
    likeness = likeness.mul(1e4).round().masked_fill(target_weight[:, None] == 0, -torch.inf)
    best, partner = likeness.max(-1)
    best = best.masked_fill(source_weight == 0, -torch.inf)
    count = (weight > 0).sum(1, keepdim=True)
    merges = torch.minimum((count + 7) // 8, ((count - size).clamp(min=0) + 1) // 2)
    rank = best.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    leaves = rank < merges
    # This is a matrix product because scatter_add adds in no fixed order on a GPU.
    moves = F.one_hot(partner, target.shape[1]).to(tokens.dtype) * (source_weight * leaves)[..., None]
    total = target_weight + moves.sum(1)
    target = (target * target_weight[..., None] + moves.mT @ source) / total.clamp(min=1)[..., None]
    source_weight = source_weight.masked_fill(leaves, 0)

    weight = torch.cat((source_weight, total), 1)
    position = torch.arange(length, device=tokens.device)
    order = (torch.cat((position[::2], position[1::2])) + length * (weight == 0)).argsort(dim=1)
    left = length - min((length + 7) // 8, (length - size + 1) // 2)  # the length of the longest row after this round
    return _take(torch.cat((source, target), 1), weight, order[:, :left])


def _take(tokens: torch.Tensor, weight: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[-1])), weight.gather(1, order)


class TokenMerge(TemporalModule):
    """Merges the T*N tokens by cosine similarity across time and space to Q tokens, and applies LLaVA's projector.

    A moment that differs from the rest of the segment keeps its own token, however short it is.
    """

    def __init__(self, config: TemporalConfig, token_dim: int, out_dim: int, tokens_per_frame: int | None = None):
        super().__init__(config.queries)
        self.mlp = mlp(token_dim, out_dim)

    def compress(self, tokens: torch.Tensor, elapsed_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        real = mask.repeat_interleave(tokens.shape[2], dim=1)
        return self.mlp(merge_tokens(tokens.flatten(1, 2), real, self.queries))
