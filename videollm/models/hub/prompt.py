"""The prompt of a model of transformers: token ids, and the tensors that its own processor made of the frames.

Shapes: L prompt tokens, R rows of positions (1, or 4 for models with a position in time, height and width).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from videollm.models.processor import Prompt


@dataclass(frozen=True, slots=True)
class Shown:
    """What a processor makes of one video or picture.

    ids: the tokens that stand for it, and any text among them, such as times. by_token: tensors with one value for each
    of these tokens. tensors: the others, such as pixels; those of several videos are joined along their first
    dimension.
    """

    ids: list[int]
    by_token: dict[str, torch.Tensor]
    tensors: dict[str, torch.Tensor]


@dataclass(slots=True)
class HubPrompt(Prompt):
    """shown: each video and picture with the number of its first token."""

    shown: list[tuple[int, Shown]] = field(default_factory=list)

    def add_shown(self, shown: Shown) -> None:
        """Append the tokens of a video or picture."""
        self.shown.append((len(self.ids), shown))
        self.add_ids(shown.ids)

    @property
    def visual_tokens(self) -> int:
        return sum(len(shown.ids) for _, shown in self.shown)

    def reusable(self, ids: list[int]) -> int:
        """See `Prompt.reusable`. A video is read whole: if one is new, the prompt is read from its beginning, since
        positions and masks of some models depend on all of it."""
        kept = Prompt.reusable(self, ids)
        end = max((start + len(shown.ids) for start, shown in self.shown), default=0)
        return kept if kept >= end else 0

    def inputs(self, llm: Any, kept: int) -> "HubInputs":
        """See `Prompt.inputs`."""
        return llm.read(self, kept)

    def arguments(self) -> dict[str, torch.Tensor]:
        """The arguments of the model's forward pass: ids (1,L), and the tensors of all videos and pictures."""
        made: dict[str, Any] = {"input_ids": torch.tensor([self.ids])}
        for start, shown in self.shown:
            for name, values in shown.by_token.items():
                made.setdefault(name, torch.zeros(1, len(self.ids), dtype=values.dtype))
                made[name][0, start : start + len(values)] = values
        names = {name: None for _, shown in self.shown for name in shown.tensors}
        for name in names:
            made[name] = _join([shown.tensors[name] for _, shown in self.shown if name in shown.tensors])
        return made


@dataclass(frozen=True, slots=True)
class HubInputs:
    """Tokens that the model reads next, on its device. ids (L,). positions (R,L): of a prompt; None for a word, which
    has the next ones. tensors: those of the videos and pictures among the tokens."""

    ids: torch.Tensor
    positions: torch.Tensor | None
    tensors: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.ids)


def _join(parts: list[torch.Tensor]) -> torch.Tensor:
    """The parts along their first dimension. Others may differ, such as the number of tiles of a picture, and are
    filled with zeros at their end."""
    sizes = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    return torch.cat([_fill(part, sizes) for part in parts])


def _fill(part: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    missing = [size - have for have, size in zip(part.shape[1:], sizes, strict=True)]
    return F.pad(part, [x for size in reversed(missing) for x in (0, size)])
