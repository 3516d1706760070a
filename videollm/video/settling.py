"""The order in which decoded frames are known to be whole."""

from collections import deque
from collections.abc import Iterator

import numpy as np
from av.video.frame import VideoFrame


class DoubtError(Exception):
    """The quick pass met damage, or a key frame from which decoding cannot start. The rest must be read carefully."""


class Settling:
    """Yields wanted frames in the order of showing, each as soon as all frames that it may depend on have been decoded.

    A picture between two others in time comes out before the later one that it may refer to. If this later one is
    damaged, so is the first.
    """

    def __init__(self, pts: np.ndarray, packets: np.ndarray, group: np.ndarray, careful: bool):
        self.rank = {packet: i for i, packet in enumerate(packets.tolist())}
        self._pts = pts
        self._reach = np.maximum.accumulate(pts)  # the latest time among a packet and all before it
        self._group = group
        self._careful = careful
        self._broken: dict[int, int] = {}  # from a group to the first packet in it that does not decode
        self._held: deque[tuple[int, VideoFrame]] = deque()
        self._now = np.iinfo(np.int64).min  # time of the latest frame that came out
        self._next = 0

    def broke(self, index: int) -> None:
        """Records that a packet does not decode. Raises DoubtError in the quick pass."""
        if not self._careful:
            raise DoubtError
        group = int(self._group[index])
        self._broken[group] = min(index, self._broken.get(group, index))

    def add(self, frames: list[VideoFrame]) -> None:
        """Takes the frames that the decoder has returned."""
        for frame in frames:
            index = frame.pts
            assert index is not None  # every packet was sent with its number
            if frame.is_corrupt:
                self.broke(index)
            self._now = max(self._now, self._pts[index])
            if index in self.rank:
                self._held.append((index, frame))

    def settled(self, *, drained: bool = False) -> Iterator[VideoFrame | None]:
        """Yields the frames whose dependencies are known. If the decoder is drained, these are all that were added."""
        while self._held and (drained or self._reach[self._held[0][0]] <= self._now):
            index, frame = self._held.popleft()
            rank = self.rank[index]
            yield from self._lost(rank - self._next)
            if rank == self._next:
                self._next += 1
                is_broken = self._broken.get(int(self._group[index]), index + 1) <= index
                yield None if is_broken else frame

    def rest(self) -> Iterator[None]:
        """Yields None for each wanted frame that never came out."""
        yield from self._lost(len(self.rank) - self._next)

    def _lost(self, count: int) -> Iterator[None]:
        if count > 0 and not self._careful:
            raise DoubtError
        for _ in range(count):
            self._next += 1
            yield None
