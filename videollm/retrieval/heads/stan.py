"""STAN: a branch beside the visual tower that mixes frames at several levels."""

import copy
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import nn

from videollm.encoders.base import FrameFeatures
from videollm.errors import ConfigError
from videollm.retrieval.clip import CLIP_EPS, ClipAttention, ClipBlock, VisionTransformer
from videollm.retrieval.head import Need, RetrievalHead, VideoRepr, masked_mean

MAX_FRAMES = 64  # rows of the official time embedding
MAX_DROP_PATH = 0.1  # of the last level; the levels before it drop less


class STAN(RetrievalHead):
    """Spatial-temporal auxiliary network (Liu et al. 2023), `mmaction/models/backbones/clip_stan_hf.py`.

    X_k (T,1+P,D) are the outputs of the tower's last K layers, c is the class token of the branch, z_{t,i} are its
    patches, p the position embedding of the tower, e its class embedding, and q_t the time embedding:

        c ← (mean_t X_0[t,0] + e + p_0) / 2;  z_{t,i} ← X_0[t,i] + p_i + q_t                    on entry, k = 0
        c ← c + mean_t X_k[t,0];              z_{t,i} ← z_{t,i} + X_k[t,i]                      k > 0
        z ← z + W A(z),  A(z) = MHSA over t of LN z, or 3x3x3 convolution of z                  across frames
        (c; z_t) ← CLIP's block of each frame, c's attention update averaged over t             within frames
        f_t = ln_post(X_{K-1}[t,0] + c) · proj;  V = mean_t f_t;  score = n(t) · n(V)

    W starts at zero, and the blocks within frames start as copies of the tower's last K blocks. ln_post, proj, p and e
    are the parameters of the tower itself. The official code has no mask: with `official_compat`, padded frames count
    as frames. Without it, the result does not depend on them.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"hidden"})

    def __init__(
        self,
        embed_dim: int,
        *,
        tower: VisionTransformer,
        depth: int = 4,
        across: Literal["attention", "conv3d"] = "attention",
        official_compat: bool = False,
    ):
        super().__init__()
        config = tower.config
        if not 0 < depth <= config.layers:
            raise ConfigError(f"depth is {depth}; it must be at least 1 and at most the tower's {config.layers} layers")
        self.hidden_layers, self.official_compat = depth, official_compat
        self.class_embedding, self.positions = tower.class_embedding, tower.positional_embedding
        self.ln_post, self.proj = tower.ln_post, tower.proj
        self.time_embedding = nn.Embedding(MAX_FRAMES, config.width)
        drops = torch.linspace(0, MAX_DROP_PATH, depth).tolist()
        self.across = nn.ModuleList(
            AcrossFramesAttention(config.width, config.heads, drop)
            if across == "attention"
            else AcrossFramesConv(config.width, config.grid)
            for drop in drops
        )
        self.within = nn.ModuleList(
            WithinFrames(cast(ClipBlock, block), drop)
            for block, drop in zip(list(tower.transformer.resblocks)[-depth:], drops, strict=True)
        )

    def encode_video(self, frames: FrameFeatures, mask: torch.Tensor) -> VideoRepr:
        """Returns V (Nv,E) from frames.tokens (Nv,T,K,1+P,D)."""
        mask = self._mask(mask)
        return VideoRepr.of(masked_mean(self.frame_embeddings(frames.tokens, mask), mask))

    def frame_embeddings(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns f (B,T,E) from the hidden layers X (B,T,K,1+P,D)."""
        cls, _ = self.branch(hidden, mask)[-1]
        return self.ln_post(hidden[:, :, -1, 0] + cls[:, None]) @ self.proj

    def branch(self, hidden: torch.Tensor, mask: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Returns all states of the branch, for comparison with the official code.

        They are three pairs of c (B,D) and z (B,P,T,D) for each level: after entry, across frames and within frames.
        Raises ConfigError if a video has more than `MAX_FRAMES` frames.
        """
        length = hidden.shape[1]
        if length > MAX_FRAMES:
            raise ConfigError(
                f"a video has {length} frames, this head has a time embedding for at most {MAX_FRAMES}: sample fewer"
            )
        states: list[tuple[torch.Tensor, torch.Tensor]] = []
        for k, (across, within) in enumerate(zip(self.across, self.within, strict=True)):
            layer = hidden[:, :, k]
            mean, patches = masked_mean(layer[:, :, 0], mask), layer[:, :, 1:].transpose(1, 2)
            if k == 0:
                times = self.time_embedding.weight[:length]
                cls = (mean + self.class_embedding + self.positions[0]) / 2
                patches = patches + self.positions[1:, None] + times
            else:
                cls, patches = states[-1][0] + mean, states[-1][1] + patches
            states.append((cls, patches))
            patches = across(patches, mask)
            states.append((cls, patches))
            states.append(within(cls, patches, mask))
        return states

    def _mask(self, mask: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(mask) if self.official_compat else mask


def drop_path(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Sets random rows of a residual branch to zero in training (stochastic depth, Huang et al. 2016)."""
    return x * F.dropout(x.new_ones(len(x), *(1,) * (x.ndim - 1)), p, training)


class AcrossFramesAttention(nn.Module):
    """z + W MHSA_t(LN z): each patch attends to the same patch in the other frames."""

    def __init__(self, width: int, heads: int, drop: float):
        super().__init__()
        self.drop = drop
        self.attn = ClipAttention(width, heads)
        self.norm = nn.LayerNorm(width, eps=CLIP_EPS)
        self.fc = zero_linear(width)

    def forward(self, patches: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B,P,T,D)."""
        rows = mask.repeat_interleave(patches.shape[1], 0)
        mixed = self.attn(self.norm(patches.flatten(0, 1)), rows)
        return patches + self.fc(drop_path(mixed, self.drop, self.training)).view_as(patches)


class AcrossFramesConv(nn.Module):
    """z + W conv_{3x3x3}(z) over time, height and width, without norm or activation."""

    def __init__(self, width: int, grid: int):
        super().__init__()
        self.grid = grid
        self.conv = nn.Conv3d(width, width, 3, padding=1)
        self.fc = zero_linear(width)

    def forward(self, patches: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B,P,T,D)."""
        # Zeros at padded frames are equal to the padding of the convolution, so that padding changes nothing.
        real = patches.masked_fill(~mask[:, None, :, None], 0)
        volume = real.permute(0, 3, 2, 1).unflatten(3, (self.grid, self.grid))  # (B,D,T,h,w)
        mixed = self.conv(volume).flatten(3).permute(0, 3, 2, 1)
        return patches + self.fc(mixed)


class WithinFrames(nn.Module):
    """CLIP's block over [c; z_t] of each frame. There is one c per video, which gets the mean update of the frames."""

    def __init__(self, block: ClipBlock, drop: float):
        super().__init__()
        self.block = copy.deepcopy(block)
        self.drop = drop

    def forward(
        self, cls: torch.Tensor, patches: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the updated cls (B,D) and patches (B,P,T,D)."""
        block, length = self.block, patches.shape[2]
        frames = torch.cat((cls[:, None, None].expand(-1, length, 1, -1), patches.transpose(1, 2)), 2)  # (B,T,1+P,D)
        update = block.attn(block.ln_1(frames.flatten(0, 1)))
        update = drop_path(update, self.drop, self.training).view_as(frames)
        cls, patches = cls + masked_mean(update[:, :, 0], mask), patches + update[:, :, 1:].transpose(1, 2)
        return cls + block.mlp(block.ln_2(cls)), patches + block.mlp(block.ln_2(patches))


def zero_linear(width: int) -> nn.Linear:
    """Returns a linear layer of zeros: a residual branch that ends in it starts as the identity."""
    linear = nn.Linear(width, width)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
