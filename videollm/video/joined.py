"""The clock of files that were joined from several, one after the other, as `cat a.ts b.ts` does.

The timestamps of such a file start again in each part. They are shifted here so that each part begins where the one
before ends, as FFmpeg's concat protocol does. P packets are in decoding order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# A stream that is interleaved with the pictures belongs to the next part if its clock falls by more than this. Smaller
# falls are rounding, or sound that overlaps.
_FALL_S = 0.5


@dataclass(frozen=True, slots=True)
class JoinedPart:
    """A part of a joined file.

    Attributes:
        shift_s: The seconds that are added to its timestamps.
        position: The byte at which its first picture is stored, or None if the container does not tell.
        after: The byte at which the last picture of the part before is stored, likewise.
    """

    shift_s: float
    position: int | None = None
    after: int | None = None


def part_starts(pts: Sequence[int | None], is_entry: np.ndarray) -> list[int]:
    """Returns the numbers of the packets with which parts begin; [0] for a file that was not joined.

    All packets before a key frame are shown before it. A key frame with an earlier timestamp than the two packets
    before it therefore begins a new part, unless the clock is back at its old place with the next packet: then this one
    timestamp is wrong.
    """
    stamps = np.array([np.nan if p is None else p for p in pts], np.float64)
    starts = [0]
    for i in np.flatnonzero(is_entry).tolist():
        before = stamps[max(starts[-1], i - 2) : i]
        after = stamps[i + 1 : i + 2]
        if len(before) and (before >= stamps[i]).all() and not (after > before.max()).any():
            starts.append(i)
    return starts


def shifts(stamps: np.ndarray, durations: np.ndarray, starts: Sequence[int]) -> np.ndarray:
    """Returns what is added to the timestamps int64 (P,) of packets with these durations, int64 (P,)."""
    added = np.zeros(len(stamps), np.int64)
    if len(starts) == 1:
        return added
    steps = np.diff(np.unique(stamps[: starts[1]]))
    usual = int(np.median(steps)) if len(steps) else 0  # where the container tells no duration
    for start, end in pairwise([*starts[1:], len(stamps)]):
        before = slice(0, start)
        reached = (stamps[before] + added[before] + np.where(durations[before] > 0, durations[before], usual)).max()
        added[start:end] = reached - stamps[start:end].min()
    return added


class PartClock:
    """Gives the times of another stream of a joined file, such as its sound, on the clock of the pictures."""

    def __init__(self, parts: Sequence[JoinedPart]):
        self._parts = parts
        self._part, self._latest_s = 0, float("-inf")

    def shift_s(self, position: int | None, time_s: float) -> float:
        """Returns the seconds that are added to the time of a packet. Packets are given in the order of the file."""
        while self._part + 1 < len(self._parts) and self._is_over(position, time_s):
            self._part, self._latest_s = self._part + 1, float("-inf")
        self._latest_s = max(self._latest_s, time_s)
        return self._parts[self._part].shift_s

    def _is_over(self, position: int | None, time_s: float) -> bool:
        """Whether a packet follows the part. Between its last picture and the first of the next, the clock tells."""
        following = self._parts[self._part + 1]
        if position is not None and following.position is not None and following.after is not None:
            if position < following.after:
                return False
            if position >= following.position:
                return True
        return time_s < self._latest_s - _FALL_S
