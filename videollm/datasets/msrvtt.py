"""MSR-VTT's clips: captions (Xu et al. 2016) for training, MSR-VTT-QA (Xu et al. 2017) for evaluation.

Captions: `train_val_videodatainfo.json` or `test_videodatainfo.json`, 20 captions a clip. Each clip states its split:
train, validate or test. The clips are distributed already cut, so the times in the file, which are those of YouTube's
videos, are not used.

Questions with answers of one word, generated from the captions ("Video question answering via gradually refined
attention"):

    DIR/test_qa.json, val_qa.json, train_qa.json
    DIR/videos/video7010.mp4
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, Note
from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item

MSVD_MAPPING = "youtube_mapping.txt"  # MSVD-QA has the same annotation files, and this one besides


class MsrVtt(ClipReader):
    name = "msrvtt"

    def recognises(self, file: AnnotationFile) -> bool:
        return isinstance(file.json, dict) and {"videos", "sentences"} <= file.json.keys()

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        notes: defaultdict[str, list[Note]] = defaultdict(list)
        for where, sentence in file.entries(file.json["sentences"], "sentence"):
            with file.broken.row(where):
                notes[sentence["video_id"]].append(Note(kind="short", text=sentence["caption"].strip()))
        for where, video in file.entries(file.json["videos"], "video"):
            with file.broken.row(where):
                name = video["video_id"]
                if name not in notes:
                    raise ValueError("no sentence describes the video")
                yield Clip(
                    id=name,
                    video=file.video(name),
                    source=self.name,
                    split=video.get("split"),
                    notes=tuple(notes.pop(name)),
                )
        for name in notes:
            file.broken.add(f"{file.path.name} video_id {name}", "the file lists sentences of the video, but no video")


class MsrVttQA(ItemReader):
    name = "msrvtt-qa"
    tasks = ("openqa",)
    files: ClassVar = {split: f"{split}_qa.json" for split in ("test", "val", "train")}
    rows: ClassVar = {"test": 72_821, "val": 12_278, "train": 158_581}

    def recognises_folder(self, root: Path) -> bool:
        return super().recognises_folder(root) and not (root / MSVD_MAPPING).is_file()

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        names = self.video_names(folder)
        for row in folder.json(self.files[split]):
            yield Item(
                id=str(row["id"]),
                video=folder.video(names.get(row["video_id"], f"video{row['video_id']}")),
                question=row["question"],
                references=(row["answer"],),
                slices={"kind": row["question"].split()[0].lower()},  # who, what, how, ...
            )

    def video_names(self, folder: DatasetFolder) -> dict[int, str]:
        """File names by the number of the video; MSR-VTT's files are named by the number itself."""
        return {}
