"""ActivityNet-QA (Yu et al. 2019): long videos, ten questions each.

DIR/test_q.json with test_a.json, val_*.json, train_*.json
DIR/videos/v_VIDEO_NAME.mp4
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.evaluate.item import Item
from videollm.evaluate.readers.base import Folder, Reader, Wanted

KINDS = ("motion", "spatial", "temporal", "yes/no", "colour", "object", "location", "number", "other")


class ActivityNetQA(Reader):
    name = "activitynet-qa"
    tasks = ("openqa",)
    files: ClassVar = {split: f"{split}_q.json" for split in ("test", "val", "train")}
    rows: ClassVar = {"test": 8_000, "val": 18_000, "train": 32_000}

    def items(self, folder: Folder, split: str, wanted: Wanted) -> Iterator[Item]:
        answers = {row["question_id"]: row for row in folder.json(f"{split}_a.json")}
        for row in folder.json(self.files[split]):
            answer = answers[row["question_id"]]
            yield Item(
                id=row["question_id"],
                video=folder.video(f"v_{row['video_name']}"),
                question=row["question"],
                references=(str(answer["answer"]),),
                slices={"kind": KINDS[answer["type"]]},
            )
