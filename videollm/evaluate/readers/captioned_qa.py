"""MSR-VTT-QA and MSVD-QA (Xu et al. 2017, "Video question answering via gradually refined attention"): questions made
from captions, with answers of one word.

    DIR/test_qa.json, val_qa.json, train_qa.json
    DIR/videos/video7010.mp4                         MSR-VTT-QA: by number
    DIR/youtube_mapping.txt, DIR/videos/NAME.avi     MSVD-QA: a line "NAME vid1234" for each video
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from videollm.evaluate.item import Item
from videollm.evaluate.readers.base import Folder, Reader, Wanted

_FILES = {"test": "test_qa.json", "val": "val_qa.json", "train": "train_qa.json"}
_MAPPING = "youtube_mapping.txt"


class MsrVttQA(Reader):
    name = "msrvtt-qa"
    tasks = ("openqa",)
    files = _FILES
    rows: ClassVar = {"test": 72_821, "val": 12_278, "train": 158_581}

    def matches(self, root: Path) -> bool:
        return super().matches(root) and not (root / _MAPPING).is_file()

    def items(self, folder: Folder, split: str, wanted: Wanted) -> Iterator[Item]:
        names = self.names(folder)
        for row in folder.json(self.files[split]):
            yield Item(
                id=str(row["id"]),
                video=folder.video(names[row["video_id"]] if names else f"video{row['video_id']}"),
                question=row["question"],
                references=(row["answer"],),
                slices={"kind": row["question"].split()[0].lower()},
            )

    def names(self, folder: Folder) -> dict[int, str]:
        """Files by number, empty where they are named by it."""
        return {}


class MsvdQA(MsrVttQA):
    name = "msvd-qa"
    rows: ClassVar = {"test": 13_157, "val": 6_415, "train": 30_933}

    def matches(self, root: Path) -> bool:
        return Reader.matches(self, root) and (root / _MAPPING).is_file()

    def names(self, folder: Folder) -> dict[int, str]:
        pairs = (line.split() for line in folder.text(_MAPPING).splitlines() if line.strip())
        return {int(number.removeprefix("vid")): name for name, number in pairs}
