"""The objects that carry frames from the decoder to the prompt.

Shapes: T frames, H and W pixels after rotation and resizing.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """What is known of a media file.

    Attributes:
        path: The path.
        duration_s: Seconds from the presentation time of the first frame to the end of the last one. All times count
            from the first frame, so that the start offset of a container does not appear.
        width, height: The size in pixels as shown, after rotation.
        fps: The mean frame rate in frames per second, 0.0 if there is one frame.
        codec: FFmpeg's name of the codec.
        rotation: The rotation that was applied, in degrees clockwise.
        has_audio: Whether the file has an audio stream.
        content_sha: The SHA-256 of the file's bytes.
    """

    path: str
    duration_s: float
    width: int
    height: int
    fps: float
    codec: str
    rotation: int
    has_audio: bool
    content_sha: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """Decoded frames with the times at which they are shown.

    Attributes:
        pixels: uint8 (T,3,H,W), RGB.
        times_s: float64 (T,), presentation times in seconds from the first frame, strictly increasing.
        info: The media file.
        lost: The number of frames that were requested but could not be decoded.
    """

    pixels: torch.Tensor
    times_s: torch.Tensor
    info: VideoInfo
    lost: int = 0

    def __post_init__(self) -> None:
        t = len(self.times_s)
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4 or self.pixels.shape[:2] != (t, 3):
            raise ValueError(f"pixels must be uint8 (T={t},3,H,W), got {self.pixels.dtype} {tuple(self.pixels.shape)}")

    def __len__(self) -> int:
        return len(self.times_s)

    def __repr__(self) -> str:
        t, _, h, w = self.pixels.shape
        span = f"{self.times_s[0]:.2f}-{self.times_s[-1]:.2f} s" if t else "none"
        return f"Frames({t} x {w}x{h}, {span}, {self.info.path})"
