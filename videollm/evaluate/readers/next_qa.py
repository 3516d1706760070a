"""NExT-QA (Xiao et al. 2021): why and how, what comes before and after.

DIR/test.csv, val.csv, train.csv             mcqa; the answer is the number, from 0, of a0 to a4
DIR/oe/test.csv, oe/val.csv, oe/train.csv    openqa; additional_ref_answer, where there is one, is right too
DIR/map_vid_vidorID.json                     each video's path below DIR/videos, as VidOR is laid out; without the
                                             file videos lie in DIR/videos/VIDEO.mp4
"""

from collections.abc import Iterator
from typing import ClassVar

from videollm.evaluate.item import Item
from videollm.evaluate.readers.base import Folder, Reader, Wanted

_MAP = "map_vid_vidorID.json"
_KINDS = {"C": "causal", "T": "temporal", "D": "descriptive"}


class NextQA(Reader):
    name = "next-qa"
    tasks = ("mcqa",)
    files: ClassVar = {split: f"{split}.csv" for split in ("test", "val", "train")}
    rows: ClassVar = {"test": 8_564, "val": 4_996, "train": 34_132}

    def items(self, folder: Folder, split: str, wanted: Wanted) -> Iterator[Item]:
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
    """Published without a capital and a mark."""
    return f"{text[:1].upper()}{text[1:]}".removesuffix("?") + "?"
