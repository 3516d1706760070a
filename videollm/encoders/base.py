"""The interface of frame encoders.

Shapes: T frames, N tokens per frame, D token width, E width of the space shared by frames and texts, C concepts, B
texts, L text tokens.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

CPU_BATCH, GPU_BATCH = 16, 64  # frames or texts; on a CPU, batches over 8 do not raise throughput


def batch_size(device: torch.device) -> int:
    """Returns the number of frames or texts of one forward pass. A GPU encodes a whole piece of the decoder at once."""
    return CPU_BATCH if device.type == "cpu" else GPU_BATCH


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """The features of T frames.

    Attributes:
        tokens: Patch or region features (T,N,D), which the temporal module reads.
        embed: Unit vectors (T,E) in the space shared with texts.
        concepts: The probability of each entry of the encoder's vocabulary in each frame (T,C).
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
    """The features of B texts.

    Attributes:
        tokens: The last hidden states, projected to the shared space (B,L,E).
        mask: bool (B,L), True at words.
        embed: Unit vectors (B,E).
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    embed: torch.Tensor


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words that an encoder can tag frames with.

    Attributes:
        words: The words.
        parents: For each word the index of the more general word above it, or -1 if there is none. The probability of a
            parent is the sum of its children's. In a flat vocabulary all are -1.
    """

    words: tuple[str, ...]
    parents: tuple[int, ...]


class FrameEncoder(Protocol):
    """A frozen dual encoder of frames and texts. Its outputs are on the device of its weights.

    Attributes:
        name, revision: These identify the weights together, and are part of the keys of feature caches.
        image_size: The width and height in pixels that frames are resized to.
        tokens_per_frame, token_dim, embed_dim: N, D and E.
        vocabulary: The words whose probabilities `encode_frames` returns.
        scale: The inverse temperature at which a softmax over cosines of frames and texts gives probabilities.
        english_only: Whether the text tower is known to understand no other language.
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
        """Returns the features of uint8 pixels (T,3,H,W) of any size, on any device, which are resized and cropped as
        in training."""
        ...

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Returns the features of texts. A text longer than the text tower's context loses its end."""
        ...

    def reads_whole(self, text: str) -> bool:
        """Returns whether `encode_text` reads the whole text, which must fit the text tower's context."""
        ...
