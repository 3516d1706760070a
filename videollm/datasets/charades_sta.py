"""Charades-STA (Gao et al. 2017): sentences about moments of videos, as lines "VIDEO START END##SENTENCE".

DIR/charades_sta_test.txt, charades_sta_train.txt
DIR/videos/VIDEO.mp4
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item
from videollm.datasets.text_file import split_lines


class CharadesSTA(ItemReader):
    name = "charades-sta"
    tasks = ("grounding",)
    files: ClassVar = {split: f"charades_sta_{split}.txt" for split in ("test", "train")}
    rows: ClassVar = {"test": 3_720, "train": 12_408}

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        for number, line in enumerate(split_lines(folder.text(self.files[split])), 1):
            place, sentence = line.split("##", 1)
            video, start, end = place.split()
            yield Item(
                id=str(number),
                video=folder.video(video),
                question=sentence.strip(),
                spans=((float(start), float(end)),),
            )
