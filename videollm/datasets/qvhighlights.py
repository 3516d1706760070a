"""QVHighlights (Lei et al. 2021): queries that match any number of windows of a video.

DIR/highlight_val_release.jsonl, highlight_train_release.jsonl
DIR/videos/VID.mp4
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item


class QVHighlights(ItemReader):
    name = "qvhighlights"
    tasks = ("grounding",)
    files: ClassVar = {split: f"highlight_{split}_release.jsonl" for split in ("val", "train")}
    rows: ClassVar = {"val": 1_550, "train": 7_218}

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        for row in folder.json_lines(self.files[split]):
            yield Item(
                id=str(row["qid"]),
                video=folder.video(row["vid"]),
                question=row["query"],
                spans=tuple((float(a), float(b)) for a, b in row["relevant_windows"]),
            )
