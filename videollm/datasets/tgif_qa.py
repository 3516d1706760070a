"""TGIF-QA (Jang et al. 2017): questions about animated GIFs, in tab-separated tables.

DIR/Test_frameqa_question.csv, Test_count_question.csv         openqa; counts from 1 to 10 repetitions and more
DIR/Test_action_question.csv, Test_transition_question.csv     mcqa; the answer is the number, from 0, of a1 to a5
DIR/videos/GIF_NAME.gif
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item


class TgifQA(ItemReader):
    name = "tgif-qa"
    tasks = ("openqa", "mcqa")
    files: ClassVar = {kind: f"Test_{kind}_question.csv" for kind in ("frameqa", "count", "action", "transition")}
    rows: ClassVar = {"frameqa": 13_691, "count": 3_554, "action": 2_274, "transition": 6_232}

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        for number, row in enumerate(folder.table(self.files[split], "\t"), 1):
            choices = tuple(row[f"a{n}"] for n in range(1, 6)) if "a1" in row else ()
            yield Item(
                id=f"{split}/{number}",
                video=folder.video(f"{row['gif_name']}.gif"),
                question=row["question"],
                references=(choices[int(row["answer"])] if choices else row["answer"],),
                choices=choices,
                slices={"kind": split},
            )
