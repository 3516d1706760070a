"""CLIP's text and visual towers with the changes that published retrieval systems make to them.

Source: Radford et al. 2021, https://github.com/openai/CLIP, `clip/model.py`. Parameters have the names of this file.

Shapes: B videos or texts, T frames, P patches per frame, L text tokens, D tower width, E shared embedding width, K
hidden layers.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from videollm.cpu.attention import pays_written_out, short_attention
from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.errors import ConfigError

CLIP_EPS = 1e-5  # of layer norms


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Sizes of a visual tower. The defaults are those of ViT-B/32.

    Args:
        width: Width of the hidden states, a multiple of `heads`.
        layers, heads: Numbers of blocks and of attention heads.
        mlp_width: Hidden width of the MLPs.
        patch: Height and width of a patch in pixels.
        grid: Number of patches along the height and the width of a frame.
        embed_dim: Width of the shared embedding.
        patches: How patches become tokens. "2d": from one frame. "3d": from the patch and the same patch in the frames
            before and after (CLIP4Clip's `linear_patch=3d`). "joint": from `tubelet` frames, and all patches of all
            frames attend to each other (ViCLIP). "world": from the tokens of a tower of the rendered world, see
            `videollm.retrieval.world_clip`.
        frames, tubelet: Numbers of time steps, and of frames per time step, with "joint".
        masking: Share of patches that are left out in training with "joint", at least 0 and less than 1.
        prompts: Number of learned tokens beside the patches of each frame (visual prompt tuning, Jia et al. 2022).
        official_compat: With "3d", the patches of the last real frame see the padded frame after it as it is, as in the
            published code. Otherwise they always see zeros.

    Raises:
        ConfigError: If `width` is not a multiple of `heads`, `masking` is out of range, or "joint" has prompts.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    patch: int = 32
    grid: int = 7
    embed_dim: int = 512
    patches: Literal["2d", "3d", "joint", "world"] = "2d"
    frames: int = 8
    tubelet: int = 1
    masking: float = 0.9
    prompts: int = 0
    official_compat: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"vision width {self.width} must be a multiple of heads {self.heads}")
        if not 0 <= self.masking < 1:
            raise ConfigError(f"masking is {self.masking}; it must be at least 0 and less than 1")
        if self.prompts and self.patches == "joint":
            raise ConfigError(f"prompts is {self.prompts}; it must be 0 with joint patches")

    @property
    def image_size(self) -> int:
        """Height and width of a frame in pixels."""
        return self.patch * self.grid


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Sizes of a text tower. The defaults are those of ViT-B/32.

    Args:
        width, layers, heads, mlp_width, embed_dim: As in `VisionConfig`.
        context: The largest number of tokens, including `prompts`.
        vocab_size: Number of token ids.
        prompts: Number of learned tokens between the start token and the words (CoOp, Zhou et al. 2022).

    Raises:
        ConfigError: If `width` is not a multiple of `heads`.
    """

    width: int = 512
    layers: int = 12
    heads: int = 8
    mlp_width: int = 2048
    context: int = 77
    vocab_size: int = 49408
    embed_dim: int = 512
    prompts: int = 0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"text width {self.width} must be a multiple of heads {self.heads}")


class ClipAttention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values.

    The parameters have the names of `nn.MultiheadAttention`, which OpenAI's `clip/model.py` uses, so that official
    weights load as they are."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False, queries: int | None = None
    ) -> torch.Tensor:
        """Returns the attention output (B, queries or L, D).

        Args:
            x: The tokens (B,L,D).
            mask: bool (B,L), True for keys that may be read, at least one per row. None allows all keys.
            causal: Whether tokens read only themselves and earlier tokens.
            queries: Compute the output of only the first so many tokens. None computes all.
        """
        if queries is None:
            asked, keys, values = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            width = x.shape[-1]
            asked = F.linear(x[:, :queries], self.in_proj_weight[:width], self.in_proj_bias[:width])
            keys, values = F.linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, -1)
        query, key, value = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (asked, keys, values))
        allowed = None if mask is None else mask[:, None, None]
        # The backward pass of PyTorch's own attention is slow in bfloat16 on CPUs; see `short_attention`.
        attend = short_attention if pays_written_out(query, key) else F.scaled_dot_product_attention
        out = attend(query, key, value, attn_mask=allowed, is_causal=causal)
        return self.out_proj(out.transpose(1, 2).flatten(2))


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """Returns x · σ(1.702 x), the approximation of GELU that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


class Mlp(nn.Module):
    """W_2 quick_gelu(W_1 x + b_1) + b_2."""

    def __init__(self, width: int, mlp_width: int):
        super().__init__()
        self.c_fc = nn.Linear(width, mlp_width)
        self.c_proj = nn.Linear(mlp_width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c_proj(quick_gelu(self.c_fc(x)))


class ClipBlock(nn.Module):
    """x ← x + attn(ln_1 x), then x ← x + mlp(ln_2 x); OpenAI's ResidualAttentionBlock."""

    def __init__(self, width: int, heads: int, mlp_width: int, eps: float = CLIP_EPS):
        super().__init__()
        self.attn = ClipAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, mlp_width)
        self.ln_2 = nn.LayerNorm(width, eps=eps)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False, queries: int | None = None
    ) -> torch.Tensor:
        x = x[:, :queries] + self.attn(self.ln_1(x), mask, causal, queries)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of CLIP's blocks."""

    def __init__(self, width: int, layers: int, heads: int, mlp_width: int, eps: float = CLIP_EPS):
        super().__init__()
        self.resblocks = nn.ModuleList(ClipBlock(width, heads, mlp_width, eps) for _ in range(layers))

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False, queries: int | None = None
    ) -> torch.Tensor:
        """Returns the output (B, queries or L, D).

        The arguments are those of `ClipAttention`. `queries` applies only to the last block, because the blocks before
        it need all tokens as keys.
        """
        last = len(self.resblocks) - 1
        for i, block in enumerate(self.resblocks):
            x = block(x, mask, causal, queries if i == last else None)
        return x


class VisionTransformer(nn.Module):
    """Encodes each frame by itself: e_t = ln_post(ViT(frame_t)[class]) · proj.

    With patches "3d", the patch embedding is a Conv3d over 3 frames with stride 1 (CLIP4Clip, `modules/module_clip.py`,
    `conv2`).
    """

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        width, size = config.width, (config.patch, config.patch)
        if config.patches == "2d":
            self.conv1 = nn.Conv2d(3, width, size, size, bias=False)
        elif config.patches == "3d":
            self.conv2 = nn.Conv3d(3, width, (3, *size), (1, *size), padding=(1, 0, 0), bias=False)
        scale = width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(config.grid**2 + 1, width))
        self.ln_pre = nn.LayerNorm(width, eps=CLIP_EPS)
        self.transformer = Transformer(width, config.layers, config.heads, config.mlp_width)
        self.ln_post = nn.LayerNorm(width, eps=CLIP_EPS)
        self.proj = nn.Parameter(scale * torch.randn(width, config.embed_dim))
        if config.prompts:
            self.prompts = nn.Parameter(0.02 * torch.randn(config.prompts, width))

    def forward(self, video: torch.Tensor, mask: torch.Tensor, hidden_layers: int = 0) -> FrameFeatures:
        """Returns the features of the frames: embed (B,T,E), not normalised, and tokens (B,T,K,1+P,D).

        Args:
            video: Normalised pixels (B,T,3,H,W).
            mask: bool (B,T), True for real frames. Padded frames are encoded too, each by itself. With patches "3d",
                they are set to zero first, which is equal to the padding of the convolution.
            hidden_layers: K, the number of last blocks whose outputs are returned as tokens, class token first.
        """
        batch, frames = video.shape[:2]
        x = self.ln_pre(self.tokens(self.patches(video, mask)))
        x, hidden = x.flatten(0, 1), []
        length = x.shape[1]
        if self.config.prompts:
            x = torch.cat((x, self.prompts.expand(len(x), -1, -1)), 1)
        for i, block in enumerate(self.transformer.resblocks):
            x = block(x)
            if i >= self.config.layers - hidden_layers:
                hidden.append(x[:, :length])
        embed = self.project(x[:, 0]).unflatten(0, (batch, frames))
        tokens = torch.stack(hidden, 1) if hidden else x.new_zeros(batch * frames, 0, length, x.shape[2])
        return FrameFeatures(tokens.unflatten(0, (batch, frames)), embed, embed.new_zeros(batch, frames, 0))

    def patches(self, video: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns the patch embeddings (B,T,P,D) of pixels (B,T,3,H,W)."""
        batch, frames = video.shape[:2]
        if self.config.patches == "3d":
            if not self.config.official_compat:
                video = video.masked_fill(~mask[..., None, None, None], 0)
            return self.conv2(video.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)
        return self.conv1(video.flatten(0, 1)).flatten(2).mT.unflatten(0, (batch, frames))

    def tokens(self, patches: torch.Tensor) -> torch.Tensor:
        """Returns the patches (B,T,P,D) with the class token and the positions, (B,T,1+P,D)."""
        cls = self.class_embedding.expand(*patches.shape[:2], 1, -1)
        return torch.cat((cls, patches), 2) + self.positional_embedding

    def project(self, cls: torch.Tensor) -> torch.Tensor:
        """Returns the embeddings (..., E) of class tokens (..., D)."""
        return self.ln_post(cls) @ self.proj


class JointVisionTransformer(VisionTransformer):
    """Encodes all frames in one sequence with joint space-time attention, to one embedding per video:

        x = [c + p_0; x_{t,i} + p_i + q_t];  e = ln_post(ViT(x)_0) · proj

    c is the class token, p the position embedding and q the time embedding, which starts at zero. In training, a random
    share `masking` of the patches is left out. Source: ViCLIP (Wang et al. 2023), InternVideo, `viclip_vision.py`.
    """

    def __init__(self, config: VisionConfig):
        super().__init__(config)
        size = (config.tubelet, config.patch, config.patch)
        self.conv1 = nn.Conv3d(3, config.width, size, size, bias=False)
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, config.frames, config.width))

    def forward(self, video: torch.Tensor, mask: torch.Tensor, hidden_layers: int = 0) -> FrameFeatures:
        """Returns features as `VisionTransformer` does, but one embedding per video, (B,1,E), and no hidden layers.

        Frames whose mask is False are not attended to. Raises ConfigError if the video has another number of frames
        than the model, unless it has one time step, such as an image.
        """
        patches = self.conv1(video.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)  # (B,T,P,D)
        batch, steps, per_frame, width = patches.shape
        times = self.temporal_positional_embedding
        if steps == 1:  # an image has no time: it gets the mean of the time embeddings, as in the official code
            times = times.mean(1, keepdim=True)
        elif steps != self.config.frames:
            raise ConfigError(
                f"the video has {steps} steps of {self.config.tubelet} frames, this model takes {self.config.frames} "
                "or 1: sample that many frames"
            )
        tokens = self.tokens(patches)
        x = (tokens[:, :, 1:] + times[:, :, None]).flatten(1, 2)
        real = mask[:, :: self.config.tubelet].repeat_interleave(per_frame, 1)
        if self.training and self.config.masking:  # masked patches are dropped, not replaced, which saves their compute
            kept = x.shape[1] - int(self.config.masking * x.shape[1])
            chosen = torch.rand(batch, x.shape[1], device=x.device).argsort(1)[:, :kept]
            x, real = x.take_along_dim(chosen[..., None], 1), real.take_along_dim(chosen, 1)
        x = self.ln_pre(torch.cat((tokens[:, 0, :1], x), 1))
        embed = self.project(self.transformer(x, F.pad(real, (1, 0), value=True), queries=1))
        return FrameFeatures(x.new_zeros(batch, 1, 0, 1 + per_frame, width), embed, x.new_zeros(batch, 1, 0))


class TextTransformer(nn.Module):
    """A causal transformer. The embedding of a text is that of its end token, the token with the highest id."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context, config.width))
        self.transformer = Transformer(config.width, config.layers, config.heads, config.mlp_width)
        self.ln_final = nn.LayerNorm(config.width, eps=CLIP_EPS)
        self.text_projection = nn.Parameter(config.width**-0.5 * torch.randn(config.width, config.embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        if config.prompts:
            self.prompts = nn.Parameter(0.02 * torch.randn(config.prompts, config.width))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> TextFeatures:
        """Returns the features of texts: tokens (B,L,E) and embed (B,E), not normalised.

        Args:
            ids: int64 (B,L), zero at padding.
            mask: bool (B,L), True for real tokens. It becomes part of the features. Attention does not need it, because
                no token reads later tokens and padding comes last.

        Raises:
            ConfigError: If a text and the prompts have more tokens than the context.
        """
        extra = self.config.prompts
        length = ids.shape[1] + extra
        if length > self.config.context:
            has = f"{ids.shape[1]} tokens and {extra} prompts" if extra else f"{ids.shape[1]} tokens"
            raise ConfigError(f"a text has {has}; at most {self.config.context} fit: cut or split it")
        x = self.token_embedding(ids)
        if extra:
            x = torch.cat((x[:, :1], self.prompts.expand(len(x), -1, -1), x[:, 1:]), 1)
        x = x + self.positional_embedding[:length]
        tokens = self.ln_final(self.transformer(x, causal=True)) @ self.text_projection
        tokens = torch.cat((tokens[:, :1], tokens[:, 1 + extra :]), 1) if extra else tokens
        return TextFeatures(tokens, mask, tokens[torch.arange(len(ids), device=ids.device), ids.argmax(1)])
