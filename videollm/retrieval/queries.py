"""Embeds queries, which are texts of any length, images or clips, as unit vectors (E,)."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional as F

from videollm.config import SamplingConfig
from videollm.encoders.base import FrameEncoder
from videollm.encoders.segments import embed_frames
from videollm.errors import ConfigError
from videollm.features.encode import encode_video

_BREAKS = (r"(?<=[.!?;:。！？；])\s*", r"\s+")  # the ends of sentences, and the ends of words


class Reader(Protocol):
    """A text encoder or tokenizer of limited length."""

    def reads_whole(self, text: str) -> bool:
        """Whether a text fits without being cut."""
        ...


def split_text(text: str, encoder: Reader) -> Iterator[str]:
    """Yields the parts of a text that fit the encoder, in their order.

    A text that does not fit is halved, as often as necessary: at the end of the sentence nearest to the middle, or else
    between words, or else in the middle of a word.
    """
    text = text.strip()
    if len(text) < 2 or encoder.reads_whole(text):
        yield text
        return
    middle = len(text) // 2
    for pattern in _BREAKS:
        places = [m.end() for m in re.finditer(pattern, text) if 0 < m.end() < len(text)]
        if places:
            at = min(places, key=lambda place: abs(place - middle))
            break
    else:
        at = middle
    yield from split_text(text[:at], encoder)
    yield from split_text(text[at:], encoder)


def embed_text(text: str, encoder: FrameEncoder) -> torch.Tensor:
    """Returns the embedding (E,) of a text, a unit vector.

    A text that is too long for the encoder is split, and the embeddings of its parts are averaged with their lengths as
    weights, so that nothing is cut off. Raises ConfigError if the text is empty.
    """
    return join_parts([part.weighted for part in embed_text_parts(text, encoder)])


@dataclass(frozen=True, slots=True)
class EmbeddedPart:
    """The embedding (E,) of a part of a text times the part's length, and the part's number of tokens."""

    weighted: torch.Tensor
    tokens: int


def embed_text_parts(text: str, encoder: FrameEncoder) -> Iterator[EmbeddedPart]:
    """Embeds the parts of a text one at a time, so that a long text can be interrupted between them.

    `join_parts` makes the embedding of the whole text from them. Raises ConfigError if the text is empty.
    """
    if not text.strip():
        raise ConfigError("the query is empty; say what to look for")
    for part in split_text(text, encoder):
        features = encoder.encode_text([part])
        yield EmbeddedPart(len(part) * features.embed[0].float().cpu(), int(features.mask.sum()))


def join_parts(weighted: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns the unit vector (E,) of a text from the weighted embeddings (E,) of its parts."""
    return F.normalize(torch.stack([*weighted]).sum(0), dim=0)


def embed_media(path: str | os.PathLike[str], encoder: FrameEncoder, sampling: SamplingConfig) -> torch.Tensor:
    """Returns the embedding (E,) of an image, a video or the part of a video that `sampling` selects, a unit vector.

    Raises a `VideoError` if the file cannot be read.
    """
    video = encode_video(path, encoder, sampling)
    vectors = embed_frames(encoder, video.features.tokens, video.features.embed, video.times_s)
    return F.normalize(vectors.mean(0), dim=0)
