"""Embeds queries, which are texts of any length, images or clips, as unit vectors (E,)."""

import os
import re
from typing import Protocol

import torch
from torch.nn import functional as F

from videollm.config import SamplingConfig
from videollm.encoders.base import FrameEncoder
from videollm.errors import ConfigError
from videollm.features.encode import encode_video

_BREAKS = (r"(?<=[.!?;:。！？；])\s*", r"\s+")  # the ends of sentences, and the ends of words


class Reader(Protocol):
    """A text encoder or tokenizer of limited length."""

    def reads_whole(self, text: str) -> bool:
        """Whether a text fits without being cut."""
        ...


def split_text(text: str, encoder: Reader) -> list[str]:
    """Splits a text into parts that fit the encoder.

    A text that does not fit is halved, as often as necessary: at the end of the sentence nearest to the middle, or else
    between words, or else in the middle of a word.
    """
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
    """Returns the embedding (E,) of a text, a unit vector.

    A text that is too long for the encoder is split, and the embeddings of its parts are averaged with their lengths as
    weights, so that nothing is cut off. Raises ConfigError if the text is empty.
    """
    if not text.strip():
        raise ConfigError("the query is empty; say what to look for")
    parts = split_text(text, encoder)
    weights = torch.tensor([float(len(part)) for part in parts])
    embeds = torch.cat([encoder.encode_text([part]).embed for part in parts]).float().cpu()
    return F.normalize(weights @ embeds, dim=0)


def embed_media(path: str | os.PathLike[str], encoder: FrameEncoder, sampling: SamplingConfig) -> torch.Tensor:
    """Returns the embedding (E,) of an image, a video or the part of a video that `sampling` selects, a unit vector.

    Raises a `VideoError` if the file cannot be read.
    """
    return F.normalize(encode_video(path, encoder, sampling).features.embed.float().mean(0), dim=0).cpu()
