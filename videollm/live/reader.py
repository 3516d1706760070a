"""Reads a source in a worker process, and starts another one when it fails.

Shapes: H and W pixels of a frame, S samples.
"""

import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import IO, Any, TypeAlias

import numpy as np
import torch

from videollm.live.packets import ClipRequest
from videollm.live.source import StreamSource
from videollm.video.audio import SAMPLE_RATE, AudioPiece
from videollm.video.container import MAX_ASPECT

START_S = 120.0  # longest wait for a worker to begin, which imports take on a busy machine
SLACK_S = 5.0  # that a worker may be silent for longer than its source
BACKOFF_S, MAX_BACKOFF_S = 0.5, 30.0
GIVE_UP_S = 300.0
MEMORY_BYTES = 2 << 30  # of a worker
WAITING_EVENTS = 4  # that the consumer has not taken; after that the worker waits, or drops frames of a live source
LINE_BYTES = 1 << 16
MOST_SAMPLES = 4 * SAMPLE_RATE  # of a piece of sound
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True, eq=False)
class StreamFrame:
    """A frame. pixels: uint8 (3,H,W), RGB. time: when it was shown, in seconds since 1970."""

    pixels: torch.Tensor
    time: float


@dataclass(frozen=True, slots=True, eq=False)
class StreamSound:
    """A piece of sound. audio: its samples float32 (S,), mono, and its time in seconds since 1970."""

    audio: AudioPiece


@dataclass(frozen=True, slots=True)
class StreamConnected:
    """The source has been opened. clips: whether its packets can be copied into clips. sound: whether it has sound."""

    clips: bool
    sound: bool


@dataclass(frozen=True, slots=True)
class StreamLost:
    """The source cannot be reached or read any more, and is tried again after `retry_s` seconds."""

    reason: str
    retry_s: float


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """Nothing follows. reason: why. failed: whether the source could not be read, or has not come back."""

    reason: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class ClipWritten:
    """The answer to `StreamReader.clip`. problem: why there is no clip, else empty. start, end: times of its first and
    last picture, in seconds since 1970."""

    path: str
    problem: str
    start: float = 0.0
    end: float = 0.0


StreamEvent: TypeAlias = StreamFrame | StreamSound | StreamConnected | StreamLost | StreamEnded | ClipWritten


@dataclass(slots=True)
class StreamStats:
    """Counts since the start.

    Attributes:
        frames: Frames that the consumer has been given.
        dropped: Frames and seconds of sound that were dropped because the consumer was slow.
        lost: Packets and pictures that were damaged.
        late: Frames that came after a later one.
        jumps: How often the source's clock has jumped.
        reconnects: How often the source was opened again.
        behind_s: How long ago the latest packet should have come, in seconds.
    """

    frames: int = 0
    dropped: int = 0
    lost: int = 0
    late: int = 0
    jumps: int = 0
    reconnects: int = 0
    behind_s: float = 0.0


class StreamReader:
    """Puts the events of a source into a queue, from a thread of its own, until `StreamEnded`.

    A source that fails is opened again, after a wait that doubles each time. It ends after `give_up_s` seconds without
    a frame.

    Args:
        source: What is read.
        short_side: The pixels of the shorter side of frames.
        events: The queue. Of one without a size, nothing is ever dropped and memory may grow.
        listens: Whether sound is read too.
        give_up_s: Seconds.
    """

    def __init__(
        self,
        source: StreamSource,
        short_side: int,
        events: "queue.Queue[Any]",
        *,
        listens: bool = False,
        give_up_s: float = GIVE_UP_S,
        memory_bytes: int = MEMORY_BYTES,
    ):
        self.source, self.short_side, self.listens, self.events = source, short_side, listens, events
        self.give_up_s, self.memory_bytes = give_up_s, memory_bytes
        self.stats = StreamStats()
        self._before = StreamStats()  # of the workers that have ended
        self._latest = 0.0
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._worker: subprocess.Popen[bytes] | None = None
        self._has_ended = False
        self._clips: list[str] = []  # that the worker has not answered
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The process that reads the source now."""
        return self._worker.pid if self._worker is not None else None

    @property
    def waits_for_clips(self) -> bool:
        """Whether `ClipWritten` is still to come of a clip."""
        return bool(self._clips)

    def clip(self, clip: ClipRequest) -> None:
        """Has a clip written once its end has come. `ClipWritten` follows in any case."""
        with self._lock:
            worker = self._worker
            if worker is not None and worker.stdin is not None:
                try:
                    self._clips.append(clip.path)
                    worker.stdin.write(json.dumps(asdict(clip)).encode() + b"\n")
                    worker.stdin.flush()
                    return
                except OSError:  # it has just ended
                    self._clips.remove(clip.path)
        threading.Thread(target=self._put, args=(ClipWritten(clip.path, "the source is lost"),), daemon=True).start()

    def stop(self) -> None:
        """Ends the worker. The queue gets no further events."""
        self._stopped.set()
        if (worker := self._worker) is not None:
            worker.kill()
        self._thread.join()

    def _run(self) -> None:
        backoff_s, shown = BACKOFF_S, time.monotonic()
        while not self._stopped.is_set():
            frames = self.stats.frames
            problem, final = self._read()
            self._before = StreamStats(**{**asdict(self.stats), "behind_s": 0.0})
            if self.stats.frames > frames:
                backoff_s, shown = BACKOFF_S, time.monotonic()
            if not final and time.monotonic() - shown + backoff_s > self.give_up_s:
                problem, final = f"no frame for {self.give_up_s:g} s ({problem or 'it has ended'})", True
            if final:
                if not self._has_ended:
                    self._put(StreamEnded(problem, failed=True))
                return
            self._put(StreamLost(problem or "it has ended", backoff_s))
            self._stopped.wait(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
            self.stats.reconnects = self._before.reconnects = self.stats.reconnects + 1

    def _read(self) -> tuple[str, bool]:
        """Reads with one worker. Returns why it has ended, and whether the source has."""
        command = [sys.executable, "-m", "videollm.live.worker"]
        environment = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as worker:
            assert worker.stdin is not None and worker.stdout is not None
            request = {"source": asdict(self.source), "short_side": self.short_side, "memory_bytes": self.memory_bytes}
            request["sound_rate"] = SAMPLE_RATE if self.listens else 0
            try:
                worker.stdin.write(json.dumps(request).encode() + b"\n")
                worker.stdin.flush()
                with self._lock:
                    self._worker = worker
                if self._stopped.is_set():
                    return "it was stopped", True
                return self._follow(_Pipe(worker.stdout))
            except TimeoutError:
                return "nothing has come", False
            except (EOFError, OSError, ValueError, KeyError, TypeError):  # the worker is not trusted
                return "reading it crashed", self._has_ended or self.source.kind == "file"
            finally:
                with self._lock:
                    self._worker = None
                worker.kill()
                for path in self._clips:
                    self._put(ClipWritten(path, "the source was lost"))
                self._clips.clear()

    def _follow(self, pipe: "_Pipe") -> tuple[str, bool]:
        timeout_s = START_S
        silent_s = None if self.source.kind == "file" else 2 * self.source.timeout_s + SLACK_S  # opening, then reading
        while True:
            message = json.loads(pipe.line(timeout_s))
            timeout_s = None if self._has_ended else silent_s
            match message["kind"]:
                case "opened":
                    self._put(StreamConnected(bool(message["clips"]), bool(message["sound"])))
                case "frame":
                    height, width, channels = message["shape"]
                    if channels != 3 or not 0 < height * width <= MAX_ASPECT * self.short_side**2:
                        raise ValueError("a frame of this shape was not asked for")
                    self._show(pipe.exactly(3 * height * width, timeout_s), height, width, float(message["time"]))
                case "sound":
                    if not 0 < message["samples"] <= MOST_SAMPLES:
                        raise ValueError("a piece of sound of this length was not asked for")
                    data = pipe.exactly(2 * message["samples"], timeout_s)
                    samples = torch.from_numpy(np.frombuffer(data, np.int16) / np.float32(1 << 15))
                    self._put(StreamSound(AudioPiece(float(message["time"]), samples)))
                case "stats":
                    for name in ("dropped", "lost", "late", "jumps"):
                        setattr(self.stats, name, getattr(self._before, name) + int(message[name]))
                    self.stats.behind_s = float(message["behind_s"])
                case "clip" if message["path"] in self._clips:
                    self._clips.remove(message["path"])
                    self._put(ClipWritten(message["path"], str(message["problem"]), *map(float, message["times"])))
                case "end" if message["problem"] or not message["final"]:
                    return str(message["problem"]), bool(message["final"])
                case "end":  # the worker stays for clips of frames that the consumer has not seen yet
                    self._has_ended = True
                    self._put(StreamEnded("it has come to its end"))

    def _show(self, data: bytes, height: int, width: int, time_: float) -> None:
        if time_ <= self._latest:  # by the clock of an earlier worker
            self.stats.late += 1
            return
        self._latest = time_
        pixels = torch.from_numpy(np.frombuffer(data, np.uint8).copy()).view(height, width, 3).permute(2, 0, 1)
        self.stats.frames += 1
        self._put(StreamFrame(pixels, time_))

    def _put(self, event: StreamEvent) -> None:
        """Waits for room in the queue, or for `stop`."""
        while not self._stopped.is_set():
            try:
                self.events.put(event, timeout=0.5)
                return
            except queue.Full:
                continue


class _Pipe:
    """The output of a worker, with limits on the time and size of each read."""

    def __init__(self, file: IO[bytes]):
        self._descriptor, self._held = file.fileno(), bytearray()

    def line(self, timeout_s: float | None) -> bytes:
        """Raises TimeoutError, EOFError, or ValueError for a line that is too long."""
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > LINE_BYTES:
                raise ValueError("a line is too long")
            self._more(timeout_s)
        return self._take(end + 1)

    def exactly(self, size: int, timeout_s: float | None) -> bytes:
        while len(self._held) < size:
            self._more(timeout_s)
        return self._take(size)

    def _more(self, timeout_s: float | None) -> None:
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            raise TimeoutError
        data = os.read(self._descriptor, 1 << 16)
        if not data:
            raise EOFError
        self._held += data

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken
