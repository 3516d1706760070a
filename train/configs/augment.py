"""The option of random changes of clips, which retrieval training and both stages have."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from train.configs.base import option

PICTURE_CHANGES = ("crop", "colour")  # see `train.data.augment`
TIME_CHANGES = ("part", "speed", "drop")
MIX = "mix"  # see `train.data.mix`


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How clips are changed while training."""

    augment: str = option(
        "",
        "Random changes of the clips in training, separated by commas: "
        f"{', '.join((*PICTURE_CHANGES, *TIME_CHANGES, MIX))}; empty: none.",
    )

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The names in `augment`."""
        return tuple(name for name in self.augment.split(",") if name)

    @property
    def frame_changes(self) -> tuple[str, ...]:
        """Those of `augmentations` that change the frames of one clip."""
        return tuple(name for name in self.augmentations if name != MIX)

    @property
    def mixes(self) -> bool:
        """Whether clips are mixed with each other."""
        return MIX in self.augmentations

    def unknown_changes(self, known: Collection[str]) -> Iterator[tuple[bool, str]]:
        """Yields whether `augment` has other names than the known ones, and what to do then."""
        unknown = [name for name in self.augmentations if name not in known]
        yield bool(unknown), f"augment has {', '.join(unknown)}; choose from {', '.join(known)}"


@dataclass(frozen=True, kw_only=True)
class RowAugmentConfig(AugmentConfig):
    """How the videos of rows are changed while training. The texts of rows tell times and order, which stay."""

    def augment_problems(
        self, data: str, features: str, known: tuple[str, ...] = PICTURE_CHANGES
    ) -> Iterator[tuple[bool, str]]:
        """Yields what would make `augment` impossible. data, features: those options of the recipe. known: the changes
        that it has."""
        yield from self.unknown_changes(known)
        yield bool(self.augment) and not data, "augment changes the videos of rows; give data, or leave augment out"
        yield (
            bool(self.frame_changes) and features != "none",
            f"augment {','.join(self.frame_changes)} changes frames, which features that are kept no longer have; set "
            "features none and workers 0, which encodes while training",
        )
