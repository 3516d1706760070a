"""The head that mixes frames with dilated convolutions over time."""

import torch
import torch.nn.functional as F
from torch import nn

from videollm.retrieval.heads.pooling import MeanPooling


class TCN(MeanPooling):
    """Temporal convolutional network (Bai et al. 2018, https://github.com/locuslab/TCN, here not causal). For the
    layers k = 0, 1, ...

        x_{k+1} = x_k + W_k GELU(conv_{width 3, dilation 2^k}(m · LN(x_k))),   x_0 = v,  u = x_K

    then as `MeanPooling`. W_k starts at zero, so that the untrained head is equal to `MeanPooling`. Padded frames are
    set to zero before each convolution, which is also its padding outside the video.
    """

    def __init__(self, embed_dim: int, layers: int = 3):
        super().__init__(embed_dim)
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(layers))
        self.convs = nn.ModuleList(
            nn.Conv1d(embed_dim, embed_dim, 3, padding=2**k, dilation=2**k) for k in range(layers)
        )
        self.outputs = nn.ModuleList(nn.Linear(embed_dim, embed_dim) for _ in range(layers))
        for output in self.outputs.children():
            for parameter in output.parameters():
                nn.init.zeros_(parameter)

    def mix(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = frames
        for norm, conv, output in zip(self.norms, self.convs, self.outputs, strict=True):
            real = norm(x).masked_fill(~mask[..., None], 0)
            x = x + output(F.gelu(conv(real.mT).mT))
        return x
