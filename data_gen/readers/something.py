"""Something-Something V2 (Goyal et al. 2017): `train.json`, `validation.json` and their like; ID.webm beside them."""

from collections.abc import Iterator

from data_gen.clips import Clip, Note
from data_gen.readers.base import Source


class SomethingReader:
    name = "something"

    def matches(self, source: Source) -> bool:
        return isinstance(source.json, list) and {"id", "label", "template"} <= source.fields

    def read(self, source: Source) -> Iterator[Clip]:
        for where, row in source.entries(source.json):
            with source.report.row(where):
                name = str(row["id"])
                note = Note(kind="label", text=row["label"].strip())
                yield Clip(id=name, video=source.video(name), source=self.name, notes=(note,))
