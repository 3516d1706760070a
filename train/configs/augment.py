"""The option of random changes of clips, which retrieval training and both stages have."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from train.configs.base import option

PICTURE_CHANGES = ("crop", "colour")  # see `train.data.augment`
TIME_CHANGES = ("part", "speed", "drop")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How clips are changed while training."""

    augment: str = option(
        "",
        f"Random changes of the clips in training, separated by commas: {', '.join(PICTURE_CHANGES + TIME_CHANGES)}; "
        "empty: none.",
    )

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The names in `augment`."""
        return tuple(name for name in self.augment.split(",") if name)

    def unknown_changes(self, known: Collection[str]) -> Iterator[tuple[bool, str]]:
        """Yields whether `augment` has other names than the known ones, and what to do then."""
        unknown = [name for name in self.augmentations if name not in known]
        yield bool(unknown), f"augment has {', '.join(unknown)}; choose from {', '.join(known)}"


@dataclass(frozen=True, kw_only=True)
class RowAugmentConfig(AugmentConfig):
    """How the videos of rows are changed while training. The texts of rows tell times and order, which stay."""

    def augment_problems(self, data: str, features: str) -> Iterator[tuple[bool, str]]:
        """Yields what would make `augment` impossible. data, features: those options of the recipe."""
        yield from self.unknown_changes(PICTURE_CHANGES)
        yield bool(self.augment) and not data, "augment changes the videos of rows; give data, or leave augment out"
        yield (
            bool(self.augment) and features != "none",
            "augment changes frames, which features that are kept no longer have; set features none and workers 0, "
            "which encodes while training",
        )
