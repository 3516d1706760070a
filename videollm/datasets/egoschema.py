"""EgoSchema (Mangalam et al. 2023): three-minute first-person clips.

The answers of 500 questions are published. Only these questions are read, because the others cannot be scored here.

    DIR/questions.json, DIR/subset_answers.json
    DIR/videos/Q_UID.mp4
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item


class EgoSchema(ItemReader):
    name = "egoschema"
    tasks = ("mcqa",)
    files: ClassVar = {"subset": "subset_answers.json"}
    rows: ClassVar = {"subset": 500}

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        answers = folder.json(self.files[split])
        for row in folder.json("questions.json"):
            if row["q_uid"] in answers:
                choices = tuple(row[f"option {n}"] for n in range(5))
                yield Item(
                    id=row["q_uid"],
                    video=folder.video(row["q_uid"]),
                    question=row["question"],
                    references=(choices[int(answers[row["q_uid"]])],),
                    choices=choices,
                )
