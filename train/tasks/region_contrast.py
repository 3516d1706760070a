"""Multi-granularity alignment: what is in a box against its name, and a whole clip against its caption.

Shapes: B clips, A areas, M moments, P places, W stem width, H language-model width, E shared width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from train.core.gather import gather_rows
from train.data.areas import TextAreas
from train.tasks.dense_heads import Measures
from train.tasks.losses import word_contrast

EMBED = 64  # E


class RegionContrast(nn.Module):
    """The contrast of X-VLM (Zeng et al. 2022) for tracks in videos.

    The tokens of the motion stem inside an area are averaged, and compared with the mean word embedding of the area's
    text (symmetric InfoNCE): boxes with boxes and clips with clips, of all ranks. Areas with the same text are
    positives of each other.

    Args:
        width: W.
        word_width: H.
    """

    def __init__(self, width: int, word_width: int):
        super().__init__()
        self.visual = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, EMBED))
        self.text = nn.Linear(word_width, EMBED, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())

    def embed_areas(self, tokens: torch.Tensor, areas: TextAreas) -> torch.Tensor:
        """Returns unit vectors (A,E) of tokens (B,M,P,W)."""
        share = areas.weights / areas.weights.sum((1, 2), keepdim=True)
        pooled = torch.einsum("amp,ampw->aw", share, self.visual(tokens)[areas.clip])
        return F.normalize(pooled.float(), dim=-1)

    def embed_texts(self, texts: torch.Tensor) -> torch.Tensor:
        """Returns unit vectors (A,E) of mean word embeddings (A,H)."""
        return F.normalize(self.text(texts).float(), dim=-1)

    def forward(self, tokens: torch.Tensor, areas: TextAreas) -> tuple[torch.Tensor, Measures]:
        """Returns the mean of both contrasts, and each of them."""
        seen, said = self.embed_areas(tokens, areas), self.embed_texts(areas.texts)
        losses = [
            word_contrast(gather_rows(seen[rows]), gather_rows(said[rows]), self.log_scale.exp())
            for rows in (areas.is_box, ~areas.is_box)
        ]
        return torch.stack(losses).mean(), {"box contrast": losses[0], "clip contrast": losses[1]}
