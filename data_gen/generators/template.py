"""Instruction data without a language model: the statements of an annotation in many phrasings.

`phrasings.json` holds the phrasings by task and language. A task gives no samples in a language without phrasings.
"""

import functools
import json
import random
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import pairwise
from string import Template, ascii_uppercase
from typing import TypeVar

from data_gen.generators.base import Draft, DraftBatch, turn, with_transcript
from videollm.datasets.clip import Clip, ClipQuestion, Note, NoteKind
from videollm.datasets.schema import Message, format_time

EVENTS = 4  # events of a clip that get samples of their own, at most
TURNS = 4  # questions of a conversation, at most
FINE_S = 5.0  # seconds; times of shorter events are written in tenths of a second
SPEECH_S = 15.0  # seconds of speech that one question asks for, about

T = TypeVar("T")


@functools.cache
def phrasings() -> dict[str, dict[str, list[str]]]:
    return json.loads(resources.files("data_gen.generators").joinpath("phrasings.json").read_text(encoding="utf-8"))


class TemplateGenerator:
    """Every sample that an annotation supports, the same for the same seed.

    Args:
        seed: Chooses phrasings, events and the order of choices.
        languages: Languages to keep; None for all of the annotation.
        tasks: Families ("qa") or tasks ("qa/order"); None for all.
    """

    name = "template"

    def __init__(self, *, seed: int = 0, languages: Sequence[str] | None = None, tasks: Sequence[str] | None = None):
        self.seed, self.languages, self.tasks = seed, languages, tasks

    def items(self, clip: Clip) -> Sequence[str]:
        return [""]

    async def make(self, clip: Clip, item: str) -> DraftBatch:
        return DraftBatch(drafts=tuple(self.drafts(clip)))

    def preview(self, clip: Clip, item: str) -> str:
        return "\n".join(
            f"[{d.task} {d.language}] {m.role}: {m.content}" for d in self.drafts(clip) for m in d.messages
        )

    def drafts(self, clip: Clip) -> Iterator[Draft]:
        noted = [note.language for note in (*clip.notes, *clip.negatives)]
        known = dict.fromkeys([*noted, *(q.language for q in clip.questions)] or ["en"])
        for language in known:
            if self.languages is None or language in self.languages:
                phrase = _Phrase(language, random.Random(f"{self.seed}/{clip.id}/{language}"))
                yield from (draft for draft in _all(clip, phrase) if self._wanted(draft))

    def _wanted(self, draft: Draft) -> bool:
        return self.tasks is None or draft.task in self.tasks or draft.task.partition("/")[0] in self.tasks


class _Phrase:
    """Picks phrasings in one language and makes drafts from them."""

    def __init__(self, language: str, rng: random.Random):
        self.language, self.rng = language, rng

    def knows(self, task: str) -> bool:
        return self.language in phrasings()[task]

    def __call__(self, task: str, **values: str) -> str:
        return Template(self.rng.choice(phrasings()[task][self.language])).substitute(values)

    def draft(self, task: str, messages: tuple[Message, ...], times: Sequence[tuple[float, float]] = ()) -> Draft:
        return Draft(task=task, language=self.language, messages=messages, answer_times=tuple(times), grounded=True)


def _all(clip: Clip, phrase: _Phrase) -> Iterator[Draft]:
    questions = [q for q in clip.questions if q.language == phrase.language]
    for dialogue in clip.dialogues:
        yield phrase.draft("conversation" if len(dialogue) > 3 else "qa/open", dialogue)
    for question in questions:
        yield phrase.draft(f"qa/{question.kind}", turn(question.question, question.answer), question.answer_times)
    if phrase.knows("caption/short"):
        yield from _captions(clip, phrase)
        yield from _events(clip, phrase)
        yield from _speech(clip, phrase)
        yield from _negatives(clip, phrase)
        yield from (_choice(q, phrase) for q in questions if q.choices)
        yield from _conversation(clip, questions, phrase)


def _captions(clip: Clip, phrase: _Phrase) -> Iterator[Draft]:
    kinds: dict[NoteKind, str] = {"short": "caption/short", "detailed": "caption/detailed", "label": "qa/action"}
    for kind, task in kinds.items():
        for note in clip.notes_of(kind, language=phrase.language):
            yield phrase.draft(task, turn(phrase(task), note.text), _times(note))


def _events(clip: Clip, phrase: _Phrase) -> Iterator[Draft]:
    events = sorted(clip.notes_of("event", language=phrase.language), key=lambda note: note.start or 0)
    timed = [note for note in events if note.start is not None and note.end is not None]
    for note in _some(timed, EVENTS, phrase.rng):
        span = _clock(note)
        yield phrase.draft("caption/part", turn(phrase("caption/part", **span), note.text), _times(note))
        where = turn(phrase("locate/event", event=note.text), phrase("locate/answer", **span))
        yield phrase.draft("locate/event", where, _times(note))
    if len(timed) > 1:
        lines = "\n".join(f"{_clock(note)['start']}-{_clock(note)['end']} {note.text}" for note in timed)
        spans = [span for note in timed for span in _times(note)]
        yield phrase.draft("caption/dense", turn(phrase("caption/dense"), lines), spans)
        yield phrase.draft("summary", turn(phrase("summary"), _in_order(timed, phrase)), spans)
    apart = [(a, b) for a, b in pairwise(timed) if (a.end or 0) <= (b.start or 0) and a.text != b.text]
    for first, then in _some(apart, EVENTS, phrase.rng):
        a, b = phrase.rng.sample((first, then), 2)
        answer = phrase("qa/temporal/answer", first=first.text, then=then.text, start=_clock(first)["start"])
        question = phrase("qa/temporal", a=a.text, b=b.text)
        yield phrase.draft("qa/temporal", turn(question, answer), [*_times(first), *_times(then)])


def _in_order(notes: list[Note], phrase: _Phrase) -> str:
    first, then, last = phrasings()["summary/parts"][phrase.language]
    patterns = [first, *[then] * (len(notes) - 2), last]
    return " ".join(Template(p).substitute(event=note.text) for p, note in zip(patterns, notes, strict=True))


def _speech(clip: Clip, phrase: _Phrase) -> Iterator[Draft]:
    """Questions about stretches of speech of about SPEECH_S seconds, below the words of the stretch and of its
    neighbours."""
    stretches: list[list[Note]] = []
    for note in clip.notes_of("speech", language=phrase.language):
        if stretches and (note.end or 0) - (stretches[-1][0].start or 0) <= SPEECH_S:
            stretches[-1].append(note)
        else:
            stretches.append([note])
    for number in _some(range(len(stretches)), EVENTS, phrase.rng):
        stretch = stretches[number]
        heard = [note for near in stretches[max(0, number - 1) : number + 2] for note in near]
        span = stretch[0].start or 0.0, max(note.end or 0.0 for note in stretch)
        question = phrase("qa/speech", start=format_time(span[0]), end=format_time(span[1]))
        asked = with_transcript(question, heard)
        yield phrase.draft("qa/speech", turn(asked, " ".join(note.text for note in stretch)), [span])


def _negatives(clip: Clip, phrase: _Phrase) -> Iterator[Draft]:
    """For every false description there is a question about a true one, so that yes and no are equally frequent."""
    true = clip.notes_of("short", language=phrase.language)
    for false in [note for note in clip.negatives if note.language == phrase.language] if true else []:
        note = phrase.rng.choice(true)
        no = phrase("qa/negative/no", text=note.text)
        yield phrase.draft("qa/negative", turn(phrase("qa/negative", text=false.text), no))
        yield phrase.draft("qa/negative", turn(phrase("qa/negative", text=note.text), phrase("qa/negative/yes")))
        options = phrase.rng.sample((note.text, false.text), 2)
        yield _choice(
            ClipQuestion(
                kind="caption",
                question=phrase("choice/caption"),
                answer=note.text,
                choices=tuple(options),
                correct=options.index(note.text),
            ),
            phrase,
        )


def _choice(question: ClipQuestion, phrase: _Phrase) -> Draft:
    assert question.correct is not None  # ClipQuestion checks it
    options = "\n".join(f"{letter}. {text}" for letter, text in zip(ascii_uppercase, question.choices, strict=False))
    letter, text = ascii_uppercase[question.correct], question.choices[question.correct]
    asked = phrase("choice", question=question.question, options=options)
    return phrase.draft(f"choice/{question.kind}", turn(asked, f"{letter}. {text}"), question.answer_times)


def _conversation(clip: Clip, questions: list[ClipQuestion], phrase: _Phrase) -> Iterator[Draft]:
    asked = _some(questions, TURNS, phrase.rng)
    captions = clip.notes_of("short", language=phrase.language)[:1]
    if len(asked) + len(captions) < 2 or not asked:
        return
    turns = [turn(phrase("caption/short"), note.text) for note in captions]
    turns += [turn(q.question, q.answer) for q in asked]
    times = [span for q in asked for span in q.answer_times]
    yield phrase.draft("conversation", tuple(message for pair in turns for message in pair), times)


def _some(items: Sequence[T], most: int, rng: random.Random) -> list[T]:
    """A random choice of at most `most` items, in their order."""
    return [items[i] for i in sorted(rng.sample(range(len(items)), min(most, len(items))))]


def _times(note: Note) -> list[tuple[float, float]]:
    return [(note.start, note.end)] if note.start is not None and note.end is not None else []


def _clock(note: Note) -> dict[str, str]:
    """The times of a note as text, in tenths of a second if the note is short."""
    start, end = note.start or 0.0, note.end or 0.0
    decimals = 1 if end - start < FINE_S else 0
    return {"start": format_time(start, decimals), "end": format_time(end, decimals)}
