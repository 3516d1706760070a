"""The process that reads a source: `python -m videollm.live.worker`, started by `videollm.live.reader`.

A hostile or broken source can crash this process and nothing else. Its standard input has a line of JSON that says what
to read, then a line for each clip to write; it ends with its input. Its output has lines of JSON, and after a line
"frame" or "sound" the bytes of the picture or of the samples.
"""

import json
import math
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from videollm.errors import FOREIGN, VideoLLMError, reason_of
from videollm.live.clock import LATE_S, StreamClock
from videollm.live.opening import opened
from videollm.live.packets import ClipRequest, PacketRing, can_be_copied
from videollm.live.sound import SoundDecoder
from videollm.live.source import StreamSource
from videollm.video.container import MAX_ASPECT, MAX_PIXELS
from videollm.video.orientation import Orientation

WAITING_FRAMES = 4  # that the reader has not taken yet; of a live source, further ones are dropped
STATS_S = 1.0  # between two reports
EDGE_S = 0.005  # a packet that took longer had not come yet
ROUNDING_S = 1e-3


class _Output:
    """Writes messages in a thread of its own, so that a slow reader delays no live source."""

    def __init__(self, drops: bool):
        self._drops, self.dropped = drops, 0
        self._queue: queue.Queue[tuple[dict[str, Any], bytes]] = queue.Queue(WAITING_FRAMES)
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def send(self, message: dict[str, Any], data: bytes = b"") -> None:
        if data and self._drops:
            try:
                self._queue.put_nowait((message, data))
            except queue.Full:
                self.dropped += 1
            return
        self._queue.put((message, data))

    def close(self) -> None:
        self._queue.put(({}, b""))
        self._thread.join()

    def _write(self) -> None:
        with suppress(BrokenPipeError):
            while (item := self._queue.get())[0]:
                sys.stdout.buffer.write(json.dumps(item[0]).encode() + b"\n" + item[1])
                sys.stdout.buffer.flush()
            return
        os._exit(0)  # nobody reads any more


class _Player:
    """Decodes one source and sends its frames, and its sound at `sound_rate` samples per second unless that is 0."""

    def __init__(
        self,
        source: StreamSource,
        short_side: int,
        sound_rate: int,
        output: _Output,
        commands: "queue.Queue[ClipRequest]",
    ):
        self.source, self.short_side, self.output, self.commands = source, short_side, output, commands
        self.sound_rate = sound_rate
        self.is_paced = source.kind in ("file", "http")
        self.clock = StreamClock(source.is_live, self.is_paced)
        self.scaler = VideoReformatter()
        self.orientation: Orientation | None = None
        self.codec = ""  # the name of the decoder of the pictures
        self.started: tuple[float, float] | None = None  # monotonic and wall-clock time of the first packet
        self.tick_s = 0.0  # of the video's timestamps
        self.number = -1  # of the latest frame that was sent, counted at the rate of the source
        self.latest = -math.inf  # its time
        self.lost = self.late = 0
        self.awaits_key = True
        self.has_end = source.kind in ("file", "growing")  # and does not go on elsewhere, once it was reached
        self.reported = 0.0

    def play(self) -> None:
        with opened(self.source) as (container, growing):
            video, sound = container.streams.best("video"), container.streams.best("audio")
            if video is None or video.codec_context is None:
                raise VideoLLMError(f"{self.source.name}: it has no video that can be decoded")
            context: Any = video.codec_context
            if context.width * context.height > MAX_PIXELS:
                raise VideoLLMError(f"{self.source.name}: its pictures have more than {MAX_PIXELS} pixels")
            self.tick_s, self.codec = float(video.time_base or 0), context.name
            context.thread_count, context.options = 1, {"max_pixels": str(MAX_PIXELS)}
            ring = PacketRing(video, sound) if can_be_copied(video) else None
            heard = None
            if self.sound_rate and sound is not None and sound.codec_context is not None:
                heard = SoundDecoder(sound.codec_context, self.sound_rate)
            self.output.send({"kind": "opened", "clips": ring is not None, "sound": sound is not None})
            self.has_end |= container.duration is not None and self.source.kind == "http"
            streams = [video] if sound is None else [video, sound]
            for packet, waited in _arrivals(container.demux(streams)):
                self._write_clips(ring)
                if not packet.size:
                    continue
                stamp = packet.pts if packet.dts is None else packet.dts
                if stamp is None or packet.time_base is None:
                    self.lost += 1
                    continue
                is_new = growing is None or growing.has_waited  # what is in the file already is not live
                if packet.stream_index != video.index:
                    if ring is not None and self.started is not None:
                        ring.add(packet, float(stamp * packet.time_base) + self.clock.shift_s)
                    if heard is not None and self.started is not None and is_new:
                        self._tell_sound(heard.add(packet, self.clock.shift_s))
                    continue
                if is_new:
                    self._take(packet, float(stamp * packet.time_base), waited, context, ring)
            for frame in _decoded(context, None) or ():
                self._show(frame)
            if heard is not None:
                self._tell_sound(heard.end())
            self.end("", final=self.has_end)
            # Who has not seen the last frames yet may still ask for clips.
            while True:
                self._write_clips(ring, self.commands.get())

    def end(self, problem: str, *, final: bool) -> None:
        """Reports the last counts, and that no frame follows."""
        self.reported = 0.0
        self._report(0.0)
        self.output.send({"kind": "end", "problem": problem, "final": final})

    def _take(self, packet: Any, stamp_s: float, waited: bool, context: Any, ring: PacketRing | None) -> None:
        """Decodes a packet of the video, unless it depends on one that was lost or skipped."""
        if self.clock.advance(stamp_s, waited):
            context.flush_buffers()
            self.awaits_key = True
        self._wait(stamp_s)
        if ring is not None:
            ring.add(packet, float((packet.pts or packet.dts) * packet.time_base) + self.clock.shift_s)
        behind_s = self.clock.behind_s(stamp_s) if self.source.is_live else 0.0
        if packet.is_keyframe:
            self.awaits_key = False
        elif behind_s > LATE_S and not waited:
            self.awaits_key = True
        self._report(behind_s)
        if self.awaits_key:
            return
        if context.name == "h264":
            context.skip_frame = "NONREF"  # no picture depends on these
        frames = None if packet.is_corrupt else _decoded(context, packet)
        if frames is None:
            # FFmpeg would repair the pictures up to the next key frame, and show what was never filmed.
            self.lost += 1
            self.awaits_key = True
            return
        for frame in frames:
            self._show(frame)

    def _wait(self, stamp_s: float) -> None:
        """Waits until a packet is due, where the source does not wait by itself."""
        wall = stamp_s + self.clock.shift_s
        if self.started is None:
            self.started = time.monotonic(), wall
        if self.is_paced:
            began, first = self.started
            time.sleep(max(0.0, began + (wall - first) / self.source.speed - time.monotonic()))

    def _show(self, frame: VideoFrame) -> None:
        if frame.is_corrupt:
            self.lost += 1
            return
        if frame.pts is None or self.started is None:
            return
        wall = frame.pts * self.tick_s + self.clock.shift_s
        number = math.floor((wall - self.started[1]) * self.source.fps + ROUNDING_S)
        if number <= self.number:
            return
        if wall <= self.latest:
            self.late += 1
            return
        self.number, self.latest = number, wall
        pixels = self._picture(frame)
        self.output.send({"kind": "frame", "time": wall, "shape": pixels.shape}, np.ascontiguousarray(pixels).tobytes())

    def _picture(self, frame: VideoFrame) -> np.ndarray:
        """Returns uint8 (H,W,3) as it is shown, with `short_side` pixels on the shorter side."""
        self.orientation = self.orientation or Orientation.of(frame, self.codec)
        width, height = frame.width, frame.height
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise VideoLLMError(f"{self.source.name}: its pictures have {width}x{height} pixels")
        scale = self.short_side / min(width, height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = self.scaler.reformat(frame, *size, "rgb24", interpolation=Interpolation.BICUBIC, threads=1)
        return self.orientation.apply(image.to_ndarray())

    def _tell_sound(self, pieces: Iterator[tuple[float, np.ndarray]]) -> None:
        for time_s, samples in pieces:
            self.output.send({"kind": "sound", "time": time_s, "samples": len(samples)}, samples.tobytes())

    def _report(self, behind_s: float) -> None:
        if time.monotonic() - self.reported >= STATS_S:
            self.reported = time.monotonic()
            counts = {"dropped": self.output.dropped, "lost": self.lost, "late": self.late, "jumps": self.clock.jumps}
            self.output.send({"kind": "stats", "behind_s": behind_s, **counts})

    def _write_clips(self, ring: PacketRing | None, last: ClipRequest | None = None) -> None:
        """Writes the clips whose end has come; once the stream has ended, with its `last` request, all of them."""
        requests = [last] if last is not None else []
        with suppress(queue.Empty):
            while True:
                requests.append(self.commands.get_nowait())
        for clip in requests:
            if ring is None or not ring.request(clip):
                self._tell(clip, "its pictures cannot be copied into MP4" if ring is None else "too many clips wait")
        if ring is None:
            return
        for clip in ring.due(self.latest if last is None else math.inf):
            try:
                times = ring.write(clip)
                self._tell(clip, "" if times else "no key frame of it is kept", *(times or ()))
            except (FFmpegError, OSError) as error:
                self._tell(clip, reason_of(error))

    def _tell(self, clip: ClipRequest, problem: str, *times: float) -> None:
        self.output.send({"kind": "clip", "path": clip.path, "problem": problem, "times": times})


def _arrivals(packets: Iterator[Any]) -> Iterator[tuple[Any, bool]]:
    """Yields packets, and whether each had not come yet when it was asked for."""
    while True:
        asked = time.monotonic()
        packet = next(packets, None)
        if packet is None:
            return
        yield packet, time.monotonic() - asked > EDGE_S


def _decoded(context: Any, packet: Any) -> list[VideoFrame] | None:
    """Returns the frames that the decoder returns, or None if it cannot decode the packet."""
    try:
        return context.decode(packet)
    except FFmpegError:
        return None


def _confine(extra_bytes: int) -> None:
    """Limits memory, whatever the code that reads a source does."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _read_commands(commands: "queue.Queue[ClipRequest]") -> None:
    for line in sys.stdin:
        commands.put(ClipRequest(**json.loads(line)))
    os._exit(0)  # nobody reads any more


def main() -> None:
    request = json.loads(sys.stdin.readline())
    _confine(request["memory_bytes"])
    source, commands = StreamSource(**request["source"]), queue.Queue[ClipRequest]()
    threading.Thread(target=_read_commands, args=(commands,), daemon=True).start()
    output = _Output(drops=source.is_live)
    player = _Player(source, request["short_side"], request["sound_rate"], output, commands)
    try:
        player.play()
    except VideoLLMError as error:
        player.end(str(error), final=True)
    except (FFmpegError, *FOREIGN) as error:
        player.end(reason_of(error), final=source.kind == "file")
    output.close()
    os._exit(0)  # without waiting for the thread that reads commands


if __name__ == "__main__":
    main()
