"""InstructBLIP for videos, whose Q-Former reads the question with each frame (Dai et al. 2023). The features of a video
therefore depend on the message that it is placed before.

Shapes: V videos, T frames, Q queries, L prompt tokens, W words of the longest question, H language-model width.
"""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import torch
from transformers import InstructBlipVideoForConditionalGeneration

from videollm.errors import ConfigError
from videollm.features.encode import SegmentFeatures
from videollm.models.hub.processor import HubProcessor
from videollm.models.hub.prompt import HubPrompt, Media
from videollm.models.processor import Prompt

LONGEST = 512  # words and marks of BERT, whose positions the Q-Former has


class InstructProcessor(HubProcessor):
    """Builds prompts in which each frame takes Q tokens, and gives the Q-Former the question.

    Until they are placed, the ids of a video's tokens are negative and differ between questions, so that a cache of
    another question is never used.
    """

    def _add_video(
        self, prompt: Prompt, segments: Sequence[SegmentFeatures], length_s: float | None, question: str
    ) -> None:
        super()._add_video(prompt, segments, length_s, question)
        assert isinstance(prompt, HubPrompt)
        if prompt.ids == self._first_ids:  # a video comes even before the mark of the beginning
            prompt.media[-1].place = 0

    def _place(self, prompt: HubPrompt) -> None:
        super()._place(prompt)
        ids = torch.tensor([prompt.ids])
        video_id = self.tokenizer.convert_tokens_to_ids(str(self.processor.video_token))
        prompt.tensors["input_ids"] = ids.where(ids >= 0, video_id)

    def _process(
        self, media: Sequence[Media], kinds: list[str]
    ) -> tuple[list[list[int]], dict[str, list[torch.Tensor]], dict[str, torch.Tensor]]:
        """See `HubProcessor._process`. Raises ConfigError for a question that the Q-Former cannot read whole."""
        longest = max(len(m.pixels) for m in media)
        pixels = [self._of_length(m, longest).pixels for m in media]
        seen = self.processor.video_processor(pixels, input_data_format="channels_first", return_tensors="pt")
        read = self.processor.qformer_tokenizer(
            [m.question for m in media], padding=True, split_special_tokens=True, return_tensors="pt"
        )
        if (words := read["input_ids"].shape[1]) > LONGEST:
            raise ConfigError(
                f"{self.config.name}: the question takes {words} words, of which its Q-Former reads at most {LONGEST}; "
                "ask a shorter question"
            )
        pieces = [[-1 - crc32(m.question.encode())] * (self.processor.num_query_tokens * longest) for m in media]
        tensors = {
            "pixel_values": seen["pixel_values"],
            "qformer_input_ids": read["input_ids"],
            "qformer_attention_mask": read["attention_mask"],
        }
        return pieces, {}, tensors


class InstructBlip(InstructBlipVideoForConditionalGeneration):
    """The model with a forward pass that, like those of other families, also reads text without a video, and continues
    from keys and values."""

    def forward(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        qformer_input_ids: torch.Tensor | None = None,
        qformer_attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Returns the language model's output.

        Args:
            input_ids: The ids (B,L), with the video token at the Q * T tokens of each video.
            pixel_values: The frames of all videos (V,T,3,S,S). None continues with text.
            qformer_input_ids, qformer_attention_mask: The question of each video (V,W).
            position_ids: The positions (B,L).
            kwargs: Further arguments of the language model.
        """
        embeds = self.get_input_embeddings()(input_ids)
        if pixel_values is not None:
            see: Any = self.get_video_features  # transformers types it by every form that it may return
            found = see(pixel_values, qformer_input_ids, qformer_attention_mask)
            mask = (input_ids == self.config.video_token_id)[..., None]
            embeds = embeds.masked_scatter(mask, found.pooler_output.to(embeds.dtype))
        return self.language_model(inputs_embeds=embeds, position_ids=position_ids, **kwargs)
