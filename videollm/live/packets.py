"""The latest packets of a stream as they were received, from which clips are written without encoding again."""

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Stream

from videollm.video.container import COPIED_PICTURES, COPIED_SOUND

KEPT_S, KEPT_BYTES = 60.0, 64 << 20
MAX_WAITING = 16  # clips whose end has not come yet


@dataclass(frozen=True, slots=True)
class _KeptPacket:
    data: bytes
    pts: int
    dts: int | None
    duration: int | None
    time_base: Fraction
    is_key: bool
    index: int
    time: float


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """A clip of the stream from `start` to `end`, wall-clock times in seconds, to be written to `path` (.mp4)."""

    start: float
    end: float
    path: str


class PacketRing:
    """The packets of the last `KEPT_S` seconds, of at most `KEPT_BYTES`, and the clips that wait for their end.

    video, sound: the streams that are kept; sound may be None.
    """

    def __init__(self, video: Stream, sound: Stream | None):
        self._video, self._sound = video, sound
        self._kept: deque[_KeptPacket] = deque()
        self._bytes = 0
        self._waiting: list[ClipRequest] = []

    def add(self, packet: Any, time: float) -> None:
        """Keeps a packet, whose picture or sound belongs to the wall-clock time `time`."""
        if packet.pts is None:
            return
        self._kept.append(
            _KeptPacket(
                bytes(packet),
                packet.pts,
                packet.dts,
                packet.duration,
                packet.time_base,
                packet.is_keyframe,
                packet.stream_index,
                time,
            )
        )
        self._bytes += packet.size
        while self._kept and (self._bytes > KEPT_BYTES or self._kept[0].time < time - KEPT_S):
            self._bytes -= len(self._kept.popleft().data)

    def request(self, clip: ClipRequest) -> bool:
        """Takes a clip to be written when its end has come. Returns False if too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(clip)
        return True

    def due(self, time: float) -> list[ClipRequest]:
        """Returns the waiting clips that end before `time` and forgets them."""
        due = [clip for clip in self._waiting if clip.end <= time]
        self._waiting = [clip for clip in self._waiting if clip.end > time]
        return due

    def write(self, clip: ClipRequest) -> tuple[float, float] | None:
        """Writes a clip from the last key frame before its start on, and returns the times of its first and last
        picture, or None if no key frame is kept."""
        kept = list(self._kept)
        keys = [n for n, p in enumerate(kept) if p.index == self._video.index and p.is_key and p.time < clip.end]
        if not keys:
            return None
        first = max((n for n in keys if kept[n].time <= clip.start), default=keys[0])
        chosen = [p for p in kept[first:] if p.time < clip.end]
        # The file appears under its name when it is whole.
        partial = Path(f"{clip.path}.part")
        with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as output:
            copies = {self._video.index: output.add_stream_from_template(self._video)}
            if self._sound is not None and self._sound.codec_context.name in COPIED_SOUND:
                copies[self._sound.index] = output.add_stream_from_template(self._sound)
            origin_s = float(kept[first].pts * kept[first].time_base)
            for one in chosen:
                if one.index not in copies or one.pts * one.time_base < origin_s:
                    continue
                packet = av.Packet(one.data)
                shift = round(origin_s / one.time_base)
                packet.pts, packet.dts = one.pts - shift, None if one.dts is None else one.dts - shift
                packet.time_base, packet.is_keyframe = one.time_base, one.is_key
                if one.duration:
                    packet.duration = one.duration
                packet.stream = copies[one.index]
                output.mux(packet)
        partial.replace(clip.path)
        pictures = [p.time for p in chosen if p.index == self._video.index]
        return min(pictures), max(pictures)


def can_be_copied(video: Stream) -> bool:
    """Whether players take the stream's pictures inside MP4 as they are."""
    return video.codec_context.name in COPIED_PICTURES
