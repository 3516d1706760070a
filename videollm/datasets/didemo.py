"""DiDeMo (Hendricks et al. 2017): moments of videos that are cut into five-second pieces.

Several annotators mark the first and the last piece of each described moment. The span that most of them chose is the
right one. For retrieval all descriptions of a video form one text, as in published systems.

    DIR/test_data.json, val_data.json, train_data.json
    DIR/videos/VIDEO
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, Note
from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item, Span

PIECE_S = 5.0


def moment_span(moment: dict[str, Any]) -> Span:
    """Start and end in seconds of the span that most annotators chose; of equally frequent spans the first one."""
    ((first, last), _), *_ = Counter((a, b) for a, b in moment["times"]).most_common(1)
    return PIECE_S * first, PIECE_S * (last + 1)


class DiDeMo(ClipReader, ItemReader):
    name = "didemo"
    tasks = ("grounding", "retrieval")
    files: ClassVar = {split: f"{split}_data.json" for split in ("test", "val", "train")}
    rows: ClassVar = {"test": 4_021, "val": 4_180, "train": 33_005}

    def recognises(self, file: AnnotationFile) -> bool:
        return isinstance(file.json, list) and {"annotation_id", "description", "times", "video"} <= file.fields

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for where, moment in file.entries(file.json):
            with file.broken.row(where):
                start, end = moment_span(moment)
                yield Clip(
                    id=str(moment["annotation_id"]),
                    video=file.video(moment["video"]),
                    source=self.name,
                    notes=(Note(kind="event", text=moment["description"].strip(), start=start, end=end),),
                )

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        moments = folder.json(self.files[split])
        if query.task == "retrieval":
            yield from self._paragraphs(folder, moments)
            return
        for moment in moments:
            yield Item(
                id=str(moment["annotation_id"]),
                video=folder.video(moment["video"]),
                question=moment["description"].strip(),
                spans=(moment_span(moment),),
            )

    def _paragraphs(self, folder: DatasetFolder, moments: list[dict[str, Any]]) -> Iterator[Item]:
        texts: dict[str, list[str]] = {}
        for moment in moments:
            texts.setdefault(moment["video"], []).append(moment["description"].strip())
        for video, descriptions in texts.items():
            yield Item(id=video, video=folder.video(video), question=". ".join(descriptions))
