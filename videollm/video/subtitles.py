"""What is said in a video, as text with times: subtitle files beside it, and subtitle streams inside it."""

import html
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import pysubs2
from av.error import FFmpegError
from av.subtitles.subtitle import AssSubtitle

from videollm.errors import VideoFormatError

SUFFIXES = (".srt", ".vtt")


@dataclass(frozen=True, slots=True)
class Cue:
    """Text shown from start_s to end_s, seconds from the video's first frame."""

    start_s: float
    end_s: float
    text: str


def subtitle_files(video: str | os.PathLike[str]) -> list[Path]:
    """SRT and WebVTT files beside `video` that bear its name: clip.srt or clip.en.vtt beside clip.mp4."""
    video = Path(video)
    found = (p for p in video.parent.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in found if p.stem == video.stem or p.stem.startswith(f"{video.stem}."))


def read_subtitles(path: str | os.PathLike[str]) -> list[Cue]:
    """The cues of an SRT or WebVTT file, in UTF-8, UTF-16 with its mark, or else Windows-1252.

    Raises VideoFormatError for a file that is neither.
    """
    data = Path(path).read_bytes()
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    try:
        events = pysubs2.SSAFile.from_string(text, format_="vtt" if Path(path).suffix.lower() == ".vtt" else "srt")
    except (pysubs2.exceptions.Pysubs2Error, ValueError) as error:
        raise VideoFormatError(path, f"not a subtitle file ({error})") from error
    if not events and text.strip().removeprefix("WEBVTT"):
        raise VideoFormatError(path, "not a subtitle file (it holds no line with times)")
    return _ordered(Cue(e.start / 1000, e.end / 1000, e.plaintext) for e in events)


def embedded_subtitles(video: str | os.PathLike[str]) -> list[Cue]:
    """The cues of a video's own text subtitle streams, all languages. Pictures of text are passed over."""
    cues = []
    try:
        # By file descriptor, as frames are read: a playlist then cannot open other files.
        with (
            open(video, "rb") as file,
            av.open("fd:", container_options={"fd": str(file.fileno())}, metadata_errors="replace") as container,
        ):
            streams = container.streams.subtitles
            pictures = container.streams.best("video")
            if not streams:
                return []
            shift_s = float((pictures.start_time or 0) * pictures.time_base) if pictures and pictures.time_base else 0.0
            for packet in container.demux(list(streams)):
                if packet.pts is None or packet.time_base is None:
                    continue
                start_s = float(packet.pts * packet.time_base) - shift_s
                end_s = start_s + float((packet.duration or 0) * packet.time_base)
                for subtitle in packet.decode():
                    if isinstance(subtitle, AssSubtitle):  # what FFmpeg makes of every kind of text
                        shown = subtitle.dialogue
                        text = pysubs2.SSAEvent(text=shown.decode("utf-8", "replace")).plaintext  # without {\\i1}
                        cues.append(Cue(start_s, end_s, text))
    except FFmpegError as error:
        raise VideoFormatError(video, f"its subtitles cannot be read ({error.strerror})") from error
    return _ordered(cues)


def write_subtitles(cues: Iterable[Cue], kind: str) -> str:
    """The cues as an SRT or WebVTT file. kind: "srt" or "vtt"."""
    file = pysubs2.SSAFile()
    for cue in cues:
        event = pysubs2.SSAEvent(start=round(1000 * cue.start_s), end=round(1000 * cue.end_s))
        event.plaintext = cue.text  # line breaks become those of the format
        file.append(event)
    return file.to_string(kind)


def text_between(cues: list[Cue], start_s: float, end_s: float) -> str:
    """The words of the cues that are on the screen at some time from start_s up to end_s."""
    return " ".join(cue.text for cue in cues if cue.start_s < end_s and cue.end_s > start_s)


def _ordered(cues: Iterable[Cue]) -> list[Cue]:
    flat = (Cue(cue.start_s, cue.end_s, " ".join(html.unescape(cue.text).split())) for cue in cues)
    return sorted((cue for cue in flat if cue.text), key=lambda cue: cue.start_s)
