"""Decoding of videos in separate processes, so that a hostile file can crash one of them and nothing else.

This module is the server's side; `serve.runtime.decoding_process` is the other one. A child of that process decodes one
video and sends lines of JSON. A line that announces frames is followed by their raw bytes. Nothing is unpickled, so
that a child under the control of a file can send no more than wrong pictures.
"""

import asyncio
import json
import logging
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from serve.api.errors import APIError
from serve.config import Limits
from serve.runtime.decoding_process import BEGUN, CHANGED, MAX_ASPECT, PIECE_SAMPLES
from serve.security.auth import account_of
from videollm.config import SamplingConfig
from videollm.video.audio import SAMPLE_RATE, AudioPiece
from videollm.video.frames import Frames, VideoInfo

logger = logging.getLogger(__name__)

SLACK_S = 5.0  # the server waits so much longer than a child's own time limit
ATTEMPTS = 3  # to reach the decoding process, which may be killed in the middle of one
HANG_UP_S = 5.0  # longest wait for a child to end
BEGIN_S = 60.0  # longest wait for a child to begin, which takes long on a busy machine
START_S = 300.0  # the decoding process imports the decoder first, which takes long on a busy machine
RESTART_S = 5.0  # between two attempts to start it
LINE_BYTES = 1 << 20
SAMPLE_BYTES = 4


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """A decoded video. `pieces` are the frames in order of time, as the decoder returns them."""

    info: VideoInfo
    pieces: list[Frames]


@dataclass(frozen=True, slots=True)
class SoundRun:
    """samples: how many follow one another from start_s on, at SAMPLE_RATE."""

    start_s: float
    samples: int


@dataclass(frozen=True, slots=True)
class DecodedSound:
    """Sound in a temporary file, since hours of it are too much for memory. file: float32 samples of all runs."""

    file: IO[bytes]
    runs: list[SoundRun] = field(default_factory=list)

    @property
    def end_s(self) -> float:
        return max((run.start_s + run.samples / SAMPLE_RATE for run in self.runs), default=0.0)

    def pieces(self) -> Iterator[AudioPiece]:
        self.file.seek(0)
        for run in self.runs:
            data = np.frombuffer(self.file.read(run.samples * SAMPLE_BYTES), np.float32).copy()
            yield AudioPiece(run.start_s, torch.from_numpy(data).nan_to_num_().clamp_(-1, 1))


class SandboxedDecoder:
    """The server's side. Decodes at most `limits.decoders` videos at a time and holds as many sets of frames.

    Args:
        folder: Where the socket of the decoding process is made.
        share: How many of them one account may have (see `account_of`).
    """

    def __init__(self, folder: Path, limits: Limits, share: int):
        self.socket, self.limits = folder / "decoding.sock", limits
        self.restarts = 0
        self._free = asyncio.Semaphore(limits.decoders)
        self._shares = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(share))
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None and self.socket.exists()

    async def keep_running(self) -> None:
        """Starts the process, and starts it again whenever it has died, until this is cancelled.

        Where /ready is 503, a load balancer sends no video that would start it.
        """
        while True:
            try:
                await self.start()
                assert self._process is not None
                await self._process.wait()
            except (OSError, DecoderStartError, TimeoutError) as error:
                logger.warning("the decoding process does not start: %s", error)
                await asyncio.sleep(RESTART_S)

    async def start(self) -> None:
        """Returns once videos can be decoded. Restarts the process if it has died."""
        async with self._starting:
            if self.alive:
                return
            if self._process is not None:
                self.restarts += 1
            self.socket.unlink(missing_ok=True)
            command = [sys.executable, "-m", "serve.runtime.decoding_process", str(self.socket)]
            # A fork copies one thread only. A lock that another thread holds would stay locked in the child for ever.
            threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, env=_environment() | threads, start_new_session=True
            )
            async with asyncio.timeout(START_S):
                while not self.socket.exists():
                    if self._process.returncode is not None:
                        raise DecoderStartError(
                            f"the decoding process ended with {self._process.returncode} as it started"
                        )
                    await asyncio.sleep(0.05)

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    @asynccontextmanager
    async def decode(
        self, path: Path, sampling: SamplingConfig, short_side: int, owner: str, sha: str | None = None
    ) -> AsyncIterator[DecodedVideo]:
        """Provides a video's frames for as long as the context lasts.

        Args:
            sha: The SHA-256 that the file must have, under which what is found in it will be kept. None: any.

        Raises APIError 400 with the reason.
        """
        async with self._shares[account_of(owner)], self._free:
            yield await self._decode(path, sampling, short_side, sha)

    @asynccontextmanager
    async def sound(self, path: Path, owner: str, sha: str | None = None) -> AsyncIterator[DecodedSound]:
        """Provides the sound of a media file for as long as the context lasts. See `decode`."""
        with tempfile.TemporaryFile(dir=self.socket.parent) as samples:
            async with self._shares[account_of(owner)], self._free:
                found = await self._sound(path, samples, sha)
            yield found

    async def clip(self, path: Path, start_s: float, end_s: float, owner: str) -> IO[bytes]:
        """Returns the frames that start in [start_s, end_s) and their sound as an mp4 file that has no name any more.

        Raises APIError 400 with the reason.
        """
        with tempfile.TemporaryDirectory(dir=self.socket.parent) as folder:
            target = Path(folder) / "clip.mp4"
            request = {"path": str(path), "clip": (start_s, end_s, str(target))}
            async with self._shares[account_of(owner)], self._free, self._ask(request) as (messages, _):
                async for message in messages:
                    raise _refusal(f"it sends {message['kind']!r} instead of a clip")
            return target.open("rb")

    async def _decode(self, path: Path, sampling: SamplingConfig, short_side: int, sha: str | None) -> DecodedVideo:
        request = {"path": str(path), "sampling": asdict(sampling), "short_side": short_side}
        info, pieces = None, []
        async with self._ask(request) as (messages, reader):
            async for message in messages:
                match message["kind"]:
                    case "info":
                        info = VideoInfo(**message["info"])
                        _check_content(sha, info.content_sha)
                    case "frames" if info:
                        pieces.append(await self._frames(reader, message, info, short_side))
                        if sum(map(len, pieces)) > self.limits.frames:
                            raise _refusal(f"it sends more than {self.limits.frames} frames")
        if info is None or not pieces:
            raise _refusal("it sends no frames")
        return DecodedVideo(info, pieces)

    async def _sound(self, path: Path, file: IO[bytes], sha: str | None) -> DecodedSound:
        found, total = DecodedSound(file), 0
        async with self._ask({"path": str(path), "sound": True}) as (messages, reader):
            async for message in messages:
                if message["kind"] == "content":
                    _check_content(sha, message["sha"])
                    continue
                count = message["samples"]
                total += count
                # The child is not trusted: what it announces is checked before it is read.
                if not 0 < count <= PIECE_SAMPLES or total > self.limits.video_s * SAMPLE_RATE:
                    raise _refusal(f"its sound lasts more than {self.limits.video_s:g} s")
                file.write(await reader.readexactly(count * SAMPLE_BYTES))
                found.runs.append(SoundRun(float(message["start_s"]), count))
        return found

    @asynccontextmanager
    async def _ask(self, request: dict[str, Any]) -> AsyncIterator[tuple[AsyncIterator[dict], asyncio.StreamReader]]:
        """Sends a request to a child of its own, and provides its messages and what follows them.

        Whatever ends the context, the child has ended after it: a client that goes away takes its decoding with it.
        """
        limits = {name: getattr(self.limits, name) for name in _CHILD_LIMITS}
        reader, writer = await self._child(request | {"limits": limits})
        try:
            async with asyncio.timeout(self.limits.decode_s + SLACK_S):
                yield _messages(reader), reader
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            raise _refusal(
                f"decoding it crashed, or took more than {self.limits.decode_s:g} s or "
                f"{self.limits.decode_bytes >> 20} MiB"
            ) from error
        finally:
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(HANG_UP_S):
                    writer.write_eof()
                    while await reader.read(LINE_BYTES):
                        pass
            writer.close()

    async def _frames(self, reader: asyncio.StreamReader, message: dict, info: VideoInfo, short_side: int) -> Frames:
        shape = t, channels, height, width = tuple(message["shape"])
        # The child is not trusted: the sizes that it announces are checked before memory is reserved for them.
        if channels != 3 or t < 1 or t > self.limits.frames or height * width > MAX_ASPECT * short_side**2:
            raise _refusal(f"it sends frames of shape {shape}")
        data = await reader.readexactly(t * 3 * height * width)
        pixels = torch.from_numpy(np.frombuffer(data, np.uint8).copy()).view(shape)
        return Frames(
            pixels=pixels,
            times_s=torch.tensor(message["times_s"], dtype=torch.float64),
            info=info,
            lost=message["lost"],
        )

    async def _child(self, request: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Returns the connection to a child that has begun with the request.

        The decoding process may be killed at any time. Until a child has begun, this is no fault of the file, and a new
        process is tried. Raises APIError 503.
        """
        for _ in range(ATTEMPTS):
            try:
                await self.start()
                reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=LINE_BYTES)
                writer.write(json.dumps(request).encode() + b"\n")
                async with asyncio.timeout(BEGIN_S):
                    if await reader.readline() == BEGUN:
                        return reader, writer
                writer.close()
            except ConnectionRefusedError:
                self.socket.unlink(missing_ok=True)  # a process that was killed has left it
            except (OSError, DecoderStartError, TimeoutError) as error:
                logger.warning("the decoding process does not answer: %s", error)
        message = "videos cannot be decoded at the moment; try again in 5 s"
        raise APIError(503, message, "decoder_unavailable", kind="server_error", retry_after_s=5)


class DecoderStartError(Exception):
    """The decoding process ended as it started."""


def _environment() -> dict[str, str]:
    """Returns what the decoding process needs of the server's environment. Keys, above all, are not part of it."""
    return {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}


_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "VIDEOLLM_CACHE")
_CHILD_LIMITS = ("video_s", "pixels", "frames", "decode_s", "decode_bytes", "media_bytes")


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[dict]:
    """The messages of a child up to its end. Raises APIError where the child refuses the file."""
    while (message := json.loads(await reader.readuntil(b"\n")))["kind"] != "end":
        if message["kind"] == "error":
            raise _refusal(message["reason"])
        yield message


def _check_content(expected: str | None, found: str) -> None:
    """Raises APIError 400 if the file is no longer the one whose hash was taken."""
    if expected not in (None, found):
        raise _refusal(CHANGED)


def _refusal(reason: str) -> APIError:
    return APIError(400, f"the video cannot be used: {reason}", "invalid_media")
