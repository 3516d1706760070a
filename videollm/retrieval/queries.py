"""From what a user looks for, a text of any length, a picture or a clip, to one unit vector (E,)."""

import os
import re
from typing import Protocol

import torch
from torch.nn import functional as F

from videollm.config import SamplingConfig
from videollm.encoders.base import FrameEncoder
from videollm.errors import ConfigError
from videollm.features.encode import encode_video

_BREAKS = (r"(?<=[.!?;:。！？；])\s*", r"\s+")  # between sentences, else between words


class Reader(Protocol):
    def reads_whole(self, text: str) -> bool: ...


def split_text(text: str, encoder: Reader) -> list[str]:
    """The text in parts that the encoder reads whole: halved near the middle, at the end of a sentence if there is
    one, else between words, else anywhere, as often as it takes."""
    text = text.strip()
    if len(text) < 2 or encoder.reads_whole(text):
        return [text]
    middle = len(text) // 2
    for pattern in _BREAKS:
        places = [m.end() for m in re.finditer(pattern, text) if 0 < m.end() < len(text)]
        if places:
            at = min(places, key=lambda place: abs(place - middle))
            break
    else:
        at = middle
    return split_text(text[:at], encoder) + split_text(text[at:], encoder)


def embed_text(text: str, encoder: FrameEncoder) -> torch.Tensor:
    """A text's embedding (E,). One longer than the text tower reads is split, and the parts' embeddings are averaged,
    each weighted by its length: nothing is cut off. Raises ConfigError for a text of no words."""
    if not text.strip():
        raise ConfigError("the query is empty; say what to look for")
    parts = split_text(text, encoder)
    weights = torch.tensor([float(len(part)) for part in parts])
    embeds = torch.cat([encoder.encode_text([part]).embed for part in parts]).float().cpu()
    return F.normalize(weights @ embeds, dim=0)


def embed_media(path: str | os.PathLike[str], encoder: FrameEncoder, sampling: SamplingConfig) -> torch.Tensor:
    """The embedding (E,) of a picture, a video, or the part of one that `sampling` says; raises the VideoErrors."""
    return F.normalize(encode_video(path, encoder, sampling).features.embed.float().mean(0), dim=0).cpu()
