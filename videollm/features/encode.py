"""Encode a video once: the features of its frames, which chat, search and training read, and their segments.

Features stay on the CPU, whatever device the encoder is on. They are kept for long (in sessions, caches, indexes and
files) and there are many of them, while a GPU needs only those of the prompt that it computes. `VisualBatch.to` copies
them to the model when they are used.

Shapes: T frames, N tokens a frame, D encoder width, E shared width.
"""

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F

from videollm.config import ModelConfig, PromptConfig, SamplingConfig
from videollm.datasets.schema import format_time as format_time
from videollm.device import wait_for
from videollm.encoders.audio import AudioFeatures, HearingEncoder
from videollm.encoders.base import FrameEncoder, FrameFeatures, Vocabulary
from videollm.encoders.tags import Tag, select_tags
from videollm.errors import VideoError
from videollm.features.cache import FeatureCache, cache_key
from videollm.features.hearing import hear
from videollm.features.segments import Segment, merge_segments, scene_cuts, segment, thumbnails
from videollm.features.shards import FeatureShards
from videollm.senses.finding import NOTHING, Findings
from videollm.video.audio import AudioPiece, iter_audio
from videollm.video.decoding import View, iter_views, probe
from videollm.video.frames import Frames, VideoInfo

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SegmentFeatures:
    """One segment as the language model sees it, on the CPU.

    tokens (T,N,D) at times_s (T,) in seconds. embed (E,): the unit vector that search compares with texts. tags: what
    the frames show in words, with probabilities. findings: what the senses found at that time. audio: features of the
    clips of audio that begin in it (S,A), None where nothing is heard. concepts (C,): the mean probability of each
    entry of the encoder's vocabulary, None where it is not known.
    """

    start_s: float
    end_s: float
    tokens: torch.Tensor
    times_s: torch.Tensor
    embed: torch.Tensor
    tags: tuple[Tag, ...]
    findings: Findings = NOTHING
    audio: torch.Tensor | None = None
    concepts: torch.Tensor | None = None


def _spread(parts: torch.Tensor, most: int) -> torch.Tensor:
    """Returns at most `most` of the rows, evenly spread."""
    return parts[torch.linspace(0, len(parts) - 1, min(len(parts), most)).round().long()]


def segment_features(
    features: FrameFeatures,
    times_s: torch.Tensor,
    spans: list[Segment],
    vocabulary: Vocabulary,
    prompt: PromptConfig,
    max_frames: int,
) -> list[SegmentFeatures]:
    """Cut frame features into segments at `spans`.

    Of a segment with more than `max_frames` the temporal module gets that many, evenly spread. Its tags and embedding
    are computed from all of its frames.
    """
    made = []
    for span in spans:
        part, times = features[span.frames], times_s[span.frames]
        concepts = part.concepts.float()
        tags = select_tags(concepts, vocabulary, k=prompt.tags, threshold=prompt.tag_threshold)
        embed = F.normalize(part.embed.float().mean(0), dim=0)
        made.append(
            SegmentFeatures(
                span.start_s,
                span.end_s,
                _spread(part.tokens, max_frames),
                _spread(times, max_frames),
                embed,
                tuple(tags),
                concepts=concepts.mean(0),
            )
        )
    return made


@dataclass(frozen=True, slots=True)
class EncodedVideo:
    """Features of all sampled frames at times_s float64 (T,), on the CPU, and what is needed to segment them.

    cuts: numbers of the frames that start a new scene. end_s: where the sampled range ends, in seconds. lost: number of
    sampled frames that could not be decoded. ms: milliseconds of decoding, of encoding and of each sense, 0 where the
    features came from a cache. findings: what the senses found, see `videollm.features.observe`. audio: what the
    model's audio encoder made of the sound, None where there is none.
    """

    info: VideoInfo
    times_s: torch.Tensor
    features: FrameFeatures
    cuts: tuple[int, ...]
    end_s: float
    lost: int
    ms: dict[str, float]
    findings: Findings = NOTHING
    audio: AudioFeatures | None = None

    def segments(self, config: ModelConfig, vocabulary: Vocabulary, most: int | None = None) -> list[SegmentFeatures]:
        """The video's segments; neighbours are merged until at most `most` are left."""
        spans = segment(self.times_s, config.segments, end_s=self.end_s, cuts=self.cuts)
        if most is not None:
            spans = merge_segments(spans, most)
        made = segment_features(self.features, self.times_s, spans, vocabulary, config.prompt, config.segments.frames)
        # The first and the last segment also have what is heard before the first frame and after the last.
        starts_s = [-math.inf, *(s.start_s for s in made[1:])]
        ends_s = [*starts_s[1:], math.inf]
        return [
            dataclasses.replace(
                s,
                findings=self.findings.part(s.start_s, end_s, first=i == 0),
                audio=None
                if self.audio is None or not (heard := self.audio.part(start_s, end_s))
                else _spread(heard.tokens, config.audio.clips),
            )
            for i, (s, start_s, end_s) in enumerate(zip(made, starts_s, ends_s, strict=True))
        ]

    def part(self, start_s: float, end_s: float) -> "EncodedVideo":
        """The frames from start_s up to end_s, of which there must be at least one."""
        inside = ((self.times_s >= start_s) & (self.times_s < end_s)).nonzero().flatten()
        frames = slice(int(inside[0]), int(inside[-1]) + 1)
        cuts = tuple(c - frames.start for c in self.cuts if frames.start < c < frames.stop)
        return dataclasses.replace(
            self,
            times_s=self.times_s[frames],
            features=self.features[frames],
            cuts=cuts,
            end_s=end_s,
            findings=self.findings.part(start_s, end_s),
            audio=None if self.audio is None else self.audio.part(start_s, end_s),
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        f, audio = self.features, self.audio
        heard = {} if audio is None else {"audio_tokens": audio.tokens, "audio_times_s": audio.times_s}
        return {"times_s": self.times_s, "tokens": f.tokens, "embed": f.embed, "concepts": f.concepts, **heard}

    def metadata(self) -> dict[str, Any]:
        """Everything besides the tensors as plain JSON values, for `from_saved`."""
        plain = {"info": dataclasses.asdict(self.info), "cuts": self.cuts, "end_s": self.end_s, "lost": self.lost}
        return {**plain, "findings": self.findings.to_dict()} if self.findings.senses else plain

    @classmethod
    def from_saved(cls, metadata: dict[str, Any], tensors: dict[str, torch.Tensor]) -> "EncodedVideo":
        heard = "audio_tokens" in tensors
        return cls(
            info=VideoInfo(**metadata["info"]),
            times_s=tensors["times_s"],
            features=FrameFeatures(tensors["tokens"], tensors["embed"], tensors["concepts"]),
            cuts=tuple(metadata["cuts"]),
            end_s=metadata["end_s"],
            lost=metadata["lost"],
            ms={"decode": 0.0, "encode": 0.0},
            findings=Findings.from_dict(metadata["findings"]) if "findings" in metadata else NOTHING,
            audio=AudioFeatures(tensors["audio_tokens"], tensors["audio_times_s"]) if heard else None,
        )


@dataclass(frozen=True, slots=True)
class Onlooker:
    """Something else that looks at a video while it is decoded. add: is called with each piece of the frames of `view`,
    in order of time."""

    view: View
    add: Callable[[Frames], None]


def encode_video(
    path: str | os.PathLike[str],
    encoder: FrameEncoder,
    sampling: SamplingConfig,
    cache: FeatureCache | FeatureShards | None = None,
    change: Callable[[torch.Tensor], torch.Tensor] | None = None,
    onlookers: Sequence[Onlooker] = (),
) -> EncodedVideo:
    """Decode and encode a video piece by piece, so that memory holds its features but not its pixels.

    cache: where features of the same content, encoder and sampling are read if they are there, and written if not.
    change: what becomes of the frames (T,3,H,W) of each piece before they are encoded, without a cache.
    onlookers: are given their frames of the same decoding, and none where the features are in the cache. Their time
    counts as decoding. Raises the `VideoError` family.
    """
    assert cache is None or change is None, "a cache does not tell changed frames from others"
    info = probe(path)
    key = cache_key(info.content_sha, encoder.name, encoder.revision, sampling, encoder.image_size)
    if cache is not None and (entry := cache.get(key)):
        return EncodedVideo.from_saved({**entry.meta, "info": dataclasses.asdict(info)}, entry.tensors)
    views = iter_views(path, [View(sampling, encoder.image_size), *(onlooker.view for onlooker in onlookers)])
    pieces = _first_view(views, onlookers)
    if change is not None:
        pieces = (dataclasses.replace(piece, pixels=change(piece.pixels)) for piece in pieces)
    video = encode_frames(info, pieces, encoder, sampling)
    if isinstance(encoder, HearingEncoder) and info.has_audio:
        video = with_audio(video, iter_audio(path), encoder, sampling)
    if cache is not None:
        cache.put(key, video.tensors(), video.metadata())
    return video


def _first_view(views: Iterable[tuple[int, Frames]], onlookers: Sequence[Onlooker]) -> Iterator[Frames]:
    """Yields the pieces of the first view. Those of the others go to the onlookers."""
    for number, frames in views:
        if number:
            onlookers[number - 1].add(frames)
        else:
            yield frames


def with_audio(
    video: EncodedVideo, pieces: Iterable[AudioPiece], encoder: HearingEncoder, sampling: SamplingConfig
) -> EncodedVideo:
    """The video with the features of its sound, of which `pieces` are all, in the part of the file that was sampled.

    Sound that cannot be read is not heard, which is logged.
    """
    started = perf_counter()
    try:
        heard = hear(pieces, video.info.duration_s, encoder.audio, sampling.start_s, sampling.end_s)
    except VideoError as error:
        logger.warning("%s; only the pictures are looked at", error)
        heard = None
    return dataclasses.replace(
        video, audio=heard, ms={**video.ms, "audio": round(1000 * (perf_counter() - started), 1)}
    )


def row_sampling(sampling: SamplingConfig, start_s: float | None, end_s: float | None) -> SamplingConfig:
    """The sampling of a data row about the part of a video from start_s to end_s.

    At a fixed frame rate the frames of a part are among those of the whole video, so the whole is encoded and all rows
    about it share the features. Otherwise the part is sampled by itself.
    """
    whole = sampling.fps is not None and sampling.max_frames is None
    return sampling if whole else dataclasses.replace(sampling, start_s=start_s, end_s=end_s)


def stored_video(
    path: str | os.PathLike[str], encoder: FrameEncoder, sampling: SamplingConfig, shards: FeatureShards
) -> EncodedVideo:
    """`encode_video` with `shards` as its cache.

    The shards also remember the content hash of each path. A file whose hash and features they know is not opened.
    """
    if content := shards.content(path):
        entry = shards.get(cache_key(content, encoder.name, encoder.revision, sampling, encoder.image_size))
        if entry is not None:
            return EncodedVideo.from_saved(entry.meta, entry.tensors)
    video = encode_video(path, encoder, sampling, shards)
    shards.note_content(path, video.info.content_sha)
    return video


def encode_frames(
    info: VideoInfo, pieces: Iterable[Frames], encoder: FrameEncoder, sampling: SamplingConfig
) -> EncodedVideo:
    """Encode pieces of frames as `iter_frames` yields them, wherever they were decoded.

    On a GPU neither upload, encoding nor download waits: the CPU decodes the next piece meanwhile.
    """
    times, features, small = [], [], []
    device = torch.device("cpu")
    lost, encode_s, started = 0, 0.0, perf_counter()
    for frames in pieces:
        before = perf_counter()
        encoded = encoder.encode_frames(frames.pixels)
        device = encoded.embed.device
        features.append(encoded.to("cpu", non_blocking=True))
        encode_s += perf_counter() - before
        small.append(thumbnails(frames.pixels))
        times.append(frames.times_s)
        lost += frames.lost
    before = perf_counter()
    wait_for(device)  # only now may the downloaded features be read
    encode_s += perf_counter() - before
    return EncodedVideo(
        info=info,
        times_s=torch.cat(times),
        features=FrameFeatures.cat(features),
        cuts=tuple(scene_cuts(torch.cat(small))),
        end_s=min(sampling.end_s or info.duration_s, info.duration_s),
        lost=lost,
        ms={
            "decode": round(1000 * (perf_counter() - started - encode_s), 1),
            "encode": round(1000 * encode_s, 1),
        },
    )
