"""Recipes of `train/recognize.py`: supervised classification of videos by a retrieval head on a CLIP."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from train.configs.base import CheckpointConfig, ParallelismConfig, option
from train.configs.contrastive import EpochRecipe, FrameDataConfig
from train.configs.retrieval import (
    STAN,
    HeadNetworkConfig,
    RetrievalNetworkConfig,
    RetrievalOptimizerConfig,
    RetrievalRecipe,
)
from videollm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LabelDataConfig(FrameDataConfig):
    """Labelled videos, and how their frames are read."""

    data: str = option("", "File of labelled videos; train/data/labels.py describes its formats.")
    eval_data: str = option("", "Another file of labelled videos, on which top-1 and top-5 accuracy are measured.")
    videos: str = option("", "Folder of the videos of both files; empty: the folder of each file.")
    batch_size: int = option(64, "Videos of one step, over all ranks.")
    views: int = option(
        1,
        "Samples of max_frames frames of a video, between each other, over which probabilities are averaged in "
        "evaluation.",
    )


@dataclass(frozen=True, kw_only=True)
class RecognitionRecipe(EpochRecipe):
    """A retrieval head that learns to name classes."""

    optimizer: RetrievalOptimizerConfig = field(default_factory=RetrievalOptimizerConfig)
    dataset: LabelDataConfig = field(default_factory=LabelDataConfig)
    network: HeadNetworkConfig = field(default_factory=HeadNetworkConfig)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        yield self.dataset.views < 1, f"views is {self.dataset.views}; it must be at least 1"
        refuse_without_embedding(self.network.head)
        _ = self.retrieval  # raises for what no retrieval head allows

    @property
    def retrieval(self) -> RetrievalRecipe:
        """The recipe of the same head for retrieval, with a frozen text tower."""
        return RetrievalRecipe(
            name=self.name,
            seed=self.seed,
            optimizer=self.optimizer,
            network=RetrievalNetworkConfig(**asdict(self.network), text="freeze"),
        ).changed(max_frames=self.dataset.max_frames)


def refuse_without_embedding(head: str) -> None:
    """Raises ConfigError for heads whose embedding of a video does not come from their temporal module."""
    if head in ("tight", "videoclip"):
        raise ConfigError(f"head {head!r} makes no embedding of a video's frames alone; choose another head")


# STAN was evaluated on Kinetics-400 and Something-Something V2 (Liu et al. 2023), but no settings were published for
# them. The optimizer here is that of its retrieval recipe.
STAN_K400 = RecognitionRecipe(
    name="stan_k400_b32",
    network=HeadNetworkConfig(backbone=STAN.network.backbone, head="stan", official_compat=True),
    optimizer=STAN.optimizer,
    parallelism=STAN.parallelism,
    dataset=LabelDataConfig(fps=0, max_frames=8, epochs=10, views=3),
)
# The proof on the world.
WORLD = RecognitionRecipe(
    name="world_recognize",
    network=HeadNetworkConfig(layers=2, depth=2, positions=1.0, visual="freeze"),
    optimizer=RetrievalOptimizerConfig(learning_rate=1e-3, weight_decay=0.05),
    parallelism=ParallelismConfig(bf16=True),
    checkpoints=CheckpointConfig(save_every=1000, log_every=50),
    dataset=LabelDataConfig(fps=0, max_frames=8, epochs=15),
)
DEBUG = WORLD.changed(name="debug_recognize", visual="train", layers=1, depth=1, epochs=1, batch_size=4, bf16=False)
RECOGNITION: dict[str, RecognitionRecipe] = {r.name: r for r in (STAN_K400, WORLD, DEBUG)}
