"""The clock of a stream: when what a frame shows happened, from the timestamps of its packets."""

import time
from collections.abc import Callable

BACK_S, FORWARD_S = 1.0, 10.0  # a timestamp that steps further back or forward is a new clock, not a frame's time
# A live stream may be held up on its way, and then come faster than it was filmed until it has caught up. If it is this
# late although EDGE_PACKETS in a row had to be waited for, it has a slow clock.
LATE_S, EDGE_PACKETS = 3.0, 25
BEHIND_S = 30.0  # held up for longer, its time is that of arrival
AHEAD_S = 1.0  # a stream that comes before its time has a fast clock


class StreamClock:
    """Turns timestamps of a source into times of the wall clock.

    The time of the first packet is that of its arrival. From then on the stream's own clock counts, so that a frame
    that was held up on its way keeps its time. Where that clock jumps, the time is that of arrival again.

    Attributes:
        shift_s: What is added to a timestamp in seconds for its wall-clock time in seconds since 1970.
        jumps: How often the clock has jumped.

    Args:
        live: Whether the source goes on by itself. The times of a file count from the start of playing, however fast.
        paced: Whether packets that come before their time are waited for.
        now: The wall clock.
    """

    def __init__(self, live: bool, paced: bool, now: Callable[[], float] = time.time):
        self._live, self._paced, self._now = live, paced, now
        self._edge = 0  # packets in a row that had to be waited for
        self._last_s: float | None = None
        self.shift_s = 0.0
        self.jumps = 0

    def behind_s(self, stamp_s: float) -> float:
        """Returns how late a packet with this timestamp is, in seconds."""
        return self._now() - (stamp_s + self.shift_s)

    def advance(self, stamp_s: float, waited: bool) -> bool:
        """Takes the decoding timestamp of the next packet, and returns whether the stream's clock has jumped.

        waited: Whether the packet had not come yet when it was asked for.
        """
        self._edge = self._edge + 1 if waited else 0
        last_s, self._last_s = self._last_s, stamp_s
        if last_s is None:
            self.shift_s = self._now() - stamp_s
            return False
        if -BACK_S <= stamp_s - last_s <= FORWARD_S and not self._is_wrong(self.behind_s(stamp_s)):
            return False
        before = last_s + self.shift_s
        self.shift_s = (max(before, self._now()) if self._live else before) - stamp_s
        self.jumps += 1
        return True

    def _is_wrong(self, behind_s: float) -> bool:
        if not self._live:
            return False
        most = LATE_S if self._edge >= EDGE_PACKETS else BEHIND_S
        return behind_s > most or (not self._paced and behind_s < -AHEAD_S)
