"""Captions of a stream as WebVTT, written while it lasts."""

import math
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self


class CaptionFile:
    """A WebVTT file that grows by cues in order of their beginning. Use it as a context manager.

    Cues count from the first, whose wall-clock time is in a note at the head.
    """

    def __init__(self, path: Path):
        self._file = path.open("w", encoding="utf-8")
        self._origin: float | None = None
        self._held: list[tuple[float, float, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.write(math.inf)
        self._file.close()

    def add(self, start: float, end: float, text: str) -> None:
        """Takes a cue, with times in seconds since 1970."""
        self._held.append((start, end, text))

    def write(self, until: float) -> None:
        """Writes the cues that begin before a time, because no earlier one is still to come. They are in the file when
        this returns."""
        self._held.sort()
        while self._held and self._held[0][0] < until:
            self._write(*self._held.pop(0))
        self._file.flush()

    def _write(self, start: float, end: float, text: str) -> None:
        if self._origin is None:
            self._origin = start
            began = datetime.fromtimestamp(start, UTC).isoformat(timespec="milliseconds")
            self._file.write(f"WEBVTT\n\nNOTE The first cue begins at {began}\n")
        escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("-->", "→")
        self._file.write(f"\n{_timestamp(start - self._origin)} --> {_timestamp(end - self._origin)}\n{escaped}\n")


def _timestamp(time_s: float) -> str:
    milliseconds = max(0, round(1000 * time_s))
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
