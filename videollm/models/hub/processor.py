"""Messages and frames in, the prompt of a model of transformers out, through the model's own processor.

Our decoder has chosen the frames, and their presentation times go to the processor with them: models that write times
into the prompt (Qwen3-VL "<1.5 seconds>") write these.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import BatchFeature, ProcessorMixin
from transformers.video_utils import VideoMetadata

from videollm.config import ModelConfig
from videollm.datasets.schema import format_time
from videollm.errors import CheckpointError
from videollm.features.encode import SegmentFeatures
from videollm.models.hub.prompt import HubPrompt, Shown
from videollm.models.processor import SLOT, SLOTS, Processor, Prompt

MILLISECONDS = 1000.0  # frames are numbered by their time, so that a processor's number / fps is exact


class HubProcessor(Processor):
    """Builds prompts with the chat template and the processor of a model of transformers.

    Segments are only the unit in which a video is thinned to fit: all frames of a video go to the model as one video,
    and a single frame as a picture. Raises CheckpointError for a processor without a chat template.
    """

    new_prompt = HubPrompt

    def __init__(self, processor: ProcessorMixin, config: ModelConfig):
        self.processor: Any = processor
        if processor.chat_template is None and processor.tokenizer.chat_template is None:
            raise CheckpointError(f"{config.name}: it has no chat template; use an instruction-tuned model")
        if getattr(self.processor.video_processor, "cap_pixels_per_frame", True) is None:
            # What the authors' own code does, and transformers from 5.22 on says it will.
            self.processor.video_processor.cap_pixels_per_frame = True
        super().__init__(processor.tokenizer, config)

    def arguments(self, prompt: Prompt, device: torch.device) -> dict[str, Any]:
        return {"prompt": prompt}

    def _add_video(self, prompt: Prompt, segments: Sequence[SegmentFeatures]) -> None:
        assert isinstance(prompt, HubPrompt)
        pixels = torch.cat([segment.tokens for segment in segments])
        times_s = torch.cat([segment.times_s for segment in segments])
        if len(pixels) == 1:
            prompt.add_shown(self._show("image", images=[pixels[0]]))
        elif self.processor.video_processor is not None:
            metadata = _metadata(times_s)
            prompt.add_shown(self._show("video", videos=[pixels], video_metadata=[metadata], do_sample_frames=False))
        else:  # a model of pictures reads the frames one by one, each after its time
            for frame, time_s in zip(pixels, times_s.tolist(), strict=True):
                self._add_text(prompt, f"[{format_time(time_s)}] ")
                prompt.add_shown(self._show("image", images=[frame]))

    def _show(self, kind: str, **shown: Any) -> Shown:
        made: BatchFeature = self.processor(
            text=[self._text_of(kind)],
            add_special_tokens=False,
            input_data_format="channels_first",
            return_tensors="pt",
            **shown,
        )
        ids = made.pop("input_ids")
        made.pop("attention_mask", None)
        tensors = {name: torch.as_tensor(value) for name, value in made.items()}
        by_token = {name: value[0] for name, value in tensors.items() if value.shape == ids.shape}
        return Shown(ids[0].tolist(), by_token, {n: value for n, value in tensors.items() if n not in by_token})

    def _text_of(self, kind: str) -> str:
        """What the chat template writes for a video or picture before a text."""
        without, _ = SLOTS.split(self._apply(["user"], generate=False))[::2]
        found = SLOTS.split(self._render([_message("user", 0, kind)], generate=False))[0]
        if not found.startswith(without) or found == without:
            raise CheckpointError(f"{self.config.name}: its chat template has no place for a {kind} before a text")
        return found.removeprefix(without)

    def _apply(self, roles: list[str], generate: bool) -> str:
        return self._render([_message(role, number) for number, role in enumerate(roles)], generate)

    def _render(self, messages: list[dict[str, Any]], generate: bool) -> str:
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)


def _message(role: str, number: int, *kinds: str) -> dict[str, Any]:
    text = {"type": "text", "text": SLOT.format(number)}
    return {"role": role, "content": [*({"type": kind} for kind in kinds), text]}


def _metadata(times_s: torch.Tensor) -> VideoMetadata:
    """The times (T,) of the frames in the form of transformers. The total makes its mean rate that of the frames."""
    milliseconds = (times_s * MILLISECONDS).round().long().tolist()
    frames = len(milliseconds)
    total = (milliseconds[-1] - milliseconds[0]) * frames / (frames - 1)
    return VideoMetadata(total_num_frames=max(round(total), 1), fps=MILLISECONDS, frames_indices=milliseconds)
