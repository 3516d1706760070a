"""Recipes of `train/clip.py` and `train/retrieval.py`: frozen dataclasses, complete instances by name."""

from dataclasses import dataclass, replace
from typing import Literal

from videollm.errors import ConfigError
from videollm.retrieval.model import HeadConfig


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What every contrastive run depends on. batch_size is global: ranks divide it.

    data: a file of pairs, see `train.data.pairs`; test: another, evaluated every `evaluate_every` epochs (0: never) and
    at the end. output: the directory to write; resume: a checkpoint-N directory in it, to go on from, or "last": the
    newest whole one, if there is any. cache: where decoded frames and frozen towers' features are kept. fps,
    max_frames: frames of a video, `max_frames` of it evenly where fps is 0; max_words: tokens of a caption, start and
    end marks among them. optimizer, schedule: see `train.core.optimizers`; warmup: share of all steps. bf16: compute in
    bfloat16 where that is safe (autocast). zero: DeepSpeed ZeRO stage, 0 for none.
    """

    name: str
    output: str
    data: str = ""
    test: str = ""
    resume: str = ""
    cache: str = "runs/cache"
    fps: float = 1.0
    max_frames: int = 12
    max_words: int = 32
    epochs: float = 5
    batch_size: int = 128
    learning_rate: float = 1e-4
    optimizer: Literal["adamw", "bertadam"] = "adamw"
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    weight_decay: float = 0.2
    warmup: float = 0.1
    schedule: Literal["cosine", "bert_cosine", "constant", "rising"] = "cosine"
    max_grad_norm: float = 1.0
    bf16: bool = False
    zero: int = 0
    save_every: int = 1000
    evaluate_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.zero not in (0, 1, 2):
            raise ConfigError(f"zero is {self.zero}; contrastive training takes DeepSpeed's stages 0 (off), 1 and 2")
        if min(self.batch_size, self.max_frames, self.max_words - 2) < 1:
            raise ConfigError(
                f"batch_size {self.batch_size}, max_frames {self.max_frames} and max_words {self.max_words} must be at "
                "least 1, 1 and 3"
            )
        if self.fps < 0:
            raise ConfigError(f"fps is {self.fps}; give frames a second, or 0 for max_frames of each video")


@dataclass(frozen=True, kw_only=True)
class ClipRecipe(Fit):
    """A CLIP from scratch, on frames with captions. image: pixels of a side; width, layers of both towers.
    temperature: the first; it is learned, and never below 0.01."""

    image: int = 64
    patch: int = 8
    width: int = 128
    layers: int = 4
    text_layers: int = 3
    heads: int = 2
    context: int = 40
    embed_dim: int = 128
    temperature: float = 0.07

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image % self.patch:
            raise ConfigError(f"image {self.image} is not a multiple of patch {self.patch}")
        if self.width % 4:
            raise ConfigError(f"width {self.width} is not a multiple of 4, which the places' waves need")
        if self.max_words > self.context:
            raise ConfigError(f"max_words is {self.max_words}, more than the context of {self.context}")


Tower = Literal["train", "freeze", "lora", "prompt"]


@dataclass(frozen=True, kw_only=True)
class RetrievalRecipe(Fit):
    """A head on a CLIP.

    backbone: `local-dir:FOLDER` of an open_clip model, as `train/clip.py` writes, or ARCHITECTURE:WEIGHTS of open_clip.
    init: a directory that this program wrote, to go on from instead; backbone and head are then its own.
    head, temporal, layers, depth, across, official_compat: see `videollm.retrieval.model.HeadConfig`.
    positions: the deviation of the temporal transformer's first positions; 0: they start as the text tower's, as
    published; frames that are large beside those hide them for hundreds of steps, and with them the order of frames.
    visual, text: the towers are trained, frozen, or get adapters (LoRA of rank `lora_rank`) or `prompts` learned
    tokens. Where the visual tower is frozen, its features are computed once.
    learning_rate: of the head; backbone_learning_rate: of towers, adapters and prompts; attention_learning_rate: of the
    weights of "attentive", 0 for the head's.
    scale, temperature: see `videollm.retrieval.model.RetrievalConfig`; sums: the sum of both directions' losses, not
    their mean. false_captions: one wrong caption of each video joins its batch. mine: from the second epoch on,
    batches are made of pairs that the model finds alike. chunk: encode so many pairs at a time, 0 for all at once.
    teachers: comma-separated directories that this program wrote, for TeachCLIP's losses.
    objective: "recall" raises recall@`recall_at` itself by reward, see `train.tasks.recall`, from `samples` lists a
    query; it wants a trained model as init.
    """

    backbone: str = ""
    init: str = ""
    head: str = "mean"
    temporal: str = "transformer"
    layers: int = 4
    depth: int = 4
    across: Literal["attention", "conv3d"] = "attention"
    positions: float = 0.0
    official_compat: bool = False
    visual: Tower = "train"
    text: Tower = "train"
    backbone_learning_rate: float = 1e-7
    attention_learning_rate: float = 0.0
    lora_rank: int = 8
    prompts: int = 8
    scale: Literal["learned", "fixed", "none"] = "learned"
    temperature: float = 0.01
    sums: bool = False
    false_captions: bool = False
    mine: bool = False
    chunk: int = 0
    teachers: str = ""
    objective: Literal["contrast", "recall"] = "contrast"
    recall_at: int = 1
    samples: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        HeadConfig(kind=self.head, temporal=self.temporal)
        if self.chunk and self.zero:
            raise ConfigError(f"chunk {self.chunk} and zero {self.zero} exclude each other: set one of them to 0")
        if self.teachers and self.head != "attentive":
            raise ConfigError(f"teachers teach frame weights, which head {self.head!r} has not: set head attentive")
        if self.backbone and self.init:
            raise ConfigError("backbone and init are both given: training starts from one of them")


CLIP_WORLD = ClipRecipe(
    name="clip_world",
    output="runs/clip_world",
    fps=0,
    max_frames=8,
    max_words=40,
    epochs=3,
    batch_size=64,
    learning_rate=1e-3,
    weight_decay=0.1,
    bf16=True,
)
CLIP_DEBUG = replace(
    CLIP_WORLD,
    name="clip_debug",
    output="runs/clip_debug",
    batch_size=8,
    width=16,
    layers=2,
    text_layers=2,
    embed_dim=16,
    image=32,
    bf16=False,
)
CLIPS: dict[str, ClipRecipe] = {r.name: r for r in (CLIP_WORLD, CLIP_DEBUG)}


# Published settings (official code; see each head). Frames: 12 at 1 a second; captions: 32 tokens.
CLIP4CLIP = RetrievalRecipe(
    name="clip4clip_msrvtt_b32",
    output="runs/clip4clip_msrvtt_b32",
    backbone="ViT-B-32-quickgelu:openai",
    head="mean",
    official_compat=True,
    optimizer="bertadam",
    schedule="bert_cosine",
)
CLIP4CLIP_HEADS = tuple(
    replace(CLIP4CLIP, name=f"clip4clip_{head}_msrvtt_b32", output=f"runs/clip4clip_{head}_msrvtt_b32", head=head)
    for head in ("lstm", "transformer", "tight")
)
XCLIP = replace(CLIP4CLIP, name="xclip_msrvtt_b32", output="runs/xclip_msrvtt_b32", head="xclip", batch_size=300)
TEACHCLIP = replace(
    CLIP4CLIP,
    name="teachclip_msrvtt_b32",
    output="runs/teachclip_msrvtt_b32",
    head="attentive",
    teachers="runs/xclip_msrvtt_b32",
    attention_learning_rate=1e-3,
    epochs=10,
    batch_size=120,
)
STAN = RetrievalRecipe(
    name="stan_msrvtt_b32",
    output="runs/stan_msrvtt_b32",
    backbone="ViT-B-32-quickgelu:openai",
    head="stan",
    official_compat=True,
    sums=True,
    scale="fixed",
    backbone_learning_rate=2e-6,
    learning_rate=2e-5,
    beta2=0.999,
    epsilon=1e-8,
    weight_decay=0.05,
    max_grad_norm=5.0,
    schedule="rising",
    warmup=0.0,
    epochs=10,
    bf16=True,
)
MUG_STAN = replace(STAN, name="mugstan_msrvtt_b32", output="runs/mugstan_msrvtt_b32", head="mug")

# The proof on the world: heads on one tiny CLIP.
WORLD = RetrievalRecipe(
    name="world",
    output="runs/world",
    head="mean",
    layers=2,
    depth=2,
    positions=1.0,
    visual="freeze",
    fps=0,
    max_frames=8,
    max_words=32,
    epochs=5,
    batch_size=64,
    learning_rate=1e-3,
    backbone_learning_rate=1e-3,
    temperature=0.05,
    weight_decay=0.05,
    bf16=True,
    save_every=25,
)
DEBUG = replace(
    WORLD,
    name="debug",
    output="runs/debug_retrieval",
    visual="train",
    layers=1,
    depth=1,
    epochs=1,
    batch_size=4,
    bf16=False,
)
RETRIEVAL: dict[str, RetrievalRecipe] = {
    r.name: r for r in (CLIP4CLIP, *CLIP4CLIP_HEADS, XCLIP, TEACHCLIP, STAN, MUG_STAN, WORLD, DEBUG)
}
