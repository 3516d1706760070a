"""Re-ranking: a retrieval model compares the query with the frames of the moments that a search found."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch.nn import functional as F

from videollm.config import SamplingConfig
from videollm.encoders.images import RESIZE
from videollm.errors import ConfigError
from videollm.retrieval.clip import VisionTransformer
from videollm.retrieval.heads.videoclip import BertText
from videollm.retrieval.inputs import normalise_for, resize_of, words_of
from videollm.retrieval.model import RetrievalModel
from videollm.retrieval.open_clip_towers import OpenClipVision
from videollm.retrieval.queries import Reader, split_text
from videollm.retrieval.search import Moment
from videollm.video.decoding import decode


@torch.inference_mode()
def rerank(model: RetrievalModel, query: str, moments: Sequence[Moment]) -> list[Moment]:
    """Returns the moments ranked by the head of a retrieval model, the best first.

    The score of a moment is the score of the head plus the moment's `bonus` for subtitles; it replaces the cosine.
    `max_frames` frames of each moment are decoded. A text that is too long for the model is split, and the scores of
    its parts are averaged with their lengths as weights.

    Raises:
        VideoError: If a video cannot be read any more.
        ConfigError: If the model reads features of another network instead of frames.
    """
    if model.visual is None or isinstance(model.text, BertText):
        raise ConfigError(
            f"head {model.config.head.kind!r} reads features of another network instead of frames, so that it cannot "
            "re-rank; choose a model with a visual tower"
        )
    if not moments:
        return []
    read = [_frames(model.visual, model.config.head.max_frames, moment) for moment in moments]
    device = next(model.parameters()).device
    video = model.encode_video(*(torch.stack(x).to(device) for x in zip(*read, strict=True)))
    words = words_of(model.text, model.config.head.max_words)
    parts, weights = _parts(query, words)
    texts = model.encode_text(*(x.to(device) for x in words(parts)))
    return _sorted(moments, weights @ model.head.score(texts, video).cpu())


class Matcher(Reader, Protocol):
    """An encoder that reads a text and a clip together.

    Attributes:
        frames: The number of frames of a clip.
        image_size: Their width and height in pixels.
    """

    frames: int
    image_size: int

    def match(self, pixels: torch.Tensor, texts: list[str]) -> torch.Tensor:
        """Returns the probability (B,) that each text describes the clip, uint8 pixels (T,3,H,W)."""
        ...


def rerank_by_matching(matcher: Matcher, query: str, moments: Sequence[Moment]) -> list[Moment]:
    """Returns the moments ranked by how probable it is that the query describes them, the best first.

    The probability plus the moment's `bonus` for subtitles replaces the cosine. A text that is too long is split, as in
    `rerank`.

    Raises VideoError if a video cannot be read any more.
    """
    parts, weights = _parts(query, matcher)
    scores = []
    for moment in moments:
        sampling = SamplingConfig(frames=matcher.frames, start_s=moment.start_s, end_s=moment.end_s)
        pixels = decode(moment.path, sampling, short_side=matcher.image_size).pixels
        scores.append(weights @ matcher.match(pixels, parts).cpu())
    return _sorted(moments, torch.stack(scores)) if scores else []


def _parts(query: str, reader: Reader) -> tuple[list[str], torch.Tensor]:
    """Returns the parts of a text that fit the reader, and the share of each in the text's length."""
    parts = list(split_text(query, reader))
    weights = torch.tensor([float(len(part)) for part in parts])
    return parts, weights / weights.sum()


def _sorted(moments: Sequence[Moment], scores: torch.Tensor) -> list[Moment]:
    scored = [replace(m, score=score + m.bonus) for m, score in zip(moments, scores.tolist(), strict=True)]
    return sorted(scored, key=lambda m: -m.score)


def _frames(
    visual: VisionTransformer | OpenClipVision, length: int, moment: Moment
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the pixels (T,3,S,S) of a moment, padded with zeros, and the mask (T,); T is `length`."""
    size = visual.config.image_size
    sampling = SamplingConfig(frames=length, start_s=moment.start_s, end_s=moment.end_s)
    square = RESIZE[resize_of(visual)](decode(moment.path, sampling, short_side=size).pixels, size)
    pixels = normalise_for(visual, square)
    return F.pad(pixels, (0,) * 7 + (length - len(pixels),)), torch.arange(length) < len(pixels)
