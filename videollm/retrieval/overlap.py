"""Sampling of overlapping pairs of video and text, for training on narrated videos."""

import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

MAX_SPAN_S = 256  # longest time that the captions of one pair cover, in seconds


@dataclass(frozen=True)
class OverlappedClip:
    """A pair of text and video.

    Attributes:
        captions: The indices of the captions, in order.
        start_s, end_s: The whole seconds of the video; `end_s` is excluded.
    """

    captions: tuple[int, ...]
    start_s: int
    end_s: int


@dataclass(frozen=True, kw_only=True)
class OverlappedSampling:
    """The overlapping pairs of VideoCLIP (Xu et al. 2021; fairseq `examples/MMPT/mmpt/processors/how2processor.py`,
    OverlappedAligner).

    A random caption is extended by its neighbours, in a random direction each time, until it has U[8,64] tokens. Then a
    second within these captions is drawn, and extended in the same way to U[3,32] seconds. Text and video overlap, but
    do not start and end at the same times.

    Args:
        tokens: The range of the number of tokens.
        seconds: The range of the number of seconds.
        keep: The probability of taking the next caption instead of skipping it for the one after it.
    """

    tokens: tuple[int, int] = (8, 64)
    seconds: tuple[int, int] = (3, 32)
    keep: float = 1.0

    def sample(
        self,
        starts_s: Sequence[float],
        ends_s: Sequence[float],
        lengths: Sequence[int],
        video_s: int,
        rng: random.Random,
    ) -> OverlappedClip:
        """Draws one pair.

        Args:
            starts_s: The start of each caption in seconds, in ascending order.
            ends_s: The end of each caption in seconds.
            lengths: The number of tokens of each caption.
            video_s: The length of the video in whole seconds.
            rng: The random numbers. The same state gives the same pair.
        """
        center = rng.randint(0, len(lengths) - 1)
        captions = self._captions(starts_s, ends_s, lengths, center, rng.randint(*self.tokens), rng)
        low, high = math.floor(starts_s[captions[0]]), math.ceil(ends_s[captions[-1]])
        second = rng.randint(low, high) if low < high else (low + high) // 2
        second = max(0, min(video_s - 1, second))
        start_s, end_s = self._span(second, video_s, rng.randint(*self.seconds), rng)
        return OverlappedClip(captions, start_s, end_s)

    def _captions(
        self,
        starts_s: Sequence[float],
        ends_s: Sequence[float],
        lengths: Sequence[int],
        center: int,
        longest: int,
        rng: random.Random,
    ) -> tuple[int, ...]:
        count, found, tokens = len(lengths), deque([center]), lengths[center]
        while (
            (found[0] > 0 or found[-1] + 1 < count)
            and tokens < longest
            and ends_s[found[-1]] - starts_s[found[0]] < MAX_SPAN_S
        ):
            first, end = found[0], found[-1] + 1
            forward = rng.random() > 0.5 and end < count
            skip = rng.random() > self.keep
            if forward or first == 0:
                found.append(end + (skip and end + 1 < count))
                tokens += lengths[found[-1]]
            else:
                found.appendleft(first - 1 - (skip and first > 1))
                tokens += lengths[found[0]]
        return tuple(found)

    def _span(self, center: int, video_s: int, longest: int, rng: random.Random) -> tuple[int, int]:
        start, end = center, center
        while (start > 0 or end < video_s) and end - start < longest:
            if start == 0 or (end < video_s and rng.random() > 0.5):
                end += 1
            else:
                start -= 1
        return start, end
