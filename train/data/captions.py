"""Captioned rows as pairs of a segment and a text: what stage 1 trains on."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils.data import Dataset

from train.data.batches import PairBatch, TextBatch
from train.data.conversations import Conversations
from train.data.features import VideoFeatures
from train.data.mix import SHARE, joined, mixed_videos
from train.data.rows import InstructionRows
from train.data.text_changes import VerbSwap, mask_words
from videollm.datasets.schema import Sample
from videollm.errors import DataError
from videollm.features.encode import EncodedVideo, SegmentFeatures
from videollm.models.aligner import Aligner
from videollm.models.processor import IGNORE, Message, Prompt, collate
from videollm.models.visual_prompting import VisualBatch
from videollm.retrieval.overlap import OverlappedSampling


@dataclass(frozen=True, slots=True)
class CaptionedSegment:
    """A caption and one segment that it describes.

    groups: numbers of its video and of its text, then those of the two pairs that it is a mix of, which are its own
    where it is none; see `PairBatch.groups`. draw: seeds what is random about the pair. prompt: the same pair for the
    language model, where it captions too.
    """

    text: str
    segment: SegmentFeatures
    groups: tuple[int, ...]
    draw: int
    prompt: Prompt | None


class Captions(Dataset[CaptionedSegment]):
    """Captioned rows as pairs of a segment and its caption.

    prompts: makes the prompt of a pair; None where the language model does not caption.
    """

    def __init__(self, rows: InstructionRows, features: VideoFeatures, prompts: Conversations | None = None):
        self.rows, self.features, self.prompts = rows, features, prompts

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: int) -> CaptionedSegment:
        sample = described(self.rows[draw % len(self)])
        text = sample.messages[-1].content
        return self.pair(sample, self.features.video(sample, draw), text, groups(sample, text) * 3, draw)

    def pair(
        self, sample: Sample, video: EncodedVideo, text: str, numbers: tuple[int, ...], draw: int
    ) -> CaptionedSegment:
        """The video as one segment with the text. sample: what is asked for it. numbers: its `groups`."""
        (segment,) = video.segments(self.features.config, self.features.encoder.vocabulary, 1)
        messages = (Message("user", sample.messages[-2].content), Message("assistant", text))
        prompt = self.prompts.about(video, sample.id, messages) if self.prompts else None
        return CaptionedSegment(text, segment, numbers, draw, prompt)

    def embeds(self) -> torch.Tensor:
        """Unit vectors (rows, E): the mean of each row's frames in the encoder's own space."""
        found = [self.features.video(described(s)).features.embed.float().mean(0) for s in self.rows]
        return torch.nn.functional.normalize(torch.stack(found), dim=-1)


class MixedCaptions(Captions):
    """Captioned rows, of which a random half is each followed by another row: one clip of both with both captions. The
    draw decides."""

    def __getitem__(self, draw: int) -> CaptionedSegment:
        rng = random.Random(draw)
        mixes, other = rng.random() < SHARE, draw - draw % len(self) + rng.randrange(len(self))
        first, second = (described(self.rows[i % len(self)]) for i in (draw, other))
        texts = [sample.messages[-1].content for sample in (first, second)]
        (one, first_text), (two, second_text) = groups(first, texts[0]), groups(second, texts[1])
        if not mixes or one == two:
            return super().__getitem__(draw)
        video = mixed_videos(self.features.video(first, draw), self.features.video(second, other))
        numbers = (number(f"{one} {two}"), number(joined(*texts)), one, first_text, two, second_text)
        return self.pair(first, video, joined(*texts), numbers, draw)


class Narrations(Captions):
    """Pairs whose text and clip overlap without sharing their ends, drawn anew each time (VideoCLIP, Xu et al. 2021).

    A text is a run of consecutive captions, and its clip a span around a moment of one of them. A row is a video; only
    captions with times are used.
    """

    def __init__(self, rows: InstructionRows, features: VideoFeatures, prompts: Conversations | None = None):
        super().__init__(rows, features, prompts)
        self.sampling = OverlappedSampling()
        self.captions: dict[str, list[int]] = {}
        for i, sample in enumerate(map(described, rows)):
            if sample.end is not None:
                self.captions.setdefault(sample.video, []).append(i)
        if not self.captions:
            raise DataError("no caption has times; overlapped needs rows with start and end, or with answer_times")
        self.videos = list(self.captions)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, draw: int) -> CaptionedSegment:
        path, rng = self.videos[draw % len(self)], random.Random(draw)
        told = sorted((described(self.rows[i]) for i in self.captions[path]), key=lambda s: (s.start or 0, s.end or 0))
        starts, ends = [s.start or 0.0 for s in told], [s.end or 0.0 for s in told]
        lengths = [len(s.messages[-1].content.split()) for s in told]
        clip = self.sampling.sample(starts, ends, lengths, max(1, int(max(ends))), rng)
        text = " ".join(told[i].messages[-1].content for i in clip.captions)
        span = replace(told[0], start=float(clip.start_s), end=float(clip.end_s), answer_times=())
        return self.pair(span, self.features.video(span, draw), text, groups(span, text) * 3, draw)


def described(sample: Sample) -> Sample:
    """The row, limited to the part of the video that its caption describes."""
    if len(sample.answer_times) != 1:
        return sample
    start, end = sample.answer_times[0]
    return replace(sample, start=start, end=max(end, start + 1e-3), answer_times=())


def groups(sample: Sample, text: str) -> tuple[int, int]:
    """Numbers of the row's part of its video and of the text."""
    return number(f"{sample.video} {sample.start} {sample.end}"), number(text)


def number(text: str) -> int:
    """A number that is the same for equal texts in every process (Python's own hash is not)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


@dataclass(frozen=True)
class PairCollator:
    """Pairs to the arguments of `AlignmentModel.forward`. losses: names of those whose inputs are made."""

    tokenizer: Any
    aligner: Aligner | None
    losses: frozenset[str]
    swap: VerbSwap = field(default_factory=VerbSwap.read)

    def __call__(self, pairs: Sequence[CaptionedSegment]) -> dict[str, Any]:
        texts = [p.text for p in pairs]
        heard = [p.segment.audio for p in pairs] if "audio" in self.losses else []
        audio = [clips for clips in heard if clips is not None]
        made: dict[str, Any] = {
            "videos": VisualBatch.pad([p.segment.tokens for p in pairs], [p.segment.times_s for p in pairs], audio),
            "groups": torch.tensor([p.groups for p in pairs]),
        }
        if "audio" in self.losses:
            made["heard"] = torch.tensor([clips is not None for clips in heard])
        if self.aligner is not None:
            made["texts"] = self._texts(texts)
        if "mlm" in self.losses:
            made |= self._masked(made["texts"], pairs)
        if "verbs" in self.losses:
            changed = [self.swap(p.text, random.Random(p.draw)) for p in pairs]
            made["changed"] = self._texts([new or old for new, old in zip(changed, texts, strict=True)])
            made["has_changed"] = torch.tensor([new is not None for new in changed])
        if "contrastive" in self.losses:
            words = self.tokenizer(
                [f" {t}" for t in texts], add_special_tokens=False, padding=True, return_tensors="pt"
            )
            made["scenes"], made["named"] = made["videos"], torch.ones(len(pairs), dtype=torch.bool)
            made["words"], made["word_mask"] = words["input_ids"], words["attention_mask"].bool()
        if "caption" in self.losses:
            made["prompt"] = collate([p.prompt for p in pairs if p.prompt], self.tokenizer.pad_token_id)
        return {"pairs": PairBatch(**made), "labels": torch.full((len(pairs), 1), IGNORE)}

    def _texts(self, texts: Sequence[str]) -> TextBatch:
        assert self.aligner is not None
        ids, mask = self.aligner.tokenize(texts)
        return TextBatch(ids=ids, mask=mask)

    def _masked(self, texts: TextBatch, pairs: Sequence[CaptionedSegment]) -> dict[str, Any]:
        assert self.aligner is not None
        rng = random.Random(pairs[0].draw)
        ids, labels = mask_words(texts.ids, texts.mask, self.aligner.mask_id, rng)
        return {"masked": TextBatch(ids=ids, mask=texts.mask), "masked_labels": labels}
