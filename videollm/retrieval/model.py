"""A retrieval model, which consists of a text tower, a visual tower, a head and a temperature, and its directory."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from videollm.device import resolve_device
from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.errors import CheckpointError, ConfigError
from videollm.models.published.key_mapping import load_official
from videollm.retrieval.clip import (
    JointVisionTransformer,
    TextConfig,
    TextTransformer,
    VisionConfig,
    VisionTransformer,
)
from videollm.retrieval.files import (
    CARD_FILE,
    CLASSES_FILE,
    CLASSIFIER_FILE,
    CONFIG_FILE,
    FORMAT,
    WEIGHTS_FILE,
)
from videollm.retrieval.head import RetrievalHead, VideoRepr
from videollm.retrieval.heads.lstm import LSTM
from videollm.retrieval.heads.mug import MugSTAN
from videollm.retrieval.heads.pooling import MaxPooling, MeanPooling, PlainMean
from videollm.retrieval.heads.stan import STAN
from videollm.retrieval.heads.tcn import TCN
from videollm.retrieval.heads.teachclip import AttentiveAggregation
from videollm.retrieval.heads.tight import TightTransformer
from videollm.retrieval.heads.transformer import TemporalTransformer
from videollm.retrieval.heads.videoclip import BertConfig, BertText, VideoCLIP
from videollm.retrieval.heads.xclip import XCLIP
from videollm.retrieval.open_clip_towers import (
    OpenClipText,
    OpenClipTextConfig,
    OpenClipVision,
    OpenClipVisionConfig,
)
from videollm.retrieval.world_clip import WorldVisionTransformer

TOKENIZER = "tokenizer"  # the folder of the tokenizer, and what config.json has in its place
MAX_LOGIT_SCALE, MIN_TEMPERATURE = 100.0, 0.01


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The kind of a head and its sizes. Sizes that a kind does not have are ignored.

    Args:
        kind: A name in `HEADS`.
        temporal: The module that mixes the frames in "xclip" and "attentive", a name in `TEMPORAL`.
        layers: Number of layers of "transformer", "tight" and "tcn".
        heads, mlp_width, context: Attention heads, MLP width (None: 4 times the embedding width) and number of
            positions of "transformer" and "tight".
        depth: Number of the tower's last layers that "stan" and "mug" read.
        across: How "stan" and "mug" mix frames.
        max_words: Number of words of "xclip". Re-ranking splits longer texts for every head.
        max_frames: Number of frames of "xclip". Re-ranking samples so many frames for every head.
        bert: Sizes of the BERT of "videoclip".
        feature_dim: Width of the features that "videoclip" reads.
        official_compat: Whether padding is treated as in the published code; see each head.

    Raises:
        ConfigError: If `kind` or `temporal` is not a known name.
    """

    kind: str = "mean"
    temporal: str = "transformer"
    layers: int = 4
    heads: int = 8
    mlp_width: int | None = None
    context: int = 77
    depth: int = 4
    across: Literal["attention", "conv3d"] = "attention"
    max_words: int = 32
    max_frames: int = 12
    bert: BertConfig | None = None
    feature_dim: int = 512
    official_compat: bool = False

    def __post_init__(self) -> None:
        if self.kind not in HEADS:
            raise ConfigError(f"there is no head {self.kind!r}: choose from {', '.join(HEADS)}")
        if self.temporal not in TEMPORAL:
            raise ConfigError(f"no head mixes frames by {self.temporal!r}: choose from {', '.join(TEMPORAL)}")


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """The configuration of a retrieval model.

    Args:
        vision: The visual tower, or None if videos are given as features (VideoCLIP).
        text: The text tower.
        head: The head.
        bias: What a learned number that is added to the logits starts at (SigLIP), or None for none. It changes no
            ranking.
        scale: How scores become logits. "learned": multiplied by exp(s) with a learned s. "divisor": divided by a
            learned number, at least 0.01. "fixed": divided by `temperature`. "none": unchanged.
        temperature: The fixed divisor, or the initial value of the learned one; for "learned", s starts at
            -log(temperature).
    """

    vision: VisionConfig | OpenClipVisionConfig | None
    text: TextConfig | OpenClipTextConfig | BertConfig
    head: HeadConfig
    scale: Literal["learned", "divisor", "fixed", "none"] = "learned"
    temperature: float = 0.01
    bias: float | None = None

    @property
    def frames(self) -> int:
        """The number of frames of a video that the model is made for."""
        vision = self.vision
        if isinstance(vision, VisionConfig) and vision.patches == "joint":
            return vision.frames * vision.tubelet
        return self.head.max_frames


class RetrievalModel(nn.Module):
    """Scores texts against videos."""

    def __init__(self, config: RetrievalConfig):
        super().__init__()
        self.config = config
        self.text = _text_tower(config.text)
        self.visual = None if config.vision is None else _visual_tower(config.vision)
        self.head = build_head(
            config.head,
            config.text.width if isinstance(config.text, BertConfig) else config.text.embed_dim,
            self.visual,
        )
        start = torch.tensor(config.temperature)
        if config.scale == "learned":
            self.logit_scale = nn.Parameter(-start.log())
        elif config.scale == "divisor":
            self.temperature = nn.Parameter(start)
        self.logit_bias = None if config.bias is None else nn.Parameter(torch.tensor(config.bias))

    def encode_text(self, ids: torch.Tensor, mask: torch.Tensor) -> TextFeatures:
        """Returns the features of texts, for ids (Nt,L), int64, and a mask (Nt,L), bool."""
        return self.text(ids, mask)

    def encode_frames(self, video: torch.Tensor, mask: torch.Tensor) -> FrameFeatures:
        """Returns the features of frames.

        video: Normalised pixels (Nv,T,3,H,W), or features (Nv,T,F) if there is no visual tower. mask: bool (Nv,T).
        """
        if self.visual is None:
            return FrameFeatures(video.new_zeros(*mask.shape, 0, 0), video, video.new_zeros(*mask.shape, 0))
        return self.visual(video, mask, self.head.hidden_layers)

    def encode_video(self, video: torch.Tensor, mask: torch.Tensor) -> VideoRepr:
        """Returns what the head stores of videos. The arguments are those of `encode_frames`."""
        frames = self.encode_frames(video, mask)
        # A joint tower gives one embedding per video, for which the mask of the first frame is enough.
        return self.head.encode_video(frames, mask[:, : frames.embed.shape[1]])

    def scale(self) -> torch.Tensor | float:
        """Returns the factor by which scores are multiplied to become logits."""
        if self.config.scale == "learned":
            return self.logit_scale.exp()
        if self.config.scale == "divisor":
            return 1 / self.temperature.clamp(min=MIN_TEMPERATURE)
        return 1.0 if self.config.scale == "none" else 1 / self.config.temperature

    def logits(self, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
        """Returns the scaled scores (Nt,Nv) with the bias if there is one, which the loss reads."""
        logits = self.scale() * self.head.score(text, video)
        return logits if self.logit_bias is None else logits + self.logit_bias

    def forward(
        self, ids: torch.Tensor, text_mask: torch.Tensor, video: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Returns the logits (Nt,Nv) of ids, text_mask (Nt,L) and video, mask (Nv,T,...)."""
        return self.logits(self.encode_text(ids, text_mask), self.encode_video(video, mask))


def _text_tower(config: TextConfig | OpenClipTextConfig | BertConfig) -> TextTransformer | OpenClipText | BertText:
    if isinstance(config, BertConfig):
        return BertText(config)
    return OpenClipText(config) if isinstance(config, OpenClipTextConfig) else TextTransformer(config)


def _visual_tower(config: VisionConfig | OpenClipVisionConfig) -> VisionTransformer | OpenClipVision:
    if isinstance(config, OpenClipVisionConfig):
        return OpenClipVision(config)
    kinds = {"joint": JointVisionTransformer, "world": WorldVisionTransformer}
    return kinds.get(config.patches, VisionTransformer)(config)


def _transformer(config: HeadConfig, embed_dim: int) -> TemporalTransformer:
    return TemporalTransformer(embed_dim, config.layers, config.heads, config.mlp_width, config.context)


# The modules that mix frames, by name. Each is also a head of its own.
TEMPORAL: dict[str, Callable[[HeadConfig, int], MeanPooling]] = {
    "mean": lambda _, embed_dim: MeanPooling(embed_dim),
    "lstm": lambda _, embed_dim: LSTM(embed_dim),
    "transformer": _transformer,
    "tcn": lambda config, embed_dim: TCN(embed_dim, config.layers),
}


def _stan(config: HeadConfig, embed_dim: int, tower: VisionTransformer | OpenClipVision | None) -> STAN:
    if not isinstance(tower, VisionTransformer) or tower.config.patches == "joint":
        raise ConfigError(
            f"head {config.kind!r} reads the hidden layers of a frame-wise visual tower as OpenAI's, which this model "
            "lacks; choose another head, or give patches '2d' or '3d'"
        )
    return STAN(
        embed_dim, tower=tower, depth=config.depth, across=config.across, official_compat=config.official_compat
    )


def _videoclip(config: HeadConfig) -> VideoCLIP:
    return VideoCLIP(config.bert or BertConfig(layers=6), config.feature_dim, config.official_compat)


HEADS: dict[str, Callable[[HeadConfig, int, VisionTransformer | OpenClipVision | None], RetrievalHead]] = {
    "mean": lambda c, e, _: TEMPORAL["mean"](c, e),
    "plain_mean": lambda _, e, __: PlainMean(e),
    "max": lambda _, e, __: MaxPooling(e),
    "lstm": lambda c, e, _: TEMPORAL["lstm"](c, e),
    "transformer": lambda c, e, _: TEMPORAL["transformer"](c, e),
    "tcn": lambda c, e, _: TEMPORAL["tcn"](c, e),
    "tight": lambda c, e, _: TightTransformer(e, c.layers, c.heads, c.mlp_width, c.context),
    "xclip": lambda c, e, _: XCLIP(TEMPORAL[c.temporal](c, e), c.max_words, c.max_frames, c.official_compat),
    "attentive": lambda c, e, _: AttentiveAggregation(TEMPORAL[c.temporal](c, e), official_compat=c.official_compat),
    "stan": _stan,
    "mug": lambda c, e, tower: MugSTAN(_stan(c, e, tower)),
    "videoclip": lambda c, _, __: _videoclip(c),
}


def build_head(
    config: HeadConfig, embed_dim: int, tower: VisionTransformer | OpenClipVision | None = None
) -> RetrievalHead:
    """Builds a head.

    Args:
        config: The kind and the sizes.
        embed_dim: The width of the shared embedding.
        tower: The visual tower. "stan" and "mug" read its hidden layers and share its output layers; the other heads do
            not use it.

    Raises:
        ConfigError: If the head needs a frame-wise tower and there is none, or sizes do not fit the tower.
    """
    return HEADS[config.kind](config, embed_dim, tower)


def save(model: RetrievalModel, folder: Path, card: str) -> None:
    """Writes a model to a folder: config.json, model.safetensors and card.md, and the tokenizer of a text tower of
    open_clip.

    Parameters that the head shares with the tower are written once. What a recogniser wrote there before is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CLASSES_FILE, CLASSIFIER_FILE):
        (folder / name).unlink(missing_ok=True)
    config = asdict(model.config)
    if isinstance(model.text, OpenClipText):
        model.text.save_tokenizer(folder / TOKENIZER)
        config["text"]["tokenizer"] = TOKENIZER
    (folder / CONFIG_FILE).write_text(json.dumps({"format": FORMAT, **config}, indent=2) + "\n")
    tensors = dict(model.named_parameters()) | _buffers(model)
    save_file({n: x.detach().contiguous() for n, x in tensors.items()}, folder / WEIGHTS_FILE)
    (folder / CARD_FILE).write_text(card)


def _buffers(model: RetrievalModel) -> dict[str, torch.Tensor]:
    """Returns what a state dict has besides parameters, such as the statistics of batch normalisation."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {name: x for name, x in model.state_dict().items() if name not in parameters}


def load(folder: Path, device: str | torch.device | None = "cpu") -> RetrievalModel:
    """Loads a model that `save` wrote, in evaluation mode.

    Args:
        folder: The folder of the model.
        device: The device of the model, see `resolve_device`.

    Raises:
        CheckpointError: If a file is missing, or the weights do not fit the configuration.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has no {name}: give a directory that `videollm import-official` wrote")
    model = RetrievalModel(read_config(folder))
    # Shared parameters were saved under their first name. Every further name is mapped to it.
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    names = {name: first[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    names |= {name: name for name in _buffers(model)}
    load_official(model, load_file(folder / WEIGHTS_FILE), names, ())
    return model.to(resolve_device(device)).eval()


def read_config(folder: Path) -> RetrievalConfig:
    """Returns the configuration of a model that `save` wrote. Raises CheckpointError if the file is of another kind."""
    fields: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text())
    if fields.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} does not describe a retrieval model: its format is {fields.get('format')!r}, "
            f"not {FORMAT!r}"
        )
    head, vision, text = dict(fields["head"]), fields["vision"], fields["text"]
    bert = head.pop("bert")
    if "text_cfg" in text:
        text = OpenClipTextConfig(**text | {"tokenizer": f"local-dir:{folder / TOKENIZER}"})
    else:
        text = BertConfig(**text) if "max_positions" in text else TextConfig(**text)
    if vision is not None:
        vision = OpenClipVisionConfig(**vision) if "vision_cfg" in vision else VisionConfig(**vision)
    return RetrievalConfig(
        vision=vision,
        text=text,
        head=HeadConfig(**head, bert=None if bert is None else BertConfig(**bert)),
        scale=fields["scale"],
        temperature=fields["temperature"],
        bias=fields.get("bias"),
    )
