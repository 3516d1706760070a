"""Instruction rows as prompts: what stage 2 and GRPO train on."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from train.data.features import VideoFeatures
from train.data.rows import InstructionRows
from videollm.datasets.schema import Sample
from videollm.errors import DataError
from videollm.features.encode import EncodedVideo
from videollm.models.processor import Message, Processor, Prompt, collate


class Conversations(Dataset[Prompt]):
    """Rows as prompts whose answers bear the loss.

    limit: the longest prompt in tokens. The segments of a long video are merged until its prompt fits.
    """

    def __init__(self, rows: InstructionRows, features: VideoFeatures, processor: Processor, limit: int):
        self.rows, self.features, self.processor, self.limit = rows, features, processor, limit

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: int) -> Prompt:
        return self.prompt(self.rows[draw % len(self.rows)], draw=draw)

    def prompt(self, sample: Sample, messages: Sequence[Message] | None = None, draw: int = 0) -> Prompt:
        """messages: instead of the row's own. draw: see `VideoFeatures.video`. Raises DataError where the text alone
        exceeds the limit."""
        video = self.features.video(sample, draw) if sample.video else None
        return self.about(video, sample.id, messages or sample.messages)

    def about(self, video: EncodedVideo | None, row: str, messages: Sequence[Message]) -> Prompt:
        """The messages about the video. row: the id that an error names, as in `prompt`."""
        config, vocabulary = self.features.config, self.features.encoder.vocabulary
        segments = video.segments(config, vocabulary) if video else []
        while len(prompt := self.processor(messages, segments)) > self.limit:
            if video is None or len(segments) == 1:
                raise DataError(f"row {row}: takes {len(prompt)} tokens, the limit is {self.limit}; shorten it")
            segments = video.segments(config, vocabulary, len(segments) * 3 // 4)
        return prompt

    def lengths(self) -> list[int]:
        """The length of each row in tokens: that of its text, and about that of its video.

        Tokens are counted, not characters: what the chat template puts around a message can exceed a short answer.
        """
        config, lengths = self.features.config, []
        for sample in self.rows:
            frames = len(self.features.video(sample).times_s) if sample.video else 0
            segments = -(-frames // config.segments.frames)
            lengths.append(len(self.processor(sample.messages)) + segments * config.temporal.queries)
        return lengths


class PromptCollator:
    """Prompts to the arguments of `VideoLLM.forward`."""

    def __init__(self, processor: Processor):
        self.pad_id = processor.tokenizer.pad_token_id

    def __call__(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        return collate(prompts, self.pad_id)
