"""VATEX (Wang et al. 2019): ten captions in English and ten in Chinese for each clip.

DIR/vatex_validation_v1.0.json, vatex_public_test_english_v1.1.json, vatex_training_v1.0.json
DIR/videos/VIDEOID.mp4    already cut; the name ends with the first and last second in YouTube's video
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item

_FIELDS = {"en": "enCap", "zh": "chCap"}


class Vatex(ItemReader):
    name = "vatex"
    tasks = ("caption", "retrieval")
    files: ClassVar = {
        "validation": "vatex_validation_v1.0.json",
        "test": "vatex_public_test_english_v1.1.json",
        "train": "vatex_training_v1.0.json",
    }
    rows: ClassVar = {"validation": 3_000, "test": 6_000, "train": 25_991}

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        for row in folder.json(self.files[split]):
            video = folder.video(row["videoID"])
            for language in query.languages:
                captions = tuple(row[_FIELDS[language]])
                name, slices = f"{row['videoID']}/{language}", {"language": language}
                if query.task == "caption":
                    yield Item(id=name, video=video, references=captions, slices=slices)
                    continue
                for number, caption in enumerate(captions, 1):
                    yield Item(id=f"{name}/{number}", video=video, question=caption, slices=dict(slices))
