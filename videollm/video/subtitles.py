"""Subtitles as text with times, from files beside a video and from streams inside it."""

import html
import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pysubs2
from av.error import FFmpegError
from av.packet import Packet
from av.subtitles.subtitle import AssSubtitle

from videollm.errors import VideoFormatError
from videollm.video.container import open_media, packets, pictures, video_errors
from videollm.video.joined import PartClock
from videollm.video.pyav import parts_of

SUFFIXES = (".srt", ".vtt")
MAX_BYTES = 8 << 20  # of a subtitle file, or of the subtitles in a video; those of a long film have 0.2 MB
MAX_SHOWN = 10_000  # characters of text that is shown at a time
# Tags of ASS that subtitle files borrow, such as {\an8}. Braces without a backslash are text: pysubs2 would drop them.
_ASS_TAG = re.compile(r"\{\\[^}]*\}")
_ASS_SPACE = re.compile(r"\\[Nh]")  # pysubs2 writes line breaks as \N, and FFmpeg writes hard spaces as \h


@dataclass(frozen=True, slots=True)
class Cue:
    """Text that is shown from `start_s` to `end_s`, in seconds from the video's first frame."""

    start_s: float
    end_s: float
    text: str


class SubtitleFolders:
    """Finds the SRT and WebVTT files beside videos. Each folder is listed once, when it is first asked for."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, list[Path]]] = {}

    def beside(self, video: str | os.PathLike[str]) -> list[Path]:
        """Returns the files that have a video's name: clip.srt or clip.en.vtt for clip.mp4.

        Raises OSError if the folder cannot be listed.
        """
        folder, name = os.path.split(os.fspath(video))  # pathlib would take most of the time of a large folder
        stem = os.path.splitext(name)[0]
        if folder not in self._folders:
            self._folders[folder] = self._listed(folder)
        return self._folders[folder].get(stem, [])

    @staticmethod
    def _listed(folder: str) -> dict[str, list[Path]]:
        """Returns the subtitle files of a folder by each name that a video of theirs may have."""
        found: dict[str, list[Path]] = {}
        with os.scandir(folder or ".") as entries:
            files = sorted(Path(e.path) for e in entries if e.name.lower().endswith(SUFFIXES) and e.is_file())
        for file in files:
            parts = file.stem.split(".")
            for count in range(1, len(parts) + 1):
                found.setdefault(".".join(parts[:count]), []).append(file)
        return found


def subtitle_files(video: str | os.PathLike[str]) -> list[Path]:
    """Returns the SRT and WebVTT files beside a video; see `SubtitleFolders.beside`."""
    return SubtitleFolders().beside(video)


def read_subtitles(path: str | os.PathLike[str]) -> list[Cue]:
    """Returns the cues of an SRT or WebVTT file, in the order of their starts.

    The encoding is UTF-8, or UTF-16 with a byte order mark, or else Windows-1252. Raises VideoFormatError if the file
    is not a subtitle file or is larger than `MAX_BYTES`, and VideoNotFoundError if it cannot be opened.
    """
    with video_errors(path):
        return _read(Path(path))


def _read(path: Path) -> list[Cue]:
    if path.stat().st_size > MAX_BYTES:
        raise VideoFormatError(path, f"a subtitle file of {path.stat().st_size} bytes; the limit is {MAX_BYTES}")
    data = path.read_bytes()
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    try:
        events = pysubs2.SSAFile.from_string(text, format_="vtt" if path.suffix.lower() == ".vtt" else "srt")
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
    with video_errors(video), open_media(video) as container:
        streams = container.streams.subtitles
        if not streams:
            return []
        shown = pictures(container, video)
        start_s = float((shown.start_time or 0) * shown.time_base) if shown and shown.time_base else 0.0
        clock = PartClock(parts_of(video, shown))
        cues: list[Cue] = []
        size = 0
        for packet in packets(container, list(streams)):
            size += packet.size
            if size > MAX_BYTES:
                raise VideoFormatError(video, f"its subtitles have more than {MAX_BYTES} bytes, which is the limit")
            if packet.pts is not None and packet.time_base is not None:
                time_s = float(packet.pts * packet.time_base)
                time_s += clock.shift_s(packet.pos, time_s) - start_s
                cues += _shown(packet, time_s, time_s + float((packet.duration or 0) * packet.time_base))
    return _ordered(cues)


def _shown(packet: Packet, start_s: float, end_s: float) -> Iterator[Cue]:
    try:
        subtitles = packet.decode()
    except FFmpegError:  # a damaged packet; the next one may be whole
        return
    for subtitle in subtitles:
        if isinstance(subtitle, AssSubtitle):  # FFmpeg converts every kind of text to ASS
            text = pysubs2.SSAEvent(text=subtitle.dialogue.decode("utf-8", "replace")).plaintext  # without {\i1}
            yield Cue(start_s, end_s, text)


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


class CueTexts:
    """The texts of cues by their times. cues: in the order of their starts."""

    def __init__(self, cues: list[Cue]):
        self._cues = cues
        self._starts = [cue.start_s for cue in cues]
        self._reached = [*accumulate((cue.end_s for cue in cues), max)]  # the latest end among a cue and all before it

    def between(self, start_s: float, end_s: float) -> str:
        """Returns the text of the cues that are shown at some time from `start_s` up to `end_s`, at most `MAX_SHOWN`
        characters of it."""
        texts: list[str] = []
        size = 0
        for i in range(bisect_right(self._reached, start_s), bisect_left(self._starts, end_s)):
            if self._cues[i].end_s > start_s:
                texts.append(self._cues[i].text)
                size += len(texts[-1])
                if size > MAX_SHOWN:
                    break
        return " ".join(texts)[:MAX_SHOWN]


def _ordered(cues: Iterable[Cue]) -> list[Cue]:
    flat = (Cue(cue.start_s, cue.end_s, " ".join(html.unescape(cue.text).split())) for cue in cues)
    return sorted((cue for cue in flat if cue.text), key=lambda cue: cue.start_s)
