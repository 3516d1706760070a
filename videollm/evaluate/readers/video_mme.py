"""Video-MME (Fu et al. 2024): 900 videos of up to an hour, three questions each. Subtitles are not used.

DIR/videomme/test-00000-of-00001.parquet
DIR/data/VIDEOID.mp4
"""

import io
import re
from collections.abc import Iterator
from typing import ClassVar

import pyarrow.parquet as parquet

from videollm.evaluate.item import Item
from videollm.evaluate.readers.base import Folder, Reader, Wanted

_LETTER = re.compile(r"^[A-Z][.)] *")


class VideoMME(Reader):
    name = "video-mme"
    tasks = ("mcqa",)
    files: ClassVar = {"test": "videomme/test-00000-of-00001.parquet"}
    rows: ClassVar = {"test": 2_700}

    def items(self, folder: Folder, split: str, wanted: Wanted) -> Iterator[Item]:
        for row in parquet.read_table(io.BytesIO(folder.bytes(self.files[split]))).to_pylist():
            choices = tuple(_LETTER.sub("", option) for option in row["options"])
            yield Item(
                id=row["question_id"],
                video=folder.video(row["videoID"], "data"),
                question=row["question"],
                references=(choices[ord(row["answer"]) - ord("A")],),
                choices=choices,
                slices={"kind": row["task_type"], "length": row["duration"], "domain": row["domain"]},
            )
