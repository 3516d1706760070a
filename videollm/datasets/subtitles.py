"""Subtitles: one SRT or WebVTT file, or a folder of them, each named like its video.

trip.srt and trip.es.vtt belong to trip.mp4. Their text was heard, not seen.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, Note
from videollm.errors import VideoFormatError

_CLOCK = r"(?:\d+:)?\d\d?:\d\d[.,]\d{1,3}"
_TIMES = re.compile(rf"\s*{_CLOCK}\s+-->\s+{_CLOCK}(?:\s.*)?")
_LANGUAGE = re.compile(r"(.+)\.([a-z]{2,3})")


class Subtitles(ClipReader):
    name = "subtitles"

    def recognises(self, file: AnnotationFile) -> bool:
        return bool(_subtitle_files(file.path))

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for path in _subtitle_files(file.path):
            with file.broken.row(path.name):
                yield self._clip(AnnotationFile(path, file.videos, file.broken))

    def _clip(self, file: AnnotationFile) -> Clip:
        # Importing this loads torch, which takes seconds and which no other reader needs.
        from videollm.video.subtitles import read_subtitles

        named = _LANGUAGE.fullmatch(file.path.stem)
        stem, language = (named[1], named[2]) if named else (file.path.stem, "en")
        for where, line in file.lines():
            if "-->" in line and not _TIMES.fullmatch(line):
                file.broken.add(where, "the line is not START --> END")
        try:
            cues = read_subtitles(file.path)
        except VideoFormatError as error:
            raise ValueError(error.reason) from error
        notes = [
            Note(kind="speech", text=cue.text, language=language, start=cue.start_s, end=cue.end_s)
            for cue in cues
            if "-->" not in cue.text  # the parser appends a broken cue to the text of the one before
        ]
        return Clip(id=file.path.stem, video=file.video(stem), source=self.name, notes=tuple(notes))


def _subtitle_files(path: Path) -> list[Path]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in files if file.suffix.lower() in (".srt", ".vtt")]
