"""QVHighlights (Lei et al. 2021): queries with any number of windows.

DIR/highlight_val_release.jsonl, highlight_train_release.jsonl
DIR/videos/VID.mp4
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.evaluate.item import Item
from videollm.evaluate.readers.base import Folder, Reader, Wanted


class QVHighlights(Reader):
    name = "qvhighlights"
    tasks = ("grounding",)
    files: ClassVar = {split: f"highlight_{split}_release.jsonl" for split in ("val", "train")}
    rows: ClassVar = {"val": 1_550, "train": 7_218}

    def items(self, folder: Folder, split: str, wanted: Wanted) -> Iterator[Item]:
        for row in folder.json_lines(self.files[split]):
            yield Item(
                id=str(row["qid"]),
                video=folder.video(row["vid"]),
                question=row["query"],
                spans=tuple((float(a), float(b)) for a, b in row["relevant_windows"]),
            )
