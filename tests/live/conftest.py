"""Real sources of streams on loopback: a live playlist of HLS, and an RTSP server."""

import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any

import av
import numpy as np
import pytest
import torch

from scripts.live_sources import HLSServer
from videollm.live.reader import StreamEvent, StreamFrame, StreamReader
from videollm.live.source import StreamSource
from videollm.video.audio import SAMPLE_RATE

FPS, SIDE = 10, 64
WAIT_S = 120.0  # a machine whose cores are shared takes long to start a process


def write_clip(
    path: Path,
    seconds: int,
    container: str | None = None,
    *,
    sound: torch.Tensor | None = None,
    codec: str = "aac",
    **options: str,
) -> Path:
    """Writes a clip whose pictures are as bright as the second in which they are shown, with a key frame a second, and
    with the samples `sound`."""
    with av.open(str(path), "w", format=container, options=options) as output:
        video = output.add_stream("libx264", rate=FPS, options={"g": str(FPS), "preset": "ultrafast", "bf": "0"})
        video.width, video.height, video.pix_fmt = SIDE, SIDE, "yuv420p"
        audio: Any = output.add_stream(codec, rate=SAMPLE_RATE, layout="mono") if sound is not None else None
        for number in range(seconds * FPS):
            pixels = np.full((SIDE, SIDE, 3), brightness(number / FPS), np.uint8)
            output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            if sound is not None:
                at, length = number * SAMPLE_RATE // FPS, SAMPLE_RATE // FPS
                frame = av.AudioFrame.from_ndarray(sound[at : at + length].numpy()[None], "fltp", "mono")
                frame.rate, frame.pts, frame.time_base = SAMPLE_RATE, at, Fraction(1, SAMPLE_RATE)
                output.mux(audio.encode(frame))
        for stream in filter(None, (video, audio)):
            output.mux(stream.encode(None))
    return path


def brightness(time_s: float) -> int:
    return 20 + 4 * (int(time_s) % 50)


@pytest.fixture
def hls(tmp_path: Path) -> Iterator[HLSServer]:
    server = HLSServer(tmp_path, write_clip)
    yield server
    server.close()


class RTSPServer:
    """A process that publishes the files of a folder over RTSP, at their own speed."""

    def __init__(self, folder: Path):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self.folder = folder
        self.start()

    def url(self, name: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{name}?play_count=0"

    def start(self) -> None:
        program = f"import asyncio; from aio_rtsp_toolkit.server import serve; asyncio.run(serve({str(self.folder)!r}, "
        program += f"'127.0.0.1', {self.port}))"
        self.process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
        until = monotonic() + WAIT_S
        while monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            threading.Event().wait(0.05)
        raise AssertionError("the RTSP server does not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def rtsp(tmp_path: Path) -> Iterator[RTSPServer]:
    write_clip(tmp_path / "clip.mp4", 20)
    server = RTSPServer(tmp_path)
    yield server
    server.kill()


class Watched:
    """A source that is read, with what has come so far."""

    def __init__(self, source: StreamSource, **options: Any):
        self.events: queue.Queue[Any] = queue.Queue(4)
        self.reader = StreamReader(source, SIDE, self.events, **options)
        self.seen: list[StreamEvent] = []

    def until(self, wanted: Callable[["Watched"], Any]) -> Any:
        """Takes events until `wanted` returns something true, and returns that."""
        until = monotonic() + WAIT_S
        while not (found := wanted(self)):
            assert monotonic() < until, self.seen[-5:]
            self.seen.append(self.events.get(timeout=WAIT_S))
        return found

    @property
    def frames(self) -> list[StreamFrame]:
        return [event for event in self.seen if isinstance(event, StreamFrame)]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]


@contextmanager
def watching(source: StreamSource, **options: Any) -> Iterator[Watched]:
    watched = Watched(source, **options)
    yield watched
    watched.reader.stop()
