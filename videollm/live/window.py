"""A part of a stream as an encoded video, and the part of it that a question is about."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import torch

from videollm.config import ModelConfig
from videollm.encoders.base import FrameFeatures, Vocabulary
from videollm.features.encode import EncodedVideo, SegmentFeatures
from videollm.live.memory import LiveSegment
from videollm.senses.finding import Findings
from videollm.video.frames import VideoInfo

NOW_S = 8.0  # before the latest frame: what "now" means
_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}
_CLOCK = r"(\d{1,2}):(\d\d)(?::(\d\d))?"
_LAST = re.compile(r"\b(?:(?:in|during|over|for|within) )?the (?:last|past) (?:(\d+) )?(second|minute|hour)s?\b", re.I)
_SINCE = re.compile(rf"\bsince {_CLOCK}\b", re.I)
_AT = re.compile(rf"\bat {_CLOCK}\b", re.I)
_NOW = re.compile(r"\b(?:right now|just now|now|currently|at the moment)\b", re.I)
_RELATIVE = re.compile(r"\b(?:(\d{1,2}):)?(\d{1,3}):(\d\d)\b")


class LiveWindow(EncodedVideo):
    """Segments of a stream as an encoded video, whose times count from the start of the first one."""

    def segments(self, config: ModelConfig, vocabulary: Vocabulary, most: int | None = None) -> list[SegmentFeatures]:
        # The stream was cut before, so that its segments are the scenes here whatever the model cuts a file by.
        by_scene = replace(config, segments=replace(config.segments, by="scene"))
        return super().segments(by_scene, vocabulary, most)

    @classmethod
    def of(cls, name: str, parts: Sequence[LiveSegment]) -> "LiveWindow":
        """name: the stream's. parts: at least one segment."""
        origin, end_s = parts[0].start, parts[-1].end - parts[0].start
        starts = torch.tensor([len(part.times) for part in parts]).cumsum(0)[:-1]
        info = VideoInfo(
            path=name,
            duration_s=end_s,
            width=0,
            height=0,
            fps=max(1.0, sum(len(part.times) for part in parts) / max(end_s, 1e-3)),  # 0 would mean a picture
            codec="",
            rotation=0,
            has_audio=False,
            content_sha="",
        )
        return cls(
            info=info,
            times_s=torch.cat([part.times for part in parts]) - origin,
            features=FrameFeatures.cat([part.features for part in parts]),
            cuts=tuple(starts.tolist()),
            end_s=end_s,
            lost=0,
            ms={"decode": 0.0, "encode": 0.0},
            findings=_findings(parts, origin),
        )


def _findings(parts: Sequence[LiveSegment], origin: float) -> Findings:
    """What was found in segments, with times that count from `origin`. An object has a finding in each segment."""
    found = (f for part in parts for f in part.findings.found)
    shifted = tuple(replace(f, start_s=f.start_s - origin, end_s=f.end_s - origin) for f in found)
    return replace(parts[-1].findings, found=shifted)


@dataclass(frozen=True, slots=True)
class AskedWindow:
    """A question without the words that say when.

    Attributes:
        text: The question.
        start, end: The part of the stream that it is about, in seconds since 1970; None where it does not say.
    """

    text: str
    start: float | None = None
    end: float | None = None


def asked_window(question: str, latest: float) -> AskedWindow:
    """Returns what a question about a stream is about: "now", "in the last 5 minutes", "since 14:05", "at 14:05:30".

    Clock times are local. A time of day that has not come yet is that of the day before.

    Args:
        question: The question, in English. In other languages, no time is read.
        latest: The time of the latest frame, which "now" refers to, in seconds since 1970.
    """
    if found := _LAST.search(question):
        return AskedWindow(_without(question, found), latest - float(found[1] or 1) * _UNITS[found[2].lower()])
    if found := _SINCE.search(question):
        return AskedWindow(_without(question, found), clock_time(found.groups(), latest))
    if found := _AT.search(question):
        start = clock_time(found.groups(), latest)
        return AskedWindow(_without(question, found), start, start + (1.0 if found[3] else 60.0))
    if found := _NOW.search(question):
        return AskedWindow(_without(question, found), latest - NOW_S)
    return AskedWindow(question)


def clock_time(parts: Sequence[str | None], latest: float) -> float:
    """Returns the last time before `latest` at which local clocks showed these hours, minutes and seconds."""
    hours, minutes, seconds = (int(part or 0) for part in parts)
    now = datetime.fromtimestamp(latest)
    at = now.replace(hour=hours % 24, minute=minutes % 60, second=seconds % 60, microsecond=0)
    return (at if at <= now else at - timedelta(days=1)).timestamp()


def format_clock(time: float) -> str:
    """Returns the local time of day, 14:05:30."""
    return datetime.fromtimestamp(time).strftime("%H:%M:%S")


def format_date(time: float) -> str:
    """Returns the local date and time of day, 2026-05-31T14:05:30."""
    return datetime.fromtimestamp(time).isoformat(timespec="seconds")


def with_clock_times(text: str, end_s: float, origin: float) -> str:
    """Returns an answer in which times of a window of `end_s` seconds, such as 0:12, are times of the wall clock."""

    def clock(found: re.Match[str]) -> str:
        offset_s = 3600 * int(found[1] or 0) + 60 * int(found[2]) + int(found[3])
        return format_clock(origin + offset_s) if offset_s <= end_s + 1 else found[0]

    return _RELATIVE.sub(clock, text)


def _without(question: str, found: re.Match[str]) -> str:
    rest = " ".join(f"{question[: found.start()]} {question[found.end() :]}".split())
    rest = re.sub(r"\s+([?.!,])", r"\1", rest).strip(" ,")
    return rest[:1].upper() + rest[1:]
