"""NExT-QA (Xiao et al. 2021): questions about causes, order and description of everyday actions.

DIR/test.csv, val.csv, train.csv             mcqa; the answer is the number, from 0, of a0 to a4
DIR/oe/test.csv, oe/val.csv, oe/train.csv    openqa; additional_ref_answer, if present, is right too
DIR/map_vid_vidorID.json                     each video's path below DIR/videos, as VidOR is laid out; without this
                                             file the videos are DIR/videos/VIDEO.mp4
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item

_MAP = "map_vid_vidorID.json"
_KINDS = {"C": "causal", "T": "temporal", "D": "descriptive"}


class NextQA(ItemReader):
    name = "next-qa"
    tasks = ("mcqa",)
    files: ClassVar = {split: f"{split}.csv" for split in ("test", "val", "train")}
    rows: ClassVar = {"test": 8_564, "val": 4_996, "train": 34_132}

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        places = folder.json(_MAP) if (folder.root / _MAP).is_file() else {}
        for row in folder.table(self.files[split]):
            choices = tuple(row[f"a{n}"] for n in range(5)) if "a0" in row else ()
            answers = (
                (choices[int(row["answer"])],) if choices else (row["answer"], row.get("additional_ref_answer", ""))
            )
            yield Item(
                id=f"{row['video']}/{row['qid']}",
                video=folder.video(places.get(row["video"], row["video"])),
                question=_question(row["question"]),
                references=tuple(filter(None, answers)),
                choices=choices,
                slices={"kind": _KINDS[row["type"][0]]},
            )


class NextOpenQA(NextQA):
    name = "next-qa-oe"
    tasks = ("openqa",)
    files: ClassVar = {split: f"oe/{split}.csv" for split in ("test", "val", "train")}
    rows: ClassVar = {"test": 9_178, "val": 5_343, "train": 37_523}


def _question(text: str) -> str:
    """The published questions have neither a capital nor a question mark."""
    return f"{text[:1].upper()}{text[1:]}".removesuffix("?") + "?"
