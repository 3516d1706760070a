"""A clip as data: its things, the state of everything at each frame, and its events, without drawing and words.

F frames, K things. Positions and radii are shares of the frame's width; angles are degrees, clockwise.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from data_gen.world.vocabulary import REVERSED


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One object.

    Args:
        colour: The colour at the start.
        radius: As a share of the frame's width.
        next_colour: The colour that it turns into, or None.
        group: Things of one group look the same, and captions speak of them only together.
        by_size: Another thing differs from it in size alone, so that its size is part of its name.
    """

    id: int
    shape: str
    colour: str
    texture: str
    size: str
    radius: float
    scene: int
    next_colour: str | None = None
    group: int | None = None
    by_size: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happens to one or two things, or to the camera.

    Args:
        kind: One of `vocabulary.KINDS`.
        start: The last frame before anything of it can be seen.
        end: The first frame in which it is over.
        thing, other: Ids of the things that take part; None for the camera.
        times: How often a thing blinks.
        turn: Degrees of a rotation, clockwise.
        counts, colours: The values before and after.
    """

    kind: str
    start: int
    end: int
    thing: int | None = None
    other: int | None = None
    times: int | None = None
    turn: int | None = None
    counts: tuple[int, int] | None = None
    colours: tuple[str, str] | None = None

    def reversed(self, frames: int) -> "Event":
        swaps_roles = self.kind in ("collide", "follow")
        return replace(
            self,
            kind=REVERSED[self.kind],
            start=frames - 1 - self.end,
            end=frames - 1 - self.start,
            thing=self.other if swaps_roles else self.thing,
            other=self.thing if swaps_roles else self.other,
            turn=-self.turn if self.turn is not None else None,
            counts=self.counts[::-1] if self.counts else None,
            colours=self.colours[::-1] if self.colours else None,
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """The state at each frame.

    Args:
        x, y, radius, angle, alpha: float64 (K,F), before the camera moves.
        mix: float64 (K,F), how far the colour has turned into the next one, 0 to 1.
        camera: float64 (3,F), the x and y that the camera looks at, and its zoom.
    """

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    alpha: np.ndarray
    mix: np.ndarray
    camera: np.ndarray

    def copy(self) -> "Stage":
        return Stage(*(getattr(self, name).copy() for name in self.__slots__))

    def frames(self, order: np.ndarray) -> "Stage":
        """The states of the frames with these numbers, in this order."""
        return Stage(*(getattr(self, name)[:, order] for name in self.__slots__))

    def on_screen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and radius as the camera shows them, each (K,F)."""
        look_x, look_y, zoom = self.camera
        return (self.x - look_x) * zoom + 0.5, (self.y - look_y) * zoom + 0.5, self.radius * zoom


@dataclass(frozen=True, kw_only=True, slots=True)
class Background:
    """The background of a scene.

    Args:
        kind: "plain", "gradient", "noise" or "photo".
        level: Grey level, 0 to 255.
        tint: Red, green and blue that are added to the level.
        seed: Of the pattern.
        photo: Index of a photograph of the configuration.
    """

    kind: str
    level: int
    tint: tuple[int, int, int]
    seed: int
    photo: int | None = None


@dataclass(frozen=True, kw_only=True)
class WorldClip:
    """A clip before it is drawn. Things that are not in the scene of a frame have alpha 0 there.

    Args:
        scenes: The first frame of each scene; the first one is 0.
        backgrounds: One a scene.
        frame_s: Seconds a frame.
        perturbation: An image fault, or None.
        lossless: Store without loss, so that clips of the same frames decode to the same pictures.
        dropped: Frames that are not stored.
    """

    things: tuple[Thing, ...]
    stage: Stage
    events: tuple[Event, ...]
    scenes: tuple[int, ...]
    backgrounds: tuple[Background, ...]
    frame_s: Fraction
    style: str
    perturbation: str | None = None
    lossless: bool = False
    dropped: frozenset[int] = frozenset()

    @property
    def frame_count(self) -> int:
        return self.stage.camera.shape[1]

    @property
    def duration_s(self) -> float:
        return self.time_s(self.frame_count)

    def time_s(self, frame: int) -> float:
        return round(float(frame * self.frame_s), 6)

    @property
    def kept(self) -> list[int]:
        return [frame for frame in range(self.frame_count) if frame not in self.dropped]

    def scene_of(self, frame: int) -> int:
        return int(np.searchsorted(self.scenes, frame, side="right")) - 1

    def variant(self, **changes: Any) -> "WorldClip":
        return replace(self, **changes)

    def reversed(self) -> "WorldClip":
        """The same frames in reverse order, with the events as they look then."""
        count = self.frame_count
        last = len(self.scenes) - 1
        turned = {event.thing: event.colours[1] for event in self.events if event.colours}
        things = [
            replace(
                thing,
                scene=last - thing.scene,
                colour=turned.get(thing.id, thing.colour),
                next_colour=thing.colour if thing.id in turned else None,
            )
            for thing in self.things
        ]
        stage = self.stage.frames(np.arange(count)[::-1])
        turns = [thing.id in turned for thing in things]
        stage.mix[turns] = 1 - stage.mix[turns]
        ends = (*self.scenes[1:], count)
        return self.variant(
            things=tuple(things),
            stage=stage,
            events=tuple(event.reversed(count) for event in reversed(self.events)),
            scenes=tuple(count - end for end in reversed(ends)),
            backgrounds=self.backgrounds[::-1],
        )

    def swapped(self) -> "WorldClip":
        """The same frames with the second of two scenes first."""
        _, cut = self.scenes
        count = self.frame_count
        shift = {0: count - cut, 1: -cut}
        moved = [
            replace(event, start=event.start + by, end=event.end + by)
            for event in self.events
            for by in [shift[self.scene_of(event.start)]]
        ]
        return self.variant(
            things=tuple(replace(thing, scene=1 - thing.scene) for thing in self.things),
            stage=self.stage.frames(np.roll(np.arange(count), -cut)),
            events=tuple(sorted(moved, key=lambda event: event.start)),
            scenes=(0, count - cut),
            backgrounds=self.backgrounds[::-1],
        )
