"""HowTo100M (Miech et al. 2019): `caption.json`, recognised speech as lists of texts, starts and ends by video id."""

from collections.abc import Iterator

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, Note


class HowTo100M(ClipReader):
    name = "howto100m"

    def recognises(self, file: AnnotationFile) -> bool:
        return isinstance(file.json, dict) and {"text", "start", "end"} <= file.fields

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for where, (name, asr) in file.entries(file.json):
            with file.broken.row(where):
                notes = [
                    Note(kind="speech", text=str(text).strip(), start=float(start), end=float(end))
                    for text, start, end in zip(asr["text"], asr["start"], asr["end"], strict=True)
                    if str(text).strip()  # the recogniser writes empty texts for music
                ]
                yield Clip(id=name, video=file.video(name), source=self.name, notes=tuple(notes))
