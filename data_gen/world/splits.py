"""The splits: how each differs from training, and the combinations that training never shows.

The in-domain splits draw from a long-tailed distribution. Each other split changes one thing only, so that a drop of a
score has one cause: combinations of known parts, drawing style, image quality, rare parts, or length.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from data_gen.world.vocabulary import COLOURS, FAMILIES, FAMILY_OF, GLYPHS
from videollm.datasets.world_annotation import SHAPES

TRAINED_STYLES = ("flat", "shaded")
OTHER_STYLES = ("outline", "pixel", "chalk")
PERTURBATIONS = ("noise", "blur", "occlusion", "frame_drop", "speed")

Combinations = Literal["trained", "held_out"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """How the clips of a split are drawn.

    Args:
        about: One line for the help.
        combinations: "held_out" has only pairs of shape and colour that training never shows, and in each clip such a
            pair of kinds of events.
        styles, perturbations: The drawing styles and image faults to choose from.
        tail: Each clip shows something rare.
        stretch: Factor of the in-domain duration.
        pairs: Clips come in pairs of the same frames in another order.
    """

    about: str
    combinations: Combinations = "trained"
    styles: tuple[str, ...] = TRAINED_STYLES
    perturbations: tuple[str, ...] = ()
    tail: bool = False
    stretch: int = 1
    pairs: bool = False


SPLITS = {
    "train": Split(about="in-domain"),
    "val": Split(about="in-domain"),
    "test": Split(about="in-domain"),
    "unseen": Split(
        about="pairs of shape and colour, and of events, that training never holds", combinations="held_out"
    ),
    "style": Split(about="drawn as outlines, pixel art or chalk", styles=OTHER_STYLES),
    "perturbed": Split(about="noise, blur, occlusion, dropped frames, speed", perturbations=PERTURBATIONS),
    "long_tail": Split(about="a rare shape, colour or event in each clip", tail=True),
    "long": Split(about="four times as long, 60 s at most", stretch=4),
    "order": Split(about="pairs of clips of the same frames in another order", pairs=True),
}

_SHAPE_NUMBER = {name: number for number, name in enumerate([*SHAPES, *GLYPHS])}
_COLOUR_NUMBER = {name: number for number, name in enumerate(COLOURS)}


def is_look_held_out(shape: str, colour: str) -> bool:
    """Whether training never shows this shape in this colour: one pair in five, spread over all
    shapes and colours, so that each is seen in training with others."""
    return (_SHAPE_NUMBER[shape] + 2 * _COLOUR_NUMBER[colour]) % 5 == 0


HELD_OUT_FAMILIES = frozenset(
    frozenset({a, b}) for a, b in combinations(range(len(FAMILIES)), 2) if (a + 2 * b) % 6 == 0
)


def are_kinds_held_out(kinds: Iterable[str]) -> bool:
    """Whether training never holds these kinds of events together in one clip."""
    families = {FAMILY_OF[kind] for kind in kinds}
    return any(frozenset(pair) in HELD_OUT_FAMILIES for pair in combinations(families, 2))
