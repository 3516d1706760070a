"""Opening of media files, and the choice of the stream that is the video."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from videollm.errors import FOREIGN, VideoFormatError, VideoLLMError, VideoNotFoundError

# Limits of what is decoded. Beyond them, a file of a few kilobytes would take gigabytes.
MAX_PIXELS = 2**26  # of a picture: 8192x8192
MAX_ASPECT = 16  # frames are resized to a given short side, so that the long one is bounded by this alone
MAX_DURATION_S = 7 * 24 * 3600.0  # longer ones come from broken timestamps
# Timestamps are rounded to the container's ticks, which are as coarse as 1/90 s in practice. A smaller step between two
# frames of sound is rounding, a larger one is a gap or an overlap.
TOLERANCE_S = 0.05
COPIED_PICTURES, COPIED_SOUND = ("h264", "hevc"), ("aac", "mp3")  # what players take inside MP4

_NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails


@contextmanager
def video_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what a library raises for a broken file into a VideoError that names the file and the reason."""
    try:
        yield
    except VideoLLMError:
        raise
    except FFmpegError as error:
        raise VideoFormatError(path, f"it cannot be read ({error.strerror})") from error
    except OSError as error:
        raise VideoNotFoundError(path, (error.strerror or str(error)).lower()) from error
    except MemoryError as error:
        raise VideoFormatError(path, "there is not enough memory to read it") from error
    except FOREIGN as error:
        raise VideoFormatError(path, f"it cannot be read ({str(error) or type(error).__name__})") from error


@contextmanager
def open_media(path: str | os.PathLike[str]) -> Iterator[InputContainer]:
    """Opens a media file. Raises VideoFormatError if it is none.

    FFmpeg gets a file descriptor and not a name. The extension, image sequence patterns (%03d) and protocols then have
    no effect, and a playlist cannot open other files.
    """
    with open(path, "rb") as file:
        try:
            # The metadata of a damaged file may not be text. Its pictures can still be intact.
            container = av.open("fd:", container_options={"fd": str(file.fileno())}, metadata_errors="replace")
        except FFmpegError as error:
            reason = f"not a video or image, or its header is cut off or damaged ({error.strerror})"
            raise VideoFormatError(path, reason) from error
        with container:
            yield container


def pictures(container: InputContainer, path: str | os.PathLike[str]) -> VideoStream | None:
    """Returns the stream that is the video, or None if there is none.

    Covers and thumbnails are no video. Where a picture stands beside a video, as in the files of some phones, FFmpeg
    may choose the picture. A stream of one picture is therefore chosen only if there is no other.
    """
    streams = [s for s in container.streams.video if not s.disposition & _NO_VIDEO]
    streams = [s for s in streams if s.codec_context is not None] or streams  # those that can be decoded
    if not streams:
        return None
    best = container.streams.best("video")
    first = best if isinstance(best, VideoStream) and best in streams else streams[0]
    if len(streams) == 1 or first.disposition & Disposition.dependent:
        return first
    counts: Counter[int] = Counter()
    with open_media(path) as again:
        for packet in packets(again, [again.streams[s.index] for s in streams]):
            counts[packet.stream_index] += 1
            if counts[first.index] > 1:
                return first
    return max(streams, key=lambda stream: counts[stream.index])


def packets(container: InputContainer, streams: Stream | list[Stream]) -> Iterator[Any]:
    """Yields the packets of streams that have data, up to the point where the container becomes unreadable."""
    found = container.demux(streams)
    while True:
        try:
            packet = next(found, None)
        except FFmpegError:
            return
        if packet is None:
            return
        if packet.size:
            yield packet
