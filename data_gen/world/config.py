"""The configuration of a world: everything that its pixels and words depend on."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from videollm.errors import ConfigError

LEAST_FRAMES = 16  # fewer cannot show two events, each with its before and after
LONGEST_S = 60.0
SHORTEST_S = 2.0
MOST_THINGS = 4


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Raises ConfigError if a value is out of range.

    Args:
        seed: Of everything that is random.
        size: Width and height in pixels.
        fps: Frames a second.
        seconds: The shortest and the longest clip of the in-domain splits.
        things: The fewest and the most single things of a scene. Groups of equal things are added only if four single
            things are allowed.
        photos: Files that backgrounds may be made from.
        font: A symbol or emoji font whose glyphs become shapes.
        sounds: The kinds of sounds that events may have, see `data_gen.world.sounds`; empty for files without sound.
    """

    seed: int = 0
    size: int = 96
    fps: Fraction = Fraction(12)
    seconds: tuple[float, float] = (4.0, 4.0)
    things: tuple[int, int] = (2, MOST_THINGS)
    photos: tuple[Path, ...] = ()
    font: Path | None = None
    sounds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shortest, longest = self.seconds
        _check(self.seed >= 0, f"seed is {self.seed}; it must be 0 or above")
        _check(64 <= self.size <= 224, f"size is {self.size} pixels; it must lie in 64 to 224")
        _check(self.size % 2 == 0, f"size is {self.size} pixels; it must be even, as H.264 stores colour by the pair")
        _check(0 < self.fps <= 240, f"fps is {float(self.fps):g}; it must be above 0 and at most 240")
        _check(
            SHORTEST_S <= shortest <= longest <= LONGEST_S,
            f"seconds are {shortest:g} to {longest:g}; they must increase and lie in {SHORTEST_S:g} to {LONGEST_S:g}",
        )
        fewest, most = self.things
        _check(
            1 <= fewest <= most <= MOST_THINGS,
            f"things are {fewest} to {most}; they must increase and lie in 1 to {MOST_THINGS}",
        )
        _check(
            shortest * self.fps >= LEAST_FRAMES,
            f"{float(self.fps):g} fps over {shortest:g} s are {int(shortest * self.fps)} frames; a clip needs at least "
            f"{LEAST_FRAMES}: raise fps or seconds",
        )


def _check(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)
