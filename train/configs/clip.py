"""Recipes of `train/clip.py`: a CLIP from scratch, on frames with captions."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from train.configs.base import CheckpointConfig, ParallelismConfig, option
from train.configs.contrastive import CaptionDataConfig, ContrastiveConfig, ContrastiveOptimizerConfig


@dataclass(frozen=True, kw_only=True)
class ClipArchitecture:
    """The two towers of a small CLIP."""

    tower: str = option(
        "",
        "Checkpoint of train/dense.py world_frames, whose frozen tower reads the patches of rendered frames; empty: a "
        "linear layer.",
    )
    image: int = option(64, "Side of a frame in pixels.")
    patch: int = option(8, "Side of a patch in pixels.")
    width: int = option(128, "Width of both towers.")
    layers: int = option(4, "Layers of the visual tower.")
    text_layers: int = option(3, "Layers of the text tower.")
    heads: int = option(2, "Attention heads of both towers.")
    max_positions: int = option(40, "Position embeddings of the text tower: the most tokens that it reads.")
    embed_dim: int = option(128, "Width of the embedding that both towers share.")
    temperature: float = option(0.07, "Initial temperature; it is learned and stays above 0.01.")


@dataclass(frozen=True, kw_only=True)
class ClipRecipe(ContrastiveConfig):
    """A CLIP from scratch."""

    architecture: ClipArchitecture = field(default_factory=ClipArchitecture)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        own, words = self.architecture, self.dataset.max_words
        yield own.image % own.patch > 0, f"image {own.image} is not a multiple of patch {own.patch}"
        yield (
            own.width % 4 > 0,
            f"width {own.width} is not a multiple of 4, which the sine and cosine position embeddings need",
        )
        yield (
            bool(own.tower) and not (Path(own.tower) / "projector.safetensors").is_file(),
            f"tower {own.tower} has no projector.safetensors; give a directory that train/dense.py world_frames wrote",
        )
        yield words > own.max_positions, f"max_words is {words}, which exceeds max_positions {own.max_positions}"


CLIP_WORLD = ClipRecipe(
    name="clip_world",
    optimizer=ContrastiveOptimizerConfig(learning_rate=1e-3, weight_decay=0.1),
    parallelism=ParallelismConfig(bf16=True),
    checkpoints=CheckpointConfig(save_every=1000, log_every=10),
    dataset=CaptionDataConfig(fps=0, max_frames=8, max_words=40, epochs=3, batch_size=64),
)
CLIP_DEBUG = CLIP_WORLD.changed(
    name="clip_debug", batch_size=8, width=16, layers=2, text_layers=2, embed_dim=16, image=32, bf16=False
)
CLIPS: dict[str, ClipRecipe] = {r.name: r for r in (CLIP_WORLD, CLIP_DEBUG)}
