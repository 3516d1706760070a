"""Messages and frames in, the prompt of a model of transformers out, through the model's own processor.

Our decoder has chosen the frames, and their presentation times go to the processor with them: models that write times
into the prompt (Qwen3-VL "<1.5 seconds>") write these.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import BatchFeature, ProcessorMixin
from transformers.video_utils import VideoMetadata

from videollm.config import ModelConfig
from videollm.datasets.schema import Message, format_time
from videollm.errors import CheckpointError, ConfigError
from videollm.features.encode import SegmentFeatures
from videollm.models.hub.families import Family
from videollm.models.hub.prompt import HubPrompt, Media
from videollm.models.labels import IGNORE
from videollm.models.processor import SLOT, SLOTS, Processor, Prompt, shared_prefix

MILLISECONDS = 1000.0  # frames are numbered by their time, so that a processor's number / fps is exact
FEWEST = 2  # frames that make a video


class HubProcessor(Processor):
    """Builds prompts with the chat template and the processor of a model of transformers.

    All frames of a video go to the model as one video, and a single frame goes as a picture. Segments are only the unit
    in which a video is thinned to fit.

    Raises CheckpointError for a processor without a chat template.
    """

    new_prompt = HubPrompt

    def __init__(self, processor: ProcessorMixin, config: ModelConfig, family: Family):
        self.processor: Any = processor
        self.family = family
        own = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
        self.chat_template: str | None = family.chat_template or own
        self.reads_videos = getattr(processor, "video_processor", None) is not None
        if self.chat_template is None:
            raise CheckpointError(f"{config.name}: it has no chat template; use an instruction-tuned model")
        if self.reads_videos and getattr(processor.video_processor, "cap_pixels_per_frame", True) is None:
            # The authors' own code bounds the pixels of a frame. Without it a long video takes far more tokens.
            self.processor.video_processor.cap_pixels_per_frame = True
        # What is put before every prompt, such as a token for the beginning, if the chat template does not write it.
        self._first_ids: list[int] = list(self.processor(text=[""])["input_ids"][0])
        self._first = processor.tokenizer.decode(self._first_ids)
        super().__init__(processor.tokenizer, config)

    def __call__(
        self,
        messages: Sequence[Message],
        segments: Sequence[SegmentFeatures] = (),
        videos: Sequence[tuple[int, Sequence[SegmentFeatures]]] = (),
        tools: Sequence[dict[str, Any]] = (),
        length_s: float | None = None,
    ) -> Prompt:
        """See `Processor.__call__`. The prompts of these models state no length."""
        prompt = super().__call__(messages, segments, videos, tools, length_s)
        assert isinstance(prompt, HubPrompt)
        if prompt.media:
            self._place(prompt)
        return prompt

    def arguments(self, prompt: Prompt, device: torch.device) -> dict[str, Any]:
        """See `Processor.arguments`."""
        return {"prompts": [prompt]}

    def add_blank_picture(self, prompt: HubPrompt) -> None:
        """Puts a blank picture behind the end of a prompt without pictures, whose tokens do not see it.

        The vision tower then runs for it too, as training on several ranks requires.
        """
        side = self.family.short_side
        prompt.media.append(Media(len(prompt), torch.zeros(1, 3, side, side, dtype=torch.uint8), torch.zeros(1)))
        self._place(prompt)

    def _add_video(
        self, prompt: Prompt, segments: Sequence[SegmentFeatures], length_s: float | None, question: str
    ) -> None:
        assert isinstance(prompt, HubPrompt)
        pixels = torch.cat([segment.tokens for segment in segments])
        times_s = torch.cat([segment.times_s for segment in segments])
        if self.reads_videos:
            prompt.media.append(Media(len(prompt), pixels, times_s, question))
            return
        # A model of pictures reads the frames one by one, each after its time.
        for frame, time_s in zip(pixels.split(1), times_s.split(1), strict=True):
            if len(pixels) > 1:
                self._add_text(prompt, f"[{format_time(float(time_s))}] ")
            prompt.media.append(Media(len(prompt), frame, time_s, question))

    def _place(self, prompt: HubPrompt) -> None:
        """Puts the tokens and tensors of the videos and pictures into a prompt that has only text."""
        kinds = self._kinds([len(media.pixels) for media in prompt.media])
        pieces, by_token, prompt.tensors = self._process(prompt.media, kinds)
        text, labels, done = prompt.ids, prompt.labels, 0
        prompt.ids, prompt.labels = [], []
        for media, piece in zip(prompt.media, pieces, strict=True):
            prompt.ids += text[done : media.place]
            prompt.labels += labels[done : media.place]
            done = media.place
            prompt.spans.append((len(prompt.ids), len(prompt.ids) + len(piece)))
            prompt.ids += piece
            prompt.labels += [IGNORE] * len(piece)
        prompt.ids += text[done:]
        prompt.labels += labels[done:]
        for name, values in by_token.items():
            prompt.by_token[name] = torch.zeros(1, len(prompt), dtype=values[0].dtype)
            for (start, end), value in zip(prompt.spans, values, strict=True):
                prompt.by_token[name][0, start:end] = value

    def _gaps(self, placed: Sequence[tuple[int, Sequence[SegmentFeatures]]]) -> dict[int, tuple[str, str]]:
        """See `Processor._gaps`. What comes first in a message decides."""
        kinds = ["image"] * len(placed)
        if self.reads_videos:
            kinds = self._kinds([sum(len(segment.times_s) for segment in shown) for _, shown in placed])
        first = {at: kind for (at, _), kind in zip(reversed(placed), reversed(kinds), strict=True)}
        gaps = {}
        for at, kind in first.items():
            shown, plain = self._before_text(kind)
            gaps[at] = (plain, plain if shown.endswith(plain) else "")
        return gaps

    def _kinds(self, frames: Sequence[int]) -> list[str]:
        """Returns how videos with these numbers of frames are shown to the model."""
        kinds = ["image" if count == 1 else "video" for count in frames]
        if self.family.one_kind and "video" in kinds:
            kinds = ["video"] * len(kinds)
        most = self.family.most_videos
        if most is not None and kinds.count("video") > most:
            raise ConfigError(
                f"{self.config.name} reads {most} video in a conversation and nothing beside it, got {len(kinds)}; ask "
                "about each by itself, or use another model"
            )
        return kinds

    def _of_length(self, media: Media, longest: int) -> Media:
        """Returns the video with its last frame repeated to the length that the model needs."""
        frames = len(media.pixels)
        wanted = longest if self.family.equal_frames else max(frames, FEWEST)
        every = torch.arange(wanted).clamp(max=frames - 1)
        return replace(media, pixels=media.pixels[every], times_s=media.times_s[every])

    def _process(
        self, media: Sequence[Media], kinds: list[str]
    ) -> tuple[list[list[int]], dict[str, list[torch.Tensor]], dict[str, torch.Tensor]]:
        """Runs the model's processor once on all videos and pictures.

        Returns the tokens of each, the tensors with a value for each of these tokens, and the other tensors.
        """
        # Never within the text of a video or picture, so it shows where each of them ends.
        end, end_id = self.tokenizer.eos_token, self.tokenizer.eos_token_id
        shown: dict[str, Any] = {}
        if images := [m.pixels[0] for m, kind in zip(media, kinds, strict=True) if kind == "image"]:
            shown["images"] = images
        if videos := [m for m, kind in zip(media, kinds, strict=True) if kind == "video"]:
            longest = max(len(m.pixels) for m in videos)
            videos = [self._of_length(m, longest) for m in videos]
            shown["videos"] = [m.pixels for m in videos]
            shown["video_metadata"] = [video_metadata(m.times_s) for m in videos]
            shown["do_sample_frames"] = False
        made: BatchFeature = self.processor(
            text=["".join(self._text_of(kind) + end for kind in kinds)],
            add_special_tokens=False,
            input_data_format="channels_first",
            return_tensors="pt",
            **shown,
        )
        made.pop("attention_mask", None)
        ids = made.pop("input_ids")
        tensors = {name: torch.as_tensor(value) for name, value in made.items()}
        if "video_second_per_grid" in tensors:  # the Omni processors do not read the times, and assume a rate
            patch = self.processor.video_processor.temporal_patch_size
            tensors["video_second_per_grid"] = torch.tensor([patch * _interval_s(m.times_s) for m in videos])
        first = len(self._first_ids) if ids[0, : len(self._first_ids)].tolist() == self._first_ids else 0
        ends = [at for at in (ids[0] == end_id).nonzero().flatten().tolist() if at >= first]
        spans = list(zip([first, *(at + 1 for at in ends)], ends, strict=False))
        by_token = {
            name: [value[0, start:stop] for start, stop in spans]
            for name, value in tensors.items()
            if value.shape == ids.shape
        }
        others = {name: value for name, value in tensors.items() if name not in by_token}
        return [ids[0, start:stop].tolist() for start, stop in spans], by_token, others

    def _text_of(self, kind: str) -> str:
        """Returns what the chat template writes for a video or picture before a text."""
        shown, plain = self._before_text(kind)
        if not (text := shown.removesuffix(plain)):
            raise CheckpointError(f"{self.config.name}: its chat template has no place for a {kind} before a text")
        return text

    def _before_text(self, kind: str) -> tuple[str, str]:
        """Returns what the chat template writes before a text with a video or picture, and without, after what both
        begin with."""
        without = SLOTS.split(self._apply(["user"], generate=False))[0]
        found = SLOTS.split(self.render([_message("user", 0, kind)], generate=False))[0]
        kept = shared_prefix(without, found)
        return found[kept:], without[kept:]

    def slot_message(self, role: str, number: int) -> dict[str, Any]:
        """See `Processor.slot_message`."""
        return _message(role, number)

    def render(self, messages: list[dict[str, Any]], generate: bool, tools: Sequence[dict[str, Any]] = ()) -> str:
        """See `Processor.render`."""
        text = self.processor.apply_chat_template(
            messages,
            chat_template=self.chat_template,
            tools=list(tools) or None,
            tokenize=False,
            add_generation_prompt=generate,
        )
        return text if text.startswith(self._first) else self._first + text


def _message(role: str, number: int, *kinds: str) -> dict[str, Any]:
    text = {"type": "text", "text": SLOT.format(number)}
    return {"role": role, "content": [*({"type": kind} for kind in kinds), text]}


def _interval_s(times_s: torch.Tensor) -> float:
    """Returns the mean time between frames at times (T,)."""
    return float(times_s[-1] - times_s[0]) / max(len(times_s) - 1, 1)


def video_metadata(times_s: torch.Tensor) -> VideoMetadata:
    """Returns the times (T,) of frames in the form of transformers, whose mean rate is then that of the frames."""
    milliseconds = (times_s * MILLISECONDS).round().long().tolist()
    frames = len(milliseconds)
    total = (milliseconds[-1] - milliseconds[0]) * frames / max(frames - 1, 1)
    return VideoMetadata(total_num_frames=max(round(total), 1), fps=MILLISECONDS, frames_indices=milliseconds)
