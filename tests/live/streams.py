"""Pictures and frames of a stream without a source."""

from collections.abc import Iterator

import torch


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """uint8 (T,3,H,W): another scene every six seconds at 2 frames a second."""
    colours = torch.randint(0, 256, (1 + (seed + count) // 12, 3, 1, 1), generator=torch.Generator().manual_seed(0))
    return torch.stack([colours[(seed + n) // 12].expand(3, 32, 32).to(torch.uint8) for n in range(count)])


def stream(start: float, seconds: int, fps: int) -> Iterator[tuple[torch.Tensor, list[float]]]:
    """Yields frames two at a time, with their times."""
    frames = pictures(seconds * fps, seed=round(start) % 60 * fps)
    for at in range(0, len(frames), 2):
        yield frames[at : at + 2], [start + n / fps for n in range(at, min(at + 2, len(frames)))]
