"""Reading video files with FFmpeg through PyAV: the truth about a file's frames and times, and the default decoder.

`scan` demultiplexes the whole file once, without decoding, so times and duration come from the packets themselves; a
header may count a start offset, or frames that a cut-off file no longer holds. `read` demultiplexes it again and gives
the decoder only the groups of pictures that hold a wanted frame, each only up to its last wanted frame. Packets are
passed over rather than sought past: that costs microseconds each, and needs no container to seek exactly.

A packet's place in the file (P of them, in decoding order) identifies it in both passes; it travels through the decoder
in the packet's pts field, which decoders copy to the frame. F is the number of frames that are shown.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from videollm.errors import NoVideoStreamError, VideoDecodeError, VideoFormatError, VideoNotFoundError
from videollm.video.frames import VideoInfo

# Each picture changes the one before, but the container marks every one of them as a place to start.
_ONE_ENTRY = {"apng", "gif"}
# Where "not a reference" is absolute, such a picture is skipped unless it is wanted. (In HEVC it holds only within a
# temporal layer.)
_SKIP_UNREFERENCED = {"h264"}


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels are turned to be shown: transpose first, then flip. Axis-aligned display matrices only; any
    other angle is taken to the nearest of them, as players do."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    rotation: int = 0  # degrees clockwise

    @property
    def is_mirrored(self) -> bool:
        return self.transpose ^ self.flip_x ^ self.flip_y

    @classmethod
    def of(cls, frame: VideoFrame) -> "Orientation":
        """Read FFmpeg's display matrix: a stored point (x, y) is shown at (a x + c y, b x + d y), y downwards."""
        try:
            data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV 18 lists no side data where it does not know all kinds, such as a photo's EXIF
            clockwise = round(-frame.rotation / 90) * 90 % 360
            return cls(clockwise in (90, 270), clockwise in (90, 180), clockwise in (180, 270), clockwise)
        if data is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
        if abs(a) >= abs(b):
            return cls(False, a < 0, d < 0, 180 if a < 0 and d < 0 else 0)
        return cls(True, c < 0, b < 0, 90 if b > 0 else 270)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """A view of image (H,W,3) as it is shown."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What a file holds. Packet arrays are in decoding order, frame arrays in the order of showing."""

    info: VideoInfo
    container: str  # FFmpeg's name of the format, such as "matroska,webm"
    orientation: Orientation
    pts: np.ndarray  # int64 (P,), stream ticks
    is_entry: np.ndarray  # bool (P,), decoding may start here
    is_damaged: np.ndarray  # bool (P,), the container itself says that the data is incomplete
    packet: np.ndarray  # int64 (F,), the packet that holds each frame
    times_s: np.ndarray  # float64 (F,), seconds from the first frame
    missing: int  # frames that a cut-off file promises beyond its last packet

    @property
    def is_key(self) -> np.ndarray:
        """bool (F,): frames that decode on their own."""
        return self.is_entry[self.packet]


def scan(path: str | os.PathLike[str]) -> Scan:
    """Read the packets and the first picture of a file. Raises a VideoError that names the file and the reason."""
    where = Path(path)
    try:
        stat = where.stat()
        if not where.is_file():
            raise VideoNotFoundError(path, "not a file")
        if stat.st_size == 0:
            raise VideoFormatError(path, "the file is empty")
        return _scan(str(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise VideoNotFoundError(path, (error.strerror or str(error)).lower()) from error


@contextmanager
def _open(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    # By file descriptor: the name's extension, image sequence patterns (%03d) and protocols then mean nothing, and a
    # playlist cannot open other files.
    with open(path, "rb") as file:
        try:
            # A damaged file's metadata may be no text at all, which says nothing of its pictures.
            container = av.open("fd:", container_options={"fd": str(file.fileno())}, metadata_errors="replace")
        except FFmpegError as error:
            reason = f"not a video or image, or its header is cut off or damaged ({error.strerror})"
            raise VideoFormatError(path, reason) from error
        with container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
                raise NoVideoStreamError(path, "it holds no video stream")
            if stream.codec_context is None:
                raise VideoFormatError(path, "there is no decoder for its video")
            yield container, stream


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    """The stream's packets that hold data. Where the container becomes unreadable, they end."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            return
        if packet is None:
            return
        if packet.size:
            yield packet


@lru_cache(maxsize=8)
def _scan(path: str, size: int, mtime_ns: int) -> Scan:
    with _open(path) as (container, stream):
        context = stream.codec_context
        context.thread_count = 1  # gives the first picture soonest
        rows = []
        first: VideoFrame | None = None
        for index, packet in enumerate(_packets(container, stream)):
            # VP8 alone stores pictures that are only referred to as packets of their own (RFC 6386, 9.1: show_frame).
            hidden = packet.is_discard or (context.name == "vp8" and not memoryview(packet)[0] & 0x10)
            rows.append((packet.pts, packet.dts, packet.duration, packet.is_keyframe, packet.is_corrupt, not hidden))
            if first is None:
                packet.pts = index
                first = next(iter(_decode(context, packet)), None)
        if not any(row[-1] for row in rows):
            raise NoVideoStreamError(path, "its video stream has no frame")
        first = first or next(iter(_decode(context, None)), None)
        if first is None:
            raise VideoDecodeError(path, f"none of its {len(rows)} frames could be decoded")

        columns = list(zip(*rows, strict=True))
        is_entry, is_damaged, is_shown = (np.array(column, bool) for column in columns[3:])
        if context.name in _ONE_ENTRY:
            is_entry[1:] = False
        durations = np.array([d or 0 for d in columns[2]])
        pts, order = _presentation(path, container, stream, columns[0], columns[1], durations, is_shown)

        tick = float(stream.time_base or 1)
        times_s = (pts[order] - pts[order[0]]) * tick
        last = durations[order[-1]] * tick or (times_s[-1] - times_s[-2] if len(order) > 1 else 0.0)
        duration_s = float(times_s[-1] + last)
        orientation = Orientation.of(first)
        width, height = round(first.width * float(stream.sample_aspect_ratio or 1)), first.height
        if orientation.transpose:
            width, height = height, width
        info = VideoInfo(
            path=path,
            duration_s=duration_s,
            width=width,
            height=height,
            fps=len(order) / duration_s if len(order) > 1 else 0.0,
            codec=context.codec.canonical_name,
            rotation=orientation.rotation,
            has_audio=bool(container.streams.audio),
            content_sha=_sha256(path),
        )
        missing = _missing(container, stream, len(rows), float(pts[order[-1]] * tick + last))
        return Scan(info, container.format.name, orientation, pts, is_entry, is_damaged, order, times_s, missing)


def _presentation(
    path: str,
    container: InputContainer,
    stream: VideoStream,
    pts: tuple[int | None, ...],
    dts: tuple[int | None, ...],
    durations: np.ndarray,
    is_shown: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Presentation times int64 (P,), and the packets of the frames in the order of showing (F,).

    Raw streams and field pictures lack some times, and AVI stores none: FFmpeg numbers its packets in decoding order,
    even where the codec shows them in another. Then only decoding tells the order.
    """
    shown = np.flatnonzero(is_shown)
    known = [p for p, is_frame in zip(pts, is_shown, strict=True) if is_frame and p is not None]
    numbered = container.format.name == "avi" and stream.codec_context.has_b_frames and known == sorted(known)
    if len(known) == len(shown) == len(set(known)) and not numbered:
        stamps = np.array([p or 0 for p in pts], np.int64)
        return stamps, shown[np.argsort(stamps[shown])]

    with _open(path) as (again, video):
        output = [frame.pts for p in _numbered(again, video) for frame in _decode(video.codec_context, p)]
    order = np.array([i for i in output if is_shown[i]], np.int64)
    stamps = np.cumsum(durations) - durations
    for i, times in enumerate(zip(pts, dts, strict=True)):
        stamps[i] = next((t for t in times if t is not None), stamps[i])
    stamps[order] = np.sort(stamps[order])
    return stamps, order


def _missing(container: InputContainer, stream: VideoStream, packets: int, end_s: float) -> int:
    """Frames that the header promises and the file no longer holds. Only what containers state per stream is used:
    MP4's index after its edit list, Matroska's DURATION tag (an end time, start offset included), AVI's frame count."""
    if "mp4" in container.format.name:
        return max(0, len(stream.index_entries) - packets)
    if "DURATION" in stream.metadata:
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        declared_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        return max(0, round((declared_s - end_s) * float(stream.average_rate or 0)))
    return max(0, stream.frames - packets)


def _numbered(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    """Each packet with its place in its pts, then None, which drains the decoder."""
    for index, packet in enumerate(_packets(container, stream)):
        packet.pts = index
        yield packet
    yield None


def _decode(context: Any, packet: Any) -> list[VideoFrame]:
    """Frames that come out when the packet goes in; none where it cannot be decoded."""
    try:
        return context.decode(packet)
    except FFmpegError:
        return []


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(scan: Scan, wanted: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray | None]:
    """Decode the frames numbered `wanted` (increasing), each as uint8 (height,width,3), or None where it is lost.

    size is the (width, height) wanted, as shown. A frame counts as lost when it, or anything since the key frame that
    it depends on, does not decode: FFmpeg would show a repaired picture there, which may show what was never filmed.
    """
    orientation = scan.orientation
    width, height = size[::-1] if orientation.transpose else size
    scaler = VideoReformatter()
    packets = scan.packet[wanted]
    done = 0
    for careful in (False, True):
        try:
            for frame in _pictures(scan, packets[done:], careful):
                done += 1
                if frame is None:
                    yield None
                    continue
                image = scaler.reformat(
                    frame, width, height, "rgb24", interpolation=Interpolation.BICUBIC, threads=1
                ).to_ndarray()
                yield orientation.apply(image)
            return
        except _DoubtError:
            continue


class _DoubtError(Exception):
    """The quick pass met damage, or a key frame that decoding cannot start from; the rest must be read carefully."""


def _pictures(scan: Scan, packets: np.ndarray, careful: bool) -> Iterator[VideoFrame | None]:
    """Decode the frames of `packets` (in the order of showing), None where lost.

    careful: with one thread, so that an error belongs to the packet just sent, and from one group of pictures earlier,
    because an H.264 recovery point (intra refresh) is whole only some frames after it. Otherwise _DoubtError is raised.
    """
    group = _groups(scan)
    runs = _runs((group[np.maximum(group - 1, 0)] if careful else group)[packets], packets)
    settling = _Settling(scan, packets, group, careful)
    with _open(scan.info.path) as (container, stream):
        context = stream.codec_context
        context.thread_type = "AUTO"
        context.thread_count = 1 if careful else 0
        if not careful:
            # Threads may hand a picture out before its flag of damage is set; an error comes out with its packet.
            context.options = {"err_detect": "explode"}
        first, last = runs.popleft()
        for index, packet in enumerate(_packets(container, stream)):
            if index < first:
                continue
            if context.name in _SKIP_UNREFERENCED:
                context.skip_frame = "DEFAULT" if index in settling.rank else "NONREF"
            packet.pts = index
            try:
                if scan.is_damaged[index]:
                    settling.broke(index)
                else:
                    settling.add(context.decode(packet))
                if index == last:
                    settling.add(context.decode(None))  # what the decoder still holds back
            except FFmpegError:
                settling.broke(index)
            yield from settling.settled(drained=index == last)
            if index == last:
                context.flush_buffers()  # ready for another start
                if not runs:
                    break
                first, last = runs.popleft()
    yield from settling.rest()


def _groups(scan: Scan) -> np.ndarray:
    """int64 (P,): the packet where decoding must start for each packet to come out right.

    That is the last entry before it; or the one before that for pictures which follow an entry in the file but are
    shown before it, because they also refer to the group of pictures before (open groups).
    """
    here = np.arange(len(scan.pts))
    entry = np.maximum.accumulate(np.where(scan.is_entry, here, 0))
    leading = scan.pts < scan.pts[entry]
    return np.where(leading, entry[np.maximum(entry - 1, 0)], entry)


def _runs(starts: np.ndarray, ends: np.ndarray) -> deque[tuple[int, int]]:
    """The spans of packets to decode, first and last included, joined where nothing lies between them."""
    runs: deque[tuple[int, int]] = deque()
    for start, end in sorted(zip(starts.tolist(), ends.tolist(), strict=True)):
        if runs and start <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(end, runs[-1][1]))
        else:
            runs.append((start, end))
    return runs


class _Settling:
    """Lets wanted frames out in the order of showing, each once all that it may depend on has come out.

    A picture between two others in time comes out before the later one that it may refer to; if that one then proves
    to be damaged, so is the first.
    """

    def __init__(self, scan: Scan, packets: np.ndarray, group: np.ndarray, careful: bool):
        self.rank = {packet: i for i, packet in enumerate(packets.tolist())}
        self._pts = scan.pts
        self._reach = np.maximum.accumulate(scan.pts)  # the latest time among a packet and all before it
        self._group = group
        self._careful = careful
        self._broken: dict[int, int] = {}  # group -> the first packet in it that does not decode
        self._held: deque[tuple[int, VideoFrame]] = deque()
        self._now = np.iinfo(np.int64).min  # time of the latest frame that came out
        self._next = 0

    def broke(self, index: int) -> None:
        if not self._careful:
            raise _DoubtError
        group = int(self._group[index])
        self._broken[group] = min(index, self._broken.get(group, index))

    def add(self, frames: list[VideoFrame]) -> None:
        for frame in frames:
            index = frame.pts
            assert index is not None  # every packet went in with its place
            if frame.is_corrupt:
                self.broke(index)
            self._now = max(self._now, self._pts[index])
            if index in self.rank:
                self._held.append((index, frame))

    def settled(self, *, drained: bool = False) -> Iterator[VideoFrame | None]:
        while self._held and (drained or self._reach[self._held[0][0]] <= self._now):
            index, frame = self._held.popleft()
            rank = self.rank[index]
            yield from self._lost(rank - self._next)
            if rank == self._next:
                self._next += 1
                is_broken = self._broken.get(int(self._group[index]), index + 1) <= index
                yield None if is_broken else frame

    def rest(self) -> Iterator[None]:
        yield from self._lost(len(self.rank) - self._next)

    def _lost(self, count: int) -> Iterator[None]:
        if count > 0 and not self._careful:
            raise _DoubtError
        for _ in range(count):
            self._next += 1
            yield None
