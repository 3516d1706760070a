"""Reading of video files with FFmpeg through PyAV. This is the default decoder, and the source of frames and times for
all decoders.

`scan` demultiplexes the whole file once, without decoding, so that times and duration come from the packets themselves.
A header may count a start offset, or frames that a cut-off file no longer has. `read` demultiplexes the file again and
gives the decoder only the groups of pictures with a wanted frame, up to the last wanted frame of each. It passes over
packets instead of seeking, which costs microseconds per packet and does not rely on exact seeking.

A packet is identified in both passes by its number in the file (P packets in decoding order). The number travels
through the decoder in the packet's pts field, which decoders copy to the frame. F is the number of frames that are
shown.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from videollm.errors import (
    NoVideoStreamError,
    VideoDecodeError,
    VideoError,
    VideoFormatError,
    VideoNotFoundError,
)
from videollm.video import tiles
from videollm.video.container import (
    MAX_ASPECT,
    MAX_DURATION_S,
    MAX_PIXELS,
    open_media,
    packets,
    pictures,
    video_errors,
)
from videollm.video.cut_off import missing_frames
from videollm.video.frames import VideoInfo
from videollm.video.joined import JoinedPart, part_starts, shifts
from videollm.video.orientation import Orientation
from videollm.video.settling import DoubtError, Settling

# In these formats each picture changes the one before, but the container marks all of them as entry points.
_ONE_ENTRY = {"apng", "gif"}
# In these codecs no picture depends on one marked as "not a reference", which is skipped unless it is wanted. In HEVC
# the mark holds only within a temporal layer.
_SKIP_UNREFERENCED = {"h264"}


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """The packets and frames of a file. Packet arrays are in decoding order, frame arrays in the order of showing."""

    info: VideoInfo
    container: str  # FFmpeg's name of the format, such as "matroska,webm"
    orientation: Orientation
    pts: np.ndarray  # int64 (P,), stream ticks
    is_entry: np.ndarray  # bool (P,), decoding may start here
    is_damaged: np.ndarray  # bool (P,), the container itself says that the data is incomplete
    packet: np.ndarray  # int64 (F,), the packet that holds each frame
    times_s: np.ndarray  # float64 (F,), seconds from the first frame
    missing: int  # frames that a cut-off file promises beyond its last packet
    parts: tuple[JoinedPart, ...] = (JoinedPart(0.0),)  # several in a file that was joined from several

    @property
    def is_key(self) -> np.ndarray:
        """bool (F,), True at frames that are decoded without another frame."""
        return self.is_entry[self.packet]


def scan(path: str | os.PathLike[str]) -> Scan:
    """Reads the packets and the first picture of a file.

    Raises a VideoError that names the file and the reason; see `probe`.
    """
    where = Path(path)
    with video_errors(path):
        stat = where.stat()
        if not where.is_file():
            raise VideoNotFoundError(path, "not a file")
        if stat.st_size == 0:
            raise VideoFormatError(path, "the file is empty")
        return _scan(str(path), stat.st_size, stat.st_mtime_ns)


def parts_of(path: str | os.PathLike[str], video: VideoStream | None) -> tuple[JoinedPart, ...]:
    """Returns the parts that a file was joined from. video: its video stream; without one that can be read, times are
    left as they are."""
    try:
        return scan(path).parts if video is not None else (JoinedPart(0.0),)
    except VideoError:
        return (JoinedPart(0.0),)


@contextmanager
def _open(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    with open_media(path) as container:
        stream = pictures(container, path)
        if stream is None:
            raise NoVideoStreamError(path, "it has no video stream")
        if stream.codec_context is None:
            raise VideoFormatError(path, "there is no decoder for its video")
        # The size that the container states is checked before anything is decoded, and FFmpeg checks the true one.
        _check_size(path, stream.width, stream.height)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        yield container, stream


def _check_size(path: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise VideoFormatError(path, f"its pictures have {width}x{height} pixels; the limit is {MAX_PIXELS}")
    if max(width, height) > MAX_ASPECT * max(1, min(width, height)):
        raise VideoFormatError(path, f"its pictures have {width}x{height} pixels; the limit is {MAX_ASPECT} to 1")


@lru_cache(maxsize=8)
def _scan(path: str, size: int, mtime_ns: int) -> Scan:
    with _open(path) as (container, stream):
        if stream.disposition & Disposition.dependent:
            return _scan_tiles(path)
        context = stream.codec_context
        context.thread_count = 1  # with more threads the first picture comes out later
        rows, positions = [], []
        first: VideoFrame | None = None
        for index, packet in enumerate(packets(container, stream)):
            # Only VP8 stores pictures that are not shown as separate packets (RFC 6386, 9.1: show_frame).
            hidden = packet.is_discard or (context.name == "vp8" and not memoryview(packet)[0] & 0x10)
            rows.append((packet.pts, packet.dts, packet.duration, packet.is_keyframe, packet.is_corrupt, not hidden))
            positions.append(packet.pos)
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
        starts = part_starts(columns[0], is_entry)
        # A transport stream counts its packets. Where the count breaks because a part ends, nothing is lost, though the
        # demultiplexer marks one of the packets around the break.
        for start in starts[1:]:
            is_damaged[max(0, start - 2) : start + 1] = False
        pts, order, added = _presentation(path, container, stream, columns[0], columns[1], durations, is_shown, starts)

        tick = float(stream.time_base or 1)
        parts = [
            JoinedPart(0.0),
            *(JoinedPart(float(added[i] * tick), positions[i], positions[i - 1]) for i in starts[1:]),
        ]
        times_s = (pts[order] - pts[order[0]]) * tick
        last = durations[order[-1]] * tick or (times_s[-1] - times_s[-2] if len(order) > 1 else 0.0)
        duration_s = float(times_s[-1] + last)
        orientation = Orientation.of(first, context.name)
        width, height = round(first.width * float(stream.sample_aspect_ratio or 1)), first.height
        if orientation.transpose:
            width, height = height, width
        _check_size(path, width, height)
        if duration_s > MAX_DURATION_S:
            limit = f"{MAX_DURATION_S / 86400:g} days"
            raise VideoFormatError(path, f"its timestamps span {duration_s / 86400:.1f} days; the limit is {limit}")
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
        missing = missing_frames(path, container, stream, len(rows), float(pts[order[-1]] * tick + last))
        return Scan(
            info, container.format.name, orientation, pts, is_entry, is_damaged, order, times_s, missing, tuple(parts)
        )


def _scan_tiles(path: str) -> Scan:
    """Returns the scan of a picture that is stored in tiles."""
    height, width, _ = tiles.read(path).shape
    info = VideoInfo(
        path=path,
        duration_s=tiles.DURATION_S,
        width=width,
        height=height,
        fps=0.0,
        codec="av1",
        rotation=0,
        has_audio=False,
        content_sha=_sha256(path),
    )
    one, zero = np.ones(1, bool), np.zeros(1, np.int64)
    return Scan(info, tiles.CONTAINER, Orientation(), zero, one, ~one, zero, np.zeros(1), 0)


def _presentation(
    path: str,
    container: InputContainer,
    stream: VideoStream,
    pts: tuple[int | None, ...],
    dts: tuple[int | None, ...],
    durations: np.ndarray,
    is_shown: np.ndarray,
    starts: list[int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns presentation times int64 (P,), the packets of the frames in the order of showing (F,), and what was added
    to the times of the file (P,) because it was joined from parts that begin at the packets `starts`.

    Raw streams and field pictures lack some times. AVI has none, and FFmpeg numbers its packets in decoding order, even
    if the codec shows them in another. In these cases the file is decoded to find the order.
    """
    shown = np.flatnonzero(is_shown)
    known = [p for p, is_frame in zip(pts, is_shown, strict=True) if is_frame and p is not None]
    numbered = container.format.name == "avi" and stream.codec_context.has_b_frames and known == sorted(known)
    if len(known) == len(shown) and not numbered:
        stamps = np.array([p or 0 for p in pts], np.int64)
        added = shifts(stamps, durations, starts)
        stamps += added
        if len(np.unique(stamps[shown])) == len(shown):
            return stamps, shown[np.argsort(stamps[shown])], added

    with _open(path) as (again, video):
        output = [frame.pts for p in _numbered(again, video) for frame in _decode(video.codec_context, p)]
    order = np.array([i for i in output if is_shown[i]], np.int64)
    stamps = np.cumsum(durations) - durations
    for i, times in enumerate(zip(pts, dts, strict=True)):
        stamps[i] = next((t for t in times if t is not None), stamps[i])
    added = shifts(stamps, durations, starts)
    stamps += added
    stamps[order] = np.sort(stamps[order])
    return stamps, order, added


def _numbered(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    """Yields each packet with its number in its pts, then None, which drains the decoder."""
    for index, packet in enumerate(packets(container, stream)):
        packet.pts = index
        yield packet
    yield None


def _decode(context: Any, packet: Any) -> list[VideoFrame]:
    """Returns the frames that the decoder returns for a packet, or none if it cannot decode it."""
    try:
        return context.decode(packet)
    except FFmpegError:
        return []


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(scan: Scan, views: Sequence[tuple[np.ndarray, tuple[int, int]]]) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yields the frames of each view in order, as the number of the view and uint8 (height,width,3), or None for a lost
    frame. Each frame is decoded once.

    A frame is lost if it does not decode, or if anything since the key frame that it depends on does not. FFmpeg would
    return a repaired picture for it, which may show what was never filmed.

    Args:
        scan: The scan of the file.
        views: Of each view, the numbers of its frames in the order of showing, which increase, and the (width, height)
            of the frames as shown.
    """
    if scan.container == tiles.CONTAINER:
        picture = tiles.read(scan.info.path)
        yield from ((number, tiles.resized(picture, size)) for number, (_, size) in enumerate(views))
        return
    orientation = scan.orientation
    sizes = [size[::-1] if orientation.transpose else size for _, size in views]
    scalers = [VideoReformatter() for _ in views]
    all_wanted = np.unique(np.concatenate([wanted for wanted, _ in views]))
    wanted_by = [np.isin(all_wanted, wanted, assume_unique=True) for wanted, _ in views]
    needed = scan.packet[all_wanted]
    done = 0
    for careful in (False, True):
        try:
            for frame in _pictures(scan, needed[done:], careful):
                done += 1
                for number, is_wanted in enumerate(wanted_by):
                    if not is_wanted[done - 1]:
                        continue
                    if frame is None:
                        yield number, None
                        continue
                    width, height = sizes[number]
                    image = scalers[number].reformat(
                        frame, width, height, "rgb24", interpolation=Interpolation.BICUBIC, threads=1
                    )
                    yield number, orientation.apply(image.to_ndarray())
            return
        except DoubtError:
            continue


def _pictures(scan: Scan, needed: np.ndarray, careful: bool) -> Iterator[VideoFrame | None]:
    """Yields the decoded frames of the packets `needed`, in the order of showing, or None for a lost frame.

    careful: Decode with one thread, so that an error belongs to the packet just sent, and from one group of pictures
    earlier, because an H.264 recovery point (intra refresh) is complete only some frames after it. If this is False,
    damage raises DoubtError.
    """
    group = _groups(scan)
    runs = _runs((group[np.maximum(group - 1, 0)] if careful else group)[needed], needed)
    settling = Settling(scan.pts, needed, group, careful)
    with _open(scan.info.path) as (container, stream):
        context = stream.codec_context
        context.thread_type = "AUTO"
        context.thread_count = 1 if careful else 0
        if not careful:
            # With threads, a picture may come out before its flag of damage is set. An error is raised in time.
            context.options |= {"err_detect": "explode"}
        first, last = runs.popleft()
        for index, packet in enumerate(packets(container, stream)):
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
                    settling.add(context.decode(None))  # the frames that the decoder has kept back
            except FFmpegError:
                settling.broke(index)
            yield from settling.settled(drained=index == last)
            if index == last:
                context.flush_buffers()  # a drained decoder takes no packets until it is flushed
                if not runs:
                    break
                first, last = runs.popleft()
    yield from settling.rest()


def _groups(scan: Scan) -> np.ndarray:
    """Returns, for each packet, the packet from which decoding must start for it to come out right, int64 (P,).

    This is the last entry point before it. Pictures that follow an entry point in the file but are shown before it also
    refer to the group of pictures before (open groups), so that they need the entry point before that.
    """
    here = np.arange(len(scan.pts))
    entry = np.maximum.accumulate(np.where(scan.is_entry, here, 0))
    leading = scan.pts < scan.pts[entry]
    return np.where(leading, entry[np.maximum(entry - 1, 0)], entry)


def _runs(starts: np.ndarray, ends: np.ndarray) -> deque[tuple[int, int]]:
    """Returns the first and last packets of the spans to decode. Spans without a packet between them are joined."""
    runs: deque[tuple[int, int]] = deque()
    for start, end in sorted(zip(starts.tolist(), ends.tolist(), strict=True)):
        if runs and start <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(end, runs[-1][1]))
        else:
            runs.append((start, end))
    return runs
