"""A prompt with placeholders for visual tokens, and batches of prompts to train on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from videollm.features.encode import SegmentFeatures
from videollm.models.labels import IGNORE
from videollm.models.visual_prompting import (
    AUDIO_TOKEN_ID,
    FIRST_VIRTUAL_ID,
    VISUAL_TOKEN_ID,
    VisualBatch,
    VisualPrompting,
)
from videollm.output_config import Modality


@dataclass(slots=True)
class Prompt:
    """A prompt of L tokens.

    Attributes:
        ids: The L token ids. Each segment has `queries` ids equal to `VISUAL_TOKEN_ID`. If it is heard, ids equal to
            `AUDIO_TOKEN_ID` are beside them. Virtual tokens of prompt tuning come first.
        labels: The L labels, which are `IGNORE` outside answers.
        segments: The segments in the order of the prompt.
        dropped_turns: The number of turns of the conversation that were left out of the prompt.
        shown: What the answers show, in their order: the modality and the text that describes it.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    segments: list[SegmentFeatures] = field(default_factory=list)
    dropped_turns: int = 0
    shown: list[tuple[Modality, str]] = field(default_factory=list)
    # Text of a published layout that is tokenised as one piece with what follows, and which of its characters are
    # learned.
    _joined: str = ""
    _learned: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def add_visual(self, segment: SegmentFeatures, queries: int) -> None:
        """Appends the placeholders of a segment's query tokens."""
        self.ids += [VISUAL_TOKEN_ID] * queries
        self.labels += [IGNORE] * queries
        self.segments.append(segment)

    def add_audio(self, queries: int) -> None:
        """Appends the placeholders of the query tokens of a segment's audio. The segment is added by `add_visual`."""
        self.ids += [AUDIO_TOKEN_ID] * queries
        self.labels += [IGNORE] * queries

    def add_virtual(self, count: int) -> None:
        """Appends the placeholders of the virtual tokens of prompt tuning."""
        self.add_ids([FIRST_VIRTUAL_ID - i for i in range(count)])

    def add_ids(self, ids: list[int], *, learn: bool = False) -> None:
        """Appends tokens, which are labels too if the model is to learn to write them."""
        self.ids += ids
        self.labels += ids if learn else [IGNORE] * len(ids)

    @property
    def visual_tokens(self) -> int:
        """The number of tokens that stand for video."""
        return self.ids.count(VISUAL_TOKEN_ID)

    @property
    def audio_tokens(self) -> int:
        """The number of tokens that stand for sound."""
        return self.ids.count(AUDIO_TOKEN_ID)

    @property
    def audio(self) -> list[torch.Tensor]:
        """The features of the segments' audio that the prompt has placeholders for."""
        return [s.audio for s in self.segments if s.audio is not None] if self.audio_tokens else []

    def reusable(self, ids: list[int]) -> int:
        """Returns how many leading tokens a model that has read `ids` need not read again.

        The last token of the prompt is always read, because its logits are not kept.
        """
        return min(shared_prefix(ids, self.ids), len(self) - 1)

    def inputs(self, llm: VisualPrompting, kept: int) -> torch.Tensor:
        """Returns the embeddings (L,H) of the tokens after the first `kept`, which the language model reads.

        The temporal module runs only for segments of which one of these tokens is.
        """
        if all(i >= 0 for i in self.ids[kept:]):
            return llm.embed_words(self.ids[kept:])
        first, known = (0, 0) if self.segments else (kept, 0)
        if self.segments and not self.audio_tokens:
            queries = self.visual_tokens // len(self.segments)
            known, begun = divmod(self.ids[:kept].count(VISUAL_TOKEN_ID), queries)
            first = kept - begun  # the tokens of one segment stand side by side
        ids, visual = torch.tensor(self.ids[first:], device=llm.device), self.visual(known)
        return llm.embed_prompt(ids[None], visual.to(llm.device) if visual else None)[0, kept - first :]

    def visual(self, first: int = 0) -> VisualBatch | None:
        """Returns the features of the segments from number `first` on as one batch, or None if there is none."""
        segments = self.segments[first:]
        if not segments:
            return None
        return VisualBatch.pad([s.tokens for s in segments], [s.times_s for s in segments], self.audio)


def shared_prefix(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Returns how many leading items of a and b are equal."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def collate(prompts: Sequence[Prompt], pad_id: int, device: torch.device | None = None) -> dict[str, Any]:
    """Returns a right-padded batch of prompts with answers: the arguments of `VideoLLM.forward`, with labels.

    Args:
        prompts: The prompts, of any lengths.
        pad_id: The token id at padding.
        device: The device of the batch. None leaves it on the CPU, from where a Trainer moves it.
    """

    def pad(rows: list[list[int]], value: int) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True, padding_value=value)

    segments, audio = [s for p in prompts for s in p.segments], [clips for p in prompts for clips in p.audio]
    batch = {
        "input_ids": pad([p.ids for p in prompts], pad_id),
        "labels": pad([p.labels for p in prompts], IGNORE),
        "attention_mask": pad([[1] * len(p) for p in prompts], 0),
        "visual": VisualBatch.pad([s.tokens for s in segments], [s.times_s for s in segments], audio)
        if segments
        else None,
    }
    return {name: x if x is None or device is None else x.to(device) for name, x in batch.items()}
