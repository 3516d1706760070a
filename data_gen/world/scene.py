"""Draws from a seed what is in a clip: things, their places, events and backgrounds."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from data_gen.world.clip import Background, Event, Stage, Thing, WorldClip
from data_gen.world.config import LONGEST_S, MOST_THINGS, SHORTEST_S, WorldConfig
from data_gen.world.events import ACTIONS, EventSlot, is_clear
from data_gen.world.fonts import glyph_names
from data_gen.world.splits import SPLITS, Split, are_kinds_held_out, is_look_held_out
from data_gen.world.vocabulary import (
    CAMERA_KINDS,
    COLOURS,
    KINDS,
    RARE_COLOURS,
    RARE_KINDS,
    RARE_SHAPES,
    RARE_WEIGHT,
    SIZES,
    TEXTURES,
)
from videollm.datasets.world_annotation import SHAPES

_TAIL_WEIGHT = 1.5  # in place of RARE_WEIGHT where each clip must hold something rare
_SLOT_FRAMES = 8  # the fewest frames that show an event with its before and after
_MOST_EVENTS = 12
_GROUP_RADIUS = (0.06, 0.068)
_LEVELS = (45, 130, 215)  # of grey backgrounds; the middle one differs from every colour
_LEAST_CONTRAST = 90  # between a background and a thing, as a distance in RGB
# Kinds that are seldom possible weigh more; kinds that stand for directions of one family share its weight.
_KIND_WEIGHTS = {
    **dict.fromkeys(KINDS, 0.6),
    **{kind: 0.8 for kind in KINDS if kind.startswith("move_")},
    **{kind: 0.4 for kind in KINDS if kind.startswith(("rotate_", "pan_"))},
    "blink": 0.8,
    "approach": 1.0,
    "collide": 2.0,
    "count_change": 3.0,
    "zoom_in": 2.0,
}


class _StuckError(Exception):
    """The random choices so far cannot be completed, so the clip starts over with the next ones."""


def draw_clips(config: WorldConfig, split: str, index: int) -> list[WorldClip]:
    """The clip with this number in its split, or, in a split of pairs, the two clips of the pair."""
    rng = np.random.default_rng([config.seed, zlib.crc32(split.encode()), index])
    rules = SPLITS[split]
    while True:
        try:
            return _pair(config, rules, rng, index) if rules.pairs else [_clip(config, rules, rng, index)]
        except _StuckError:
            continue


def _pair(config: WorldConfig, rules: Split, rng: np.random.Generator, index: int) -> list[WorldClip]:
    """A clip and the same frames played backwards (even index) or with its two scenes exchanged (odd index)."""
    clip = _clip(config, rules, rng, index, scene_count=None if index % 2 == 0 else 2).variant(lossless=True)
    other = clip.reversed() if index % 2 == 0 else clip.swapped()
    if _story(clip) == _story(other):
        raise _StuckError
    return [clip, other]


def _story(clip: WorldClip) -> list[tuple[object, ...]]:
    return [(e.kind, e.thing, e.other, e.counts, e.colours) for e in clip.events]


def _clip(
    config: WorldConfig, rules: Split, rng: np.random.Generator, index: int, scene_count: int | None = None
) -> WorldClip:
    seconds = min(float(rng.uniform(*config.seconds)) * rules.stretch, LONGEST_S)
    frames = int(seconds * config.fps)
    event_count = min(max(round(seconds / rng.uniform(1.3, 2.0)), 1), frames // _SLOT_FRAMES, _MOST_EVENTS)
    if rules.combinations == "held_out" or scene_count == 2:
        event_count = max(event_count, 2)
    if scene_count is None:
        scene_count = _scene_count(rng, seconds, event_count, long=rules.stretch > 1)
    bounds = _divide(rng, frames, event_count)
    first_events = [event_count * scene // scene_count for scene in range(scene_count)]
    scenes = [bounds[number] for number in first_events]

    things: list[list[Thing]] = []
    for scene in range(scene_count):
        things.append(_things(config, rules, rng, scene, [t for earlier in things for t in earlier]))
    stages = [
        _placed(rng, things[scene], end - start)
        for scene, (start, end) in enumerate(zip(scenes, [*scenes[1:], frames], strict=True))
    ]
    everything = [thing for scene in things for thing in scene]
    events: list[Event] = []
    for number in range(event_count):
        scene = max(s for s, first in enumerate(first_events) if first <= number)
        span = (bounds[number] - scenes[scene], bounds[number + 1] - scenes[scene])
        slot = _slot(config, rules, rng, things[scene], everything, stages[scene], events, span)
        is_last = number == event_count - 1
        stages[scene], event = _happen(rng, slot, _allowed(rules, [e.kind for e in events], is_last), rules.tail)
        events.append(replace(event, start=event.start + scenes[scene], end=event.end + scenes[scene]))
    turned = {event.thing: event.colours[1] for event in events if event.colours}
    everything = [replace(thing, next_colour=turned.get(thing.id)) for thing in everything]
    if rules.tail and not _has_rare(everything, events):
        raise _StuckError
    clip = WorldClip(
        things=tuple(everything),
        stage=_joined(stages),
        events=tuple(events),
        scenes=tuple(scenes),
        backgrounds=tuple(_background(config, rng, scene, everything, events, scenes) for scene in range(scene_count)),
        frame_s=1 / config.fps,
        style=str(rng.choice(rules.styles)),
    )
    return _perturbed(rng, clip, rules.perturbations[index % len(rules.perturbations)]) if rules.perturbations else clip


def _scene_count(rng: np.random.Generator, seconds: float, event_count: int, *, long: bool) -> int:
    if long:
        return int(rng.integers(1, max(2, min(4, event_count // 2) + 1)))
    return 2 if event_count >= 2 and seconds >= 3 and rng.random() < 0.25 else 1


def _divide(rng: np.random.Generator, frames: int, parts: int) -> list[int]:
    """Bounds (parts + 1 of them) of parts with unequal lengths, none shorter than _SLOT_FRAMES."""
    shares = rng.uniform(0.7, 1.3, parts)
    spare = frames - parts * _SLOT_FRAMES
    inner = np.cumsum(shares / shares.sum())[:-1] * spare
    return [0, *(round(at) + _SLOT_FRAMES * (k + 1) for k, at in enumerate(inner)), frames]


def _weights(names: list[str], rare: frozenset[str], rules: Split) -> np.ndarray:
    weights = np.array([(_TAIL_WEIGHT if rules.tail else RARE_WEIGHT) if name in rare else 1.0 for name in names])
    return weights / weights.sum()


def _has_rare(things: list[Thing], events: list[Event]) -> bool:
    rare_looks = any(thing.shape in RARE_SHAPES or thing.colour in RARE_COLOURS for thing in things)
    return rare_looks or any(event.kind in RARE_KINDS for event in events)


def _things(
    config: WorldConfig, rules: Split, rng: np.random.Generator, scene: int, earlier: list[Thing]
) -> list[Thing]:
    """Single things and perhaps a group.

    No two things of a clip share shape and colour, unless they are of one group or differ in size: captions name things
    by these attributes.
    """
    shapes = [*SHAPES, *glyph_names(config.font)]
    colours = list(COLOURS)
    shape_weights, colour_weights = _weights(shapes, RARE_SHAPES, rules), _weights(colours, RARE_COLOURS, rules)
    held_out = rules.combinations == "held_out"
    things: list[Thing] = []

    def look() -> tuple[str, str]:
        """A shape and a colour. One of them is often that of another thing, so that only both together name a thing."""
        known = [*earlier, *things]
        taken = {(thing.shape, thing.colour) for thing in known}
        while True:
            shape = str(rng.choice(shapes, p=shape_weights))
            colour = str(rng.choice(colours, p=colour_weights))
            if known and (share := rng.random()) < 0.5:
                like = known[int(rng.integers(len(known)))]
                shape, colour = (like.shape, colour) if share < 0.2 else (shape, like.colour)
            if (shape, colour) not in taken and is_look_held_out(shape, colour) == held_out:
                return shape, colour

    def add(shape: str, colour: str, size: str, **more: int | bool) -> None:
        radius = rng.uniform(*(_GROUP_RADIUS if "group" in more else SIZES[size]))
        texture = str(rng.choice(TEXTURES, p=(0.55, 0.15, 0.15, 0.15)))
        if "group" in more and things and things[-1].group is not None:
            texture = things[-1].texture
        number = len(earlier) + len(things)
        things.append(
            Thing(
                id=number,
                shape=shape,
                colour=colour,
                texture=texture,
                size=size,
                radius=round(float(radius), 4),
                scene=scene,
                **more,  # pyright: ignore[reportArgumentType]
            )
        )

    fewest, most = config.things
    singles = int(rng.integers(fewest, most + 1))
    crowded = most == MOST_THINGS and singles < most
    if crowded and rng.random() < 0.12:
        shape, colour = look()
        for size in SIZES:
            add(shape, colour, size, by_size=True)
    while len(things) < singles:
        add(*look(), size=str(rng.choice(list(SIZES))))
    if crowded and rng.random() < 0.35:
        shape, colour = look()
        for _ in range(int(rng.integers(3, 6))):
            add(shape, colour, "small", group=len(earlier))
    return things


def _placed(rng: np.random.Generator, things: list[Thing], frames: int) -> Stage:
    """All things at rest at random places that do not overlap."""
    places: list[tuple[float, float]] = []
    for thing in things:
        for _ in range(60):
            x, y = rng.uniform(thing.radius + 0.02, 1 - thing.radius - 0.02, 2)
            if all(
                np.hypot(x - px, y - py) > 1.15 * (thing.radius + other.radius)
                for (px, py), other in zip(places, things, strict=False)
            ):
                places.append((float(x), float(y)))
                break
        else:
            raise _StuckError
    x, y = np.array(places).T
    radius = np.array([thing.radius for thing in things])

    def still(values: np.ndarray) -> np.ndarray:
        return np.repeat(values[:, None], frames, axis=1)

    nothing = np.zeros(len(things))
    camera = still(np.array([0.5, 0.5, 1.0]))
    return Stage(still(x), still(y), still(radius), still(nothing), still(nothing + 1), still(nothing), camera)


def _slot(
    config: WorldConfig,
    rules: Split,
    rng: np.random.Generator,
    things: list[Thing],
    everything: list[Thing],
    stage: Stage,
    events: list[Event],
    span: tuple[int, int],
) -> EventSlot:
    before, after = (max(1, int((span[1] - span[0]) * share)) for share in rng.uniform(0.06, 0.28, 2))
    start, end = span[0] + before, span[1] - 1 - after
    used = {(event.kind, thing) for event in events for thing in (event.thing, event.other)}
    return EventSlot(
        things=tuple(things),
        shapes=tuple({(t.shape, t.id if t.group is None else -1 - t.group): t.shape for t in everything}.values()),
        stage=stage,
        used=frozenset(used),
        held_out=rules.combinations == "held_out",
        start=start,
        end=end,
        quick=min(max(2, round(0.35 * config.fps)), end - start),
        unhurried=max(2, round(0.2 * config.fps)),
    )


def _allowed(rules: Split, kinds: list[str], is_last: bool) -> Callable[[str], bool]:
    """Tells which kinds of events may happen next, given those before."""
    if rules.combinations == "trained":
        return lambda kind: not are_kinds_held_out([*kinds, kind])
    return lambda kind: not is_last or are_kinds_held_out([*kinds, kind])


def _happen(
    rng: np.random.Generator, slot: EventSlot, allowed: Callable[[str], bool], tail: bool
) -> tuple[Stage, Event]:
    """One event that is possible now, of a kind drawn by weight."""
    kinds = [kind for kind in KINDS if allowed(kind)]
    rare = _TAIL_WEIGHT if tail else RARE_WEIGHT
    weights = np.array([_KIND_WEIGHTS[kind] * (rare if kind in RARE_KINDS else 1) for kind in kinds])
    rows = {thing.id: row for row, thing in enumerate(slot.things)}
    while weights.any():
        choice = int(rng.choice(len(kinds), p=weights / weights.sum()))
        for _ in range(20):
            result = ACTIONS[kinds[choice]](slot, rng, kinds[choice])
            if result is None:
                continue
            stage, event = result
            contact = frozenset(rows[thing] for thing in (event.thing, event.other) if thing is not None)
            if is_clear(stage, event, contact):
                return stage, event
        weights[choice] = 0
    raise _StuckError


def _joined(stages: list[Stage]) -> Stage:
    """The stages of all scenes, one after the other. Things of other scenes rest there, unseen."""
    lengths = [stage.camera.shape[1] for stage in stages]
    rows: dict[str, list[np.ndarray]] = {name: [] for name in Stage.__slots__ if name != "camera"}
    for scene, stage in enumerate(stages):
        around = ((0, 0), (sum(lengths[:scene]), sum(lengths[scene + 1 :])))
        for name, values in rows.items():
            mode = "constant" if name == "alpha" else "edge"
            values.append(np.pad(getattr(stage, name), around, mode=mode))
    camera = np.concatenate([stage.camera for stage in stages], axis=1)
    return Stage(**{name: np.concatenate(values) for name, values in rows.items()}, camera=camera)


def _background(
    config: WorldConfig,
    rng: np.random.Generator,
    scene: int,
    things: list[Thing],
    events: list[Event],
    scenes: list[int],
) -> Background:
    """A background that all colours of the scene stand out from. It has a pattern if the camera moves."""
    colours = {c for thing in things if thing.scene == scene for c in (thing.colour, thing.next_colour) if c}
    levels = [
        level
        for level in _LEVELS
        if all(np.linalg.norm(np.array(COLOURS[colour]) - level) >= _LEAST_CONTRAST for colour in colours)
    ]
    ends = [*scenes[1:], float("inf")]
    camera = any(event.kind in CAMERA_KINDS and scenes[scene] <= event.start < ends[scene] for event in events)
    smooth = [] if camera else ["plain", "gradient"]  # they hardly show that the camera moves
    kind = str(rng.choice([*smooth, "noise", *(["photo"] if config.photos else [])]))
    red, green, blue = (int(v) for v in rng.integers(-12, 13, 3))
    return Background(
        kind=kind,
        level=int(rng.choice(levels)),
        tint=(red, green, blue),
        seed=int(rng.integers(2**31)),
        photo=int(rng.integers(len(config.photos))) if kind == "photo" else None,
    )


def _perturbed(rng: np.random.Generator, clip: WorldClip, perturbation: str) -> WorldClip:
    """Speed and dropped frames change the times here; noise, blur and occlusion change pixels, when they are drawn."""
    clip = clip.variant(perturbation=perturbation)
    if perturbation == "speed":
        seconds = clip.frame_count * clip.frame_s
        able = [f for f in (Fraction(1, 2), Fraction(2)) if SHORTEST_S <= seconds * f <= LONGEST_S]
        return clip.variant(frame_s=clip.frame_s * able[int(rng.integers(len(able)))])
    if perturbation == "frame_drop":
        dropped: set[int] = set()
        edges = {frame for event in clip.events for frame in (event.start, event.end)}  # must be seen
        for frame in range(1, clip.frame_count - 1):
            if frame - 1 not in dropped and rng.random() < 0.4 and frame not in edges:
                dropped.add(frame)
        return clip.variant(dropped=frozenset(dropped))
    return clip
