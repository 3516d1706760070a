"""ImageBind's towers for pictures and sound (Girdhar et al. 2023; `imagebind/models/imagebind_model.py`), as
Video-LLaMA and NExT-GPT use them.

Shapes: B inputs, T frames, M mel bins, S spectrogram frames, L tokens, W width, O width of the shared embedding.
"""

import re

import torch
import torch.nn.functional as F
from torch import nn

from videollm.models.published.system import Config, StateShapes
from videollm.models.published.transformer import BlockConfig, vit_blocks

EPS = 1e-6
PUBLISHED_HEADS = {1280: 16, 768: 12}  # by width: of pictures and of sound


class ImageBindTower(nn.Module):
    """One modality: patches, class token and positions, pre-norm blocks, then the class token normalised and projected.

    patch: of the convolution, (2, p, p) for pictures (two frames a patch) or (k, k) for sound. stride: of the
    convolution. Sound has a LayerNorm after the convolution and a learned key and value in each attention; pictures
    have a LayerNorm before the first block instead.
    """

    def __init__(
        self, blocks: BlockConfig, patch: tuple[int, ...], stride: tuple[int, ...], positions: int, out_width: int
    ):
        super().__init__()
        self.sound = len(patch) == 2
        if self.sound:
            self.proj: nn.Module = nn.Conv2d(1, blocks.width, (patch[0], patch[1]), (stride[0], stride[1]), bias=False)
        else:
            size, step = (patch[0], patch[1], patch[2]), (stride[0], stride[1], stride[2])
            self.proj = nn.Conv3d(3, blocks.width, size, step, bias=False)
        self.stem_norm = nn.LayerNorm(blocks.width) if self.sound else nn.Identity()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, blocks.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, blocks.width))
        self.pre_norm = nn.Identity() if self.sound else nn.LayerNorm(blocks.width, eps=EPS)
        self.blocks = vit_blocks(blocks)
        self.norm = nn.LayerNorm(blocks.width, eps=EPS)
        self.head = nn.Linear(blocks.width, out_width, bias=False)

    def feature(self, x: torch.Tensor) -> torch.Tensor:
        """Sound (B,1,M,S), or pictures (B,3,H,W) or (B,3,T,H,W) with T a multiple of 2, to the normalised class token
        before the projection, (B,W)."""
        if x.ndim == 4 and not self.sound:
            x = x[:, :, None].expand(-1, -1, 2, -1, -1)  # a picture is a video of two equal frames
        x = self.stem_norm(self.proj(x).flatten(2).mT)
        x = self.pre_norm(torch.cat((self.cls_token.expand(len(x), -1, -1), x), 1) + self.pos_embed)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])

    def project(self, feature: torch.Tensor) -> torch.Tensor:
        """(..., W) to unit vectors (..., O)."""
        return F.normalize(self.head(feature), dim=-1)


class ImageBind(nn.Module):
    """Towers for pictures and for sound in one embedding space. The tower for pictures may be left out.

    Sound's unit vectors are multiplied by exp(log_logit_scale), 20 in the published weights, as ImageBind does and
    NExT-GPT's copy of it does not. The scale is a buffer, not trained.
    """

    log_logit_scale: torch.Tensor

    def __init__(self, vision: ImageBindTower | None, audio: ImageBindTower):
        super().__init__()
        self.vision = vision
        self.audio = audio
        self.register_buffer("log_logit_scale", torch.tensor(20.0).log())

    def embed_pictures(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) or (B,3,T,H,W) to unit vectors (B,O)."""
        assert self.vision is not None
        return self.vision.project(self.vision.feature(pictures))

    def embed_sound(self, mel: torch.Tensor) -> torch.Tensor:
        """Clips (B,1,M,S) to vectors (B,O) of length exp(log_logit_scale)."""
        return self.audio.project(self.audio.feature(mel)) * self.log_logit_scale.exp()


RENAMES = (
    (r"log_logit_scale$", "modality_postprocessors.audio.1.log_logit_scale"),
    (r"vision\.proj\.", "modality_preprocessors.vision.rgbt_stem.proj.1."),
    (r"audio\.proj\.", "modality_preprocessors.audio.rgbt_stem.proj."),
    (r"audio\.stem_norm\.", "modality_preprocessors.audio.rgbt_stem.norm_layer."),
    (r"(vision|audio)\.cls_token", r"modality_preprocessors.\1.cls_token"),
    (r"(vision|audio)\.pos_embed", r"modality_preprocessors.\1.pos_embedding_helper.pos_embed"),
    (r"vision\.pre_norm\.", "modality_trunks.vision.pre_transformer_layer.0."),
    (r"(vision|audio)\.blocks\.", r"modality_trunks.\1.blocks."),
    (r"(modality_trunks\..*)\.attn\.qkv\.(weight|bias)", r"\1.attn.in_proj_\2"),
    (r"(modality_trunks\..*)\.attn\.proj\.", r"\1.attn.out_proj."),
    (r"(modality_trunks\..*)\.norm([12])\.", r"\1.norm_\2."),
    (r"(vision|audio)\.norm\.", r"modality_heads.\1.0."),
    (r"(vision|audio)\.head\.", r"modality_heads.\1.2."),
)  # our names inside an ImageBind to the official ones


def official_name(name: str) -> str:
    """The official name of a tensor of an `ImageBind`."""
    for pattern, replacement in RENAMES:
        name = re.sub(f"^{pattern}", replacement, name)
    return name


def build_imagebind(shapes: StateShapes, prefix: str, config: Config) -> ImageBind:
    """An ImageBind of the sizes of the tensors below `prefix`, with random weights.

    config: {"vision_num_heads": ..., "audio_num_heads": ..., "audio_stride": ...}. The numbers of heads default to the
    published ones at the published widths, 16 at 1280 and 12 at 768, and to 4 at others; the stride defaults to 10.
    """
    vision, audio = (build_tower(shapes, prefix, modality, config) for modality in ("vision", "audio"))
    return ImageBind(vision, audio)


def build_tower(shapes: StateShapes, prefix: str, modality: str, config: Config) -> ImageBindTower:
    """The tower for "vision" or "audio" with random weights, see `build_imagebind`."""
    stem = f"{prefix}modality_preprocessors.{modality}"
    block_keys = f"{prefix}modality_trunks.{modality}.blocks"
    sound = modality == "audio"
    width, _, *patch = shapes[f"{stem}.rgbt_stem.proj.weight" if sound else f"{stem}.rgbt_stem.proj.1.weight"]
    blocks = BlockConfig(
        width=width,
        layers=shapes.count(block_keys),
        heads=int(config.get(f"{modality}_num_heads", PUBLISHED_HEADS.get(width, 4))),
        mlp_width=shapes[f"{block_keys}.0.mlp.fc1.weight"][0],
        bias_kv=shapes.has(f"{block_keys}.0.attn.bias_k"),
    )
    stride = (int(config.get("audio_stride", 10)),) * 2 if sound else tuple(patch)
    positions = shapes[f"{stem}.pos_embedding_helper.pos_embed"][1]
    out_width = shapes[f"{prefix}modality_heads.{modality}.2.weight"][0]
    return ImageBindTower(blocks, tuple(patch), stride, positions, out_width)
