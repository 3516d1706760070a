"""Several questions about one video in one row, which share the video's tokens and do not see each other.

A prompt of one question is mostly video. In a packed row all questions attend to the video before them and each only to
itself, at the positions that it has alone, so that its loss is the one that it has alone, for one pass over the video.

Shapes: B rows, L tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from videollm.models.processor import Prompt, collate


@dataclass(frozen=True, slots=True)
class PackedPrompt:
    """Prompts that begin alike, in one row.

    Attributes:
        prompt: The row: the shared beginning, then the rest of each prompt.
        branches: For each token the number of the prompt that it belongs to, from 1; 0 for the beginning.
        positions: For each token its position in its own prompt.
    """

    prompt: Prompt
    branches: list[int]
    positions: list[int]

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> "PackedPrompt":
        """Packs prompts about the same video. They share everything up to the last visual token."""
        first = prompts[0]
        shared = max((i + 1 for i, token in enumerate(first.ids) if token < 0), default=0)
        row = Prompt(first.ids[:shared], first.labels[:shared], first.segments)
        branches, positions = [0] * shared, list(range(shared))
        for number, prompt in enumerate(prompts, 1):
            row.ids += prompt.ids[shared:]
            row.labels += prompt.labels[shared:]
            branches += [number] * (len(prompt) - shared)
            positions += range(shared, len(prompt))
        return cls(row, branches, positions)


def collate_packed(rows: Sequence[PackedPrompt], pad_id: int) -> dict[str, Any]:
    """Returns the arguments of `VideoLLM.forward`, of which `attention_mask` is bool (B,1,L,L)."""
    batch = collate([row.prompt for row in rows], pad_id)

    def pad(values: Sequence[list[int]], padding: int) -> torch.Tensor:
        made = [torch.tensor(v) for v in values]
        return torch.nn.utils.rnn.pad_sequence(made, batch_first=True, padding_value=padding)

    branches = pad([row.branches for row in rows], -1)
    length = branches.shape[1]
    same = branches[:, :, None] == branches[:, None]  # padding sees padding: a row of the softmax must not be empty
    seen = same | ((branches == 0)[:, None] & (branches >= 0)[:, :, None])
    seen &= torch.ones(length, length, dtype=torch.bool).tril()
    return {**batch, "attention_mask": seen[:, None], "position_ids": pad([row.positions for row in rows], 0)}
