"""The 12 kinds of questions: for a clip, every question of the kind that has one right answer."""

from collections.abc import Callable, Iterator

from data_gen.world.account import SHIFTING, ClipAccount
from data_gen.world.meaning import (
    AbstractQuestion,
    Change,
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
    groups,
    looks,
    name_of,
)
from data_gen.world.vocabulary import COLOURS, DIRECTIONS

_LEAST_LENGTH_S = 0.4  # of an event whose length or place in time is asked for
_LEAST_RATIO = 1.4  # of two lengths that are compared
_SUDDEN = frozenset({"appear", "disappear", "change_colour", "count_change", "blink"})


def _numbers(value: int) -> tuple[Value, ...]:
    return tuple(Number(n) for n in (value + 1, value - 1, value + 2, value + 3) if n >= 0)


def _yes_no(yes: bool) -> tuple[Value, tuple[Value, ...]]:
    return YesNo(yes), (YesNo(not yes),)


def _existence(account: ClipAccount) -> Iterator[AbstractQuestion]:
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


def _count(account: ClipAccount) -> Iterator[AbstractQuestion]:
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


def _colour(account: ClipAccount) -> Iterator[AbstractQuestion]:
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


def _direction(account: ClipAccount) -> Iterator[AbstractQuestion]:
    around = ("up", "up_right", "right", "down_right", "down", "down_left", "left", "up_left")

    def others(name: str) -> tuple[Value, ...]:
        at = around.index(name)
        return tuple(Direction(around[(at + step) % 8]) for step in (4, 1, 7))

    for thing in account.singles:
        moves = account.of(thing, *(f"move_{name}" for name in DIRECTIONS))
        if len(moves) == 1 and not account.of(thing, *SHIFTING) and not account.has_camera(thing.scene):
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


def _order(account: ClipAccount) -> Iterator[AbstractQuestion]:
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
    """Moves what the question itself mentions to the end of the wrong answers, where it is rarely chosen."""
    return (*(v for v in values if v != unwanted), unwanted)


def _first_last(account: ClipAccount) -> Iterator[AbstractQuestion]:
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


def _duration(account: ClipAccount) -> Iterator[AbstractQuestion]:
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


def _when(account: ClipAccount) -> Iterator[AbstractQuestion]:
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


def _how_many_times(account: ClipAccount) -> Iterator[AbstractQuestion]:
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
        if moves and not account.of(thing, *SHIFTING) and not account.has_camera(thing.scene):
            yield AbstractQuestion(
                form="how_many_times.move",
                slots={"thing": name_of(thing)},
                answer=Number(len(moves)),
                wrong=_numbers(len(moves)),
                times=tuple(account.span(move) for move in moves),
            )


def _change(account: ClipAccount) -> Iterator[AbstractQuestion]:
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


def _comparison(account: ClipAccount) -> Iterator[AbstractQuestion]:
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


def _cannot_tell(account: ClipAccount) -> Iterator[AbstractQuestion]:
    slots: dict[str, Value] = {
        "thing": name_of(account.shuffled(account.singles)[0]),
        "event": account.clause(account.shuffled(list(account.events))[0]),
    }
    for form, names in GUESSES.items():
        wrong = tuple(Guess(f"{form}.{name}") for name in names)
        yield AbstractQuestion(form=f"cannot_tell.{form}", slots=slots, answer=Unknown(), wrong=wrong, times=())


QUESTION_KINDS: dict[str, Callable[[ClipAccount], Iterator[AbstractQuestion]]] = {
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
