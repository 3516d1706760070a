"""Your own data.

For training, a table of captions or questions (CSV, TSV or JSON Lines) with a column for the video and one for the
text. The columns may have any of these names: video (file, path, video_path, video_id, videoid, clip) and caption
(text, description, sentence, name, title). Optional columns: start and end (seconds of the part), language, id, and
for your own questions question and answer. A multiple-choice question has its options in the columns a, b, c, ..., or
in one column choices (a list in JSON Lines, otherwise separated by |); the answer is an option or its letter.

For evaluation, a folder, for any task:

    DIR/items.jsonl    {"id", "video"} and, as the task needs, "question", "references": [...], "choices": [...],
                       "spans": [[start, end], ...], "start_s", "end_s", "paraphrase", "slices": {name: value}
    DIR/VIDEO          "video" is a path below DIR

For retrieval, the question is the text that describes the video. For live, it is asked at `end_s`, and a second
reference is the option that is right at the end of the video.
"""

from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase
from typing import Any, ClassVar

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, ClipQuestion, Note
from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item
from videollm.errors import DataError

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
            choices, answer = _choices(row), str(row["answer"])
            correct = _correct(choices, answer) if choices else None
            questions = (
                ClipQuestion(
                    kind="open",
                    question=question,
                    answer=answer if correct is None else choices[correct],
                    language=language,
                    choices=choices,
                    correct=correct,
                ),
            )
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
    tasks = ("retrieval", "mcqa", "openqa", "caption", "dense", "grounding", "classify", "summary", "live")
    files: ClassVar = {"all": "items.jsonl"}

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        for number, row in enumerate(folder.json_lines(self.files[split]), 1):
            try:
                yield _item(folder.root, row)
            except (KeyError, TypeError, ValueError) as error:
                reason = f"no {error.args[0]!r}" if isinstance(error, KeyError) else " ".join(str(error).split())
                raise DataError(f"{folder.root / self.files[split]}, item {number}: {reason}") from error


def _item(root: Path, row: Any) -> Item:
    """Returns an item of one's own. Raises KeyError, TypeError or ValueError if it has another form."""
    if not isinstance(row, dict):
        raise TypeError(f"{row!r:.40} is not an object")
    lists = {name: row.get(name, []) for name in ("references", "choices")}
    read = {
        **{name: tuple(values) if isinstance(values, list) else values for name, values in lists.items()},
        "spans": tuple((float(a), float(b)) for a, b in row.get("spans", ())),
        "video": root / row["video"],
    }
    return Item(**row | read)  # an unknown field is a TypeError, which names it


def _first_of(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The first column that the row has. Raises KeyError with the preferred name if it has none of them."""
    for name in names:
        if name in row:
            return row[name]
    raise KeyError(names[0])


def _choices(row: dict[str, Any]) -> tuple[str, ...]:
    """Returns the options of a multiple-choice question, or none."""
    found = row.get("choices") or [row.get(letter) or "" for letter in ascii_lowercase]
    texts = [str(text).strip() for text in (found.split("|") if isinstance(found, str) else found)]
    count = next((n for n, text in enumerate(texts) if not text), len(texts))
    if any(texts[count:]) or count == 1 or len(set(texts[:count])) < count:
        raise ValueError("the options must be two or more different texts, without a gap")
    return tuple(texts[:count])


def _correct(choices: tuple[str, ...], answer: str) -> int:
    """Returns the index of the option that an answer names by its text or its letter."""
    letters, plain = ascii_lowercase[: len(choices)], answer.strip().casefold()
    if plain in (texts := [text.casefold() for text in choices]):
        return texts.index(plain)
    if len(plain) == 1 and plain in letters:
        return letters.index(plain)
    raise ValueError(f"the answer is {answer[:40]!r}; write one of the options or a letter up to {letters[-1].upper()}")


def _number(value: Any) -> float | None:
    return None if value in (None, "") else float(value)
