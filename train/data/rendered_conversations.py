"""Rendered clips to what stage 2 trains on: several questions of a clip, which share one pass over its frames."""

from collections.abc import Sequence
from typing import Any

import torch

from train.data.packing import PackedPrompt, collate_packed
from train.data.rendered import RenderedClip
from videollm.encoders.audio import AudioEncoder, HearingEncoder
from videollm.features.encode import SegmentFeatures
from videollm.model import Model
from videollm.models.processor import Message


class RenderedConversationCollator:
    """Rendered clips to the arguments of `VideoLLM.forward`.

    Args:
        model: The model, whose temporal module reads pixels.
        questions: The number of questions about each clip, beside its caption.
        hidden: Whether the clips are left out of the prompts, so that only words are learnt.
        checked: Whether the questions are those that reinforcement can check, all of a clip's, without a caption.
    """

    def __init__(self, model: Model, questions: int, hidden: bool, checked: bool):
        self.processor, self.questions, self.hidden, self.checked = model.processor, questions, hidden, checked
        self.hears = model.encoder.audio if isinstance(model.encoder, HearingEncoder) else None

    def __call__(self, clips: Sequence[RenderedClip]) -> dict[str, Any]:
        return collate_packed([self.packed(clip) for clip in clips], self.processor.tokenizer.pad_token_id)

    def packed(self, clip: RenderedClip) -> PackedPrompt:
        segments = [] if self.hidden else [segment(clip, self.hears)]
        turns = clip.checked_turns() if self.checked else clip.turns(self.questions)
        if self.hears:
            turns += [(asked, answer) for _, asked, answer in clip.sound_turns()]
        return PackedPrompt.of(
            [
                self.processor([Message("user", asked), Message("assistant", answer)], segments)
                for asked, answer in turns
            ]
        )


def segment(clip: RenderedClip, hears: AudioEncoder | None = None) -> SegmentFeatures:
    """Returns the whole clip as one segment of pixels, and of what an encoder hears."""
    times_s, heard = clip.times_s(), hears.encode_audio(clip.samples()) if hears else None
    return SegmentFeatures(
        0.0,
        clip.clip.duration_s,
        clip.pixels().flatten(2),
        times_s,
        torch.zeros(1),
        (),
        audio=None if heard is None else heard.tokens,
    )
