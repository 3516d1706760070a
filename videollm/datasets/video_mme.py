"""Video-MME (Fu et al. 2024): 900 videos of up to an hour, three questions each. Subtitles are not used.

DIR/videomme/test-00000-of-00001.parquet
DIR/data/VIDEOID.mp4
"""

import io
import re
from collections.abc import Iterator
from typing import ClassVar

from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item

_LETTER = re.compile(r"^[A-Z][.)] *")


class VideoMME(ItemReader):
    name = "video-mme"
    tasks = ("mcqa",)
    files: ClassVar = {"test": "videomme/test-00000-of-00001.parquet"}
    rows: ClassVar = {"test": 2_700}

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        # Imported here, because reading any other data set does not need the extra `eval`.
        import pyarrow.parquet as parquet

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
