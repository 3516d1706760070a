"""Subtitles: one SRT or WebVTT file, or a folder of them, each named like its video: trip.srt or trip.es.vtt for
trip.mp4. What is read was heard, not seen."""

import re
from collections.abc import Iterator
from pathlib import Path

from data_gen.clips import Clip, Note
from data_gen.readers.base import Source
from videollm.errors import VideoFormatError

_CLOCK = r"(?:\d+:)?\d\d?:\d\d[.,]\d{1,3}"
_TIMES = re.compile(rf"\s*{_CLOCK}\s+-->\s+{_CLOCK}(?:\s.*)?")
_LANGUAGE = re.compile(r"(.+)\.([a-z]{2,3})")


class SubtitlesReader:
    name = "subtitles"

    def matches(self, source: Source) -> bool:
        return bool(_files(source.path))

    def read(self, source: Source) -> Iterator[Clip]:
        from videollm.video.subtitles import read_subtitles  # brings torch, which no other reader needs

        for path in _files(source.path):
            named = _LANGUAGE.fullmatch(path.stem)
            stem, language = (named[1], named[2]) if named else (path.stem, "en")
            with source.report.row(path.name):
                for where, line in Source(path, source.videos).lines():
                    if "-->" in line and not _TIMES.fullmatch(line):
                        source.report.broken(where, "the line is not START --> END")
                try:
                    cues = read_subtitles(path)
                except VideoFormatError as error:
                    raise ValueError(error.reason) from error
                notes = [
                    Note(kind="speech", text=cue.text, language=language, start=cue.start_s, end=cue.end_s)
                    for cue in cues
                    if "-->" not in cue.text  # a broken cue ends up in the text of the one before
                ]
                yield Clip(id=path.stem, video=source.video(stem), source=self.name, notes=tuple(notes))


def _files(path: Path) -> list[Path]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in files if file.suffix.lower() in (".srt", ".vtt")]
