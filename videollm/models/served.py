"""A model for pictures that another program serves by OpenAI's chat completions, such as Ollama or llama.cpp.

Its tokenizer, its chat template and its context are the server's, so that a prompt is messages and frames, and is
measured by the server alone. Shapes: T frames, H and W pixels.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from videollm.config import EncoderConfig, LanguageModelConfig, ModelConfig, PromptConfig, SamplingConfig, SegmentConfig
from videollm.datasets.schema import Message, format_time
from videollm.features.encode import SegmentFeatures
from videollm.models.notes import segment_note, video_note
from videollm.models.processor import Processor, Prompt

SERVED_BY = "server:"  # begins the source of a language model that a server runs; its URL follows
SHORT_SIDE = 448  # pixels of a frame
SEGMENT_FRAMES = 2  # evidence is as fine as segments
# A frame takes some hundred tokens, and local servers often start with a context of only a few thousand.
SAMPLING = SamplingConfig(fps=1.0, max_frames=16)
MAX_NEW_TOKENS, MOST_NEW_TOKENS = 512, 8192
JPEG_QUALITY = 90


def served_config(name: str, url: str, encoder: EncoderConfig) -> ModelConfig:
    """Returns the configuration of the model that the server at `url` knows by this name."""
    return ModelConfig(
        name=name,
        sampling=SAMPLING,
        segments=SegmentConfig(frames=SEGMENT_FRAMES),
        encoder=encoder,
        llm=LanguageModelConfig(source=SERVED_BY + url),
        prompt=PromptConfig(system="", tags=0, context=MOST_NEW_TOKENS, max_new_tokens=MAX_NEW_TOKENS),
    )


@dataclass(frozen=True, slots=True)
class ServedLLM:
    """The place of the language model in a `Model`.

    Attributes:
        url: The URL of the server, up to and including /v1.
        device: Where the frame encoder runs.
        is_vllm: Whether the server is vLLM, and has a model of transformers for videos.
    """

    url: str
    device: torch.device
    is_vllm: bool = False


@dataclass(slots=True)
class ServedVideo:
    """A video of a prompt.

    Attributes:
        before: The number of the message that it is placed before.
        segments: Its segments, whose tokens are pixels, uint8 (T,3,H,W).
        kept: The numbers of the frames that are sent, counted over all segments.
    """

    before: int
    segments: Sequence[SegmentFeatures]
    kept: list[int]

    def times_s(self) -> list[float]:
        """Returns the times of the frames that are sent, in seconds."""
        return torch.cat([segment.times_s for segment in self.segments])[self.kept].tolist()


@dataclass(slots=True)
class ServedPrompt(Prompt):
    """The messages of a conversation, and its videos. It has no token ids, because only the server knows them.

    Attributes:
        messages: The messages.
        videos: The videos.
        thinned: Whether frames were left out because the server refused so many.
        prompt_tokens, completion_tokens: What the server counted, 0 if it does not count.
        cut: Whether the answer reached its length limit.
    """

    messages: list[Message] = field(default_factory=list)
    videos: list[ServedVideo] = field(default_factory=list)
    thinned: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cut: bool = False

    def times_s(self) -> list[float]:
        """Returns the times of the frames that are sent, in seconds."""
        return [time for video in self.videos for time in video.times_s()]

    def thin(self) -> bool:
        """Leaves out every second frame of each video. Returns whether any was left out."""
        before = sum(len(video.kept) for video in self.videos)
        for video in self.videos:
            video.kept = video.kept[::2]
        left_out = sum(len(video.kept) for video in self.videos) < before
        self.thinned |= left_out
        return left_out

    def request(self) -> dict[str, Any]:
        """Returns the fields of a request that have the conversation."""
        made = []
        for number, message in enumerate(self.messages):
            parts = [part for video in self.videos if video.before == number for part in self.parts(video)]
            content = [*parts, _text(message.content)] if parts else message.content
            made.append({"role": message.role, "content": content})
        return {"messages": made}

    def parts(self, video: ServedVideo) -> list[dict[str, Any]]:
        """Returns a video as parts of a message: a head, then the time and the JPEG picture of each frame."""
        return _pictures(video)


class ServedProcessor(Processor):
    """Builds the prompts of a served model."""

    new_prompt: Callable[..., ServedPrompt] = ServedPrompt

    def __init__(self, config: ModelConfig):
        self.config, self.tokenizer, self.stop_ids = config, None, set()

    def __call__(
        self,
        messages: Sequence[Message],
        segments: Sequence[SegmentFeatures] = (),
        videos: Sequence[tuple[int, Sequence[SegmentFeatures]]] = (),
        tools: Sequence[dict[str, Any]] = (),
        length_s: float | None = None,
    ) -> ServedPrompt:
        """See `Processor.__call__`. These prompts offer no functions, and state the length of each video itself."""
        first = next(number for number, message in enumerate(messages) if message.role == "user")
        placed = [*([(first, segments)] if segments else []), *videos]
        shown = [
            ServedVideo(before, of_video, list(range(sum(len(s.times_s) for s in of_video))))
            for before, of_video in placed
        ]
        return self.new_prompt(messages=list(messages), videos=shown)


def _pictures(video: ServedVideo) -> list[dict[str, Any]]:
    """Returns a head with what the senses found, then the time and the picture of each frame."""
    segments, frames = video.segments, sum(len(segment.times_s) for segment in video.segments)
    if frames == 1:
        return [_picture(segments[0].tokens[0])]
    length = format_time(segments[-1].end_s - segments[0].start_s)
    head = f"A video of {length} as {len(video.kept)} frames, each after its time"
    found = video_note([segment.findings for segment in segments])
    parts, first, kept = [_text(f"{head}. {found}" if found else f"{head}.")], 0, set(video.kept)
    for segment in segments:
        if note := segment_note(segment.findings):
            parts.append(_text(f"[{format_time(segment.start_s)}-{format_time(segment.end_s)}] {note}"))
        for number, (pixels, time_s) in enumerate(zip(segment.tokens, segment.times_s.tolist(), strict=True), first):
            if number in kept:
                parts += [_text(f"[{format_time(time_s, 1)}]"), _picture(pixels)]
        first += len(segment.times_s)
    return parts


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _picture(pixels: torch.Tensor) -> dict[str, Any]:
    url = f"data:image/jpeg;base64,{encoded(pixels, 'JPEG', quality=JPEG_QUALITY)}"
    return {"type": "image_url", "image_url": {"url": url}}


def encoded(pixels: torch.Tensor, kind: str, **options: int) -> str:
    """Returns uint8 pixels (3,H,W) as the base64 of a picture file. The options are those of Pillow for this kind."""
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()
