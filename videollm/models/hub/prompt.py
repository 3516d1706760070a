"""The prompt of a model of transformers: token ids, and the tensors that its own processor made of the frames.

Shapes: L prompt tokens, T frames, H and W pixels, R rows of positions (1, or 4 for models with a position in time,
height and width).
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from videollm.models.processor import Prompt


@dataclass(slots=True)
class Media:
    """A video or picture that is to stand after the first `place` tokens of the text.

    Attributes:
        place: A number of tokens, counted without those of videos and pictures.
        pixels: The frames, uint8 (T,3,H,W).
        times_s: Their times (T,) in seconds.
        question: The message that it is placed before.
    """

    place: int
    pixels: torch.Tensor
    times_s: torch.Tensor
    question: str = ""


@dataclass(slots=True)
class HubPrompt(Prompt):
    """A prompt with the tensors of its videos and pictures.

    Attributes:
        media: The videos and pictures, in the order of the prompt.
        spans: The first token of each and the one after its last.
        by_token: Tensors (1,L) with a value for each token, such as its kind.
        tensors: The other tensors of all videos and pictures, such as pixels.
    """

    media: list[Media] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    by_token: dict[str, torch.Tensor] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def visual_tokens(self) -> int:
        return sum(end - start for start, end in self.spans)

    def reusable(self, ids: list[int]) -> int:
        """See `Prompt.reusable`.

        If a video is new, the prompt is read from its beginning, because positions and masks of some models depend on
        all of it.
        """
        kept = Prompt.reusable(self, ids)
        return kept if all(end <= kept for _, end in self.spans) else 0

    def inputs(self, llm: Any, kept: int) -> "HubInputs":
        """See `Prompt.inputs`."""
        return llm.read(self, kept)

    def arguments(self) -> dict[str, torch.Tensor]:
        """Returns the arguments of the model's forward pass: ids (1,L), and the tensors of all videos and pictures."""
        return {"input_ids": torch.tensor([self.ids]), **self.by_token, **self.tensors}


@dataclass(frozen=True, slots=True)
class HubInputs:
    """The tokens that the model reads next, on its device.

    Attributes:
        ids: The tokens (L,).
        positions: Their positions (R,L) in a prompt. None for a word, which has the next ones.
        tensors: The tensors of the videos and pictures among them.
    """

    ids: torch.Tensor
    positions: torch.Tensor | None
    tensors: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.ids)
