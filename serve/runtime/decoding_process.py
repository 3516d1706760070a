"""The process that decodes videos: `python -m serve.runtime.decoding_process SOCKET`.

It imports the decoder once and then forks a child for each video, with limits on its memory and time. See
`serve.runtime.decoding` for what the server and a child say to each other.
"""

import gc
import hashlib
import importlib
import json
import os
import resource
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from serve.log import logged_stderr, start_logging
from videollm.config import SamplingConfig
from videollm.errors import VideoError, VideoLLMError
from videollm.video.audio import iter_audio, joined
from videollm.video.container import video_errors
from videollm.video.cutting import cut
from videollm.video.decoding import iter_frames, probe
from videollm.video.frames import VideoInfo

# Frames are resized to a given short side. Without a limit of the aspect ratio the long one would be unbounded.
MAX_ASPECT = 16
BEGUN = b"begun\n"  # what a child sends before it looks at its file
CHANGED = "it changed while it was read"
PIECE_SAMPLES = 1 << 18  # most samples that a child sends at a time, 16 seconds
LAZY_IMPORTS = ("av.subtitles.stream", "numpy.ma")  # modules that decoding would import in each child


class _DecodingHandler(socketserver.StreamRequestHandler):
    """Decodes one video, in a child process."""

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        limits = request["limits"]
        threading.Thread(target=_end_with, args=(self.connection,), daemon=True).start()
        self.wfile.write(BEGUN)
        _confine(limits["decode_s"], limits["decode_bytes"])
        too_large = f"decoding it takes more than {limits['decode_bytes'] >> 20} MiB"
        try:
            with _one_file(request["path"]) as path:
                if "sound" in request:
                    self._send_sound(path, limits)
                elif "clip" in request:
                    _write_clip(path, limits, *request["clip"])
                else:
                    self._send(path, SamplingConfig(**request["sampling"]), request["short_side"], limits)
            self._write({"kind": "end"})
        except VideoError as error:
            out_of_memory = isinstance(error.__cause__, MemoryError)
            self._write({"kind": "error", "reason": too_large if out_of_memory else error.reason})
        except VideoLLMError as error:
            self._write({"kind": "error", "reason": str(error)})
        except MemoryError:
            self._write({"kind": "error", "reason": too_large})

    def _send(self, path: Path, sampling: SamplingConfig, short_side: int, limits: dict) -> None:
        info = probe(path)
        _check(info, sampling, limits)
        self._write({"kind": "info", "info": asdict(info)})
        for frames in iter_frames(path, sampling, short_side=short_side):
            pixels = frames.pixels.contiguous().numpy()
            header = {"shape": pixels.shape, "times_s": frames.times_s.tolist(), "lost": frames.lost}
            self._write({"kind": "frames", **header})
            self.wfile.write(pixels.data)

    def _send_sound(self, path: Path, limits: dict) -> None:
        with open(path, "rb") as file:
            self._write({"kind": "content", "sha": hashlib.file_digest(file, "sha256").hexdigest()})
        for piece in joined(iter_audio(path), PIECE_SAMPLES):
            if piece.end_s > limits["video_s"]:
                raise VideoLLMError(f"its sound lasts more than {limits['video_s']:g} s")
            self._write({"kind": "sound", "start_s": piece.start_s, "samples": len(piece.samples)})
            self.wfile.write(piece.samples.numpy().data)

    def _write(self, value: dict) -> None:
        self.wfile.write(json.dumps(value).encode() + b"\n")


def _write_clip(path: Path, limits: dict, start_s: float, end_s: float, target: str) -> None:
    _check(probe(path), SamplingConfig(frames=1, start_s=start_s, end_s=end_s), limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["media_bytes"], limits["media_bytes"]))
    cut(path, start_s, end_s, Path(target))


@contextmanager
def _one_file(name: str) -> Iterator[Path]:
    """Provides a path that leads to the same file however often it is opened, whatever becomes of its name.

    Raises VideoError where it cannot be opened, and VideoLLMError at the end where it was written to meanwhile: what
    was sent would then not be what has the hash that was sent.
    """
    with ExitStack() as opened:
        with video_errors(name):
            file = opened.enter_context(open(name, "rb"))
        before = _marks(file)
        yield Path(f"/proc/self/fd/{file.fileno()}") if sys.platform == "linux" else Path(name)
        if _marks(file) != before:
            raise VideoLLMError(CHANGED)


def _marks(file: IO[bytes]) -> tuple[int, ...]:
    seen = os.fstat(file.fileno())
    return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _end_with(connection: socket.socket) -> None:
    """Ends this process when the server hangs up. It sends nothing after its request."""
    connection.recv(1)
    os._exit(0)


def _check(info: VideoInfo, sampling: SamplingConfig, limits: dict) -> None:
    """Checks a video against the limits. Raises VideoLLMError."""
    if info.duration_s > limits["video_s"]:
        raise VideoLLMError(f"it lasts {info.duration_s:.0f} s; the limit is {limits['video_s']:g}")
    if info.width * info.height > limits["pixels"]:
        raise VideoLLMError(f"its frames have {info.width}x{info.height} pixels; the limit is {limits['pixels']}")
    if max(info.width, info.height) > MAX_ASPECT * min(info.width, info.height):
        raise VideoLLMError(f"its frames have {info.width}x{info.height} pixels; the limit is {MAX_ASPECT} to 1")
    span_s = min(sampling.end_s or info.duration_s, info.duration_s) - (sampling.start_s or 0)
    count = sampling.frames or span_s * (sampling.fps or 0)
    if (sampling.max_frames or count) > limits["frames"] < count:
        raise VideoLLMError(
            f"{count:.0f} frames of it were requested; the limit is {limits['frames']}. Set video.frames, video.fps or "
            "video.start and video.end"
        )


def _confine(seconds: float, extra_bytes: int) -> None:
    """Sets limits that the operating system enforces, whatever the code that reads a file does."""
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        max_bytes = pages * resource.getpagesize() + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))


class _ForkingServer(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Forks a child for each connection, and ends when the process that started it has ended."""

    parent = 0  # process id of the server
    request_queue_size = 128
    max_children = 64

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self.parent:  # orphaned: the server was killed
            raise SystemExit

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores that the server has hung up, as it does after a refusal. Anything else is a defect and is logged."""
        if not isinstance(sys.exception(), BrokenPipeError | ConnectionResetError):
            super().handle_error(request, client_address)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    path = Path(sys.argv[1])
    # Children inherit what is imported here. The garbage collector would write to pages that they share (copy on
    # write), so it is told to leave what is there now alone.
    for name in LAZY_IMPORTS:
        importlib.import_module(name)
    gc.freeze()
    unready = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        unready.unlink()
    _ForkingServer.parent = os.getppid()
    with _ForkingServer(str(unready), _DecodingHandler) as server:
        unready.rename(path)  # appears under its name once it accepts connections
        start_logging()
        with logged_stderr():
            server.serve_forever(poll_interval=0.5)


if __name__ == "__main__":
    main()
