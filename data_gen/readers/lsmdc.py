"""LSMDC 2016 (Rohrbach et al. 2017): `LSMDC16_annos_training.csv` and its like, tab-separated without a header:
clip, start and end aligned, start and end extracted, sentence. Clips are already cut, in a folder for each movie."""

import re
from collections.abc import Iterator

from data_gen.clips import Clip, Note
from data_gen.readers.base import Source

_TIME = re.compile(r"\d+\.\d\d\.\d\d\.\d+")
_SPAN = re.compile(rf"_{_TIME.pattern}-{_TIME.pattern}$")


class LsmdcReader:
    name = "lsmdc"

    def matches(self, source: Source) -> bool:
        fields = source.first_line.split("\t")
        return len(fields) >= 6 and all(_TIME.fullmatch(time) for time in fields[1:5])

    def read(self, source: Source) -> Iterator[Clip]:
        for where, line in source.lines():
            with source.report.row(where):
                name, *times, text = line.split("\t")[:6]
                if len(times) != 4 or not all(_TIME.fullmatch(time) for time in times):
                    raise ValueError("the line is not a clip, four times and a sentence")
                inside = source.video(f"{_SPAN.sub('', name)}/{name}")
                video = inside if inside.exists() else source.video(name)
                yield Clip(id=name, video=video, source=self.name, notes=(Note(kind="short", text=text.strip()),))
