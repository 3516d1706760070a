"""Training on real videos: rows of instruction data (`videollm/datasets/schema.py`), their features from shards on
disk, and what the stages make of a row. Memory holds where rows begin, not what they say.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch.utils.data import Dataset
from tqdm import tqdm

from train.data.text_changes import VerbSwap, mask_words
from train.tasks.losses import IGNORE, Pairs, Texts
from videollm.config import ModelConfig, SamplingConfig
from videollm.datasets.schema import Sample
from videollm.encoders.base import FrameEncoder
from videollm.errors import ConfigError, DataError, VideoError
from videollm.features.encode import EncodedVideo, SegmentFeatures, row_sampling, stored_video
from videollm.features.shards import FeatureShards
from videollm.models.aligner import Aligner
from videollm.models.processor import Message, Processor, Prompt, collate
from videollm.models.video_llm import VisualBatch
from videollm.retrieval.overlap import OverlappedSampling


def is_caption(sample: Sample) -> bool:
    """Whether the answer describes what the row's part of the video shows, and holds nothing else."""
    return bool(sample.video) and sample.task.startswith("caption") and sample.task != "caption/dense"


class Rows(Sequence[Sample]):
    """The rows of files, one file after the other. weights in names, FILE=2.5, are left to the sampler.

    Raises DataError, which names file and row, for the first that is not as its format says, and where there is none.
    """

    def __init__(self, files: Sequence[str], only: Callable[[Sample], bool] | None = None):
        self.files, self.weights = _weighted(files)
        self.sizes: list[int] = []
        starts = []
        for path in self.files:
            before = len(starts)
            for number, at, line in _lines(path):
                try:
                    sample = Sample.from_json(line.decode())
                except DataError as error:
                    raise DataError(f"{path}, row {number}: {error}") from error
                if only is None or only(sample):
                    starts.append(at)
            self.sizes.append(len(starts) - before)
            if len(starts) == before:
                raise DataError(f"{path} has no row that this stage trains on")
        self.starts = np.array(starts)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Sample:
        """The row, its video a path that can be opened as it is."""
        path = self.files[int(np.searchsorted(np.cumsum(self.sizes), index, side="right"))]
        with path.open("rb") as file:
            file.seek(int(self.starts[index]))
            sample = Sample.from_json(file.readline().decode())
        return replace(sample, video=str(path.parent / sample.video)) if sample.video else sample

    def keep(self, index: Sequence[int]) -> None:
        """Leave out all other rows."""
        ends = np.cumsum([0, *self.sizes])
        kept = np.array(index, dtype=int)
        self.sizes = [int(((kept >= a) & (kept < b)).sum()) for a, b in pairwise(ends)]
        self.starts = self.starts[kept]


def _weighted(files: Sequence[str]) -> tuple[list[Path], tuple[float, ...] | None]:
    paths, weights = [], []
    for text in files:
        name, _, weight = text.partition("=")
        try:
            weights.append(float(weight or 1))
        except ValueError:
            raise ConfigError(f"data {text!r}: write FILE, or FILE=WEIGHT with a number") from None
        paths.append(Path(name))
    return paths, tuple(weights) if any("=" in text for text in files) else None


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, place in the file and content of each row."""
    at = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield number, at, line
                at += len(line)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Features:
    """Where the features of videos are kept, and how they are made."""

    shards: FeatureShards
    encoder: FrameEncoder
    config: ModelConfig

    def video(self, sample: Sample) -> EncodedVideo:
        """The row's part of its video. Raises DataError that names the row."""
        sampling = self.sampling(sample)
        try:
            video = stored_video(sample.video, self.encoder, sampling, self.shards)
        except VideoError as error:
            raise DataError(f"row {sample.id}: {error}") from error
        if (sampling.start_s, sampling.end_s) == (sample.start, sample.end):
            return video
        return cut(video, sample.start or 0.0, sample.end or video.end_s)

    def sampling(self, sample: Sample) -> SamplingConfig:
        return row_sampling(self.config.sampling, sample.start, sample.end)

    def make(self, rows: Rows, skip_bad: int) -> int:
        """Compute all features that are not there yet, each once, the ranks sharing the work, and leave out rows whose
        video cannot be used. Returns how many; raises DataError where they are more than skip_bad."""
        state, wanted, todo = PartialState(), set(), []
        for sample in rows:
            one = (sample.video, self.sampling(sample))
            if sample.video and one not in wanted and not self.shards.broken(sample.video):
                wanted.add(one)
                todo.append(one)
        mine = todo[state.process_index :: state.num_processes]
        for path, sampling in tqdm(mine, desc="features", unit=" videos", disable=None):
            try:
                stored_video(path, self.encoder, sampling, self.shards)
            except VideoError as error:
                self.shards.note_broken(path, error.reason)
        state.wait_for_everyone()
        self.shards.reload()
        good, bad = [], []
        for i, sample in enumerate(rows):
            reason = self.shards.broken(sample.video) if sample.video else None
            good.append(i) if reason is None else bad.append(f"row {sample.id}: {sample.video}: {reason}")
        if len(bad) > skip_bad:
            raise DataError(f"{len(bad)} rows have no usable video, at most {skip_bad} may (skip_bad): {bad[0]}")
        if bad:
            rows.keep(good)
        return len(bad)


def cut(video: EncodedVideo, start_s: float, end_s: float) -> EncodedVideo:
    """What is shown from start_s to end_s: where no frame lies between, the one that is shown at start_s."""
    times = video.times_s
    if not ((times >= start_s) & (times < end_s)).any():
        start_s = float(times[max(int((times <= start_s).sum()) - 1, 0)])
    return video.part(start_s, max(end_s, start_s + 1e-3))


class Conversations(Dataset[Prompt]):
    """Rows as prompts whose answers bear the loss. limit: tokens; segments are merged until a prompt fits."""

    def __init__(self, rows: Rows, features: Features, processor: Processor, limit: int):
        self.rows, self.features, self.processor, self.limit = rows, features, processor, limit

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: int) -> Prompt:
        return self.prompt(self.rows[draw % len(self.rows)])

    def prompt(self, sample: Sample, messages: Sequence[Message] | None = None) -> Prompt:
        """messages: instead of the row's own. Raises DataError where the text alone is too long."""
        messages, config = messages or sample.messages, self.features.config
        video = self.features.video(sample) if sample.video else None
        vocabulary = self.features.encoder.vocabulary
        segments = video.segments(config, vocabulary) if video else []
        while len(prompt := self.processor(messages, segments)) > self.limit:
            if video is None or len(segments) == 1:
                raise DataError(f"row {sample.id}: takes {len(prompt)} tokens, the limit is {self.limit}; shorten it")
            segments = video.segments(config, vocabulary, len(segments) * 3 // 4)
        return prompt

    def lengths(self) -> list[int]:
        """How many tokens each row takes: those of its text, and about as many as its video. Characters do not tell
        it: what the template puts around a message can be more than a short answer."""
        config, lengths = self.features.config, []
        for sample in self.rows:
            frames = len(self.features.video(sample).times_s) if sample.video else 0
            segments = -(-frames // config.segments.frames)
            lengths.append(len(self.processor(sample.messages)) + segments * config.temporal.queries)
        return lengths


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and one segment that shows it. group: numbers of the video and of the text. prompt: the same for the
    language model, if that is asked for."""

    text: str
    segment: SegmentFeatures
    group: tuple[int, int]
    draw: int
    prompt: Prompt | None


class Captions(Dataset[Pair]):
    """Rows that describe what they show, as pairs. prompts: where the language model is to caption too."""

    def __init__(self, rows: Rows, features: Features, prompts: Conversations | None = None):
        self.rows, self.features, self.prompts = rows, features, prompts

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: int) -> Pair:
        sample = described(self.rows[draw % len(self)])
        return self.pair(sample, sample.messages[-1].content, draw)

    def pair(self, sample: Sample, text: str, draw: int) -> Pair:
        (segment,) = self.features.video(sample).segments(self.features.config, self.features.encoder.vocabulary, 1)
        messages = (Message("user", sample.messages[-2].content), Message("assistant", text))
        prompt = self.prompts.prompt(sample, messages) if self.prompts else None
        return Pair(text, segment, (number(f"{sample.video} {sample.start} {sample.end}"), number(text)), draw, prompt)

    def embeds(self) -> torch.Tensor:
        """(rows, E): each row's frames in the encoder's own space, unit vectors."""
        found = [self.features.video(described(s)).features.embed.float().mean(0) for s in self.rows]
        return torch.nn.functional.normalize(torch.stack(found), dim=-1)


class Narrations(Captions):
    """Pairs that overlap without the same ends, drawn anew each time (VideoCLIP): some captions that follow one another
    and a span around a moment of theirs. A row is a video; only captions with times count."""

    def __init__(self, rows: Rows, features: Features, prompts: Conversations | None = None):
        super().__init__(rows, features, prompts)
        self.sampling = OverlappedSampling()
        self.captions: dict[str, list[int]] = {}
        for i, sample in enumerate(map(described, rows)):
            if sample.end is not None:
                self.captions.setdefault(sample.video, []).append(i)
        if not self.captions:
            raise DataError("no caption has times; overlapping pairs need rows with start and end, or answer_times")
        self.videos = list(self.captions)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, draw: int) -> Pair:
        path, rng = self.videos[draw % len(self)], random.Random(draw)
        told = sorted((described(self.rows[i]) for i in self.captions[path]), key=lambda s: (s.start or 0, s.end or 0))
        starts, ends = [s.start or 0.0 for s in told], [s.end or 0.0 for s in told]
        lengths = [len(s.messages[-1].content.split()) for s in told]
        clip = self.sampling.sample(starts, ends, lengths, max(1, int(max(ends))), rng)
        text = " ".join(told[i].messages[-1].content for i in clip.captions)
        span = replace(told[0], start=float(clip.start_s), end=float(clip.end_s), answer_times=())
        return self.pair(span, text, draw)


def described(sample: Sample) -> Sample:
    """The row, about the part that its caption describes."""
    if len(sample.answer_times) != 1:
        return sample
    start, end = sample.answer_times[0]
    return replace(sample, start=start, end=max(end, start + 1e-3), answer_times=())


def number(text: str) -> int:
    """The same for equal texts in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


@dataclass(frozen=True)
class PairCollator:
    """Pairs to the arguments of `Alignment.forward`, with what the losses named in `losses` read."""

    tokenizer: Any
    aligner: Aligner | None
    losses: frozenset[str]
    swap: VerbSwap = field(default_factory=VerbSwap.read)

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        texts = [p.text for p in pairs]
        made: dict[str, Any] = {
            "videos": VisualBatch.pad([p.segment.tokens for p in pairs], [p.segment.times_s for p in pairs]),
            "groups": torch.tensor([p.group for p in pairs]),
        }
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
        return {"pairs": Pairs(**made), "labels": torch.full((len(pairs), 1), IGNORE)}

    def _texts(self, texts: Sequence[str]) -> Texts:
        assert self.aligner is not None
        ids, mask = self.aligner.tokenize(texts)
        return Texts(ids=ids, mask=mask)

    def _masked(self, texts: Texts, pairs: Sequence[Pair]) -> dict[str, Any]:
        assert self.aligner is not None
        rng = random.Random(pairs[0].draw)
        ids, labels = mask_words(texts.ids, texts.mask, self.aligner.mask_id, rng)
        return {"masked": Texts(ids=ids, mask=texts.mask), "masked_labels": labels}
