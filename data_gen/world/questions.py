"""Questions of 12 kinds with their true answers and hard wrong ones, before they are said in a language.

A question is only asked where its words fit one thing and its answer follows from the clip alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from data_gen.world.clip import Event, Thing, WorldClip
from data_gen.world.meaning import (
    Change,
    Clause,
    Colour,
    Direction,
    Growth,
    Guess,
    Instant,
    Length,
    Noun,
    Number,
    Unknown,
    Value,
    YesNo,
    clause_of,
    groups,
    looks,
    name_of,
)
from data_gen.world.vocabulary import CAMERA_KINDS, COLOURS, DIRECTIONS, REVERSED

_PER_KIND = 2
_WRONG = 3
_LEAST_LENGTH_S = 0.4  # of an event whose length or place in time is asked for
_LEAST_RATIO = 1.4  # of two lengths that are compared
_SUDDEN = frozenset({"appear", "disappear", "change_colour", "count_change", "blink"})
_SHIFTING = frozenset({"collide", "follow", "swap", "approach", "recede"})

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class AbstractQuestion:
    """form: the name of its wording, "kind.form". slots: what the wording speaks of. wrong: answers that do not hold.

    as_choice: whether the answers are offered; then `choices` are all of them, in the order to show.
    """

    form: str
    answer: Value
    wrong: tuple[Value, ...]
    times: tuple[Span, ...]
    slots: dict[str, Value]
    choices: tuple[Value, ...] = ()

    @property
    def kind(self) -> str:
        return self.form.partition(".")[0]


def ask(clip: WorldClip, rng: np.random.Generator) -> list[AbstractQuestion]:
    """At most two questions of each kind, about half of them as multiple choice."""
    account = _Account(clip, rng)
    asked = []
    for find in _KINDS.values():
        found = list(find(account))
        asked += [_finished(found[int(k)], rng) for k in rng.permutation(len(found))[:_PER_KIND]]
    return asked


def _finished(question: AbstractQuestion, rng: np.random.Generator) -> AbstractQuestion:
    wrong = [value for value in dict.fromkeys(question.wrong) if value != question.answer][:_WRONG]
    if question.kind != "cannot_tell" and len(wrong) == _WRONG and rng.random() < 0.25:
        wrong[-1] = Unknown()
    if not wrong or rng.random() < 0.5:
        return question
    values = [question.answer, *wrong]
    return replace(question, choices=tuple(values[int(k)] for k in rng.permutation(len(values))))


class _Account:
    """What questions are made from."""

    def __init__(self, clip: WorldClip, rng: np.random.Generator):
        self.clip = clip
        self.rng = rng
        self.events = clip.events

    @cached_property
    def singles(self) -> list[Thing]:
        return [thing for thing in self.clip.things if thing.group is None]

    @cached_property
    def group_members(self) -> list[list[Thing]]:
        return [members for members in groups(self.clip.things) if members[0].group is not None]

    def of(self, thing: Thing, *kinds: str) -> list[Event]:
        """The events that the thing takes part in; of these kinds only, if any are given."""
        return [e for e in self.events if thing.id in (e.thing, e.other) and (not kinds or e.kind in kinds)]

    def in_scene(self, scene: int) -> list[Event]:
        return [event for event in self.events if self.clip.scene_of(event.start) == scene]

    def has_camera(self, scene: int) -> bool:
        return any(event.kind in CAMERA_KINDS for event in self.in_scene(scene))

    def clause(self, event: Event) -> Clause:
        return clause_of(self.clip, event)

    def span(self, event: Event) -> Span:
        return self.clip.time_s(event.start), self.clip.time_s(event.end)

    def length(self, event: Event) -> float:
        start, end = self.span(event)
        return end - start

    def seen(self, thing: Thing) -> tuple[Span, ...]:
        """From when the thing is first seen until it is last seen."""
        shown = np.flatnonzero(self.clip.stage.alpha[thing.id])
        return ((self.clip.time_s(int(shown[0])), self.clip.time_s(int(shown[-1]) + 1)),)

    @cached_property
    def opening(self) -> Span:
        """The start, until something happens or the scene changes."""
        firsts = [self.events[0].start, *self.clip.scenes[1:2]]
        return 0.0, self.clip.time_s(min(firsts))

    @cached_property
    def ending(self) -> Span:
        return self.clip.time_s(max(self.events[-1].end, self.clip.scenes[-1])), self.clip.duration_s

    def visible(self, thing: Thing, frame: int) -> bool:
        return bool(self.clip.stage.alpha[thing.id, frame] > 0)

    def shuffled(self, values: list) -> list:
        return [values[int(k)] for k in self.rng.permutation(len(values))]

    def other_clauses(self, event: Event) -> list[Value]:
        """Wrong answers where the answer is an event: what else happens, and what does not."""
        real = [self.clause(e) for e in self.events]
        own = self.clause(event)
        opposite = replace(own, kind=REVERSED[own.kind], counts=own.counts[::-1] if own.counts else None)
        made_up = [opposite] if opposite.kind != own.kind else []
        if event.thing is not None and own.subject and own.subject.count == 1:
            still = not self.of(self.clip.things[event.thing], *_SHIFTING)
            kinds = ("blink", "disappear", *(("move_left", "move_up") if still else ()))
            made_up += [Clause(kind=kind, subject=own.subject) for kind in kinds]
        happened = {(clause.kind, clause.subject) for clause in real}
        made_up = [clause for clause in made_up if (clause.kind, clause.subject) not in happened]
        return [*self.shuffled([c for c in real if c != own]), *made_up]


def _numbers(value: int) -> tuple[Value, ...]:
    return tuple(Number(n) for n in (value + 1, value - 1, value + 2, value + 3) if n >= 0)


def _yes_no(yes: bool) -> tuple[Value, tuple[Value, ...]]:
    return YesNo(yes), (YesNo(not yes),)


def _existence(account: _Account) -> Iterator[AbstractQuestion]:
    shown = looks(account.clip)
    for yes in (True, False):
        answer, wrong = _yes_no(yes)
        if yes:
            thing = account.shuffled(account.singles)[0]
            look, times = (thing.shape, thing.colour), account.seen(thing)
        else:
            absent = [(s, c) for s, _ in sorted(shown) for _, c in sorted(shown) if (s, c) not in shown]
            if not absent:
                continue
            look, times = account.shuffled(absent)[0], ((0.0, account.clip.duration_s),)
        noun = Noun(shape=look[0], colour=look[1], new=True)
        yield AbstractQuestion(
            form="existence.is_there", slots={"thing": noun}, answer=answer, wrong=wrong, times=times
        )


def _count(account: _Account) -> Iterator[AbstractQuestion]:
    clip = account.clip
    ends = (("start", 0, account.opening), ("end", clip.frame_count - 1, account.ending))
    for name, frame, span in ends:
        total = sum(account.visible(thing, frame) for thing in clip.things)
        yield AbstractQuestion(
            form=f"count.{name}", slots={}, answer=Number(total), wrong=_numbers(total), times=(span,)
        )
        for members in account.group_members:
            count = sum(account.visible(thing, frame) for thing in members)
            if count:
                yield AbstractQuestion(
                    form=f"count.group_{name}",
                    slots={"things": name_of(members[0])},
                    answer=Number(count),
                    wrong=_numbers(count),
                    times=(span,),
                )


def _colour(account: _Account) -> Iterator[AbstractQuestion]:
    kinds = [event.kind for event in account.events]
    shapes = [members[0].shape for members in groups(account.clip.things)]
    dragged = not {"collide", "follow", "swap"}.isdisjoint(kinds)  # more than one thing may then move the same way
    for thing in account.singles:
        if thing.next_colour:
            continue
        near = {t.colour for t in account.clip.things} - {thing.colour}
        names = [*account.shuffled(sorted(near)), *account.shuffled(sorted(set(COLOURS) - near))]
        wrong = tuple(Colour(name) for name in names)
        answer = Colour(thing.colour)
        if shapes.count(thing.shape) == 1:
            noun = Noun(shape=thing.shape)
            yield AbstractQuestion(
                form="colour.of", slots={"thing": noun}, answer=answer, wrong=wrong, times=account.seen(thing)
            )
        for event in account.of(thing):
            is_only = kinds.count(event.kind) == 1 and not (event.kind.startswith("move_") and dragged)
            if event.thing == thing.id and is_only and event.kind != "swap":
                yield AbstractQuestion(
                    form="colour.actor",
                    slots={"event": account.clause(event)},
                    answer=answer,
                    wrong=wrong,
                    times=(account.span(event),),
                )


def _direction(account: _Account) -> Iterator[AbstractQuestion]:
    around = ("up", "up_right", "right", "down_right", "down", "down_left", "left", "up_left")

    def others(name: str) -> tuple[Value, ...]:
        at = around.index(name)
        return tuple(Direction(around[(at + step) % 8]) for step in (4, 1, 7))

    for thing in account.singles:
        moves = account.of(thing, *(f"move_{name}" for name in DIRECTIONS))
        if len(moves) == 1 and not account.of(thing, *_SHIFTING) and not account.has_camera(thing.scene):
            name = moves[0].kind.removeprefix("move_")
            yield AbstractQuestion(
                form="direction.move",
                slots={"thing": name_of(thing)},
                answer=Direction(name),
                wrong=others(name),
                times=(account.span(moves[0]),),
            )
        turns = account.of(thing, "rotate_clockwise", "rotate_counterclockwise")
        if len(turns) == 1:
            name = turns[0].kind.removeprefix("rotate_")
            yield AbstractQuestion(
                form="direction.turn",
                slots={"thing": name_of(thing)},
                answer=Direction(name),
                wrong=(Direction("counterclockwise" if name == "clockwise" else "clockwise"),),
                times=(account.span(turns[0]),),
            )
    pans = [event for event in account.events if event.kind.startswith("pan_")]
    if len(pans) == 1:
        name = pans[0].kind.removeprefix("pan_")
        wrong = tuple(Direction(d) for d in ("left", "right", "up", "down"))
        yield AbstractQuestion(
            form="direction.camera", slots={}, answer=Direction(name), wrong=wrong, times=(account.span(pans[0]),)
        )


def _order(account: _Account) -> Iterator[AbstractQuestion]:
    for first, second in zip(account.events, account.events[1:], strict=False):
        a, b = account.clause(first), account.clause(second)
        times = (account.span(first), account.span(second))
        yield AbstractQuestion(
            form="order.after",
            slots={"event": a},
            answer=b,
            wrong=_without(account.other_clauses(second), a),
            times=times,
        )
        yield AbstractQuestion(
            form="order.before",
            slots={"event": b},
            answer=a,
            wrong=_without(account.other_clauses(first), b),
            times=times,
        )
    count = len(account.events)
    if count < 2:
        return
    first, second = (account.events[k] for k in sorted(int(k) for k in account.rng.permutation(count)[:2]))
    a, b = account.clause(first), account.clause(second)
    times = (account.span(first), account.span(second))
    left, right = account.shuffled([a, b])
    yield AbstractQuestion(form="order.which", slots={"event": left, "other": right}, answer=a, wrong=(b,), times=times)
    answer, wrong = _yes_no(left == a)
    yield AbstractQuestion(
        form="order.is_before", slots={"event": left, "other": right}, answer=answer, wrong=wrong, times=times
    )


def _without(values: list[Value], unwanted: Value) -> tuple[Value, ...]:
    """What the question itself speaks of comes last among the wrong answers."""
    return (*(v for v in values if v != unwanted), unwanted)


def _first_last(account: _Account) -> Iterator[AbstractQuestion]:
    if len(account.events) < 2:
        return
    for name, event in (("first", account.events[0]), ("last", account.events[-1])):
        yield AbstractQuestion(
            form=f"first_last.{name}",
            slots={},
            answer=account.clause(event),
            wrong=tuple(account.other_clauses(event)),
            times=(account.span(event),),
        )


def _duration(account: _Account) -> Iterator[AbstractQuestion]:
    for event in account.events:
        length = round(account.length(event), 1)
        if event.kind in _SUDDEN or length < _LEAST_LENGTH_S:
            continue
        wrong = [Length(round(length * factor, 1)) for factor in (0.5, 1.6, 2.3, 3.1)]
        yield AbstractQuestion(
            form="duration.event",
            slots={"event": account.clause(event)},
            answer=Length(length),
            wrong=tuple(account.shuffled(wrong)),
            times=(account.span(event),),
        )


def _when(account: _Account) -> Iterator[AbstractQuestion]:
    starts = [round(account.span(event)[0], 1) for event in account.events]
    for event, start in zip(account.events, starts, strict=True):
        near = [t for t in starts if t != start] + [round(account.span(event)[1], 1)]
        spread = [round(account.clip.duration_s * share, 1) for share in (0.05, 0.35, 0.65, 0.95)]
        wrong = dict.fromkeys(t for t in (*near, *account.shuffled(spread)) if abs(t - start) >= _LEAST_LENGTH_S)
        yield AbstractQuestion(
            form="when.starts",
            slots={"event": account.clause(event)},
            answer=Instant(start),
            wrong=tuple(Instant(t) for t in wrong),
            times=(account.span(event),),
        )


def _how_many_times(account: _Account) -> Iterator[AbstractQuestion]:
    cuts = account.clip.scenes[1:]
    yield AbstractQuestion(
        form="how_many_times.cuts",
        slots={},
        answer=Number(len(cuts)),
        wrong=_numbers(len(cuts)),
        times=tuple((account.clip.time_s(cut - 1), account.clip.time_s(cut)) for cut in cuts)
        or ((0.0, account.clip.duration_s),),
    )
    for thing in account.singles:
        for blink in account.of(thing, "blink"):
            assert blink.times is not None
            yield AbstractQuestion(
                form="how_many_times.blink",
                slots={"thing": name_of(thing)},
                answer=Number(blink.times),
                wrong=_numbers(blink.times),
                times=(account.span(blink),),
            )
        moves = account.of(thing, *(f"move_{name}" for name in DIRECTIONS))
        if moves and not account.of(thing, *_SHIFTING) and not account.has_camera(thing.scene):
            yield AbstractQuestion(
                form="how_many_times.move",
                slots={"thing": name_of(thing)},
                answer=Number(len(moves)),
                wrong=_numbers(len(moves)),
                times=tuple(account.span(move) for move in moves),
            )


def _change(account: _Account) -> Iterator[AbstractQuestion]:
    for event in account.events:
        thing = None if event.thing is None else account.clip.things[event.thing]
        if thing and event.colours:
            before, after = (Colour(name) for name in event.colours)
            names = account.shuffled([n for n in COLOURS if n not in event.colours])
            yield AbstractQuestion(
                form="change.colour",
                slots={"thing": name_of(thing)},
                answer=Change(before, after),
                wrong=(Change(after, before), Change(before, Colour(names[0])), Change(Colour(names[1]), after)),
                times=(account.span(event),),
            )
        if thing and event.counts:
            a, b = event.counts
            wrong = [Change(Number(b), Number(a)), Change(Number(a), Number(b + 1)), Change(Number(a + 1), Number(b))]
            yield AbstractQuestion(
                form="change.count",
                slots={"things": name_of(thing)},
                answer=Change(Number(a), Number(b)),
                wrong=tuple(w for w in wrong if w.before != w.after),
                times=(account.span(event),),
            )
    for thing in account.singles:
        depth = account.of(thing, "approach", "recede")
        if len(depth) == 1 and not account.has_camera(thing.scene):
            larger = depth[0].kind == "approach"
            yield AbstractQuestion(
                form="change.size",
                slots={"thing": name_of(thing)},
                answer=Growth(larger),
                wrong=(Growth(not larger),),
                times=(account.span(depth[0]),),
            )
    thing = account.shuffled(account.singles)[0]
    answer, wrong = _yes_no(thing.next_colour is not None)
    times = tuple(account.span(e) for e in account.of(thing, "change_colour")) or account.seen(thing)
    yield AbstractQuestion(
        form="change.is_recoloured", slots={"thing": name_of(thing)}, answer=answer, wrong=wrong, times=times
    )


def _comparison(account: _Account) -> Iterator[AbstractQuestion]:
    shown = [thing for thing in account.singles if account.visible(thing, 0)]
    x = account.clip.stage.on_screen()[0][:, 0]
    radius = account.clip.stage.on_screen()[2][:, 0]
    if len(shown) >= 2:
        pair = account.shuffled(shown)[:2]
        slots: dict[str, Value] = {"thing": name_of(pair[0]), "other": name_of(pair[1])}
        large = max(pair, key=lambda thing: radius[thing.id])
        small = min(pair, key=lambda thing: radius[thing.id])
        if radius[large.id] >= 1.25 * radius[small.id] and not any(thing.by_size for thing in pair):
            yield AbstractQuestion(
                form="comparison.larger",
                slots=slots,
                answer=name_of(large),
                wrong=(name_of(small),),
                times=(account.opening,),
            )
        left, right = sorted(pair, key=lambda thing: x[thing.id])
        if x[right.id] - x[left.id] > 0.12:
            yield AbstractQuestion(
                form="comparison.further_left",
                slots=slots,
                answer=name_of(left),
                wrong=(name_of(right),),
                times=(account.opening,),
            )
    lasting = [event for event in account.events if event.kind not in _SUDDEN]
    if len(lasting) >= 2:
        one, two = account.shuffled(lasting)[:2]
        longer, shorter = sorted((one, two), key=account.length, reverse=True)
        if account.length(longer) >= _LEAST_RATIO * account.length(shorter):
            yield AbstractQuestion(
                form="comparison.lasts_longer",
                slots={"event": account.clause(one), "other": account.clause(two)},
                answer=account.clause(longer),
                wrong=(account.clause(shorter),),
                times=(account.span(one), account.span(two)),
            )


GUESSES = {
    "sound": ("whistle", "drum", "silence"),
    "weight": ("gram", "kilogram", "ton"),
    "smell": ("roses", "smoke", "coffee"),
    "after": ("grows", "leaves", "nothing"),
    "why": ("bored", "pushed", "hurry"),
    "maker": ("child", "painter", "robot"),
}


def _cannot_tell(account: _Account) -> Iterator[AbstractQuestion]:
    slots: dict[str, Value] = {
        "thing": name_of(account.shuffled(account.singles)[0]),
        "event": account.clause(account.shuffled(list(account.events))[0]),
    }
    for form, names in GUESSES.items():
        wrong = tuple(Guess(f"{form}.{name}") for name in names)
        yield AbstractQuestion(form=f"cannot_tell.{form}", slots=slots, answer=Unknown(), wrong=wrong, times=())


_KINDS: dict[str, Callable[[_Account], Iterator[AbstractQuestion]]] = {
    "existence": _existence,
    "count": _count,
    "colour": _colour,
    "direction": _direction,
    "order": _order,
    "first_last": _first_last,
    "duration": _duration,
    "when": _when,
    "how_many_times": _how_many_times,
    "change": _change,
    "comparison": _comparison,
    "cannot_tell": _cannot_tell,
}
QUESTION_KINDS = tuple(_KINDS)
