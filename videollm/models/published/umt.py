"""UMT's video transformer (Li et al. 2023, "Unmasked Teacher"), as VideoChat2 uses it
(Ask-Anything `video_chat2/models/blip2/vit.py`).

Shapes: B videos, T frames, P patches a frame, W width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from videollm.models.published.transformer import BlockConfig, PatchEmbed, vit_blocks

TRAINED_SIZE = 224  # pixels a side of the frames the published weights were trained on
TRAINED_GRID = 14  # patches a side of those frames
TRAINED_FRAMES = 4


class UmtEncoder(nn.Module):
    """Joint attention over the patches of all frames, with a fixed table of sines and cosines for positions.

    There is no class token and no final norm. image_size: decides, as in the official code, how the table of positions
    is made, see `position_table`.
    """

    def __init__(self, blocks: BlockConfig, patch: int, image_size: int, trained_frames: int = TRAINED_FRAMES):
        super().__init__()
        self.width = blocks.width
        self.image_size = image_size
        self.trained_frames = trained_frames
        self.patch_embed = PatchEmbed(blocks.width, patch, tubelet=1)
        self.blocks = vit_blocks(blocks)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B,T,3,H,W) to (B,T,P,W)."""
        frames = video.shape[1]
        x = self.patch_embed(video.transpose(1, 2))
        x = x + self.positions(x.shape[1], frames).to(x)
        for block in self.blocks:
            x = block(x)
        return x.unflatten(1, (frames, -1))

    def positions(self, rows: int, frames: int) -> torch.Tensor:
        """(1, T·P, W). A single frame is an image, whose table has no time."""
        resized = self.image_size != TRAINED_SIZE
        if frames == 1:
            return position_table(rows, self.width, 1, 1, grid=TRAINED_GRID if resized else None)
        return position_table(rows, self.width, frames, self.trained_frames, grid=TRAINED_GRID if resized else None)


def position_table(
    rows: int, width: int, frames: int = 1, trained_frames: int = 1, grid: int | None = TRAINED_GRID
) -> torch.Tensor:
    """Sines and cosines for `rows` = T·P positions, frame by frame: (1, rows, width).

    The table is made for `trained_frames` frames and interpolated linearly in time where `frames` differs. grid: of the
    patches a side it is made for, and then resized by bicubic interpolation where the frames have another number
    (the official get_sinusoid_encoding_table2, for frames that are not 224 pixels); None: it is made for the number
    that the frames have (get_sinusoid_encoding_table).
    """
    side = int((rows // frames) ** 0.5)
    made = side if grid is None else grid
    count = rows if grid is None and frames == trained_frames else trained_frames * made**2
    table = _sines(count, width)
    if made != side:
        table = table.view(trained_frames, made, made, width).permute(0, 3, 1, 2)
        table = F.interpolate(table, size=(side, side), mode="bicubic", align_corners=False)
        table = table.permute(0, 2, 3, 1).reshape(1, -1, width)
    if frames != trained_frames:
        over_time = table.view(trained_frames, -1).T[None]
        over_time = F.interpolate(over_time, size=frames, mode="linear")
        table = over_time[0].T.reshape(1, -1, width)
    return table


def _sines(rows: int, width: int) -> torch.Tensor:
    """sin and cos of p / 10000^(2i / width) in turn (Vaswani et al. 2017), (1, rows, width), made in float64."""
    pairs = torch.arange(width, dtype=torch.float64) // 2
    angles = torch.arange(rows, dtype=torch.float64)[:, None] / 10000 ** (2 * pairs / width)
    table = torch.where(torch.arange(width) % 2 == 0, angles.sin(), angles.cos())
    return table.float()[None]
