"""HowTo100M (Miech et al. 2019): `caption.json`, recognised speech as lists of texts, starts and ends by video id."""

from collections.abc import Iterator

from data_gen.clips import Clip, Note
from data_gen.readers.base import Source


class HowTo100MReader:
    name = "howto100m"

    def matches(self, source: Source) -> bool:
        return isinstance(source.json, dict) and {"text", "start", "end"} <= source.fields

    def read(self, source: Source) -> Iterator[Clip]:
        for where, (name, asr) in source.entries(source.json):
            with source.report.row(where):
                notes = [
                    Note(kind="speech", text=str(text).strip(), start=float(start), end=float(end))
                    for text, start, end in zip(asr["text"], asr["start"], asr["end"], strict=True)
                    if str(text).strip()
                ]
                yield Clip(id=name, video=source.video(name), source=self.name, notes=tuple(notes))
