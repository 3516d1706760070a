"""DiDeMo (Hendricks et al. 2017): moments of five-second pieces, each by several annotators; the span that most chose
is taken for right. For retrieval all descriptions of a video are one text, as in published systems.

    DIR/test_data.json, val_data.json, train_data.json
    DIR/videos/VIDEO
"""

from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

from videollm.evaluate.item import Item
from videollm.evaluate.readers.base import Folder, Reader, Wanted

PIECE_S = 5.0


class DiDeMo(Reader):
    name = "didemo"
    tasks = ("grounding", "retrieval")
    files: ClassVar = {split: f"{split}_data.json" for split in ("test", "val", "train")}
    rows: ClassVar = {"test": 4_021, "val": 4_180, "train": 33_005}

    def items(self, folder: Folder, split: str, wanted: Wanted) -> Iterator[Item]:
        moments = folder.json(self.files[split])
        if wanted.task == "retrieval":
            texts: dict[str, list[str]] = {}
            for row in moments:
                texts.setdefault(row["video"], []).append(row["description"].strip())
            for video, said in texts.items():
                yield Item(id=video, video=folder.video(video), question=". ".join(said))
            return
        for row in moments:
            (first, last), _ = Counter((a, b) for a, b in row["times"]).most_common(1)[0]
            yield Item(
                id=str(row["annotation_id"]),
                video=folder.video(row["video"]),
                question=row["description"].strip(),
                spans=((PIECE_S * first, PIECE_S * (last + 1)),),
            )
