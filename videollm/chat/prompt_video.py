"""A video of a conversation as the prompt has it: segments, of which fewer are left where room is short."""

from copy import copy
from dataclasses import replace

from videollm.features.encode import EncodedVideo, SegmentFeatures
from videollm.model import Model

# Tags that a model with senses is told have at least this probability, and SURE where a word, however general, has that
# much. Of 41 photographs and clips that have no part in any evaluation, 16 of 19 tags from 0.6 were right, and 7 of 21
# of those from 0.2 to 0.5.
TOLD, SURE = 0.6, 0.8


class PromptVideo:
    """A video in a conversation, divided into segments.

    Attributes:
        before: The number of the message that the video is placed before.
        segments: The segments that the model sees.
        total_segments: The number of segments before any were merged.
        is_picture: Whether the file is a still picture.
    """

    def __init__(self, model: Model, video: EncodedVideo, before: int = 0):
        self.video, self.before = video, before
        self.segments = self._divided(model)
        self.total_segments = len(self.segments)

    @property
    def is_picture(self) -> bool:
        return self.video.info.fps == 0.0

    def moved(self, before: int) -> "PromptVideo":
        """Returns the video placed before another message."""
        other = copy(self)
        other.before = before
        return other

    def merge(self, model: Model, share: float) -> None:
        """Merges neighbouring segments until at most this share of them is left, and at least one.

        The number falls in fixed steps of a quarter. Turns of one conversation then mostly merge to the same number,
        and the next turn can reuse the keys and values of the last.
        """
        count = len(self.segments)
        while count > max(1, share * len(self.segments)):
            count = count * 3 // 4
        if count < len(self.segments):
            self.segments = self._divided(model, count)

    def _divided(self, model: Model, most: int | None = None) -> list[SegmentFeatures]:
        config, vocabulary = model.config, model.encoder.vocabulary
        if not config.senses:
            return self.video.segments(config, vocabulary, most)
        sure, told = (
            self.video.segments(
                replace(config, prompt=replace(config.prompt, tag_threshold=max(config.prompt.tag_threshold, least))),
                vocabulary,
                most,
            )
            for least in (SURE, TOLD)
        )
        return [replace(t, tags=s.tags or t.tags) for s, t in zip(sure, told, strict=True)]
