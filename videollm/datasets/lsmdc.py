"""LSMDC 2016 (Rohrbach et al. 2017): `LSMDC16_annos_training.csv` and its like, tab-separated without a header.

The columns are clip, start and end aligned, start and end extracted, sentence. Clips are already cut, in one folder
for each film.
"""

import re
from collections.abc import Iterator

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, Note

_TIME = re.compile(r"\d+\.\d\d\.\d\d\.\d+")
_SPAN = re.compile(rf"_{_TIME.pattern}-{_TIME.pattern}$")


class LSMDC(ClipReader):
    name = "lsmdc"

    def recognises(self, file: AnnotationFile) -> bool:
        fields = file.first_line.split("\t")
        return len(fields) >= 6 and all(_TIME.fullmatch(time) for time in fields[1:5])

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for where, line in file.lines():
            with file.broken.row(where):
                name, *times, text = line.split("\t")[:6]
                if len(times) != 4 or not all(_TIME.fullmatch(time) for time in times):
                    raise ValueError("the line is not a clip, four times and a sentence")
                film = _SPAN.sub("", name)
                video = file.video(f"{film}/{name}", name)
                yield Clip(id=name, video=video, source=self.name, notes=(Note(kind="short", text=text.strip()),))
