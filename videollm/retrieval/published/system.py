"""The parts that adapters of published retrieval systems share: names, inputs, and sizes read from a state dict."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from videollm.encoders.base import TextFeatures
from videollm.models.published.system import State, StateShapes
from videollm.retrieval.clip import TextConfig, VisionConfig
from videollm.retrieval.head import VideoRepr
from videollm.retrieval.model import RetrievalConfig, RetrievalModel

Inputs = Mapping[str, torch.Tensor]


class OfficialModel(nn.Module):
    """A published system that takes the inputs of the official code, by their official names.

    Attributes:
        model: The retrieval model.
        system: The adapter of its family.
    """

    def __init__(self, model: RetrievalModel, system: "RetrievalAdapter"):
        super().__init__()
        self.model = model
        self.system = system

    def similarity(self, inputs: Inputs) -> torch.Tensor:
        """Returns the scores (Nt,Nv) of the official evaluation.

        CLIP4Clip, X-CLIP and TeachCLIP multiply them by exp(logit_scale). The other systems do not scale them.
        """
        text, video = self.text_features(inputs), self.video_repr(inputs)
        if self.system.scaled:
            return self.model.logits(text, video)
        return self.model.head.score(text, video)

    def logits(self, inputs: Inputs) -> torch.Tensor:
        """Returns the logits (Nt,Nv) of the official training loss."""
        return self.model.logits(self.text_features(inputs), self.video_repr(inputs))

    def encode_text(self, inputs: Inputs) -> torch.Tensor:
        """Returns the text embeddings (Nt,E), not normalised."""
        return self.text_features(inputs).embed

    def encode_video(self, inputs: Inputs) -> torch.Tensor:
        """Returns the video embeddings (Nv,E) before the last normalisation, or (Nv,T,E) for heads that compare
        frames."""
        video = self.video_repr(inputs)
        return video.embed if self.model.head.indexable else video.frames

    def text_features(self, inputs: Inputs) -> TextFeatures:
        """Returns the features of the texts in the inputs."""
        return self.system.texts(self.model, inputs)

    def video_repr(self, inputs: Inputs) -> VideoRepr:
        """Returns what the head stores of the videos in the inputs."""
        return self.system.videos(self.model, inputs)

    def official_names(self) -> dict[str, str | tuple[str, ...]]:
        """Returns the official name of each name in `model.state_dict()`, or the names of equal parts of its rows."""
        return {name: self.system.official_name(name) for name in self.model.state_dict()}


@dataclass(frozen=True, kw_only=True)
class RetrievalAdapter:
    """How one family of published code names and arranges weights and inputs.

    Args:
        configure: Returns the configuration for a variant, the shapes of a state dict and the official settings.
        rename: Returns the official name of a name of ours. "{qkv}" in it stands for three names, one for each third of
            the rows.
        texts: Returns the features of the texts in official inputs.
        videos: Returns what the head stores of the videos in official inputs.
        ignored: Patterns of official names that the model does not need.
        scaled: Whether the official evaluation multiplies scores by the scale.
        prefix: A prefix of the names in some official files, which is removed.
        transposed: Official names of matrices that are the transpose of ours.
    """

    configure: Callable[[str, "StateShapes", Mapping[str, Any]], RetrievalConfig]
    rename: Callable[[str], str]
    texts: Callable[[RetrievalModel, Inputs], TextFeatures]
    videos: Callable[[RetrievalModel, Inputs], VideoRepr]
    ignored: tuple[str, ...] = ()
    scaled: bool = False
    prefix: str = "module."
    transposed: tuple[str, ...] = ()

    def official_name(self, name: str) -> str | tuple[str, ...]:
        """Returns the official name of a name of ours, or the three names of its parts."""
        name = self.rename(name)
        return tuple(name.replace("{qkv}", part) for part in "qkv") if "{qkv}" in name else name

    def clean(self, state: State) -> dict[str, torch.Tensor]:
        """Returns a state dict without prefixes, with our orientation of matrices."""
        # Some STAN checkpoints call the branch "timesFPN".
        renamed = {n.removeprefix(self.prefix).replace("timesFPN_", "STAN_"): v for n, v in state.items()}
        return {n: v.mT if n in self.transposed else v for n, v in renamed.items()}


def rename(patterns: tuple[tuple[str, str], ...], name: str) -> str:
    """Applies regular expressions and their replacements to a name, one after the other."""
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name


def attention_heads(config: Mapping[str, Any], tower: str, width: int) -> int:
    """Returns the number of attention heads of a tower: the number in `config`, or else one per 64 of its width, as in
    all towers of CLIP."""
    nested = config.get(tower)
    stated = config.get(f"{tower}_heads") or (
        nested.get("heads") if isinstance(nested, Mapping) else config.get("heads")
    )
    return stated or max(1, width // 64)


def vision_config(shapes: StateShapes, prefix: str, conv: str, config: Mapping[str, Any], **kind: Any) -> VisionConfig:
    """Returns the sizes of a visual tower whose weights have OpenAI's names after `prefix`."""
    kernel, places = shapes[f"{prefix}{conv}.weight"], shapes[f"{prefix}positional_embedding"][0]
    blocks = f"{prefix}transformer.resblocks"
    return VisionConfig(
        width=kernel[0],
        layers=shapes.count(blocks),
        heads=attention_heads(config, "vision", kernel[0]),
        mlp_width=shapes[f"{blocks}.0.mlp.c_fc.weight"][0],
        patch=kernel[-1],
        grid=round((places - 1) ** 0.5),
        embed_dim=shapes[f"{prefix}proj"][1],
        **kind,
    )


def text_config(shapes: StateShapes, prefix: str, config: Mapping[str, Any]) -> TextConfig:
    """Returns the sizes of a text tower whose weights have OpenAI's names after `prefix`."""
    vocab_size, width = shapes[f"{prefix}token_embedding.weight"]
    blocks = f"{prefix}transformer.resblocks"
    return TextConfig(
        width=width,
        layers=shapes.count(blocks),
        heads=attention_heads(config, "text", width),
        mlp_width=shapes[f"{blocks}.0.mlp.c_fc.weight"][0],
        context=shapes[f"{prefix}positional_embedding"][0],
        vocab_size=vocab_size,
        embed_dim=shapes[f"{prefix}text_projection"][1],
    )


def eot_mask(ids: torch.Tensor) -> torch.Tensor:
    """Returns the mask (B,L) of ids (B,L), True up to the end token, which has the highest id."""
    return torch.arange(ids.shape[1], device=ids.device) <= ids.argmax(1, keepdim=True)


def frames_first(video: torch.Tensor) -> torch.Tensor:
    """Returns a video as (B,T,3,H,W) from this or from (B,3,T,H,W)."""
    return video if video.shape[2] == 3 else video.transpose(1, 2)
