"""The interface between frame encoders and everything after them.

Shapes: T frames, N tokens a frame, D token width, E shared text-frame width, C concepts, B texts, L text tokens.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

CPU_BATCH, GPU_BATCH = 16, 64  # frames or texts; on a CPU throughput is flat from 8 on


def batch_size(device: torch.device) -> int:
    """Frames or texts of one forward pass of an encoder. A GPU gets all frames of a decoder's piece at once."""
    return CPU_BATCH if device.type == "cpu" else GPU_BATCH


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """What an encoder says of T frames.

    tokens (T,N,D): patch or region features, which the temporal module reads. embed (T,E): unit vectors in the space
    shared with text. concepts (T,C): probability of each entry of the encoder's vocabulary in each frame.
    """

    tokens: torch.Tensor
    embed: torch.Tensor
    concepts: torch.Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, frames: slice | torch.Tensor) -> "FrameFeatures":
        return FrameFeatures(self.tokens[frames], self.embed[frames], self.concepts[frames])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "FrameFeatures":
        moved = (x.to(device, non_blocking=non_blocking) for x in (self.tokens, self.embed, self.concepts))
        return FrameFeatures(*moved)

    @staticmethod
    def cat(parts: "list[FrameFeatures]") -> "FrameFeatures":
        return FrameFeatures(
            torch.cat([p.tokens for p in parts]),
            torch.cat([p.embed for p in parts]),
            torch.cat([p.concepts for p in parts]),
        )


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """What an encoder says of B texts.

    tokens (B,L,E): last hidden states projected to the shared space. mask (B,L) bool: True at words. embed (B,E): unit
    vectors.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    embed: torch.Tensor


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words that an encoder can tag frames with.

    parents[i] is the index of the more general word of word i, -1 at a root. The probability of a parent is the sum of
    its children's. A flat vocabulary has -1 everywhere.
    """

    words: tuple[str, ...]
    parents: tuple[int, ...]


class FrameEncoder(Protocol):
    """A frozen dual encoder of frames and texts.

    What it returns is on the device of its weights. name and revision: identify its weights, and are part of the keys
    of feature caches. scale: the inverse temperature at which a softmax over cosines of frames with texts gives
    probabilities. english_only: True where the text tower is known to understand no other language.
    """

    name: str
    revision: str
    image_size: int
    tokens_per_frame: int
    token_dim: int
    embed_dim: int
    vocabulary: Vocabulary
    scale: float
    english_only: bool

    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        """Encode pixels uint8 (T,3,H,W) of any size, on any device; they are resized and cropped as in training."""
        ...

    def encode_text(self, texts: list[str]) -> TextFeatures: ...

    def reads_whole(self, text: str) -> bool:
        """False where the text is longer than the text tower's context, so that `encode_text` would drop its end."""
        ...
