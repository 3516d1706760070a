"""What stage 1's losses read of a batch: plain tensors, so that this module needs neither model nor loss.

Shapes: B pairs of a video and a text, S segments, L text tokens.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch

from videollm.models.visual_prompting import VisualBatch

_UNREAD: Any = None  # typed so that a loss can read its fields without asking whether they are there


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Token ids (B,L) as `Aligner.tokenize` makes them, and mask (B,L), True at real tokens."""

    ids: torch.Tensor
    mask: torch.Tensor

    def to(self, *args: Any) -> "TextBatch":
        return TextBatch(ids=self.ids.to(*args), mask=self.mask.to(*args))


def fits(groups: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Returns bool (B,C): which pairs with groups (B,G) and (C,G) are right answers to each other.

    They share a video or a text, or one is a mix of which the other is a part. Mixes that share a part alone, such as
    those of the same two pairs in both orders, are wrong answers.
    """
    return _shared(groups[:, :2], others) | _shared(groups, others[:, :2])


def _shared(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one[:, None, :, None] == other[None, :, None, :]).flatten(2).any(-1)


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """What the losses read. Fields that no loss of the run reads are None.

    videos: one segment a pair. groups (B,2) or (B,6): numbers of its video and of its text, and of those of the two
    pairs that it is a mix of; see `fits`. heard (B,): whether its segment has audio. texts: the captions. masked: the
    captions with masked words, and masked_labels (B,L), which hold the masked words and `IGNORE` elsewhere. changed:
    the captions with another verb, where has_changed (B,). scenes: segments for `WordContrast`; words (S,L) and
    word_mask (S,L) are their names, where named (S,).
    prompt: arguments of `VideoLLM.forward`.
    """

    videos: VisualBatch = _UNREAD
    groups: torch.Tensor = _UNREAD
    heard: torch.Tensor = _UNREAD
    texts: TextBatch = _UNREAD
    masked: TextBatch = _UNREAD
    masked_labels: torch.Tensor = _UNREAD
    changed: TextBatch = _UNREAD
    has_changed: torch.Tensor = _UNREAD
    scenes: VisualBatch = _UNREAD
    words: torch.Tensor = _UNREAD
    word_mask: torch.Tensor = _UNREAD
    named: torch.Tensor = _UNREAD
    prompt: dict[str, Any] = _UNREAD

    def to(self, *args: Any) -> "PairBatch":
        """A copy on another device; the trainer calls it as it does for tensors."""

        def move(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: move(v) for k, v in value.items()}
            return value if value is None else value.to(*args)

        return PairBatch(**{f.name: move(getattr(self, f.name)) for f in fields(self)})
