"""Recipes of `train/retrieval.py`: a retrieval head on a CLIP, with the settings of the published systems."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from train.configs.augment import MIX, PICTURE_CHANGES, TIME_CHANGES, AugmentConfig
from train.configs.base import CheckpointConfig, ParallelismConfig, option
from train.configs.contrastive import CaptionDataConfig, ContrastiveConfig, ContrastiveOptimizerConfig
from videollm.retrieval.model import HeadConfig

Tower = Literal["train", "freeze", "lora", "prompt"]


@dataclass(frozen=True, kw_only=True)
class RetrievalOptimizerConfig(ContrastiveOptimizerConfig):
    """Learning rates by part of the model."""

    learning_rate: float = option(1e-4, "Peak learning rate of the head.")
    backbone_learning_rate: float = option(1e-7, "Peak learning rate of towers, adapters, prompts and temperature.")
    attention_learning_rate: float = option(
        0.0, "Peak learning rate of the frame weights of head attentive; 0: the head's learning rate."
    )


@dataclass(frozen=True, kw_only=True)
class HeadNetworkConfig:
    """The backbone, the head on it, and what is trained of its visual side."""

    backbone: str = option(
        "", "Dual encoder to start from: local-dir:FOLDER of an open_clip or retrieval model, or ARCHITECTURE:WEIGHTS."
    )
    init: str = option("", "Directory of an earlier run to start from; it brings backbone and head.")
    head: str = option("mean", "Kind of retrieval head; see HeadConfig.kind in videollm/retrieval/model.py.")
    temporal: str = option("transformer", "Temporal part of the heads that have one; see HeadConfig.temporal.")
    layers: int = option(4, "Layers of the head's temporal or cross-modal transformer.")
    depth: int = option(4, "Layers of STAN's branch.")
    across: Literal["attention", "conv3d"] = option("attention", "How STAN's branch mixes frames.")
    positions: float = option(
        0.0,
        "Standard deviation of the temporal transformer's initial position embeddings; 0 copies the text tower's, as "
        "published. Frame embeddings much larger than the positions hide the order of frames for hundreds of steps.",
    )
    official_compat: bool = option(False, "Reproduce the published code also where padding changes its scores.")
    visual: Tower = option("train", "Visual tower: trained, frozen (features are kept), or with LoRA or prompts.")
    lora_rank: int = option(8, "Rank of the towers' LoRA adapters.")
    prompts: int = option(8, "Number of learned prompt tokens of a tower.")


@dataclass(frozen=True, kw_only=True)
class RetrievalNetworkConfig(HeadNetworkConfig):
    """The backbone, the head on it, and what is trained of both."""

    text: Tower = option("train", "Text tower: trained, frozen, or with LoRA or learned prompts.")
    scale: Literal["learned", "fixed", "none"] = option(
        "learned", "Inverse temperature of the logits: learned, fixed at its start, or none."
    )
    temperature: float = option(0.01, "Initial temperature.")
    bias: float = option(-10.0, "Initial bias of the logits of objective sigmoid.")


@dataclass(frozen=True, kw_only=True)
class RetrievalObjectiveConfig:
    """What the run minimises."""

    objective: Literal["contrast", "sigmoid", "trim", "recall"] = option(
        "contrast",
        "contrast: InfoNCE; sigmoid: SigLIP's loss of single pairs; trim: InfoNCE without the pairs of largest loss; "
        "recall: REINFORCE on recall@recall_at, which needs a trained init.",
    )
    wrong_captions: float = option(0.2, "Share of wrong captions that objective trim leaves out.")
    sums: bool = option(False, "Add the losses of both directions, as STAN does, instead of averaging them.")
    false_captions: bool = option(False, "Add one wrong caption of each video to its batch as a hard negative.")
    mine: bool = option(False, "From the second epoch on, form batches of pairs that the model finds alike.")
    chunk: int = option(0, "Encode this many pairs at a time (GradCache), for less memory; 0: all at once.")
    teachers: str = option(
        "", "Directories of trained heads, separated by commas, that teach head attentive (TeachCLIP)."
    )
    recall_at: int = option(1, "The k of the recall@k that objective recall raises.")
    samples: int = option(16, "Ranked lists drawn for each query by objective recall.")


@dataclass(frozen=True, kw_only=True)
class RetrievalDataConfig(AugmentConfig, CaptionDataConfig):
    """Captioned videos, and how their clips are changed while training."""


@dataclass(frozen=True, kw_only=True)
class RetrievalRecipe(ContrastiveConfig):
    """A retrieval head on a CLIP."""

    dataset: RetrievalDataConfig = field(default_factory=RetrievalDataConfig)
    optimizer: RetrievalOptimizerConfig = field(default_factory=RetrievalOptimizerConfig)
    network: RetrievalNetworkConfig = field(default_factory=RetrievalNetworkConfig)
    objective: RetrievalObjectiveConfig = field(default_factory=RetrievalObjectiveConfig)

    def problems(self) -> Iterator[tuple[bool, str]]:
        yield from super().problems()
        network, objective, stage = self.network, self.objective, self.parallelism.zero_stage
        HeadConfig(kind=network.head, temporal=network.temporal)  # raises for kinds that do not exist
        yield from self.dataset.unknown_changes((*PICTURE_CHANGES, *TIME_CHANGES, MIX))
        yield (
            bool(self.dataset.frame_changes) and network.visual == "freeze",
            f"augment {','.join(self.dataset.frame_changes)} changes frames, but the features of a frozen visual tower "
            "are kept; set visual to train or lora",
        )
        yield (
            self.dataset.mixes and self.dataset.max_frames < 2,
            "augment mix shows frames of two clips, but max_frames is 1; set it to 2 or more",
        )
        yield (
            network.head == "videoclip",
            "head videoclip reads features of a 3D network and has a BERT of its own, which this training does not "
            "have; choose another head, or convert published weights with videollm import-official",
        )
        yield (
            objective.chunk > 0 and stage > 0,
            f"chunk {objective.chunk} and zero_stage {stage} exclude each other; set one of them to 0",
        )
        yield (
            bool(objective.teachers) and network.head != "attentive",
            f"teachers teach frame weights, which head {network.head!r} does not have; set head attentive",
        )
        yield (
            objective.objective in ("sigmoid", "trim") and (objective.sums or bool(objective.teachers)),
            f"objective {objective.objective} has no directions to add (sums) and no teachers; leave these out",
        )
        yield (
            bool(objective.teachers) and objective.false_captions,
            "teachers score the captions of the batch alone, without false ones; set false_captions to false",
        )
        yield (
            not 0 <= objective.wrong_captions < 1,
            f"wrong_captions is {objective.wrong_captions}; it must be at least 0 and below 1",
        )
        yield bool(network.backbone and network.init), "backbone and init are both given; a run starts from one of them"


# Published settings (official code; see each head). Frames: 12 at 1 a second; captions: 32 tokens.
CLIP4CLIP = RetrievalRecipe(
    name="clip4clip_msrvtt_b32",
    network=RetrievalNetworkConfig(backbone="ViT-B-32-quickgelu:openai", head="mean", official_compat=True),
    optimizer=RetrievalOptimizerConfig(optimizer="bertadam", schedule="bert_cosine"),
)
CLIP4CLIP_HEADS = tuple(
    CLIP4CLIP.changed(name=f"clip4clip_{head}_msrvtt_b32", head=head) for head in ("lstm", "transformer", "tight")
)
XCLIP = CLIP4CLIP.changed(name="xclip_msrvtt_b32", head="xclip", batch_size=300)
TEACHCLIP = CLIP4CLIP.changed(
    name="teachclip_msrvtt_b32",
    head="attentive",
    teachers="runs/xclip_msrvtt_b32",
    attention_learning_rate=1e-3,
    epochs=10,
    batch_size=120,
)
STAN = RetrievalRecipe(
    name="stan_msrvtt_b32",
    network=RetrievalNetworkConfig(
        backbone="ViT-B-32-quickgelu:openai", head="stan", official_compat=True, scale="fixed"
    ),
    objective=RetrievalObjectiveConfig(sums=True),
    optimizer=RetrievalOptimizerConfig(
        backbone_learning_rate=2e-6,
        learning_rate=2e-5,
        beta2=0.999,
        epsilon=1e-8,
        weight_decay=0.05,
        max_grad_norm=5.0,
        schedule="rising",
        warmup_ratio=0.0,
    ),
    parallelism=ParallelismConfig(bf16=True),
    dataset=RetrievalDataConfig(epochs=10),
)
MUG_STAN = STAN.changed(name="mugstan_msrvtt_b32", head="mug")

# The proof on the world: heads on one tiny CLIP.
WORLD = RetrievalRecipe(
    name="world",
    network=RetrievalNetworkConfig(head="mean", layers=2, depth=2, positions=1.0, visual="freeze", temperature=0.05),
    objective=RetrievalObjectiveConfig(false_captions=True),
    optimizer=RetrievalOptimizerConfig(learning_rate=1e-3, backbone_learning_rate=1e-3, weight_decay=0.05),
    parallelism=ParallelismConfig(bf16=True),
    checkpoints=CheckpointConfig(save_every=25, log_every=10),
    dataset=RetrievalDataConfig(fps=0, max_frames=8, max_words=32, epochs=4, batch_size=64),
)
DEBUG = WORLD.changed(
    name="debug",
    output="runs/debug_retrieval",
    visual="train",
    false_captions=False,
    layers=1,
    depth=1,
    epochs=1,
    batch_size=4,
    bf16=False,
)
RETRIEVAL: dict[str, RetrievalRecipe] = {
    r.name: r for r in (CLIP4CLIP, *CLIP4CLIP_HEADS, XCLIP, TEACHCLIP, STAN, MUG_STAN, WORLD, DEBUG)
}
