"""Charades-STA (Gao et al. 2017): lines of "VIDEO START END##SENTENCE".

DIR/charades_sta_test.txt, charades_sta_train.txt
DIR/videos/VIDEO.mp4
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.evaluate.item import Item
from videollm.evaluate.readers.base import Folder, Reader, Wanted


class CharadesSTA(Reader):
    name = "charades-sta"
    tasks = ("grounding",)
    files: ClassVar = {split: f"charades_sta_{split}.txt" for split in ("test", "train")}
    rows: ClassVar = {"test": 3_720, "train": 12_408}

    def items(self, folder: Folder, split: str, wanted: Wanted) -> Iterator[Item]:
        for number, line in enumerate(folder.text(self.files[split]).splitlines(), 1):
            place, sentence = line.split("##", 1)
            video, start, end = place.split()
            yield Item(
                id=str(number),
                video=folder.video(video),
                question=sentence.strip(),
                spans=((float(start), float(end)),),
            )
