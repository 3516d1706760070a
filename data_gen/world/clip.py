"""A clip as data: its things, the state of everything at each frame, its events. No drawing and no words.

F frames, K things. Positions and radii are shares of the frame's width; angles are degrees, clockwise.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from data_gen.world.vocabulary import REVERSED


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One object. colour is the one it has first; next_colour the one it turns into, if it does.

    group: things of one group look the same and are only ever spoken of together. by_size: something else differs from
    it in size alone, so that its size is part of its name.
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
    """start: the last frame before anything of it shows; end: the first frame when all is done.

    times: how often it blinks. turn: degrees it rotates. counts and colours: before and after.
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
    """The state at each frame. x, y, radius, angle, alpha, mix: float64 (K,F), before the camera; mix is how far the
    colour has turned into the next one. camera: float64 (3,F), the x and y it looks at and its zoom."""

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
        """The frames numbered `order`, in that order."""
        return Stage(*(getattr(self, name)[:, order] for name in self.__slots__))

    def on_screen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and radius as the camera shows them, each (K,F)."""
        look_x, look_y, zoom = self.camera
        return (self.x - look_x) * zoom + 0.5, (self.y - look_y) * zoom + 0.5, self.radius * zoom


@dataclass(frozen=True, kw_only=True, slots=True)
class Background:
    """level: grey level, 0 to 255; tint: what is added to it in red, green and blue. seed draws its pattern."""

    kind: str
    level: int
    tint: tuple[int, int, int]
    seed: int
    photo: int | None = None


@dataclass(frozen=True, kw_only=True)
class WorldClip:
    """scenes: the frame each scene starts with, the first 0. backgrounds: one a scene. frame_s: seconds a frame.

    Whatever is not in a frame's scene has alpha 0 there. dropped: frames that are not stored.
    lossless: stored without loss, so that clips of the same frames decode to the same pictures.
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
        """The same frames, last first."""
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
        """The same frames, the second of two scenes first."""
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
