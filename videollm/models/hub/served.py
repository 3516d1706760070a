"""A video model of transformers that a vLLM server runs: it gets the frames that our decoder chose, with their times.

vLLM's chat completions take the frames of a video as pictures with commas between them, their times as
`media_io_kwargs`, and the bound of their pixels as `mm_processor_kwargs`. vLLM must be started with
--trust-request-mm-kwargs (https://docs.vllm.ai/en/latest/features/multimodal_inputs/).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from videollm.config import ModelConfig
from videollm.models.hub.families import OTHERS, Family
from videollm.models.hub.processor import video_metadata
from videollm.models.served import ServedProcessor, ServedPrompt, ServedVideo, encoded

LOSSLESS: dict[str, Any] = {"kind": "PNG", "compress_level": 1}  # vLLM then computes on the pixels that were decoded
ALL_FRAMES = -1


@dataclass(slots=True)
class VLLMPrompt(ServedPrompt):
    """The messages of a conversation, and its videos. See `ServedPrompt`.

    One video goes to vLLM as a video with its times. Several go as pictures after their times, because a request has
    the times of one video only.

    Attributes:
        family: The family of the model.
    """

    family: Family = OTHERS

    def request(self) -> dict[str, Any]:
        """See `ServedPrompt.request`."""
        made = ServedPrompt.request(self)
        if video := self._video():
            times = video_metadata(torch.tensor(video.times_s()))
            made["media_io_kwargs"] = {
                "video": {
                    "num_frames": ALL_FRAMES,
                    "fps": times.fps,
                    "frames_indices": times.frames_indices,
                    "total_num_frames": times.total_num_frames,
                }
            }
            if self.family.caps_pixels:
                made["mm_processor_kwargs"] = {"videos_kwargs": {"cap_pixels_per_frame": True}}
        return made

    def parts(self, video: ServedVideo) -> list[dict[str, Any]]:
        """See `ServedPrompt.parts`."""
        pixels = torch.cat([segment.tokens for segment in video.segments])[video.kept]
        if video is self._video():
            return [_part("video", "video/jpeg", pixels)]
        return [_part("image", "image/png", pixels)] if len(pixels) == 1 else ServedPrompt.parts(self, video)

    def _video(self) -> ServedVideo | None:
        """Returns the video that is sent as one."""
        videos = [video for video in self.videos if len(video.kept) > 1]
        return videos[0] if len(videos) == 1 else None


class VLLMProcessor(ServedProcessor):
    """Builds the prompts of a model in vLLM."""

    def __init__(self, config: ModelConfig, family: Family):
        super().__init__(config)
        self.new_prompt = partial(VLLMPrompt, family=family)


def _part(kind: str, media_type: str, pixels: torch.Tensor) -> dict[str, Any]:
    """Returns frames, uint8 (T,3,H,W), as a part of a message."""
    files = ",".join(encoded(frame, **LOSSLESS) for frame in pixels)
    return {"type": f"{kind}_url", f"{kind}_url": {"url": f"data:{media_type};base64,{files}"}}
