"""The contract between frame encoders and everything after them.

Shapes: T frames, N tokens a frame, D token width, E shared text-frame width, C concepts, B texts, L text tokens.
"""

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """tokens (T,N,D): what the temporal module reads. embed (T,E): unit vectors in the space shared with text.
    concepts (T,C): probability of each entry of the encoder's vocabulary in each frame."""

    tokens: torch.Tensor
    embed: torch.Tensor
    concepts: torch.Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, frames: slice | torch.Tensor) -> "FrameFeatures":
        return FrameFeatures(self.tokens[frames], self.embed[frames], self.concepts[frames])

    @staticmethod
    def cat(parts: "list[FrameFeatures]") -> "FrameFeatures":
        return FrameFeatures(
            torch.cat([p.tokens for p in parts]),
            torch.cat([p.embed for p in parts]),
            torch.cat([p.concepts for p in parts]),
        )


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """tokens (B,L,E): last hidden states projected to the shared space. mask (B,L): True at words.
    embed (B,E): unit vectors."""

    tokens: torch.Tensor
    mask: torch.Tensor
    embed: torch.Tensor


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words an encoder can tag frames with. parents[i] is the index of the more general word, -1 at a root; a
    parent's probability is the sum of its children's. A flat vocabulary has -1 everywhere."""

    words: tuple[str, ...]
    parents: tuple[int, ...]


class FrameEncoder(Protocol):
    """A frozen dual encoder of frames and texts. name and revision together identify its weights (cache keys).

    scale: the inverse temperature at which a softmax over cosines of frames with texts gives probabilities.
    english_only: True where the text tower is known to read no other language.
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
        """pixels uint8 (T,3,H,W), any size; resized and cropped as the encoder was trained."""
        ...

    def encode_text(self, texts: list[str]) -> TextFeatures: ...

    def reads_whole(self, text: str) -> bool:
        """False where `encode_text` would cut the text's end off, because it is longer than the text tower reads."""
        ...
