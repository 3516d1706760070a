"""Video-ChatGPT (Maaz et al. 2023): its instruction data for training, its benchmark for evaluation.

Instruction data: a JSON list of objects with q, a and video_id.

The benchmark, whose answers a language model judges in five aspects:

    DIR/generic_qa.json, temporal_qa.json    "Q", "A", "video_name"
    DIR/consistency_qa.json                  "Q1", "Q2", "A", "video_name": the same question in other words
    DIR/videos/VIDEO_NAME.mp4
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip
from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item
from videollm.datasets.schema import Message


class VideoChatGPTInstructions(ClipReader):
    name = "video_chatgpt"

    def recognises(self, file: AnnotationFile) -> bool:
        return isinstance(file.json, list) and {"q", "a", "video_id"} <= file.fields

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for number, (where, row) in enumerate(file.entries(file.json), 1):
            with file.broken.row(where):
                name = row["video_id"]
                dialogue = (Message("user", row["q"].strip()), Message("assistant", row["a"].strip()))
                # A video has many rows, so the number makes the id unique.
                yield Clip(id=f"{name}-{number}", video=file.video(name), source=self.name, dialogues=(dialogue,))


class VideoChatGPTBenchmark(ItemReader):
    name = "video-chatgpt"
    tasks = ("openqa",)
    files: ClassVar = {split: f"{split}_qa.json" for split in ("generic", "temporal", "consistency")}

    def default_splits(self, root: Path) -> tuple[str, ...]:
        return tuple(split for split, file in self.files.items() if (root / file).is_file())

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        for number, row in enumerate(folder.json(self.files[split]), 1):
            yield Item(
                id=f"{split}/{number}",
                video=folder.video(row["video_name"]),
                question=row["Q1"] if split == "consistency" else row["Q"],
                references=(row["A"],),
                paraphrase=row["Q2"] if split == "consistency" else "",
            )
