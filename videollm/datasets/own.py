"""Your own data.

For training, a table of captions or questions (CSV, TSV or JSON Lines) with a column for the video and one for the
text. The columns may have any of these names: video (file, path, video_path, video_id, videoid, clip) and caption
(text, description, sentence, name, title). Optional columns: start and end (seconds of the part), language, id, and
for your own questions question and answer.

For evaluation, a folder, for any task:

    DIR/items.jsonl    {"id", "video"} and, as the task needs, "question", "references": [...], "choices": [...],
                       "spans": [[start, end], ...], "start_s", "end_s", "paraphrase", "slices": {name: value}
    DIR/VIDEO          "video" is a path below DIR

For retrieval, the question is the text that describes the video.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, ClipQuestion, Note
from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item

VIDEO = ("video", "file", "path", "video_path", "video_id", "videoid", "clip")
TEXT = ("caption", "text", "description", "sentence", "name", "title")


class OwnTable(ClipReader):
    name = "plain"

    def recognises(self, file: AnnotationFile) -> bool:
        is_table = file.suffix in (".csv", ".tsv", ".jsonl")
        return is_table and bool(file.fields & set(VIDEO)) and bool(file.fields & {*TEXT, "question"})

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for number, (where, row) in enumerate(file.rows(), 1):
            with file.broken.row(where):
                yield self._clip(file, row, number)

    def _clip(self, file: AnnotationFile, row: dict[str, Any], number: int) -> Clip:
        video = file.video(str(_first_of(row, VIDEO)))
        language = row.get("language") or "en"
        notes, questions = (), ()
        if question := row.get("question"):
            questions = (ClipQuestion(kind="open", question=question, answer=row["answer"], language=language),)
        else:
            notes = (Note(kind="short", text=str(_first_of(row, TEXT)), language=language),)
        return Clip(
            id=str(row.get("id") or f"{video.stem}-{number}"),
            video=video,
            source=self.name,
            start=_number(row.get("start")),
            end=_number(row.get("end")),
            notes=notes,
            questions=questions,
        )


class OwnItems(ItemReader):
    name = "own"
    tasks = ("retrieval", "mcqa", "openqa", "caption", "dense", "grounding", "classify", "summary")
    files: ClassVar = {"all": "items.jsonl"}

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        for row in folder.json_lines(self.files[split]):
            lists = {name: tuple(row.pop(name, ())) for name in ("references", "choices")}
            spans = tuple((float(a), float(b)) for a, b in row.pop("spans", ()))
            # An unknown field is a TypeError, which names it.
            yield Item(**{**row, **lists, "video": folder.root / row["video"], "spans": spans})


def _first_of(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The first column that the row has. Raises KeyError with the preferred name if it has none of them."""
    for name in names:
        if name in row:
            return row[name]
    raise KeyError(names[0])


def _number(value: Any) -> float | None:
    return None if value in (None, "") else float(value)
