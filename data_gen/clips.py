"""An annotated video: what readers give and generators take, whatever the collection."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from videollm.datasets.schema import Message

NoteKind = Literal["short", "detailed", "event", "speech", "label"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something an annotation says of a clip. kind: a `short` or `detailed` description, an `event` at its time,
    `speech` that is heard, or the `label` of an action. start, end: seconds of the video, None for all of it."""

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
class Question:
    """A question that the annotation itself asks. choices and correct: the options and the right one's index, where
    it is multiple choice. answer: what to say if it is asked openly."""

    kind: str
    question: str
    answer: str
    language: str = "en"
    choices: tuple[str, ...] = ()
    correct: int | None = None
    answer_times: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.choices and (self.correct is None or not 0 <= self.correct < len(self.choices)):
            raise ValueError(f"correct is {self.correct}, the choices are {len(self.choices)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """id: unique in its source. video: where the file is; start, end: the part of it, None for its start and end;
    duration: of the whole file in seconds, None where the annotation does not say. negatives: descriptions that are
    false. dialogues: whole conversations to be taken over as they are."""

    id: str
    video: Path
    source: str
    start: float | None = None
    end: float | None = None
    duration: float | None = None
    notes: tuple[Note, ...] = ()
    questions: tuple[Question, ...] = ()
    negatives: tuple[Note, ...] = ()
    dialogues: tuple[tuple[Message, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("the id is empty")
        if not (self.start or 0) >= 0 or (self.end is not None and not self.end > (self.start or 0)):
            raise ValueError(f"the part from {self.start} to {self.end} does not satisfy 0 <= start < end")

    def of(self, *kinds: NoteKind, language: str | None = None) -> list[Note]:
        """Its notes of these kinds, in order."""
        return [n for n in self.notes if n.kind in kinds and language in (None, n.language)]

    @property
    def languages(self) -> list[str]:
        """Those of its notes, most notes first; what is heard counts only where nothing is described."""
        seen = [n.language for n in self.notes if n.kind != "speech"] or [n.language for n in self.notes]
        return sorted(set(seen), key=lambda language: (-seen.count(language), language))
