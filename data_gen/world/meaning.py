"""What can be said about a clip, independent of a language: nouns, clauses, questions and the values of answers.

Seconds are rounded as they will be read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from data_gen.world.clip import Background, Event, Thing, WorldClip
from data_gen.world.vocabulary import COLOURS, REVERSED
from videollm.datasets.world_annotation import SHAPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """A thing, or the things of a group, named by the attributes that are given. new: it was not mentioned before."""

    shape: str
    colour: str | None = None
    size: str | None = None
    texture: str | None = None
    count: int = 1
    new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """An event in words. subject is None for the camera; colour is what the subject turns into."""

    kind: str
    subject: Noun | None = None
    other: Noun | None = None
    times: int | None = None
    counts: tuple[int, int] | None = None
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Colour:
    name: str


@dataclass(frozen=True, slots=True)
class Direction:
    """One of `vocabulary.DIRECTIONS`, or "clockwise" or "counterclockwise"."""

    name: str


@dataclass(frozen=True, slots=True)
class Number:
    value: int


@dataclass(frozen=True, slots=True)
class Length:
    seconds: float


@dataclass(frozen=True, slots=True)
class Instant:
    seconds: float


@dataclass(frozen=True, slots=True)
class YesNo:
    yes: bool


@dataclass(frozen=True, slots=True)
class Change:
    """Between two colours or two numbers."""

    before: Colour | Number
    after: Colour | Number


@dataclass(frozen=True, slots=True)
class Growth:
    larger: bool


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer to a question about what the video does not show."""


@dataclass(frozen=True, slots=True)
class Guess:
    """An invented answer to such a question. name is its key in each language."""

    name: str


Value = Noun | Clause | Colour | Direction | Number | Length | Instant | YesNo | Change | Growth | Unknown | Guess


@dataclass(frozen=True, kw_only=True)
class AbstractQuestion:
    """A question before it is worded in a language.

    Args:
        form: The name of its wording, "kind.form".
        answer: The right answer.
        wrong: Answers that do not hold.
        times: Spans in seconds in which the answer can be seen.
        slots: The values that the wording speaks of.
        choices: All answers that are offered, in the order to show them; none for an open question.
    """

    form: str
    answer: Value
    wrong: tuple[Value, ...]
    times: tuple[tuple[float, float], ...]
    slots: dict[str, Value]
    choices: tuple[Value, ...] = ()

    @property
    def kind(self) -> str:
        return self.form.partition(".")[0]


def name_of(thing: Thing) -> Noun:
    """Attributes that fit this thing only, at any time of the clip. A thing that changes colour is the only one of its
    shape, so its colour is not needed."""
    return Noun(
        shape=thing.shape,
        colour=None if thing.next_colour else thing.colour,
        size=thing.size if thing.by_size else None,
        count=1 if thing.group is None else 2,
    )


def clause_of(clip: WorldClip, event: Event) -> Clause:
    """The event in attributes that fit it only."""
    subject, other = (None if number is None else clip.things[number] for number in (event.thing, event.other))
    return Clause(
        kind=event.kind,
        subject=name_of(subject) if subject else None,
        other=name_of(other) if other else None,
        counts=event.counts,
        colour=event.colours[1] if event.colours else None,
    )


class Teller:
    """Tells events in order. A thing is new when it is first mentioned, and has the colour of that moment."""

    def __init__(self, clip: WorldClip):
        self._clip = clip
        self._known: set[int] = set()
        self._turned = {event.thing: event for event in clip.events if event.colours}

    def introduce(self, thing: Thing, count: int = 1) -> Noun:
        self._known.add(thing.id)
        texture = None if thing.texture == "plain" else thing.texture
        return Noun(shape=thing.shape, colour=thing.colour, size=thing.size, texture=texture, count=count, new=True)

    def tell(self, event: Event) -> Clause:
        subject = None if event.thing is None else self._noun(event.thing, event)
        other = None if event.other is None else self._noun(event.other, event)
        clause = clause_of(self._clip, event)
        return replace(clause, subject=subject, other=other, times=event.times)

    def _noun(self, number: int, event: Event) -> Noun:
        thing = self._clip.things[number]
        turned = self._turned.get(number)
        has_turned = turned is not None and event.start > turned.start
        is_new = number not in self._known and thing.group is None
        self._known.add(number)
        return replace(name_of(thing), colour=thing.next_colour if has_turned else thing.colour, new=is_new)


@dataclass(frozen=True, slots=True)
class SceneAccount:
    """One scene: where it is set, what is there at its start, what happens."""

    background: Background
    shown: tuple[Noun, ...]
    events: tuple[Clause, ...]


def detailed(clip: WorldClip) -> list[SceneAccount]:
    teller = Teller(clip)
    accounts = []
    for scene, start in enumerate(clip.scenes):
        nouns = []
        for members in groups(thing for thing in clip.things if thing.scene == scene):
            count = int((clip.stage.alpha[[thing.id for thing in members], start] > 0).sum())
            if count:
                nouns.append(teller.introduce(members[0], count))
        told = tuple(teller.tell(event) for event in clip.events if clip.scene_of(event.start) == scene)
        accounts.append(SceneAccount(clip.backgrounds[scene], tuple(nouns), told))
    return accounts


def groups(things: Iterable[Thing]) -> list[list[Thing]]:
    """The things, with those of a group in one list."""
    together: dict[tuple[str, int], list[Thing]] = {}
    for thing in things:
        key = ("thing", thing.id) if thing.group is None else ("group", thing.group)
        together.setdefault(key, []).append(thing)
    return list(together.values())


def in_order(clip: WorldClip, events: Iterable[Event]) -> list[Clause]:
    """The events in the order given, which need not be the true one."""
    teller = Teller(clip)
    return [teller.tell(event) for event in events]


def looks(clip: WorldClip) -> set[tuple[str, str]]:
    """Every pair of shape and colour that is seen at some time."""
    return {(thing.shape, colour) for thing in clip.things for colour in (thing.colour, thing.next_colour) if colour}


def with_one_wrong(clip: WorldClip, clauses: list[Clause], rng: np.random.Generator) -> list[Clause]:
    """The same story with one wrong attribute.

    It is the colour of one thing, or its shape if the colour changes anyway, taken from another thing of the clip if
    possible. If only the camera acts, it is the direction.
    """
    nouns = [noun for clause in clauses for noun in (clause.subject, clause.other) if noun]
    if not nouns:
        return [replace(clauses[0], kind=REVERSED[clauses[0].kind]), *clauses[1:]]
    wrong = nouns[int(rng.integers(len(nouns)))]
    thing = next(t for t in clip.things if t.shape == wrong.shape and wrong.colour in (t.colour, t.next_colour))
    shown = looks(clip)
    if thing.next_colour:
        able = [s for s in SHAPES if not {(s, thing.colour), (s, thing.next_colour)} & shown]
        near = {t.shape for t in clip.things}
    else:
        able = [colour for colour in COLOURS if (thing.shape, colour) not in shown]
        near = {t.colour for t in clip.things}
    value = str(rng.choice([name for name in able if name in near] or able))

    def fix(noun: Noun | None) -> Noun | None:
        if noun is None or (noun.shape, noun.size) != (wrong.shape, wrong.size):
            return noun
        if thing.next_colour:
            return replace(noun, shape=value)
        return replace(noun, colour=value) if noun.colour == wrong.colour else noun

    return [replace(clause, subject=fix(clause.subject), other=fix(clause.other)) for clause in clauses]
