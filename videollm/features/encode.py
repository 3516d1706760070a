"""A video, encoded once: the features of its frames, grouped in segments. The only thing chat and training read.

Shapes: T frames, N tokens a frame, D encoder width, E shared width.
"""

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F

from videollm.config import ModelConfig, PromptConfig, SamplingConfig
from videollm.datasets.schema import format_time as format_time
from videollm.encoders.base import FrameEncoder, FrameFeatures, Vocabulary
from videollm.encoders.tags import Tag, select_tags
from videollm.features.cache import FeatureCache, cache_key
from videollm.features.segments import Segment, merge_segments, scene_cuts, segment, thumbnails
from videollm.features.shards import FeatureShards
from videollm.video.decode import iter_frames, probe
from videollm.video.frames import Frames, VideoInfo


@dataclass(frozen=True, slots=True)
class SegmentFeatures:
    """One segment as the language model sees it: tokens (T,N,D) at times_s (T,), concept tags, and embed (E,), the
    unit vector that search compares with texts."""

    start_s: float
    end_s: float
    tokens: torch.Tensor
    times_s: torch.Tensor
    embed: torch.Tensor
    tags: tuple[Tag, ...]


def segment_features(
    features: FrameFeatures,
    times_s: torch.Tensor,
    spans: list[Segment],
    vocabulary: Vocabulary,
    prompt: PromptConfig,
    max_frames: int,
) -> list[SegmentFeatures]:
    """Cut frame features at `spans`. A segment of more than `max_frames` gives that many evenly spread frames to the
    temporal module, and all of them to its tags and embedding."""
    made = []
    for span in spans:
        part, times = features[span.frames], times_s[span.frames]
        keep = torch.linspace(0, len(part) - 1, min(len(part), max_frames)).round().long()
        tags = select_tags(part.concepts.float(), vocabulary, k=prompt.tags, threshold=prompt.tag_threshold)
        embed = F.normalize(part.embed.float().mean(0), dim=0)
        made.append(SegmentFeatures(span.start_s, span.end_s, part.tokens[keep], times[keep], embed, tuple(tags)))
    return made


@dataclass(frozen=True, slots=True)
class EncodedVideo:
    """Features of all sampled frames at times_s (T,), and what segmenting them needs.

    cuts: numbers of the frames that start a new scene. end_s: where the range that was looked at ends. lost: frames
    that could not be decoded. ms: what decoding and encoding took, 0 where the features came from a cache.
    """

    info: VideoInfo
    times_s: torch.Tensor
    features: FrameFeatures
    cuts: tuple[int, ...]
    end_s: float
    lost: int
    ms: dict[str, float]

    def segments(self, config: ModelConfig, vocabulary: Vocabulary, most: int | None = None) -> list[SegmentFeatures]:
        """The video's segments, merged down to `most` of them."""
        spans = segment(self.times_s, config.segments, end_s=self.end_s, cuts=self.cuts)
        if most is not None:
            spans = merge_segments(spans, most)
        return segment_features(self.features, self.times_s, spans, vocabulary, config.prompt, config.segments.frames)

    def part(self, start_s: float, end_s: float) -> "EncodedVideo":
        """What lies from start_s up to end_s; at least one frame must."""
        inside = ((self.times_s >= start_s) & (self.times_s < end_s)).nonzero().flatten()
        frames = slice(int(inside[0]), int(inside[-1]) + 1)
        cuts = tuple(c - frames.start for c in self.cuts if frames.start < c < frames.stop)
        return dataclasses.replace(
            self, times_s=self.times_s[frames], features=self.features[frames], cuts=cuts, end_s=end_s
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        f = self.features
        return {"times_s": self.times_s, "tokens": f.tokens, "embed": f.embed, "concepts": f.concepts}

    def metadata(self) -> dict[str, Any]:
        """Plain values, which `from_saved` reads beside the tensors."""
        return {"info": dataclasses.asdict(self.info), "cuts": self.cuts, "end_s": self.end_s, "lost": self.lost}

    @classmethod
    def from_saved(cls, metadata: dict[str, Any], tensors: dict[str, torch.Tensor]) -> "EncodedVideo":
        return cls(
            info=VideoInfo(**metadata["info"]),
            times_s=tensors["times_s"],
            features=FrameFeatures(tensors["tokens"], tensors["embed"], tensors["concepts"]),
            cuts=tuple(metadata["cuts"]),
            end_s=metadata["end_s"],
            lost=metadata["lost"],
            ms={"decode": 0.0, "encode": 0.0},
        )


def encode_video(
    path: str | os.PathLike[str],
    encoder: FrameEncoder,
    sampling: SamplingConfig,
    cache: FeatureCache | FeatureShards | None = None,
) -> EncodedVideo:
    """Decode and encode a video piece by piece, so that memory holds features, not pixels.

    With `cache`, features of the same content, encoder and sampling are read instead. Raises the `VideoError` family.
    """
    info = probe(path)
    key = cache_key(info.content_sha, encoder.name, encoder.revision, sampling, encoder.image_size)
    if cache is not None and (entry := cache.get(key)):
        return EncodedVideo.from_saved({**entry.meta, "info": dataclasses.asdict(info)}, entry.tensors)
    video = encode_frames(info, iter_frames(path, sampling, short_side=encoder.image_size), encoder, sampling)
    if cache is not None:
        cache.put(key, video.tensors(), video.metadata())
    return video


def row_sampling(sampling: SamplingConfig, start_s: float | None, end_s: float | None) -> SamplingConfig:
    """How the video of a row about a part is sampled: as a whole at a fixed rate, where a part's frames are among the
    whole's, so that all its rows share them; else the part by itself."""
    whole = sampling.fps is not None and sampling.max_frames is None
    return sampling if whole else dataclasses.replace(sampling, start_s=start_s, end_s=end_s)


def stored_video(
    path: str | os.PathLike[str], encoder: FrameEncoder, sampling: SamplingConfig, shards: FeatureShards
) -> EncodedVideo:
    """`encode_video` through `shards`, which also remember what the file holds: where both are known, the file is not
    opened."""
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
    """Encode what `iter_frames` gives with this sampling, wherever it was decoded."""
    times, features, small = [], [], []
    lost, encode_s, started = 0, 0.0, perf_counter()
    for frames in pieces:
        before = perf_counter()
        features.append(encoder.encode_frames(frames.pixels))
        encode_s += perf_counter() - before
        small.append(thumbnails(frames.pixels))
        times.append(frames.times_s)
        lost += frames.lost
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
