"""Training recipes: one frozen dataclass, complete instances by name. Variants are made with `dataclasses.replace`."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from videollm.config import Dtype, EncoderConfig, LoraConfig, ModelConfig, TemporalKind
from videollm.errors import ConfigError
from videollm.presets import preset

Tune = Literal["adapter", "projector", "full"]
Batches = Literal["shuffled", "length", "alike"]
Report = Literal["none", "tensorboard", "wandb"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a run depends on; each line below is also the help of its option.

    model: preset that is trained
    encoder: weights of its frame encoder instead of the preset's, such as local-dir:FOLDER
    llm: its language model instead of the preset's, a folder or a hub id
    temporal: kind of its temporal module instead of the preset's, at the same number of tokens
    output: directory to write
    init: stage 2: the checkpoint directory to start from, of stage 1 or of a stage 2 before
    resume: a checkpoint-N directory of this output to go on from, or "last": the newest whole one, if there is any
    data: instruction data to train on, FILE or FILE=WEIGHT, with commas between; empty: simulated videos
    evaluation: rows held out, in the same way; empty: no evaluation
    features: directory that keeps features of the frozen encoder; empty: OUTPUT/features
    skip_bad: how many rows may have no usable video; they are left out and counted
    videos: how many simulated videos a run sees
    held_out: classes kept out of simulated training, to test unseen names
    overlapped: stage 1: draw overlapping pairs from timed captions, as VideoCLIP does
    batches: how rows come together: shuffled, of like length, or alike (hard negatives, as VideoCLIP's)
    epochs: times that every row is seen
    batch_size: rows of one step; ranks and accumulation divide it
    accumulate: forward passes a step
    learning_rate: its peak; it rises, then falls to 0 along a cosine
    warmup: share of the steps in which it rises
    weight_decay: AdamW's
    max_grad_norm: longer gradients are scaled to this
    contrastive: stage 1: weight of visual tokens against word embeddings
    caption: stage 1: weight of captioning through the frozen language model
    itc: stage 1: weight of video-text contrast
    itm: stage 1: weight of video-text matching with hard negatives
    itg: stage 1: weight of captioning by the Q-Former's text path
    mlm: stage 1: weight of masked words
    mfm: stage 1: weight of masked frames
    order: stage 1: weight of telling shuffled frames
    verbs: stage 1: weight of telling the text from itself with another verb
    tune: stage 2: what is trained of the language model beside the projector: its adapter, nothing, or all of it
    lora_r: stage 2: rank of the adapter, whose alpha is twice that; 0: as the preset says
    load_in_4bit: stage 2: QLoRA, the frozen language model in 4 bits
    conversation_tokens: stage 2: the longest prompt, answers included; 0: the preset's context
    neftune: stage 2: alpha of the noise on word embeddings (NEFTune); 0: none
    gradient_checkpointing: compute activations again in the backward pass: less memory, a third more time
    frozen_dtype: of the frozen language model; what is trained stays in float32
    bf16: mixed precision in bfloat16
    compile: torch.compile the model
    zero: DeepSpeed's ZeRO stage: 1 shards the optimizer, 2 gradients too, 3 weights too; 0: no DeepSpeed
    offload: keep in host memory what ZeRO shards
    evaluate_rows: how many held-out questions are answered by generation; 0: only the loss is computed
    save_every: steps between checkpoints, and between evaluations
    log_every: steps between lines of the log
    report_to: also log to tensorboard or wandb
    workers: processes that read data
    seed: of everything random
    """

    name: str
    stage: int
    model: str
    output: str
    encoder: str = ""
    llm: str = ""
    temporal: Literal[TemporalKind, ""] = ""
    init: str = ""
    resume: str = ""
    data: str = ""
    evaluation: str = ""
    features: str = ""
    skip_bad: int = 0
    videos: int = 16
    held_out: int = 100
    overlapped: bool = False
    batches: Batches = "shuffled"
    epochs: float = 1.0
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    contrastive: float = 0.0
    caption: float = 0.0
    itc: float = 0.0
    itm: float = 0.0
    itg: float = 0.0
    mlm: float = 0.0
    mfm: float = 0.0
    order: float = 0.0
    verbs: float = 0.0
    tune: Tune = "adapter"
    lora_r: int = 0
    load_in_4bit: bool = False
    conversation_tokens: int = 400
    neftune: float = 0.0
    gradient_checkpointing: bool = False
    frozen_dtype: Dtype = "auto"
    bf16: bool = False
    compile: bool = False
    zero: int = 0
    offload: bool = False
    evaluate_rows: int = 0
    save_every: int = 100
    log_every: int = 5
    report_to: Report = "none"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for wrong, message in self._contradictions():
            if wrong:
                raise ConfigError(message)

    def _contradictions(self) -> list[tuple[bool, str]]:
        one, two = self.stage == 1, self.stage == 2
        batch = self.batch_size
        return [
            (self.stage not in (1, 2), f"stage is {self.stage}; it must be 1 or 2"),
            (self.zero not in (0, 1, 2, 3), f"zero is {self.zero}; DeepSpeed's stages are 0 (off), 1, 2, 3"),
            (batch < 1 or self.accumulate < 1, f"batch_size {batch} and accumulate {self.accumulate} must be above 0"),
            (batch % self.accumulate > 0, f"batch_size {batch} must be a multiple of accumulate {self.accumulate}"),
            (not self.data and self.videos < batch, f"videos {self.videos} is less than batch_size {batch}"),
            (one and not any(self.losses.values()), f"no loss has a weight; give one of {', '.join(self.losses)}"),
            (self.offload and self.zero < 2, f"offload needs ZeRO stage 2 or 3, zero is {self.zero}: below that "
             "every rank holds all of what would be offloaded"),
            (self.load_in_4bit and self.zero == 3, "load_in_4bit with zero 3: ZeRO-3 cannot shard 4-bit weights; "
             "use zero 2, which shards the optimizer and gradients of the adapter"),
            (self.lora_r < 0, f"lora_r is {self.lora_r}; it must be 0 or above"),
            (self.load_in_4bit and self.tune == "full", "load_in_4bit with tune full: 4-bit weights cannot be "
             "trained; use tune adapter"),
            (self.load_in_4bit and one, "load_in_4bit is for stage 2; frozen_dtype says how stage 1 holds the "
             "language model"),
            (self.tune == "adapter" and two and self.config.llm.lora is None,
             f"tune adapter, but preset {self.model} has no LoRA; give lora_r, or tune projector or full"),
            (bool(self.init) and one, "init is for stage 2; stage 1 starts from nothing, or goes on with resume"),
            (self.neftune > 0 and one, "neftune is for stage 2"),
            (self.neftune < 0, f"neftune is {self.neftune}; it must be 0 or above"),
            (self.overlapped and (two or not self.data), "overlapped is for stage 1 with data"),
            (self.batches == "alike" and (two or not self.data or self.overlapped),
             "batches alike is for stage 1 with data, and not with overlapped"),
            (self.batches == "length" and (one or not self.data), "batches length is for stage 2 with data"),
            (self.batches != "shuffled" and "=" in self.data and self.batches == "alike",
             "batches alike mixes files as it finds them; leave out their weights"),
            (bool(self.evaluation) and not self.data, "evaluation needs data; simulated runs are measured by "
             "train/experiments/lite_accuracy.py"),
            (self.evaluate_rows > 0 and (one or not self.evaluation), "evaluate_rows is for stage 2 with evaluation"),
            (one and not self.data and any(w for n, w in self.losses.items() if n not in ("contrastive", "caption")),
             "simulated videos bear only the losses contrastive and caption; give data for the others"),
        ]  # fmt: skip

    @property
    def losses(self) -> dict[str, float]:
        """Weights of the stage-1 losses."""
        names = ("contrastive", "caption", "itc", "itm", "itg", "mlm", "mfm", "order", "verbs")
        return {name: getattr(self, name) for name in names}

    @property
    def config(self) -> ModelConfig:
        """The preset with this recipe's choices."""
        config = preset(self.model)
        llm = config.llm
        if self.llm:
            llm = replace(llm, source=self.llm)
        if self.lora_r:
            llm = replace(llm, lora=LoraConfig(r=self.lora_r, alpha=2 * self.lora_r))
        if self.stage == 1 or self.tune != "adapter":
            llm = replace(llm, lora=None)
        encoder: EncoderConfig = config.encoder
        if self.encoder:
            encoder = replace(encoder, pretrained=self.encoder)
        temporal = replace(config.temporal, kind=self.temporal or config.temporal.kind)
        llm = replace(llm, load_in_4bit=self.load_in_4bit)
        return replace(config, encoder=encoder, temporal=temporal, llm=llm)

    @classmethod
    def help(cls) -> dict[str, str]:
        """What each field means, by name."""
        lines = (line.strip().partition(": ") for line in (cls.__doc__ or "").splitlines())
        return {name: meaning for name, _, meaning in lines if meaning}


DEBUG_STAGE1 = Recipe(
    name="debug_stage1",
    stage=1,
    model="debug",
    output="runs/debug_stage1",
    contrastive=1.0,
    caption=1.0,
    held_out=1,
)
DEBUG_STAGE2 = Recipe(
    name="debug_stage2",
    stage=2,
    model="debug",
    output="runs/debug_stage2",
    init="runs/debug_stage1",
    tune="projector",
    conversation_tokens=600,
    held_out=1,
)
LITE_STAGE1 = Recipe(
    name="lite_stage1",
    stage=1,
    model="lite",
    output="runs/lite_stage1",
    videos=1920,
    batch_size=32,
    learning_rate=2e-3,
    contrastive=1.0,
    save_every=20,
)
LITE_STAGE2 = Recipe(
    name="lite_stage2",
    stage=2,
    model="lite",
    output="runs/lite_stage2",
    init="runs/lite_stage1",
    videos=4800,
    batch_size=8,
    accumulate=2,
    learning_rate=1.5e-3,
    save_every=100,
)
# Most questions of a long conversation can be answered from earlier answers; these few are read from the video.
LITE_STAGE2_SHORT = replace(
    LITE_STAGE2,
    name="lite_stage2_short",
    output="runs/lite_stage2_short",
    init="runs/lite_stage2",
    videos=1280,
    batch_size=16,
    accumulate=4,
    learning_rate=5e-4,
    conversation_tokens=200,
    seed=1,
)
# More of them, as answers were still getting better.
LITE_STAGE2_LAST = replace(
    LITE_STAGE2_SHORT,
    name="lite_stage2_last",
    output="runs/lite_stage2_last",
    init="runs/lite_stage2_short",
    videos=3840,
    seed=2,
)

# The world: a small language model and any encoder; data as the README makes it.
WORLD_STAGE1 = Recipe(
    name="world_stage1",
    stage=1,
    model="world",
    output="runs/world_stage1",
    data="runs/world.jsonl",
    features="runs/features",
    epochs=4,
    batch_size=32,
    learning_rate=5e-4,
    weight_decay=0.05,
    caption=1.0,
    itc=1.0,
    itm=1.0,
    itg=1.0,
)
WORLD_STAGE2 = Recipe(
    name="world_stage2",
    stage=2,
    model="world",
    output="runs/world_stage2",
    init="runs/world_stage1",
    data="runs/world.jsonl",
    features="runs/features",
    batches="length",
    epochs=2,
    batch_size=16,
    learning_rate=5e-4,
    conversation_tokens=0,
)

# BLIP-2's stage 1 (rate 1e-4, decay 0.05) and LLaVA's stage 2 for LoRA (rate 2e-4, batch 128), for GPUs.
CLIP_B32_STAGE1 = replace(
    WORLD_STAGE1,
    name="clip_b32_smollm2_stage1",
    model="clip_b32-smollm2_1.7b",
    output="runs/clip_b32_smollm2_stage1",
    data="data/captions.jsonl",
    epochs=1,
    batch_size=256,
    learning_rate=1e-4,
    bf16=True,
    save_every=500,
    workers=4,
)
CLIP_B32_STAGE2 = replace(
    WORLD_STAGE2,
    name="clip_b32_smollm2_stage2",
    model="clip_b32-smollm2_1.7b",
    output="runs/clip_b32_smollm2_stage2",
    init="runs/clip_b32_smollm2_stage1",
    data="data/instructions.jsonl",
    epochs=1,
    batch_size=128,
    learning_rate=2e-4,
    warmup=0.03,
    bf16=True,
    gradient_checkpointing=True,
    save_every=500,
    workers=4,
)
CLIP_L14_STAGE1 = replace(
    CLIP_B32_STAGE1,
    name="clip_l14_qwen7b_stage1",
    model="clip_l14_336-qwen2.5_7b",
    output="runs/clip_l14_qwen7b_stage1",
    accumulate=2,
)
CLIP_L14_STAGE2 = replace(
    CLIP_B32_STAGE2,
    name="clip_l14_qwen7b_stage2",
    model="clip_l14_336-qwen2.5_7b",
    output="runs/clip_l14_qwen7b_stage2",
    init="runs/clip_l14_qwen7b_stage1",
    accumulate=4,
)


def qlora(recipe: Recipe) -> Recipe:
    name = f"{recipe.name}_qlora"
    return replace(recipe, name=name, output=f"runs/{name}", load_in_4bit=True)


def zero(recipe: Recipe, stage: int, offload: bool = False) -> Recipe:
    name = f"{recipe.name}_zero{stage}{'_offload' if offload else ''}"
    return replace(recipe, name=name, output=f"runs/{name}", zero=stage, offload=offload)


_LITE = (LITE_STAGE1, LITE_STAGE2, LITE_STAGE2_SHORT, LITE_STAGE2_LAST)
_SMALL = (DEBUG_STAGE1, DEBUG_STAGE2, *_LITE, WORLD_STAGE1, WORLD_STAGE2)
_LARGE = (CLIP_B32_STAGE1, CLIP_B32_STAGE2, CLIP_L14_STAGE1, CLIP_L14_STAGE2)
_QLORA = (qlora(CLIP_B32_STAGE2), qlora(CLIP_L14_STAGE2))
_ZERO = ((1, False), (2, False), (3, False), (2, True), (3, True))

RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        *_SMALL,
        *_LARGE,
        *_QLORA,
        *(zero(r, stage, offload) for r in _LARGE for stage, offload in _ZERO),
        *(zero(r, stage, offload) for r in _QLORA for stage, offload in _ZERO if stage < 3),
    )
}


def recipe(name: str, changes: dict[str, Any]) -> Recipe:
    """The named recipe with fields replaced. Raises ConfigError listing what there is."""
    if name not in RECIPES:
        raise ConfigError(f"no recipe is named {name!r}; there are {', '.join(RECIPES)}")
    known = {f.name for f in fields(Recipe)}
    if unknown := sorted(set(changes) - known):
        raise ConfigError(f"recipes have no field {', '.join(unknown)}; they have {', '.join(sorted(known))}")
    return replace(RECIPES[name], **changes)
