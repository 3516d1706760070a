"""How each kind of source is opened by FFmpeg, within limits on time and on what it may open in turn."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import av
from av.container import InputContainer

from videollm.live.encrypted import DecryptedBody
from videollm.live.http import HTTPBody
from videollm.live.source import StreamSource
from videollm.video.container import open_media

POLL_S = 0.05  # between two looks at a file that has not grown
ANALYZE_S = 1.0  # of a stream, before its first packet is returned
PLAYLISTS = ("application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl")
# Everything that a playlist names is opened by `videollm.live.http`, without FFmpeg's own connections.
_ENCRYPTED = "crypto+"  # before the address of a segment, whose key and IV are options in hexadecimal
_PLAYLIST = {"http_persistent": "0", "http_multiple": "0", "max_reload": "3", "seg_max_retry": "2"}


class GrowingFile:
    """A file that another process writes, for FFmpeg to read.

    At its end, `read` waits for more, and returns nothing only after `timeout_s` without growth.

    Attributes:
        has_waited: Whether the end has been reached before.
    """

    def __init__(self, path: str, timeout_s: float):
        self.name, self._timeout_s, self.has_waited = path, timeout_s, False
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115

    def read(self, size: int) -> bytes:
        until = time.monotonic() + self._timeout_s
        while not (data := self._file.read(size)) and time.monotonic() < until:
            self.has_waited = True
            if os.fstat(self._file.fileno()).st_size < self._file.tell():
                raise OSError("the file was cut or written anew")
            time.sleep(POLL_S)
        return data

    def close(self) -> None:
        self._file.close()


@contextmanager
def opened(source: StreamSource) -> Iterator[tuple[InputContainer, GrowingFile | None]]:
    """Opens a source; the file is given too if it grows.

    Raises OSError or FFmpegError where the source cannot be reached or read, and the VideoError family for a file.
    """
    limits = {"timeout": (source.timeout_s, source.timeout_s), "metadata_errors": "replace"}
    quick = {"analyzeduration": str(round(1e6 * ANALYZE_S))}
    match source.kind:
        case "file":
            with open_media(source.url) as container:
                yield container, None
        case "growing":
            with (
                closing(GrowingFile(source.url, source.timeout_s)) as file,
                av.open(file, "r", container_options=quick | {"protocol_whitelist": "fd"}) as container,
            ):
                yield container, file
        case "http":
            with closing(HTTPBody(source.url, source.timeout_s, source.public_only)) as body:
                options = quick | {"protocol_whitelist": "http,https"}
                kind = "hls" if body.content_type in PLAYLISTS else None
                if kind or body.name.partition("?")[0].endswith(".m3u8"):
                    kind, options = "hls", options | _PLAYLIST
                with av.open(
                    body,
                    "r",
                    format=kind,
                    io_open=_opener(source.timeout_s, source.public_only),
                    container_options=options,
                ) as container:
                    yield container, None
        case "rtsp":
            options = quick | {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtp,tcp"}
            with av.open(source.url, container_options=options, **limits) as container:
                yield container, None
        case "device":
            with av.open(source.url, format="v4l2", **limits) as container:
                yield container, None


def _opener(timeout_s: float, public_only: bool) -> Callable[[str, int, dict[str, Any]], HTTPBody | DecryptedBody]:
    """Returns what PyAV calls to open the address of a playlist, a segment or a key."""

    def open_(url: str, flags: int, options: dict[str, Any]) -> HTTPBody | DecryptedBody:
        body = HTTPBody(url.removeprefix(_ENCRYPTED), timeout_s, public_only)
        if not url.startswith(_ENCRYPTED):
            return body
        return DecryptedBody(body, bytes.fromhex(options["key"]), bytes.fromhex(options["iv"]))

    return open_
