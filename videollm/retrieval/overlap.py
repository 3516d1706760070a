"""Overlapping pairs of video and text for training on narrated video."""

import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

MAX_SPAN_S = 256


@dataclass(frozen=True)
class OverlappedClip:
    """Indices of captions, in order, and whole seconds start_s to end_s, the end excluded."""

    captions: tuple[int, ...]
    start_s: int
    end_s: int


@dataclass(frozen=True, kw_only=True)
class OverlappedSampling:
    """VideoCLIP's pairs (Xu et al. 2021; MMPT `how2processor.py`, OverlappedAligner): a random caption grows by its
    neighbours, either way by a coin, until it has U[8,64] tokens; a second is drawn around these captions, and a span
    grows around it in the same way to U[3,32] seconds. Text and video overlap without the same ends.

    keep: probability that growing takes the next neighbour and not the one after it.
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
        """starts_s, ends_s, lengths: times and tokens of the captions, in order; video_s: whole seconds of video."""
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
