"""A video as a model under test is shown it: as it is, or as one of the controls that a score is read against.

A score that a control reaches too does not come from the video. blank: as many grey frames. shuffled: the same frames
in a random order, at the old times. wrong_video: another video of the data. text_only: no video.
"""

import dataclasses
from collections.abc import Iterable

import torch

from videollm.config import SamplingConfig
from videollm.datasets.item import Item
from videollm.encoders.base import FrameEncoder
from videollm.features.cache import FeatureCache
from videollm.features.encode import EncodedVideo, encode_video

AS_IT_IS = "video"
CONTROLS = ("blank", "shuffled", "wrong_video", "text_only")
GREY = 127

Part = tuple[str, float | None, float | None]


class Views:
    """items: all items of the data, also those that are not asked: the wrong video of one does not depend on how many
    are. features: where frames' features are kept from run to run."""

    def __init__(
        self, encoder: FrameEncoder, sampling: SamplingConfig, items: Iterable[Item], features: FeatureCache, seed: int
    ):
        self.encoder, self.sampling, self.features, self.seed = encoder, sampling, features, seed
        self._parts = sorted({item.part for item in items}, key=lambda part: (part[0], part[1] or 0.0, part[2] or 0.0))
        self._wrong = _wrong(self._parts)
        self._last: tuple[Part, EncodedVideo] | None = None

    @property
    def has_wrong_video(self) -> bool:
        return bool(self._wrong)

    def __call__(self, part: Part, condition: str) -> EncodedVideo | None:
        """None for text_only. Raises the `VideoError` family."""
        if condition == "text_only":
            return None
        if condition == "wrong_video":
            return self._encode(self._wrong[part])
        video = self._encode(part)
        if condition == "blank":
            return blank(video, self.encoder)
        return shuffled(video, self.seed) if condition == "shuffled" else video

    def _encode(self, part: Part) -> EncodedVideo:
        if self._last is None or self._last[0] != part:
            path, start_s, end_s = part
            sampling = dataclasses.replace(self.sampling, start_s=start_s, end_s=end_s)
            self._last = part, encode_video(path, self.encoder, sampling, self.features)
        return self._last[1]


def blank(video: EncodedVideo, encoder: FrameEncoder) -> EncodedVideo:
    size = encoder.image_size
    grey = encoder.encode_frames(torch.full((1, 3, size, size), GREY, dtype=torch.uint8)).to("cpu")
    return dataclasses.replace(video, features=grey[torch.zeros(len(video.times_s), dtype=torch.long)], cuts=())


def shuffled(video: EncodedVideo, seed: int) -> EncodedVideo:
    """The order depends on the video's content and the seed alone. Cuts are no more where they were: none is kept."""
    generator = torch.Generator().manual_seed(seed ^ int(video.info.content_sha[:8], 16))
    order = torch.randperm(len(video.times_s), generator=generator)
    return dataclasses.replace(video, features=video.features[order], cuts=())


def backwards(video: EncodedVideo) -> EncodedVideo:
    """Played from its end to its start: each frame is shown when, counted from the end, it ceased to be."""
    start_s, frames = float(video.times_s[0]), len(video.times_s)
    ends = torch.cat([video.times_s[1:], video.times_s.new_tensor([video.end_s])])
    return dataclasses.replace(
        video,
        times_s=(start_s + video.end_s - ends).flip(0),
        features=video.features[torch.arange(frames - 1, -1, -1)],
        cuts=tuple(frames - cut for cut in reversed(video.cuts)),
    )


def _wrong(parts: list[Part]) -> dict[Part, Part]:
    """For each part one of another file, half of the data away; none where there is one file only."""
    if len({path for path, *_ in parts}) < 2:
        return {}
    half = len(parts) // 2
    turned = {part: [*parts[i + half :], *parts[: i + half]] for i, part in enumerate(parts)}
    return {part: next(other for other in others if other[0] != part[0]) for part, others in turned.items()}
