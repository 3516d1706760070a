"""Captions of a stream as WebVTT, written while it lasts."""

from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from videollm.live.memory import LiveSegment


class CaptionFile:
    """A WebVTT file that grows by a cue for each segment. Use it as a context manager.

    Cues count from the first segment, whose wall-clock time is in a note at the head.
    """

    def __init__(self, path: Path):
        self._file = path.open("w", encoding="utf-8")
        self._origin: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, segment: LiveSegment, text: str) -> None:
        """Writes the text of a segment. It is in the file when this returns."""
        if self._origin is None:
            self._origin = segment.start
            began = datetime.fromtimestamp(segment.start, UTC).isoformat(timespec="milliseconds")
            self._file.write(f"WEBVTT\n\nNOTE The first cue begins at {began}\n")
        start, end = (_timestamp(time - self._origin) for time in (segment.start, segment.end))
        escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("-->", "→")
        self._file.write(f"\n{start} --> {end}\n{escaped}\n")
        self._file.flush()


def _timestamp(time_s: float) -> str:
    milliseconds = max(0, round(1000 * time_s))
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
