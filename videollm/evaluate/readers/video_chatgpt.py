"""The benchmark of Video-ChatGPT (Maaz et al. 2023), whose answers a judge scores in five aspects.

DIR/generic_qa.json, temporal_qa.json    "Q", "A", "video_name"
DIR/consistency_qa.json                  "Q1", "Q2", "A", "video_name": the same question in other words
DIR/videos/VIDEO_NAME.mp4
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from videollm.evaluate.item import Item
from videollm.evaluate.readers.base import Folder, Reader, Wanted


class VideoChatGPT(Reader):
    name = "video-chatgpt"
    tasks = ("openqa",)
    files: ClassVar = {split: f"{split}_qa.json" for split in ("generic", "temporal", "consistency")}

    def splits(self, root: Path) -> tuple[str, ...]:
        return tuple(split for split, file in self.files.items() if (root / file).is_file())

    def items(self, folder: Folder, split: str, wanted: Wanted) -> Iterator[Item]:
        for number, row in enumerate(folder.json(self.files[split]), 1):
            yield Item(
                id=f"{split}/{number}",
                video=folder.video(row["video_name"]),
                question=row["Q1"] if split == "consistency" else row["Q"],
                references=(row["A"],),
                paraphrase=row["Q2"] if split == "consistency" else "",
            )
