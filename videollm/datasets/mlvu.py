"""MLVU, the development set (Zhou et al. 2024): videos of three minutes to two hours.

DIR/json/1_plotQA.json, ... 7_topic_reasoning.json    mcqa
DIR/json/8_sub_scene.json, 9_summary.json             openqa and summary, if the folder has them
DIR/video/1_plotQA/VIDEO, ...
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item

_CHOSEN = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")
_WRITTEN = ("8_sub_scene", "9_summary")


class MLVU(ItemReader):
    name = "mlvu"
    tasks = ("mcqa", "openqa", "summary")
    files: ClassVar = {kind: f"json/{kind}.json" for kind in (*_CHOSEN, *_WRITTEN)}

    def default_splits(self, root: Path) -> tuple[str, ...]:
        return tuple(kind for kind, file in self.files.items() if (root / file).is_file())

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        for number, row in enumerate(folder.json(self.files[split]), 1):
            yield Item(
                id=f"{split}/{number}",
                video=folder.video(row["video"], f"video/{split}"),
                question=row["question"],
                references=(row["answer"],),
                choices=tuple(row.get("candidates", ())),
                slices={"kind": row["question_type"]},
            )
