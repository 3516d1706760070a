"""The one thing that every sense returns."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["speech", "object", "text", "face", "sound"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that a sense has found between two times of a video.

    start_s, end_s: seconds from the video's first frame. text: the words that are said or written, or the name of what
    is seen or heard. score: the probability that the sense gives it, from 0 to 1. box: left, top, right, bottom as
    fractions of the picture, None for what has no place in the picture. language: of `text`, as an ISO 639-1 code, None
    where it is not known. track: the number of the object that findings of different times share, None without tracks.
    """

    start_s: float
    end_s: float
    kind: Kind
    text: str
    score: float
    box: tuple[float, float, float, float] | None = None
    language: str | None = None
    track: int | None = None
