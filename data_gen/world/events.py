"""Actions: how each kind of event changes the state of a scene over time.

An action tries once, with its own random numbers. It returns the changed stage and the event, or None if its random
choice is impossible. `is_clear` decides afterwards whether things collide or leave the frame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from data_gen.world.clip import Event, Stage, Thing
from data_gen.world.splits import is_look_held_out
from data_gen.world.vocabulary import COLOURS, DIRECTIONS, SYMMETRY

LEAST_RADIUS, MOST_RADIUS = 0.05, 0.3  # on screen
_MARGIN = 0.01  # kept free along the edges of the frame
_TOUCH = 0.85  # of the sum of two radii: how near things come that bump into each other


@dataclass(frozen=True, slots=True)
class EventSlot:
    """The part of a scene in which the next event may happen.

    Args:
        things: The things of this scene, in the order of the rows of its stage.
        shapes: The shapes of all things of the clip.
        stage: The state so far.
        used: (kind, thing id) of the events so far.
        held_out: Things must turn into colours that training never shows with their shape.
        start, end: The first and the last possible frame.
        quick, unhurried: Frames that a sudden change and that one blink takes.
    """

    things: tuple[Thing, ...]
    shapes: tuple[str, ...]
    stage: Stage
    used: frozenset[tuple[str, int | None]]
    held_out: bool
    start: int
    end: int
    quick: int
    unhurried: int

    @property
    def frames(self) -> int:
        return self.stage.camera.shape[1]

    def ramp(self, start: int, end: int) -> np.ndarray:
        """float64 (F,): 0 until `start`, 1 from `end` on, and smooth in between.

        It is symmetric, so that an event looks the same when the clip is reversed.
        """
        t = np.clip((np.arange(self.frames) - start) / (end - start), 0, 1)
        return t * t * (3 - 2 * t)

    def shown(self) -> list[int]:
        """Rows of single things that are fully visible at `start`."""
        return [
            k for k, thing in enumerate(self.things) if thing.group is None and self.stage.alpha[k, self.start] == 1
        ]


Result = tuple[Stage, Event] | None
Action = Callable[[EventSlot, np.random.Generator, str], Result]


def is_clear(after: Stage, event: Event, contact: frozenset[int]) -> bool:
    """Whether during and after the event everything stays inside the frame, apart, and large enough to see.

    contact: the rows of two things that are meant to touch.
    """
    span = slice(event.start, event.end + 1)
    x, y, radius = (values[:, span] for values in after.on_screen())
    inside = (np.minimum(x, y) - radius >= _MARGIN) & (np.maximum(x, y) + radius <= 1 - _MARGIN)
    if not inside.all() or radius.min() < LEAST_RADIUS or radius.max() > MOST_RADIUS:
        return False
    if not (after.alpha.max(0) > 0).all():  # never an empty picture
        return False
    for i, j in combinations(range(len(x)), 2):
        apart = np.hypot(x[i] - x[j], y[i] - y[j])
        least = _TOUCH if contact == {i, j} else 1.05
        if (apart < least * (radius[i] + radius[j])).any():
            return False
    return True


def _event(slot: EventSlot, kind: str, row: int, **more: object) -> Event:
    values = {"start": slot.start, "end": slot.end} | more
    return Event(kind=kind, thing=slot.things[row].id, **values)  # pyright: ignore[reportArgumentType]


def _pick(slot: EventSlot, rng: np.random.Generator, kind: str) -> int | None:
    """A random visible thing that has not done this yet, or None."""
    able = [k for k in slot.shown() if (kind, slot.things[k].id) not in slot.used]
    return int(rng.choice(able)) if able else None


def _pick_two(slot: EventSlot, rng: np.random.Generator, kind: str) -> tuple[int, int] | None:
    rows = slot.shown()
    if len(rows) < 2:
        return None
    first, second = (int(k) for k in rng.permutation(rows)[:2])
    ids = {slot.things[first].id, slot.things[second].id}
    return None if any(used == kind and thing in ids for used, thing in slot.used) else (first, second)


def _move(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    row = _pick(slot, rng, kind)
    if row is None:
        return None
    dx, dy = DIRECTIONS[kind.removeprefix("move_")]
    way = rng.uniform(0.22, 0.5) * slot.ramp(slot.start, slot.end)
    stage = slot.stage.copy()
    stage.x[row] += dx * way
    stage.y[row] += dy * way
    return stage, _event(slot, kind, row)


def _depth(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    row = _pick(slot, rng, kind)
    if row is None or slot.things[row].by_size:
        return None
    factor = rng.uniform(1.6, 1.9) if kind == "approach" else rng.uniform(0.53, 0.62)
    stage = slot.stage.copy()
    stage.radius[row] *= factor ** slot.ramp(slot.start, slot.end)
    return stage, _event(slot, kind, row)


def _rotate(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    """Rotates by the largest angle at which neighbouring frames still show the direction."""
    row = _pick(slot, rng, kind)
    if row is None:
        return None
    symmetry = SYMMETRY.get(slot.things[row].shape, 1)
    fastest = 1.5 / (slot.end - slot.start)  # share of the turn between two frames, at the middle of the ramp
    turns = [turn for turn in (360, 180, 90) if symmetry and turn * fastest < 0.45 * 360 / max(symmetry, 2)]
    if not turns:
        return None
    turn = turns[0] if kind == "rotate_clockwise" else -turns[0]
    stage = slot.stage.copy()
    stage.angle[row] += turn * slot.ramp(slot.start, slot.end)
    return stage, _event(slot, kind, row, turn=turn)


def _blink(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    """Hides and shows a thing several times, in phases of equal length."""
    row = _pick(slot, rng, kind)
    most = (slot.end - slot.start - 1 + slot.unhurried) // (2 * slot.unhurried)
    if row is None or most < 1:
        return None
    times = int(rng.integers(1, min(most, 5) + 1))
    phase = min((slot.end - slot.start - 1) // (2 * times - 1), 2 * slot.unhurried)
    stage = slot.stage.copy()
    for k in range(times):
        first = slot.start + 1 + 2 * k * phase
        stage.alpha[row, first : first + phase] = 0
    return stage, _event(slot, kind, row, times=times, end=slot.start + 1 + (2 * times - 1) * phase)


def _change_colour(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    row = _pick(slot, rng, kind)
    if row is None or slot.shapes.count(slot.things[row].shape) > 1:
        return None
    thing = slot.things[row]
    able = [c for c in COLOURS if c != thing.colour and is_look_held_out(thing.shape, c) == slot.held_out]
    if not able:
        return None
    stage = slot.stage.copy()
    end = slot.start + slot.quick
    stage.mix[row] = slot.ramp(slot.start, end)
    return stage, _event(slot, kind, row, end=end, colours=(thing.colour, str(rng.choice(able))))


def _appear(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    busy = {thing for _, thing in slot.used}
    able = [k for k in slot.shown() if slot.things[k].id not in busy]
    if not able:
        return None
    row = int(rng.choice(able))
    stage = slot.stage.copy()
    end = slot.start + slot.quick
    stage.alpha[row] *= slot.ramp(slot.start, end)
    return stage, _event(slot, kind, row, end=end)


def _disappear(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    row = _pick(slot, rng, kind)
    if row is None:
        return None
    stage = slot.stage.copy()
    end = slot.start + slot.quick
    stage.alpha[row] *= 1 - slot.ramp(slot.start, end)
    return stage, _event(slot, kind, row, end=end)


def _count_change(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    """Makes some things of a group appear or disappear together."""
    rows = [k for k, thing in enumerate(slot.things) if thing.group is not None]
    if not rows or any(used == kind and thing == slot.things[rows[0]].id for used, thing in slot.used):
        return None
    some = rng.permutation(rows)[: int(rng.integers(1, len(rows)))]
    end = slot.start + slot.quick
    grows = bool(rng.integers(2))
    stage = slot.stage.copy()
    stage.alpha[some] *= slot.ramp(slot.start, end) if grows else 1 - slot.ramp(slot.start, end)
    counts = (len(rows) - len(some), len(rows))
    return stage, _event(slot, kind, rows[0], end=end, counts=counts if grows else counts[::-1])


def _towards(stage: Stage, first: int, second: int, frame: int) -> tuple[np.ndarray, float]:
    """The unit vector from one thing to another, and their distance."""
    way = np.array([stage.x[second, frame] - stage.x[first, frame], stage.y[second, frame] - stage.y[first, frame]])
    distance = float(np.hypot(*way))
    return way / distance, distance


def _collide(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    """One thing moves until it touches another, which then moves on in the same direction."""
    rows = _pick_two(slot, rng, kind)
    if rows is None:
        return None
    hitter, target = rows
    (dx, dy), distance = _towards(slot.stage, hitter, target, slot.start)
    gap = distance - 0.9 * float(slot.stage.radius[[hitter, target], slot.start].sum())
    if gap < 0.15:
        return None
    touch = (slot.start + slot.end) // 2
    push = rng.uniform(0.15, 0.35)
    stage = slot.stage.copy()
    for row, way in ((hitter, gap * slot.ramp(slot.start, touch)), (target, push * slot.ramp(touch, slot.end))):
        stage.x[row] += dx * way
        stage.y[row] += dy * way
    return stage, _event(slot, kind, hitter, other=slot.things[target].id)


def _follow(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    """One thing moves away from another, which follows a little later on the same way."""
    rows = _pick_two(slot, rng, kind)
    if rows is None:
        return None
    follower, leader = rows
    (dx, dy), distance = _towards(slot.stage, follower, leader, slot.start)
    if distance > 0.55:
        return None
    lag = max(1, (slot.end - slot.start) // 4)
    length = rng.uniform(0.2, 0.45)
    stage = slot.stage.copy()
    for row, start, end in (
        (leader, slot.start, slot.end - lag),
        (follower, slot.start + lag, slot.end),
    ):
        way = length * slot.ramp(start, end)
        stage.x[row] += dx * way
        stage.y[row] += dy * way
    return stage, _event(slot, kind, follower, other=slot.things[leader].id)


def _swap(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    """Two things move half around the point between them, and so change places."""
    rows = _pick_two(slot, rng, kind)
    if rows is None:
        return None
    first, second = rows
    _, distance = _towards(slot.stage, first, second, slot.start)
    if distance > 0.65:
        return None
    turn = np.pi * slot.ramp(slot.start, slot.end) * rng.choice([-1, 1])
    stage = slot.stage.copy()
    middle_x = (stage.x[first] + stage.x[second]) / 2
    middle_y = (stage.y[first] + stage.y[second]) / 2
    for row in (first, second):
        x, y = stage.x[row] - middle_x, stage.y[row] - middle_y
        stage.x[row] = middle_x + x * np.cos(turn) - y * np.sin(turn)
        stage.y[row] = middle_y + x * np.sin(turn) + y * np.cos(turn)
    return stage, _event(slot, kind, first, other=slot.things[second].id)


def _pan(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    if (kind, None) in slot.used:
        return None
    dx, dy = DIRECTIONS[kind.removeprefix("pan_")]
    way = rng.uniform(0.14, 0.25) * slot.ramp(slot.start, slot.end)
    stage = slot.stage.copy()
    stage.camera[0] += dx * way
    stage.camera[1] += dy * way
    return _looked_at(stage, slot, kind)


def _looked_at(stage: Stage, slot: EventSlot, kind: str) -> Result:
    """Moves or zooms the camera. None if it would see beyond the background, which is twice as wide and high as the
    frame."""
    look, zoom = stage.camera[:2], stage.camera[2]
    if (np.abs(look - 0.5).max(0) + 0.5 / zoom).max() > 1:
        return None
    return stage, Event(kind=kind, start=slot.start, end=slot.end)


def _zoom(slot: EventSlot, rng: np.random.Generator, kind: str) -> Result:
    if (kind, None) in slot.used:
        return None
    factor = rng.uniform(1.2, 1.4) if kind == "zoom_in" else rng.uniform(0.68, 0.78)
    stage = slot.stage.copy()
    stage.camera[2] *= factor ** slot.ramp(slot.start, slot.end)
    return _looked_at(stage, slot, kind)


ACTIONS: dict[str, Action] = {
    **{f"move_{direction}": _move for direction in DIRECTIONS},
    "approach": _depth,
    "recede": _depth,
    "rotate_clockwise": _rotate,
    "rotate_counterclockwise": _rotate,
    "blink": _blink,
    "change_colour": _change_colour,
    "appear": _appear,
    "disappear": _disappear,
    "collide": _collide,
    "follow": _follow,
    "swap": _swap,
    "count_change": _count_change,
    **{f"pan_{direction}": _pan for direction in ("left", "right", "up", "down")},
    "zoom_in": _zoom,
    "zoom_out": _zoom,
}
