"""Decoding apart from the server: a hostile file can kill a process here, and nothing else.

`python -m serve.runtime.decoding SOCKET` imports the decoder once and then forks a child for each video, with limits on
its memory and time. The child sends JSON lines, some of them followed by as many raw bytes as they say. No object is
ever unpickled, so a child that was taken over can send no more than wrong pictures.
"""

import asyncio
import gc
import importlib
import json
import os
import resource
import signal
import socketserver
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serve.api.errors import APIError
from serve.limits import Limits
from videollm.config import SamplingConfig
from videollm.errors import VideoError, VideoLLMError
from videollm.video.decode import iter_frames, probe
from videollm.video.frames import Frames, VideoInfo

MOST_ASPECT = 16  # sides of a picture; the short one decides to what size frames are brought
SLACK_S = 5.0  # beyond a child's own limit of time
START_S = 300.0  # importing the decoder, on a busy machine
LINE_BYTES = 1 << 20
LATE = ("av.subtitles.stream", "numpy.ma")  # what reading a video imports when it comes to it


@dataclass(frozen=True, slots=True)
class Decoded:
    info: VideoInfo
    pieces: list[Frames]


class Decoders:
    """The parent's view. At most `limits.decoders` videos at a time, and as many sets of frames in memory."""

    def __init__(self, folder: Path, limits: Limits):
        self.socket, self.limits = folder / "decoding.sock", limits
        self.restarts = 0
        self._free = asyncio.Semaphore(limits.decoders)
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None and self.socket.exists()

    async def start(self) -> None:
        """Returns once videos can be decoded; starts the process again where it has died."""
        async with self._starting:
            if self.alive:
                return
            if self._process is not None:
                self.restarts += 1
            self.socket.unlink(missing_ok=True)
            command = [sys.executable, "-m", "serve.runtime.decoding", str(self.socket)]
            threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # forking wants a process of one thread
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, env=os.environ | threads, start_new_session=True
            )
            async with asyncio.timeout(START_S):
                while not self.socket.exists():
                    if self._process.returncode is not None:
                        raise RuntimeError(f"the decoding process ended with {self._process.returncode} as it started")
                    await asyncio.sleep(0.05)

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    @asynccontextmanager
    async def decode(self, path: Path, sampling: SamplingConfig, short_side: int) -> AsyncIterator[Decoded]:
        """A video's frames, for as long as the context lasts. Raises APIError 400 with the reason."""
        async with self._free:
            try:
                async with asyncio.timeout(self.limits.decode_s + SLACK_S):
                    found = await self._decode(path, sampling, short_side)
            except (TimeoutError, asyncio.IncompleteReadError, ConnectionResetError) as error:
                raise _refusal(
                    f"decoding it crashed, or took more than {self.limits.decode_s:g} s or "
                    f"{self.limits.decode_bytes >> 20} MiB"
                ) from error
            yield found

    async def _decode(self, path: Path, sampling: SamplingConfig, short_side: int) -> Decoded:
        reader, writer = await self._connect()
        try:
            limits = {name: getattr(self.limits, name) for name in _CHILD_LIMITS}
            order = {"path": str(path), "sampling": asdict(sampling), "short_side": short_side, "limits": limits}
            writer.write(json.dumps(order).encode() + b"\n")
            info, pieces = None, []
            while True:
                line = await reader.readuntil(b"\n")
                said = json.loads(line)
                match said["kind"]:
                    case "info":
                        info = VideoInfo(**said["info"])
                    case "error":
                        raise _refusal(said["reason"])
                    case "frames" if info:
                        pieces.append(await self._frames(reader, said, info, short_side))
                        if sum(map(len, pieces)) > self.limits.frames:
                            raise _refusal(f"it sends more than {self.limits.frames} frames")
                    case "end" if info and pieces:
                        return Decoded(info, pieces)
        finally:
            writer.close()

    async def _frames(self, reader: asyncio.StreamReader, said: dict, info: VideoInfo, short_side: int) -> Frames:
        shape = t, channels, height, width = tuple(said["shape"])
        if channels != 3 or t < 1 or t > self.limits.frames or height * width > MOST_ASPECT * short_side**2:
            raise _refusal(f"it sends frames of shape {shape}")
        data = await reader.readexactly(t * 3 * height * width)
        pixels = torch.from_numpy(np.frombuffer(data, np.uint8).copy()).view(shape)
        return Frames(
            pixels=pixels, times_s=torch.tensor(said["times_s"], dtype=torch.float64), info=info, lost=said["lost"]
        )

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in range(2):
            await self.start()
            try:
                return await asyncio.open_unix_connection(str(self.socket), limit=LINE_BYTES)
            except (ConnectionRefusedError, FileNotFoundError):
                self.socket.unlink(missing_ok=True)  # it was killed
        raise APIError(503, "videos cannot be decoded now", "decoder_unavailable", kind="server_error", retry_after_s=5)


_CHILD_LIMITS = ("video_s", "pixels", "frames", "decode_s", "decode_bytes")


def _refusal(reason: str) -> APIError:
    return APIError(400, f"the video cannot be used: {reason}", "invalid_media")


class _Child(socketserver.StreamRequestHandler):
    """One video."""

    def handle(self) -> None:
        order = json.loads(self.rfile.readline())
        limits = order["limits"]
        _confine(limits["decode_s"], limits["decode_bytes"])
        try:
            self._send(Path(order["path"]), SamplingConfig(**order["sampling"]), order["short_side"], limits)
        except VideoError as error:
            self._say({"kind": "error", "reason": error.reason})
        except VideoLLMError as error:
            self._say({"kind": "error", "reason": str(error)})
        except MemoryError:
            self._say({"kind": "error", "reason": f"decoding it takes more than {limits['decode_bytes'] >> 20} MiB"})

    def _send(self, path: Path, sampling: SamplingConfig, short_side: int, limits: dict) -> None:
        info = probe(path)
        _check(info, sampling, limits)
        self._say({"kind": "info", "info": asdict(info)})
        for frames in iter_frames(path, sampling, short_side=short_side):
            pixels = frames.pixels.contiguous().numpy()
            said = {"shape": pixels.shape, "times_s": frames.times_s.tolist(), "lost": frames.lost}
            self._say({"kind": "frames", **said})
            self.wfile.write(pixels.data)
        self._say({"kind": "end"})

    def _say(self, value: dict) -> None:
        self.wfile.write(json.dumps(value).encode() + b"\n")


def _check(info: VideoInfo, sampling: SamplingConfig, limits: dict) -> None:
    """Raises VideoLLMError for a video beyond the limits."""
    if info.duration_s > limits["video_s"]:
        raise VideoLLMError(f"it lasts {info.duration_s:.0f} s, the limit is {limits['video_s']:g}")
    if info.width * info.height > limits["pixels"]:
        raise VideoLLMError(f"its pictures have {info.width}x{info.height} pixels, the limit is {limits['pixels']}")
    if max(info.width, info.height) > MOST_ASPECT * min(info.width, info.height):
        raise VideoLLMError(f"its pictures, {info.width}x{info.height}, are longer than {MOST_ASPECT} to 1")
    span_s = min(sampling.end_s or info.duration_s, info.duration_s) - (sampling.start_s or 0)
    count = sampling.frames or span_s * (sampling.fps or 0)
    if (sampling.max_frames or count) > limits["frames"] < count:
        raise VideoLLMError(
            f"{count:.0f} frames of it were asked for, the limit is {limits['frames']}; set video.frames, video.fps or "
            "video.start and video.end"
        )


def _confine(seconds: float, extra_bytes: int) -> None:
    """Limits that the system enforces by itself, whatever the code that reads a file does."""
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    parent = 0
    request_queue_size = 128
    max_children = 64

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self.parent:  # the server is gone
            raise SystemExit

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away; anything else is a defect, and shown."""
        if not isinstance(sys.exception(), BrokenPipeError | ConnectionResetError):
            super().handle_error(request, client_address)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    path = Path(sys.argv[1])
    # Every child has what is there now: it imports nothing, and its collector leaves the shared pages alone.
    for name in LATE:
        importlib.import_module(name)
    gc.freeze()
    aside = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        aside.unlink()
    _Server.parent = os.getppid()
    with _Server(str(aside), _Child) as server:
        aside.rename(path)  # there once it can be connected to
        server.serve_forever(poll_interval=0.5)


if __name__ == "__main__":
    main()
