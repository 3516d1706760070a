"""MSVD, the Microsoft video description corpus (Chen and Dolan 2011): `AllVideoDescriptions.txt`, or the original CSV
with captions in many languages. Clips are named VIDEOID_START_END.avi and are already cut."""

import re
from collections import defaultdict
from collections.abc import Iterator

from data_gen.clips import Clip, Note
from data_gen.readers.base import Source

COLUMNS = {"videoid", "start", "end", "language", "description"}
LANGUAGES = {
    "Chinese": "zh",
    "Dutch": "nl",
    "English": "en",
    "French": "fr",
    "German": "de",
    "Hindi": "hi",
    "Italian": "it",
    "Portuguese": "pt",
    "Russian": "ru",
    "Spanish": "es",
    "Turkish": "tr",
}
_LINE = re.compile(r"(\S{11}_\d+_\d+)\s+(.*\S)")


class MsvdReader:
    name = "msvd"

    def matches(self, source: Source) -> bool:
        if source.suffix == ".txt":
            return any(_LINE.fullmatch(line) for _, line in source.lines() if not line.startswith("#"))
        return source.fields >= COLUMNS

    def read(self, source: Source) -> Iterator[Clip]:
        notes: defaultdict[str, list[Note]] = defaultdict(list)
        for where, name, text, language in self._rows(source):
            with source.report.row(where):
                notes[name].append(Note(kind="short", text=text, language=language))
        for name, said in notes.items():
            yield Clip(id=name, video=source.video(name), source=self.name, notes=tuple(said))

    def _rows(self, source: Source) -> Iterator[tuple[str, str, str, str]]:
        if source.suffix == ".txt":
            for where, line in source.lines():
                if match := _LINE.fullmatch(line.strip()):
                    yield where, match[1], match[2], "en"
                elif not line.startswith("#"):
                    source.report.broken(where, "the line is not VIDEO_START_END and a sentence")
            return
        for where, row in source.rows():
            with source.report.row(where):
                if row["language"] not in LANGUAGES:
                    raise ValueError(f"language {row['language']!r} is not known")
                name = f"{row['videoid']}_{row['start']}_{row['end']}"
                yield where, name, row["description"], LANGUAGES[row["language"]]
