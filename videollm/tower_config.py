"""The configuration of a temporal module's own visual tower."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from videollm.checks import check, check_choice, check_positive

TowerKind = Literal["eva", "umt", "world"]


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """A frozen visual tower whose weights are in the checkpoint, between the pixels and the temporal module.

    Args:
        kind: "eva" reads each frame and gives its class token and patches (Video-LLaMA). "umt" reads all frames of a
            segment together and gives patches (VideoChat2). "world" reads rendered clips with convolutions
            and gives patches.
        image_size, patch: The sides of a frame and of a patch in pixels.
        width, layers: Sizes of the transformer or of the convolutions.
        heads, mlp_width: Sizes of the transformer.
        frames: The number of frames that the positions of "umt" were made for.
    """

    kind: TowerKind
    image_size: int
    patch: int
    width: int
    layers: int
    heads: int = 1
    mlp_width: int = 1
    frames: int = 4

    def __post_init__(self) -> None:
        check_choice("tower kind", self.kind, TowerKind)
        check_positive(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "kind"})
        check(self.width % self.heads == 0, f"tower width {self.width} must be a multiple of heads {self.heads}")
        if self.kind == "world":
            is_power = self.patch >= 4 and self.patch.bit_count() == 1
            check(is_power, f"tower patch is {self.patch}; for kind world it must be a power of 2 of at least 4")
            check(
                self.width % (self.patch // 2) == 0,
                f"tower width {self.width} must be a multiple of half of patch {self.patch}",
            )
