"""LongVideoBench (Wu et al. 2024): questions about moments of videos of up to an hour. Subtitles are not used.

DIR/lvb_val.json
DIR/videos/VIDEO_PATH
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item


class LongVideoBench(ItemReader):
    name = "longvideobench"
    tasks = ("mcqa",)
    files: ClassVar = {"val": "lvb_val.json"}
    rows: ClassVar = {"val": 1_337}

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        for row in folder.json(self.files[split]):
            choices = tuple(row["candidates"])
            yield Item(
                id=row["id"],
                video=folder.video(row["video_path"]),
                question=row["question"],
                references=(choices[row["correct_choice"]],),
                choices=choices,
                slices={"kind": row["question_category"], "length": f"up to {row['duration_group']} s"},
            )
