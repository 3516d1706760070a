"""Actions: how each kind of event changes the state of a scene as a function of time.

An action tries once, with random numbers of its own, and returns the changed stage and the event, or None where its
random choice is impossible; whether things then collide or leave the picture is for `is_clear` to say.
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
class Moment:
    """Where an event may happen. things: those of this scene, as the rows of its stage. used: (kind, thing id) of the
    events so far. held_out: whether colours to turn into must be untrained ones. start, end: frames, end the last
    possible; quick: frames that a sudden change takes, unhurried: that of one blink."""

    things: tuple[Thing, ...]
    shapes: tuple[str, ...]  # of all things of the clip
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
        """float64 (F,): 0 until `start`, 1 from `end` on, smooth between and alike in both directions of time."""
        t = np.clip((np.arange(self.frames) - start) / (end - start), 0, 1)
        return t * t * (3 - 2 * t)

    def shown(self) -> list[int]:
        """Rows of single things that are fully there at `start`."""
        return [
            k for k, thing in enumerate(self.things) if thing.group is None and self.stage.alpha[k, self.start] == 1
        ]


Result = tuple[Stage, Event] | None
Action = Callable[[Moment, np.random.Generator, str], Result]


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


def _event(moment: Moment, kind: str, row: int, **more: object) -> Event:
    values = {"start": moment.start, "end": moment.end} | more
    return Event(kind=kind, thing=moment.things[row].id, **values)  # pyright: ignore[reportArgumentType]


def _pick(moment: Moment, rng: np.random.Generator, kind: str) -> int | None:
    """A shown thing that has not done this yet."""
    able = [k for k in moment.shown() if (kind, moment.things[k].id) not in moment.used]
    return int(rng.choice(able)) if able else None


def _pick_two(moment: Moment, rng: np.random.Generator, kind: str) -> tuple[int, int] | None:
    rows = moment.shown()
    if len(rows) < 2:
        return None
    first, second = (int(k) for k in rng.permutation(rows)[:2])
    ids = {moment.things[first].id, moment.things[second].id}
    return None if any(used == kind and thing in ids for used, thing in moment.used) else (first, second)


def _move(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    row = _pick(moment, rng, kind)
    if row is None:
        return None
    dx, dy = DIRECTIONS[kind.removeprefix("move_")]
    way = rng.uniform(0.22, 0.5) * moment.ramp(moment.start, moment.end)
    stage = moment.stage.copy()
    stage.x[row] += dx * way
    stage.y[row] += dy * way
    return stage, _event(moment, kind, row)


def _depth(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    row = _pick(moment, rng, kind)
    if row is None or moment.things[row].by_size:
        return None
    factor = rng.uniform(1.6, 1.9) if kind == "approach" else rng.uniform(0.53, 0.62)
    stage = moment.stage.copy()
    stage.radius[row] *= factor ** moment.ramp(moment.start, moment.end)
    return stage, _event(moment, kind, row)


def _rotate(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    """By the largest turn in which neighbouring frames still show which way it goes."""
    row = _pick(moment, rng, kind)
    if row is None:
        return None
    symmetry = SYMMETRY.get(moment.things[row].shape, 1)
    fastest = 1.5 / (moment.end - moment.start)  # share of the turn between two frames, at the middle of the ramp
    turns = [turn for turn in (360, 180, 90) if symmetry and turn * fastest < 0.45 * 360 / max(symmetry, 2)]
    if not turns:
        return None
    turn = turns[0] if kind == "rotate_clockwise" else -turns[0]
    stage = moment.stage.copy()
    stage.angle[row] += turn * moment.ramp(moment.start, moment.end)
    return stage, _event(moment, kind, row, turn=turn)


def _blink(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    """Off and on again `times` times, all phases of equal length."""
    row = _pick(moment, rng, kind)
    most = (moment.end - moment.start - 1 + moment.unhurried) // (2 * moment.unhurried)
    if row is None or most < 1:
        return None
    times = int(rng.integers(1, min(most, 5) + 1))
    phase = min((moment.end - moment.start - 1) // (2 * times - 1), 2 * moment.unhurried)
    stage = moment.stage.copy()
    for k in range(times):
        first = moment.start + 1 + 2 * k * phase
        stage.alpha[row, first : first + phase] = 0
    return stage, _event(moment, kind, row, times=times, end=moment.start + 1 + (2 * times - 1) * phase)


def _change_colour(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    row = _pick(moment, rng, kind)
    if row is None or moment.shapes.count(moment.things[row].shape) > 1:
        return None
    thing = moment.things[row]
    able = [c for c in COLOURS if c != thing.colour and is_look_held_out(thing.shape, c) == moment.held_out]
    if not able:
        return None
    stage = moment.stage.copy()
    end = moment.start + moment.quick
    stage.mix[row] = moment.ramp(moment.start, end)
    return stage, _event(moment, kind, row, end=end, colours=(thing.colour, str(rng.choice(able))))


def _appear(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    busy = {thing for _, thing in moment.used}
    able = [k for k in moment.shown() if moment.things[k].id not in busy]
    if not able:
        return None
    row = int(rng.choice(able))
    stage = moment.stage.copy()
    end = moment.start + moment.quick
    stage.alpha[row] *= moment.ramp(moment.start, end)
    return stage, _event(moment, kind, row, end=end)


def _disappear(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    row = _pick(moment, rng, kind)
    if row is None:
        return None
    stage = moment.stage.copy()
    end = moment.start + moment.quick
    stage.alpha[row] *= 1 - moment.ramp(moment.start, end)
    return stage, _event(moment, kind, row, end=end)


def _count_change(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    """Some of a group appear or disappear together."""
    rows = [k for k, thing in enumerate(moment.things) if thing.group is not None]
    if not rows or any(used == kind and thing == moment.things[rows[0]].id for used, thing in moment.used):
        return None
    some = rng.permutation(rows)[: int(rng.integers(1, len(rows)))]
    end = moment.start + moment.quick
    grows = bool(rng.integers(2))
    stage = moment.stage.copy()
    stage.alpha[some] *= moment.ramp(moment.start, end) if grows else 1 - moment.ramp(moment.start, end)
    counts = (len(rows) - len(some), len(rows))
    return stage, _event(moment, kind, rows[0], end=end, counts=counts if grows else counts[::-1])


def _towards(stage: Stage, first: int, second: int, frame: int) -> tuple[np.ndarray, float]:
    """The unit vector from one thing to another, and their distance."""
    way = np.array([stage.x[second, frame] - stage.x[first, frame], stage.y[second, frame] - stage.y[first, frame]])
    distance = float(np.hypot(*way))
    return way / distance, distance


def _collide(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    """One moves until it touches the other, which then moves on in the same direction."""
    rows = _pick_two(moment, rng, kind)
    if rows is None:
        return None
    hitter, target = rows
    (dx, dy), distance = _towards(moment.stage, hitter, target, moment.start)
    gap = distance - 0.9 * float(moment.stage.radius[[hitter, target], moment.start].sum())
    if gap < 0.15:
        return None
    touch = (moment.start + moment.end) // 2
    push = rng.uniform(0.15, 0.35)
    stage = moment.stage.copy()
    for row, way in ((hitter, gap * moment.ramp(moment.start, touch)), (target, push * moment.ramp(touch, moment.end))):
        stage.x[row] += dx * way
        stage.y[row] += dy * way
    return stage, _event(moment, kind, hitter, other=moment.things[target].id)


def _follow(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    """One moves away from the other, which sets off a little later and goes the same way."""
    rows = _pick_two(moment, rng, kind)
    if rows is None:
        return None
    follower, leader = rows
    (dx, dy), distance = _towards(moment.stage, follower, leader, moment.start)
    if distance > 0.55:
        return None
    lag = max(1, (moment.end - moment.start) // 4)
    length = rng.uniform(0.2, 0.45)
    stage = moment.stage.copy()
    for row, start, end in (
        (leader, moment.start, moment.end - lag),
        (follower, moment.start + lag, moment.end),
    ):
        way = length * moment.ramp(start, end)
        stage.x[row] += dx * way
        stage.y[row] += dy * way
    return stage, _event(moment, kind, follower, other=moment.things[leader].id)


def _swap(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    """Two things go half around the point between them."""
    rows = _pick_two(moment, rng, kind)
    if rows is None:
        return None
    first, second = rows
    _, distance = _towards(moment.stage, first, second, moment.start)
    if distance > 0.65:
        return None
    turn = np.pi * moment.ramp(moment.start, moment.end) * rng.choice([-1, 1])
    stage = moment.stage.copy()
    middle_x = (stage.x[first] + stage.x[second]) / 2
    middle_y = (stage.y[first] + stage.y[second]) / 2
    for row in (first, second):
        x, y = stage.x[row] - middle_x, stage.y[row] - middle_y
        stage.x[row] = middle_x + x * np.cos(turn) - y * np.sin(turn)
        stage.y[row] = middle_y + x * np.sin(turn) + y * np.cos(turn)
    return stage, _event(moment, kind, first, other=moment.things[second].id)


def _pan(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    if (kind, None) in moment.used:
        return None
    dx, dy = DIRECTIONS[kind.removeprefix("pan_")]
    way = rng.uniform(0.14, 0.25) * moment.ramp(moment.start, moment.end)
    stage = moment.stage.copy()
    stage.camera[0] += dx * way
    stage.camera[1] += dy * way
    return _looked_at(stage, moment, kind)


def _looked_at(stage: Stage, moment: Moment, kind: str) -> Result:
    """None where the camera would see beyond the background, which is twice as wide and high as the frame."""
    look, zoom = stage.camera[:2], stage.camera[2]
    if (np.abs(look - 0.5).max(0) + 0.5 / zoom).max() > 1:
        return None
    return stage, Event(kind=kind, start=moment.start, end=moment.end)


def _zoom(moment: Moment, rng: np.random.Generator, kind: str) -> Result:
    if (kind, None) in moment.used:
        return None
    factor = rng.uniform(1.2, 1.4) if kind == "zoom_in" else rng.uniform(0.68, 0.78)
    stage = moment.stage.copy()
    stage.camera[2] *= factor ** moment.ramp(moment.start, moment.end)
    return _looked_at(stage, moment, kind)


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
