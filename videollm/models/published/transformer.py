"""The pre-norm transformer blocks of the published visual and audio towers: EVA, CLIP, UMT, ImageBind and InternVideo2.

The towers differ in few things, each a field of `BlockConfig`. Parameters have timm's names, which EVA, UMT and
InternVideo2 use too. Shapes: B rows, L tokens, W width.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from videollm.errors import ConfigError
from videollm.models.published.system import StateShapes


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """Sizes and variants of one stack of blocks.

    qkv_bias: "all"; "query_value", where the keys have none (EVA, UMT; it cancels in the softmax); or "none".
    rms_norm: RMSNorm instead of LayerNorm, also on queries and keys over the full width (InternVideo2).
    layer_scale: each residual branch is multiplied by a learned vector (Touvron et al. 2021).
    bias_kv: one learned key and value are appended to those of the tokens (ImageBind's audio tower).
    quick_gelu: CLIP's approximation of GELU, x · sigmoid(1.702 x).
    """

    width: int
    layers: int
    heads: int
    mlp_width: int
    eps: float = 1e-6
    qkv_bias: Literal["all", "query_value", "none"] = "all"
    rms_norm: bool = False
    layer_scale: bool = False
    bias_kv: bool = False
    quick_gelu: bool = False

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ConfigError(f"the width {self.width} is not a multiple of the number of heads {self.heads}")

    def norm(self) -> nn.Module:
        return (nn.RMSNorm if self.rms_norm else nn.LayerNorm)(self.width, eps=self.eps)


def read_blocks(
    shapes: StateShapes, blocks: str, patch_embedding: str, *, heads: int, **variant: Any
) -> tuple[BlockConfig, int]:
    """Returns the sizes of blocks in a state dict, and the width of a patch in pixels.

    Args:
        shapes: The shapes of the state dict.
        blocks: The name of the list of blocks.
        patch_embedding: The name of the weight of the patch embedding.
        heads: The number of attention heads, which no shape tells.
        variant: Other fields of `BlockConfig`.

    Raises:
        CheckpointError: If a tensor is missing.
    """
    weight, up = shapes[patch_embedding], shapes[f"{blocks}.0.mlp.fc1.weight"]
    config = BlockConfig(width=weight[0], layers=shapes.count(blocks), heads=heads, mlp_width=up[0], **variant)
    return config, weight[-1]


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens, without a mask."""

    def __init__(self, config: BlockConfig):
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.qkv = nn.Linear(width, 3 * width, bias=config.qkv_bias == "all")
        self.q_bias = self.v_bias = None
        if config.qkv_bias == "query_value":
            self.q_bias = nn.Parameter(torch.zeros(width))
            self.v_bias = nn.Parameter(torch.zeros(width))
        self.q_norm = config.norm() if config.rms_norm else nn.Identity()
        self.k_norm = config.norm() if config.rms_norm else nn.Identity()
        self.bias_k = nn.Parameter(torch.zeros(1, 1, width)) if config.bias_kv else None
        self.bias_v = nn.Parameter(torch.zeros(1, 1, width)) if config.bias_kv else None
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,L,W) to (B,L,W)."""
        bias = self.qkv.bias
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        query, key, value = F.linear(x, self.qkv.weight, bias).chunk(3, -1)
        query, key = self.q_norm(query), self.k_norm(key)
        if self.bias_k is not None and self.bias_v is not None:
            key = torch.cat((key, self.bias_k.expand(len(x), -1, -1)), 1)
            value = torch.cat((value, self.bias_v.expand(len(x), -1, -1)), 1)
        query, key, value = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (query, key, value))
        # Written out as in the official towers: Video-ChatGPT rounds their result to float16, where the last digit of
        # scaled_dot_product_attention decides which way.
        weights = ((query * query.shape[-1] ** -0.5) @ key.mT).softmax(-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


class VitMlp(nn.Module):
    def __init__(self, config: BlockConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_width)
        self.fc2 = nn.Linear(config.mlp_width, config.width)
        self.quick_gelu = config.quick_gelu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x) if self.quick_gelu else F.gelu(x))


class LayerScale(nn.Module):
    """x · gamma."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class VitBlock(nn.Module):
    """x += ls1(attn(norm1 x)); x += ls2(mlp(norm2 x))."""

    def __init__(self, config: BlockConfig):
        super().__init__()
        self.norm1 = config.norm()
        self.attn = SelfAttention(config)
        self.ls1 = LayerScale(config.width) if config.layer_scale else nn.Identity()
        self.norm2 = config.norm()
        self.mlp = VitMlp(config)
        self.ls2 = LayerScale(config.width) if config.layer_scale else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


def vit_blocks(config: BlockConfig) -> nn.ModuleList:
    return nn.ModuleList(VitBlock(config) for _ in range(config.layers))


class PatchEmbed(nn.Module):
    """Non-overlapping patches of frames, or of `tubelet` frames together, to tokens.

    tubelet: None for frames alone (a 2-D convolution); else the number of frames a patch spans (a 3-D one).
    """

    def __init__(self, width: int, patch: int, tubelet: int | None = None):
        super().__init__()
        if tubelet is None:
            self.proj: nn.Module = nn.Conv2d(3, width, patch, patch)
        else:
            size = (tubelet, patch, patch)
            self.proj = nn.Conv3d(3, width, size, size)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) or (B,3,T,H,W) to (B,L,W); with time, frame by frame, L = T·P."""
        return self.proj(pixels).flatten(2).mT


def resize_grid(table: torch.Tensor, patches: int, mode: str = "bicubic") -> torch.Tensor:
    """Position embeddings (1,P,W) of a square grid, interpolated to `patches` places; unchanged where P is that."""
    if table.shape[1] == patches:
        return table
    old, new = round(table.shape[1] ** 0.5), round(patches**0.5)
    if old**2 != table.shape[1] or new**2 != patches:
        raise ConfigError(
            f"position embeddings of {table.shape[1]} places cannot be resized to {patches}: both must be squares"
        )
    grid = table.mT.unflatten(2, (old, old))
    return F.interpolate(grid, size=(new, new), mode=mode, align_corners=False).flatten(2).mT


class EvaViT(nn.Module):
    """EVA ViT without its final norm and head (Fang et al. 2023), as BLIP-2 and Video-LLaMA use it
    (Video-LLaMA `video_llama/models/eva_vit.py`): all tokens are returned, the class token first."""

    def __init__(self, config: BlockConfig, patch: int, patches: int):
        super().__init__()
        self.patch_embed = PatchEmbed(config.width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, config.width))
        self.blocks = vit_blocks(config)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels (B,3,H,W), normalised, to (B,1+P,W)."""
        x = self.patch_embed(pixels)
        places = resize_grid(self.pos_embed[:, 1:], x.shape[1])
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), 1) + torch.cat((self.pos_embed[:, :1], places), 1)
        for block in self.blocks:
            x = block(x)
        return x
