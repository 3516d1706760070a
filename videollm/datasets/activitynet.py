"""ActivityNet's videos: Captions (Krishna et al. 2017) for training, QA (Yu et al. 2019) for evaluation.

Captions: `train.json`, `val_1.json`, `val_2.json`; events with their times.

QA, long videos with ten questions each:

    DIR/test_q.json with test_a.json, val_*.json, train_*.json
    DIR/videos/v_VIDEO_NAME.mp4
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, Note
from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item

# The published answers give the kind as an index into this list.
KINDS = ("motion", "spatial", "temporal", "yes/no", "colour", "object", "location", "number", "other")


class ActivityNetCaptions(ClipReader):
    name = "activitynet"

    def recognises(self, file: AnnotationFile) -> bool:
        return isinstance(file.json, dict) and {"duration", "timestamps", "sentences"} <= file.fields

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for where, (name, video) in file.entries(file.json):
            with file.broken.row(where):
                notes = [
                    Note(kind="event", text=text.strip(), start=float(start), end=float(end))
                    for (start, end), text in zip(video["timestamps"], video["sentences"], strict=True)
                ]
                yield Clip(id=name, video=file.video(name), source=self.name, notes=tuple(notes))


class ActivityNetQA(ItemReader):
    name = "activitynet-qa"
    tasks = ("openqa",)
    files: ClassVar = {split: f"{split}_q.json" for split in ("test", "val", "train")}
    rows: ClassVar = {"test": 8_000, "val": 18_000, "train": 32_000}

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        answers = {row["question_id"]: row for row in folder.json(f"{split}_a.json")}
        for row in folder.json(self.files[split]):
            answer = answers[row["question_id"]]
            yield Item(
                id=row["question_id"],
                video=folder.video(f"v_{row['video_name']}"),
                question=row["question"],
                references=(str(answer["answer"]),),  # numbers are published without quotation marks
                slices={"kind": KINDS[answer["type"]]},
            )
