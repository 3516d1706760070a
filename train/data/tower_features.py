"""Features of a frozen CLIP tower, computed once into memory-mapped files.

Shapes: V videos, T frames, K hidden layers, P patches, D tower width, E embedding width.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from train.data.frames import FrameStore, written_whole
from videollm.retrieval.clip import VisionConfig, VisionTransformer
from videollm.retrieval.inputs import normalise_for
from videollm.retrieval.open_clip_towers import OpenClipVision

_EMBED_FILE, _TOKENS_FILE = "embed.npy", "tokens.npy"
_FRAMES_AT_ONCE = 256


@dataclass(frozen=True)
class TowerFeatureStore:
    """embed: float32 (V,T,E). tokens: (V,T,K,1+P,D), bfloat16 held in 16-bit integers, which NumPy has. Both are
    memory-mapped and 0 behind a video's last frame."""

    embed: np.ndarray
    tokens: np.ndarray

    def batch(self, videos: list[int]) -> dict[str, torch.Tensor]:
        tokens = torch.from_numpy(self.tokens[videos]).view(torch.bfloat16)
        return {"embed": torch.from_numpy(self.embed[videos]), "tokens": tokens}


@torch.no_grad()
def feature_store(
    frames: FrameStore, tower: VisionTransformer | OpenClipVision, layers: int, cache: Path
) -> TowerFeatureStore:
    """Encode the frames, or read the features from `cache` where the same tower encoded the same frames before.

    layers: the tokens of this many of the tower's last layers are kept.
    """
    digest = hashlib.sha256(f"{frames.key} {layers} {tower.config}".encode())
    for tensor in tower.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    folder = cache / f"features-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        _fill(folder, frames, tower, layers)
    embed, tokens = (np.load(folder / f, mmap_mode="r", allow_pickle=False) for f in (_EMBED_FILE, _TOKENS_FILE))
    return TowerFeatureStore(embed, tokens)


def _fill(folder: Path, frames: FrameStore, tower: VisionTransformer | OpenClipVision, layers: int) -> None:
    config, (videos, length) = tower.config, frames.pixels.shape[:2]
    patches, width = (1 + config.grid**2, config.width) if isinstance(config, VisionConfig) else (1, 0)
    device = next(tower.parameters()).device
    step = max(1, _FRAMES_AT_ONCE // length)
    tower.eval()  # it is frozen, and some towers of open_clip drop layers at random while training
    with written_whole(folder) as unfinished:
        open_memmap = np.lib.format.open_memmap
        embed = open_memmap(unfinished / _EMBED_FILE, "w+", np.float32, (videos, length, config.embed_dim))
        tokens = open_memmap(unfinished / _TOKENS_FILE, "w+", np.int16, (videos, length, layers, patches, width))
        for start in tqdm(range(0, videos, step), "encoding", disable=None):
            rows = slice(start, start + step)
            pixels = torch.from_numpy(frames.pixels[rows].copy()).to(device)
            mask = torch.from_numpy(np.isfinite(frames.times_s[rows])).to(device)
            found = tower(normalise_for(tower, pixels), mask, layers)
            embed[rows] = (found.embed * mask[..., None]).cpu().numpy()
            kept = (found.tokens * mask[..., None, None, None]).to(torch.bfloat16)
            tokens[rows] = kept.view(torch.int16).cpu().numpy()
        embed.flush()
        tokens.flush()
