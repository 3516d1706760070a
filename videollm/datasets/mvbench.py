"""MVBench (Li et al. 2024): 200 questions of each of 20 kinds, of which 19 are read.

    DIR/json/action_sequence.json, ...
    DIR/video/star/Charades_v1_480/..., ...    as published

The kind episodic_reasoning is left out, because its videos are published as folders of pictures.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item

# The folder of each kind's videos below DIR/video.
FOLDERS = {
    "action_sequence": "star/Charades_v1_480",
    "action_prediction": "star/Charades_v1_480",
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "counterfactual_inference": "clevrer/video_validation",
}


class MVBench(ItemReader):
    name = "mvbench"
    tasks = ("mcqa",)
    files: ClassVar = {kind: f"json/{kind}.json" for kind in FOLDERS}
    rows: ClassVar = dict.fromkeys(FOLDERS, 200)

    def default_splits(self, root: Path) -> tuple[str, ...]:
        return tuple(FOLDERS)

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        for number, row in enumerate(folder.json(self.files[split]), 1):
            yield Item(
                id=f"{split}/{number}",
                video=folder.video(row["video"], f"video/{FOLDERS[split]}"),
                start_s=row.get("start"),
                end_s=row.get("end"),
                question=row["question"],
                references=(row["answer"],),
                choices=tuple(row["candidates"]),
                slices={"kind": split},
            )
