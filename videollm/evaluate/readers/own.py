"""Your own data, for any task.

DIR/items.jsonl    {"id", "video"} and, as the task needs, "question", "references": [...], "choices": [...],
                   "spans": [[start, end], ...], "start_s", "end_s", "paraphrase", "slices": {name: value}
DIR/VIDEO          "video" is a path below DIR

For retrieval, the question is the text that describes the video.
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.evaluate.item import Item
from videollm.evaluate.readers.base import Folder, Reader, Wanted


class Own(Reader):
    name = "own"
    tasks = ("retrieval", "mcqa", "openqa", "caption", "dense", "grounding", "classify", "summary")
    files: ClassVar = {"all": "items.jsonl"}

    def items(self, folder: Folder, split: str, wanted: Wanted) -> Iterator[Item]:
        for row in folder.json_lines(self.files[split]):
            lists = {name: tuple(row.pop(name, ())) for name in ("references", "choices")}
            spans = tuple((float(a), float(b)) for a, b in row.pop("spans", ()))
            yield Item(**{**row, **lists, "video": folder.root / row["video"], "spans": spans})
