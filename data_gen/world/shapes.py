"""Vector drawings of the shapes and pictograms. Each is a list of layers from back to front, within the unit circle.

x runs to the right, y down. A layer is a polygon, or an ellipse given by its box, in a tone: "main" is the thing's
colour, "dark" and "light" are shades of it, "hole" takes away.
"""

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Literal

Tone = Literal["main", "dark", "light", "hole"]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Polygon:
    points: tuple[Point, ...]
    tone: Tone = "main"


@dataclass(frozen=True, slots=True)
class Ellipse:
    left: float
    top: float
    right: float
    bottom: float
    tone: Tone = "main"


Layer = Polygon | Ellipse


def _polygon(*points: Point, tone: Tone = "main") -> Polygon:
    return Polygon(points, tone)


def _box(left: float, top: float, right: float, bottom: float, tone: Tone = "main") -> Polygon:
    return Polygon(((left, top), (right, top), (right, bottom), (left, bottom)), tone)


def _disc(x: float, y: float, radius: float, tone: Tone = "main") -> Ellipse:
    return Ellipse(x - radius, y - radius, x + radius, y + radius, tone)


def _around(count: int, *radii: float) -> tuple[Point, ...]:
    """Points at equal angles from the top, clockwise, at the radii in turn."""
    angles = [2 * pi * k / count for k in range(count)]
    return tuple((radii[k % len(radii)] * sin(a), -radii[k % len(radii)] * cos(a)) for k, a in enumerate(angles))


def _heart() -> Polygon:
    curve = []
    for k in range(48):
        t = 2 * pi * k / 48
        y = 13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)
        curve.append((16 * sin(t) ** 3 / 17.5, -(y + 2.5) / 16.5))
    return Polygon(tuple(curve))


def _petals(count: int, distance: float, radius: float) -> tuple[Ellipse, ...]:
    return tuple(_disc(x, y, radius) for x, y in _around(count, distance))


DRAWINGS: dict[str, tuple[Layer, ...]] = {
    "circle": (_disc(0, 0, 0.92),),
    "square": (_box(-0.72, -0.72, 0.72, 0.72),),
    "triangle": (_polygon((0, -0.95), (0.9, 0.65), (-0.9, 0.65)),),
    "star": (Polygon(_around(10, 1.0, 0.42)),),
    "heart": (_heart(),),
    "diamond": (_polygon((0, -1), (0.66, 0), (0, 1), (-0.66, 0)),),
    "cross": (_box(-0.3, -0.9, 0.3, 0.9), _box(-0.9, -0.3, 0.9, 0.3)),
    "hexagon": (Polygon(_around(6, 0.96)),),
    "arrow": (_polygon((0.98, 0), (0.2, -0.75), (0.2, -0.3), (-0.92, -0.3), (-0.92, 0.3), (0.2, 0.3), (0.2, 0.75)),),
    "house": (
        _box(-0.62, -0.15, 0.62, 0.75),
        _polygon((0, -0.95), (0.92, -0.1), (-0.92, -0.1), tone="dark"),
        _box(-0.17, 0.22, 0.17, 0.75, tone="dark"),
    ),
    "tree": (
        _box(-0.16, 0.4, 0.16, 0.98, tone="dark"),
        _polygon((0, -0.98), (0.55, -0.2), (-0.55, -0.2)),
        _polygon((0, -0.6), (0.75, 0.5), (-0.75, 0.5)),
    ),
    "car": (
        _polygon((-0.52, -0.1), (-0.34, -0.55), (0.34, -0.55), (0.58, -0.1)),
        _polygon((-0.36, -0.1), (-0.24, -0.42), (0.24, -0.42), (0.4, -0.1), tone="light"),
        _box(-0.95, -0.12, 0.95, 0.32),
        _disc(-0.5, 0.36, 0.25, "dark"),
        _disc(0.5, 0.36, 0.25, "dark"),
    ),
    "fish": (
        _polygon((-0.35, 0), (-0.97, -0.55), (-0.97, 0.55)),
        Ellipse(-0.6, -0.52, 0.97, 0.52),
        _disc(0.55, -0.13, 0.12, "dark"),
    ),
    "flower": (*_petals(5, 0.58, 0.4), _disc(0, 0, 0.3, "light")),
    "cup": (
        _disc(0.58, 0.0, 0.36),
        _disc(0.58, 0.0, 0.18, "hole"),
        _polygon((-0.8, -0.62), (0.55, -0.62), (0.4, 0.72), (-0.65, 0.72)),
        _box(-0.8, -0.62, 0.55, -0.45, tone="dark"),
    ),
    "boat": (
        _polygon((-0.92, 0.3), (0.92, 0.3), (0.55, 0.8), (-0.55, 0.8), tone="dark"),
        _polygon((-0.02, -0.95), (-0.02, 0.2), (-0.72, 0.2)),
        _polygon((0.08, -0.75), (0.08, 0.2), (0.68, 0.2)),
    ),
    "cloud": (
        _disc(-0.5, 0.15, 0.42),
        _disc(0.5, 0.15, 0.42),
        _disc(-0.12, -0.15, 0.5),
        _disc(0.3, -0.08, 0.4),
        _box(-0.5, 0.1, 0.5, 0.57),
    ),
    "moon": (_disc(0, 0, 0.95), _disc(0.42, -0.1, 0.75, "hole")),
    "key": (
        _disc(-0.52, 0, 0.44),
        _disc(-0.52, 0, 0.2, "hole"),
        _box(-0.15, -0.13, 0.97, 0.13),
        _box(0.45, 0.1, 0.6, 0.45),
        _box(0.78, 0.1, 0.93, 0.5),
    ),
    "umbrella": (
        _disc(0, 0.05, 0.95),
        _box(-1, 0.05, 1, 1, tone="hole"),
        _disc(-0.63, 0.1, 0.3, "hole"),
        _disc(0, 0.1, 0.3, "hole"),
        _disc(0.63, 0.1, 0.3, "hole"),
        _box(-0.07, -0.9, 0.07, 0.8, tone="dark"),
        _box(-0.3, 0.68, 0.07, 0.84, tone="dark"),
    ),
    "mushroom": (
        _box(-0.26, 0, 0.26, 0.9, tone="light"),
        Ellipse(-0.92, -0.9, 0.92, 0.95),
        _box(-1, 0.12, 1, 1, tone="hole"),
        _box(-0.26, 0.12, 0.26, 0.9, tone="light"),
        _disc(-0.38, -0.25, 0.16, "light"),
        _disc(0.3, -0.4, 0.18, "light"),
    ),
    "butterfly": (
        Ellipse(-0.95, -0.75, -0.02, 0.12),
        Ellipse(0.02, -0.75, 0.95, 0.12),
        Ellipse(-0.75, -0.05, -0.05, 0.75),
        Ellipse(0.05, -0.05, 0.75, 0.75),
        Ellipse(-0.1, -0.75, 0.1, 0.75, "dark"),
    ),
    "rocket": (
        _polygon((-0.32, 0.25), (-0.68, 0.8), (-0.2, 0.62), tone="dark"),
        _polygon((0.32, 0.25), (0.68, 0.8), (0.2, 0.62), tone="dark"),
        _polygon((0, -1), (0.22, -0.68), (0.34, -0.2), (0.34, 0.66), (-0.34, 0.66), (-0.34, -0.2), (-0.22, -0.68)),
        _disc(0, -0.15, 0.17, "light"),
    ),
}
