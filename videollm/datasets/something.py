"""Something-Something V2 (Goyal et al. 2017): `train.json`, `validation.json` and their like; videos ID.webm.

The label of a video names its objects ("Putting a pen on a book"), and its class does not ("Putting something on
something"): that is the template without its brackets.
"""

from collections.abc import Iterator

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, Note

_BRACKETS = str.maketrans("", "", "[]")


class SomethingSomething(ClipReader):
    name = "something"

    def recognises(self, file: AnnotationFile) -> bool:
        return isinstance(file.json, list) and {"id", "label", "template"} <= file.fields

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for where, row in file.entries(file.json):
            with file.broken.row(where):
                name = str(row["id"])
                note = Note(kind="label", text=row["label"].strip())
                if not (action := row["template"].translate(_BRACKETS).strip()):
                    raise ValueError("the template is empty")
                yield Clip(id=name, video=file.video(name), source=self.name, notes=(note,), action=action)
