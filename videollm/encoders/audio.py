"""The interface of audio encoders.

Shapes: N samples, S clips, D width of a clip's features.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from videollm.encoders.base import FrameEncoder, FrameFeatures, TextFeatures


@dataclass(frozen=True, slots=True)
class AudioFeatures:
    """The features of S clips of audio.

    Attributes:
        tokens: The features (S,D).
        times_s: The beginnings of the clips in seconds (S,), float64.
    """

    tokens: torch.Tensor
    times_s: torch.Tensor

    def part(self, start_s: float, end_s: float) -> "AudioFeatures | None":
        """Returns the clips that begin from start_s up to end_s, or None if there is none."""
        inside = (self.times_s >= start_s) & (self.times_s < end_s)
        return AudioFeatures(self.tokens[inside], self.times_s[inside]) if inside.any() else None


class AudioEncoder(Protocol):
    """A frozen encoder of audio.

    Attributes:
        name, revision: These identify the weights together, and are part of the keys of feature caches.
    """

    name: str
    revision: str

    def encode_audio(self, samples: torch.Tensor) -> AudioFeatures | None:
        """Returns the features of mono samples (N,), 16,000 a second, on the CPU. Times count from the first sample.

        Audio that is too short to be heard has none.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes the weights, and what they do not tell, to a new folder."""
        ...


class HearingEncoder:
    """FrameEncoder of a model that also hears.

    Attributes:
        frames: The encoder of frames and texts.
        audio: The encoder of audio.
    """

    def __init__(self, frames: FrameEncoder, audio: AudioEncoder):
        self.frames, self.audio = frames, audio
        self.name = f"{frames.name} and {audio.name} {audio.revision}"
        self.revision, self.image_size = frames.revision, frames.image_size
        self.tokens_per_frame, self.token_dim, self.embed_dim = (
            frames.tokens_per_frame,
            frames.token_dim,
            frames.embed_dim,
        )
        self.vocabulary, self.scale, self.english_only = frames.vocabulary, frames.scale, frames.english_only

    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        return self.frames.encode_frames(pixels)

    def encode_text(self, texts: list[str]) -> TextFeatures:
        return self.frames.encode_text(texts)

    def reads_whole(self, text: str) -> bool:
        return self.frames.reads_whole(text)
