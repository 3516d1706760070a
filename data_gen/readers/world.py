"""The synthetic world's `annotations.jsonl`: captions at three levels, questions and false captions, all known to be
right. Videos lie beside it."""

from collections.abc import Iterator
from typing import Any

from data_gen.clips import Clip, Note, Question
from data_gen.readers.base import Source


class WorldReader:
    name = "world"

    def matches(self, source: Source) -> bool:
        return source.suffix == ".jsonl" and {"objects", "events", "captions", "questions"} <= source.fields

    def read(self, source: Source) -> Iterator[Clip]:
        for where, row in source.rows():
            with source.report.row(where):
                yield Clip(
                    id=row["id"],
                    video=source.video(row["video"]),
                    source=self.name,
                    duration=float(row["duration_s"]),
                    notes=tuple(_notes(row["captions"])),
                    questions=tuple(_question(q) for q in row["questions"]),
                    negatives=tuple(
                        Note(kind="short", text=text, language=language)
                        for swapped in row["negatives"].values()
                        for language, text in swapped.items()
                    ),
                )


def _notes(captions: dict[str, Any]) -> Iterator[Note]:
    for language, levels in captions.items():
        yield Note(kind="short", text=levels["short"], language=language)
        yield Note(kind="detailed", text=levels["detailed"], language=language)
        for part in levels["dense"]:
            yield Note(kind="event", text=part["text"], language=language, start=part["start"], end=part["end"])


def _question(values: dict[str, Any]) -> Question:
    return Question(
        kind=values["kind"],
        question=values["question"],
        answer=values["answer"],
        language=values["language"],
        choices=tuple(values["choices"] or ()),
        correct=values["correct"],
        answer_times=tuple((a, b) for a, b in values["answer_times"]),
    )
