"""The video that a model under test is shown: unchanged, or as a control.

A score that a control reaches as well does not come from the video. The controls are:

    blank         as many frames, all of them grey
    shuffled      the same frames at the same times, in an order that is drawn for each video and question
    reversed      the video played backwards
    wrong_video   another video of the data
    text_only     no video

A task about streams has one more, `whole_video`: what comes after the time of the question is seen too.
"""

import dataclasses
import hashlib
from collections.abc import Iterable

import torch

from videollm.config import SamplingConfig
from videollm.datasets.item import Item
from videollm.encoders.base import FrameEncoder
from videollm.features.cache import FeatureCache
from videollm.features.encode import EncodedVideo, encode_video

AS_IT_IS = "video"
CONTROLS = ("blank", "shuffled", "reversed", "wrong_video", "text_only")
WHOLE_VIDEO = "whole_video"
GREY = 127  # pixel value of blank frames, 0 to 255

# The video of an item: path, and start and end in seconds, or None for the start or the end of the file.
Part = tuple[str, float | None, float | None]


class Views:
    """Encodes the videos of the items in each condition.

    Args:
        encoder: The frame encoder.
        sampling: The sampling of frames.
        items: All items of the data, including those that `--limit` leaves out, so that the wrong video of an item
            does not depend on the limit.
        features: The cache of frame features, which later runs use again.
        seed: The seed of the control `shuffled`.
    """

    def __init__(
        self, encoder: FrameEncoder, sampling: SamplingConfig, items: Iterable[Item], features: FeatureCache, seed: int
    ):
        self.encoder, self.sampling, self.features, self.seed = encoder, sampling, features, seed
        self._parts = sorted({item.part for item in items}, key=lambda part: (part[0], part[1] or 0.0, part[2] or 0.0))
        self._wrong = _wrong(self._parts)
        self._last: tuple[Part, EncodedVideo] | None = None

    @property
    def has_wrong_video(self) -> bool:
        """Whether the data has at least two videos."""
        return bool(self._wrong)

    def __call__(self, part: Part, condition: str, draw: str = "") -> EncodedVideo | None:
        """Returns the video in a condition, None for `text_only`.

        Args:
            part: The video of an item.
            condition: `AS_IT_IS`, or one of `CONTROLS`.
            draw: What the order of `shuffled` is drawn for in addition to the video, such as the id of an item: the
                questions about one video then see different orders, and their mean does not depend on one of them.

        Raises a `VideoError` if the video cannot be read.
        """
        if condition == "text_only":
            return None
        if condition == "wrong_video":
            return self._encode(self._wrong[part])
        video = self._encode(part)
        if condition == "blank":
            return blank(video, self.encoder)
        if condition == "reversed":
            return backwards(video)
        return shuffled(video, f"{self.seed} {draw}") if condition == "shuffled" else video

    def _encode(self, part: Part) -> EncodedVideo:
        # Items come video by video, so that keeping the last video avoids most work; the cache on disk has the others.
        if self._last is None or self._last[0] != part:
            path, start_s, end_s = part
            sampling = dataclasses.replace(self.sampling, start_s=start_s, end_s=end_s)
            self._last = part, encode_video(path, self.encoder, sampling, self.features)
        return self._last[1]


def blank(video: EncodedVideo, encoder: FrameEncoder) -> EncodedVideo:
    """Returns the video with every frame replaced by a grey one, and without cuts."""
    size = encoder.image_size
    grey = encoder.encode_frames(torch.full((1, 3, size, size), GREY, dtype=torch.uint8)).to("cpu")
    return dataclasses.replace(video, features=grey[torch.zeros(len(video.times_s), dtype=torch.long)], cuts=())


def shuffled(video: EncodedVideo, seed: str) -> EncodedVideo:
    """Returns the video with its frames in a random order, and without cuts, which have lost their meaning.

    The order depends only on the content of the file, the part of it and the seed. It is never the true order, unless
    there is one frame only.
    """
    drawn_for = f"{seed} {video.info.content_sha} {float(video.times_s[0])} {video.end_s}"
    number = int.from_bytes(hashlib.sha256(drawn_for.encode()).digest()[:8], "big", signed=True)
    generator, frames = torch.Generator().manual_seed(number), len(video.times_s)
    order = torch.randperm(frames, generator=generator)
    while frames > 1 and bool((order.diff() == 1).all()):
        order = torch.randperm(frames, generator=generator)
    return dataclasses.replace(video, features=video.features[order], cuts=())


def backwards(video: EncodedVideo) -> EncodedVideo:
    """Returns the video played backwards, with the same start and end.

    A frame that was shown from a to b is shown from start + end - b to start + end - a.
    """
    start_s, frames = float(video.times_s[0]), len(video.times_s)
    ends = torch.cat([video.times_s[1:], video.times_s.new_tensor([video.end_s])])
    return dataclasses.replace(
        video,
        times_s=(start_s + video.end_s - ends).flip(0),
        features=video.features[torch.arange(frames - 1, -1, -1)],
        cuts=tuple(frames - cut for cut in reversed(video.cuts)),
    )


def _wrong(parts: list[Part]) -> dict[Part, Part]:
    """Returns for each part one of another file, or an empty dictionary if there is only one file.

    The search starts half of the data away: neighbours in sorted order are often clips of the same recording, which
    would answer the question too.
    """
    if len({path for path, *_ in parts}) < 2:
        return {}
    half = len(parts) // 2
    turned = {part: [*parts[i + half :], *parts[: i + half]] for i, part in enumerate(parts)}
    return {part: next(other for other in others if other[0] != part[0]) for part, others in turned.items()}
