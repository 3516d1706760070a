"""An annotated video: what the readers of annotation files yield and the generators of instruction data consume."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from videollm.datasets.schema import Message

NoteKind = Literal["short", "detailed", "event", "speech", "label"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One statement of the annotation about a clip.

    Args:
        kind: A `short` or `detailed` description, an `event` with its times, `speech` that is heard, or the `label` of
            an action.
        text: The statement. It must not be empty.
        language: ISO 639-1 code of the text.
        start, end: Seconds from the start of the video file; None if the statement is about the whole clip.
    """

    kind: NoteKind
    text: str
    language: str = "en"
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("the text is empty")
        if self.start is not None and not 0 <= self.start <= (self.start if self.end is None else self.end):
            raise ValueError(f"the times {self.start} to {self.end} do not satisfy 0 <= start <= end")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipQuestion:
    """A question that is part of the annotation.

    Args:
        kind: What the question is about; it becomes the second part of a sample's task, `qa/KIND`.
        question: The question.
        answer: The answer if the question is asked without choices.
        language: ISO 639-1 code of question and answer.
        choices: The options of a multiple-choice question, or none.
        correct: The index of the right choice; required if there are choices.
        answer_times: Spans (start, end) in seconds in which the answer can be seen.
    """

    kind: str
    question: str
    answer: str
    language: str = "en"
    choices: tuple[str, ...] = ()
    correct: int | None = None
    answer_times: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.choices and (self.correct is None or not 0 <= self.correct < len(self.choices)):
            raise ValueError(
                f"correct is {self.correct}; it must be the index, from 0, of one of the {len(self.choices)} choices"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A video, or a part of one, with everything that the annotation says about it.

    Args:
        id: Unique within its source.
        video: The video or the picture, whether the file exists or not; None for a conversation without either.
        source: The name of the reader, which becomes the provenance of samples.
        start, end: The part of the file that is shown, in seconds; None means the start and the end of the file.
        duration: Length of the whole file in seconds; None if it was not measured. What annotations state is not used,
            because files are often cut or encoded anew.
        split: The split that the annotation states, or None.
        action: The class in a data set of action recognition, or None.
        notes: Statements that are true of the clip.
        questions: Questions that the annotation asks.
        negatives: Descriptions that are false.
        dialogues: Whole conversations that are copied into samples unchanged.
    """

    id: str
    video: Path | None
    source: str
    start: float | None = None
    end: float | None = None
    duration: float | None = None
    split: str | None = None
    action: str | None = None
    notes: tuple[Note, ...] = ()
    questions: tuple[ClipQuestion, ...] = ()
    negatives: tuple[Note, ...] = ()
    dialogues: tuple[tuple[Message, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("the id is empty")
        if not (self.start or 0) >= 0 or (self.end is not None and not self.end > (self.start or 0)):
            raise ValueError(f"the part from {self.start} to {self.end} does not satisfy 0 <= start < end")

    def notes_of(self, *kinds: NoteKind, language: str | None = None) -> list[Note]:
        """The notes of these kinds, in order; None selects every language."""
        return [n for n in self.notes if n.kind in kinds and language in (None, n.language)]

    @property
    def languages(self) -> list[str]:
        """The languages of the notes, the most frequent first. Speech counts only if nothing else is noted: a film in
        one language is often described in another."""
        seen = [n.language for n in self.notes if n.kind != "speech"] or [n.language for n in self.notes]
        return sorted(set(seen), key=lambda language: (-seen.count(language), language))
