"""What adapters of published retrieval systems share: names, shapes and configurations read from a state dict."""

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
    """A published system under its own names for inputs. `model` is the model itself."""

    def __init__(self, model: RetrievalModel, system: "RetrievalAdapter"):
        super().__init__()
        self.model = model
        self.system = system

    def similarity(self, inputs: Inputs) -> torch.Tensor:
        """(Nt,Nv) as the official evaluation has it: CLIP4Clip, X-CLIP and TeachCLIP multiply by exp(logit_scale), the
        others do not scale."""
        text, video = self.text_features(inputs), self.video_repr(inputs)
        if self.system.scaled:
            return self.model.logits(text, video)
        return self.model.head.score(text, video)

    def logits(self, inputs: Inputs) -> torch.Tensor:
        """(Nt,Nv) as the training loss takes them."""
        return self.model.logits(self.text_features(inputs), self.video_repr(inputs))

    def encode_text(self, inputs: Inputs) -> torch.Tensor:
        """(Nt,E), not normalised."""
        return self.text_features(inputs).embed

    def encode_video(self, inputs: Inputs) -> torch.Tensor:
        """(Nv,E), before the last normalisation; (Nv,T,E) for heads that compare frames."""
        video = self.video_repr(inputs)
        return video.embed if self.model.head.indexable else video.frames

    def text_features(self, inputs: Inputs) -> TextFeatures:
        return self.system.texts(self.model, inputs)

    def video_repr(self, inputs: Inputs) -> VideoRepr:
        return self.system.videos(self.model, inputs)

    def official_names(self) -> dict[str, str | tuple[str, ...]]:
        """Each name in `model.state_dict()` -> its official name, or names of equal parts of its rows."""
        return {name: self.system.official_name(name) for name in self.model.state_dict()}


@dataclass(frozen=True, kw_only=True)
class RetrievalAdapter:
    """How one family of published code names and arranges what a RetrievalModel holds.

    rename: our name -> official name, in which "{qkv}" stands for three names, one a third of the rows. ignored:
    patterns of official names that we have no use for. scaled: whether the evaluation scales. prefix: of some official
    files, not part of a name. transposed: official names of matrices that we hold the other way round.
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
        name = self.rename(name)
        return tuple(name.replace("{qkv}", part) for part in "qkv") if "{qkv}" in name else name

    def clean(self, state: State) -> dict[str, torch.Tensor]:
        renamed = {n.removeprefix(self.prefix).replace("timesFPN_", "STAN_"): v for n, v in state.items()}
        return {n: v.mT if n in self.transposed else v for n, v in renamed.items()}


def rename(patterns: tuple[tuple[str, str], ...], name: str) -> str:
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name


def attention_heads(config: Mapping[str, Any], tower: str, width: int) -> int:
    """Attention heads of a tower: what `config` says, else one for each 64 of its width, as all of CLIP's have."""
    nested = config.get(tower)
    stated = config.get(f"{tower}_heads") or (
        nested.get("heads") if isinstance(nested, Mapping) else config.get("heads")
    )
    return stated or max(1, width // 64)


def vision_config(shapes: StateShapes, prefix: str, conv: str, config: Mapping[str, Any], **kind: Any) -> VisionConfig:
    """Sizes of a tower with OpenAI's names under `prefix`."""
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
    """True up to the last token, the one with the highest id."""
    return torch.arange(ids.shape[1], device=ids.device) <= ids.argmax(1, keepdim=True)


def frames_first(video: torch.Tensor) -> torch.Tensor:
    """(B,T,3,H,W) from that or from (B,3,T,H,W)."""
    return video if video.shape[2] == 3 else video.transpose(1, 2)
