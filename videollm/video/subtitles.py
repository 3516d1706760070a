"""Subtitles as text with times, from files beside a video and from streams inside it."""

import html
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import pysubs2
from av.error import FFmpegError
from av.subtitles.subtitle import AssSubtitle

from videollm.errors import VideoFormatError

SUFFIXES = (".srt", ".vtt")
# Tags of ASS that subtitle files borrow, such as {\an8}. Braces without a backslash are text: pysubs2 would drop them.
_ASS_TAG = re.compile(r"\{\\[^}]*\}")
_ASS_SPACE = re.compile(r"\\[Nh]")  # pysubs2 writes line breaks as \N, and FFmpeg writes hard spaces as \h


@dataclass(frozen=True, slots=True)
class Cue:
    """Text that is shown from `start_s` to `end_s`, in seconds from the video's first frame."""

    start_s: float
    end_s: float
    text: str


def subtitle_files(video: str | os.PathLike[str]) -> list[Path]:
    """Returns the SRT and WebVTT files beside a video that have its name: clip.srt or clip.en.vtt for clip.mp4."""
    video = Path(video)
    found = (p for p in video.parent.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in found if p.stem == video.stem or p.stem.startswith(f"{video.stem}."))


def read_subtitles(path: str | os.PathLike[str]) -> list[Cue]:
    """Returns the cues of an SRT or WebVTT file, in the order of their starts.

    The encoding is UTF-8, or UTF-16 with a byte order mark, or else Windows-1252. Raises VideoFormatError if the file
    is not a subtitle file.
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
        raise VideoFormatError(path, "not a subtitle file (it has no line with times)")
    return _ordered(Cue(e.start / 1000, e.end / 1000, _ASS_SPACE.sub(" ", _ASS_TAG.sub("", e.text))) for e in events)


def embedded_subtitles(video: str | os.PathLike[str]) -> list[Cue]:
    """Returns the cues of all text subtitle streams of a video, in all languages. Subtitles that are pictures are
    ignored.

    Raises VideoFormatError if the streams cannot be read.
    """
    cues = []
    try:
        # FFmpeg gets a file descriptor, as for frames, so that a playlist cannot open other files.
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
                    if isinstance(subtitle, AssSubtitle):  # FFmpeg converts every kind of text to ASS
                        shown = subtitle.dialogue
                        text = pysubs2.SSAEvent(text=shown.decode("utf-8", "replace")).plaintext  # without {\\i1}
                        cues.append(Cue(start_s, end_s, text))
    except FFmpegError as error:
        raise VideoFormatError(video, f"its subtitles cannot be read ({error.strerror})") from error
    return _ordered(cues)


def write_subtitles(cues: Iterable[Cue], kind: str) -> str:
    """Returns the text of an SRT or WebVTT file with these cues. `kind` is "srt" or "vtt".

    WebVTT escapes the characters of its own tags. SRT has no way to, so that players may take "<i>" in a text as a tag.
    """
    file = pysubs2.SSAFile()
    for cue in cues:
        event = pysubs2.SSAEvent(start=round(1000 * cue.start_s), end=round(1000 * cue.end_s))
        # Line breaks become those of the format.
        event.plaintext = html.escape(cue.text, quote=False) if kind == "vtt" else cue.text
        file.append(event)
    return file.to_string(kind, keep_ssa_tags=True)  # otherwise text in braces is dropped


def text_between(cues: list[Cue], start_s: float, end_s: float) -> str:
    """Returns the text of the cues that are shown at some time from `start_s` up to `end_s`."""
    return " ".join(cue.text for cue in cues if cue.start_s < end_s and cue.end_s > start_s)


def _ordered(cues: Iterable[Cue]) -> list[Cue]:
    flat = (Cue(cue.start_s, cue.end_s, " ".join(html.unescape(cue.text).split())) for cue in cues)
    return sorted((cue for cue in flat if cue.text), key=lambda cue: cue.start_s)
