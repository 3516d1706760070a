"""Your own table of captions: CSV, TSV or JSON Lines with a column for the video and one for the text.

Columns, by any of these names: video (file, path, video_path, video_id, videoid, clip), caption (text, description,
sentence, name, title); if you have them start, end (seconds of the part), language, id; and for questions of your own
question, answer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_gen.clips import Clip, Note, Question
from data_gen.readers.base import Source

VIDEO = ("video", "file", "path", "video_path", "video_id", "videoid", "clip")
TEXT = ("caption", "text", "description", "sentence", "name", "title")


class PlainReader:
    name = "plain"

    def matches(self, source: Source) -> bool:
        table = source.suffix in (".csv", ".tsv", ".jsonl")
        return table and bool(source.fields & set(VIDEO)) and bool(source.fields & {*TEXT, "question"})

    def read(self, source: Source) -> Iterator[Clip]:
        for number, (where, row) in enumerate(source.rows(), 1):
            with source.report.row(where):
                yield _clip(source, row, number)


def _clip(source: Source, row: dict[str, Any], number: int) -> Clip:
    video = source.video(str(_first(row, VIDEO)))
    language = row.get("language") or "en"
    question = row.get("question")
    return Clip(
        id=str(row.get("id") or f"{Path(video).stem}-{number}"),
        video=video,
        source=PlainReader.name,
        start=_number(row.get("start")),
        end=_number(row.get("end")),
        notes=() if question else (Note(kind="short", text=str(_first(row, TEXT)), language=language),),
        questions=(Question(kind="open", question=question, answer=row["answer"], language=language),)
        if question
        else (),
    )


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise KeyError(names[0])


def _number(value: Any) -> float | None:
    return None if value in (None, "") else float(value)
