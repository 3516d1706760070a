"""What each family of transformers' video models needs beyond their common interface."""

from dataclasses import dataclass, field

from videollm.config import SamplingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """sampling: the frames that the authors give the model for a video. short_side: of the frames in pixels; the
    model's own processor resizes them further."""

    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(fps=2.0, max_frames=64))
    short_side: int = 448


OTHERS = Family()

# By `model_type` of config.json. A type that is not here is loaded with the values of `OTHERS`.
FAMILIES: dict[str, Family] = {
    "video_llava": Family(sampling=SamplingConfig(frames=8), short_side=224),
    "llava_next_video": Family(sampling=SamplingConfig(frames=32), short_side=336),
    "llava_onevision": Family(sampling=SamplingConfig(frames=32), short_side=384),
}
