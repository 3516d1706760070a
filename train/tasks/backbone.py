"""Reading the two towers of a CLIP from an open_clip model, and writing them as one.

Retrieval heads are trained on such a backbone, and pre-training writes one. A directory has `open_clip_config.json` and
`open_clip_model.safetensors`. open_clip, `videollm index` and all presets read it as `local-dir:FOLDER`.
"""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

from videollm.encoders.open_clip import refusing_code
from videollm.errors import CheckpointError, ConfigError
from videollm.models.published.key_mapping import load_official
from videollm.retrieval import model as directory
from videollm.retrieval.clip import TextConfig, TextTransformer, VisionConfig, VisionTransformer
from videollm.retrieval.files import CONFIG_FILE
from videollm.retrieval.heads.videoclip import BertText
from videollm.retrieval.inputs import MEAN, STD
from videollm.retrieval.model import RetrievalModel
from videollm.retrieval.open_clip_towers import (
    OpenClipText,
    OpenClipTextConfig,
    OpenClipVision,
    OpenClipVisionConfig,
)

LOCAL = "local-dir:"
OPEN_CLIP_CONFIG = "open_clip_config.json"
NOISE = 0.02  # of the largest deviation of frame embeddings


VisualTower = VisionTransformer | OpenClipVision
TextTower = TextTransformer | OpenClipText


def load_backbone(name: str) -> tuple[VisualTower, TextTower]:
    """Returns the towers of a dual encoder of open_clip.

    Those of a CLIP that is built as OpenAI's (QuickGELU, a ViT with a class token) are the project's own, and any head
    can be on them. Those of any other, such as a ResNet, ConvNeXt, EVA or SigLIP, are open_clip's.

    Args:
        name: `local-dir:FOLDER` of an open_clip model or of a retrieval model, or open_clip's ARCHITECTURE:WEIGHTS,
            such as `ViT-B-32-quickgelu:openai`.

    Raises:
        CheckpointError: If weights are missing or do not fit.
    """
    folder = Path(name.removeprefix(LOCAL))
    # A folder of a hub has a config.json of transformers beside open_clip's.
    if name.startswith(LOCAL) and (folder / CONFIG_FILE).is_file() and not (folder / OPEN_CLIP_CONFIG).is_file():
        return towers(directory.load(folder))
    architecture, _, weights = (name, "", "") if name.startswith(LOCAL) else name.partition(":")
    try:
        model = open_clip.create_model(architecture, pretrained=weights or None, require_pretrained=True)
    except (RuntimeError, ValueError, OSError) as error:
        raise CheckpointError(
            f"no weights for {name!r} ({str(error).strip().splitlines()[0]}); give {LOCAL}FOLDER with "
            "open_clip_config.json and open_clip_model.safetensors, or ARCHITECTURE:WEIGHTS of open_clip"
        ) from error
    state = dict(model.state_dict())
    if not isinstance(model, open_clip.CLIP) or "visual.class_embedding" not in state or "QuickGELU" not in repr(model):
        return _open_clip_towers(architecture, weights)
    vision, text = VisionTransformer(_vision(model, state)), TextTransformer(_text(model, state))
    for tower, prefix in ((vision, "visual."), (text, "")):
        theirs = "visual." if prefix == "" else "(?!visual)"
        load_official(
            tower, state, {n: prefix + n for n in tower.state_dict()}, (f"{theirs}.*", "logit_.*", "attn_mask")
        )
    return vision, text


def _open_clip_towers(architecture: str, weights: str) -> tuple[OpenClipVision, OpenClipText]:
    with refusing_code():  # a text tower may be one of transformers
        model = open_clip.create_model(architecture, pretrained=weights or None, force_custom_text=True)
    config, seen = open_clip.get_model_config(architecture), open_clip.get_model_preprocess_cfg(model)
    assert config is not None and isinstance(model, open_clip.CustomTextCLIP)
    size = seen["size"]
    shared = {"embed_dim": config["embed_dim"], "quick_gelu": config.get("quick_gelu", False)}
    vision = OpenClipVision(
        OpenClipVisionConfig(
            **shared,
            vision_cfg=config["vision_cfg"] | {"timm_model_pretrained": False},
            image_size=size if isinstance(size, int) else size[0],
            mean=seen["mean"],
            std=seen["std"],
            resize=seen["resize_mode"],
        )
    )
    text_cfg = config["text_cfg"] | ({"hf_model_pretrained": False} if "hf_model_name" in config["text_cfg"] else {})
    text = OpenClipText(OpenClipTextConfig(**shared, text_cfg=text_cfg, tokenizer=architecture))
    vision.model.load_state_dict(model.visual.state_dict())
    text.model.load_state_dict(model.text.state_dict())
    return vision, text


def _layers(state: dict[str, torch.Tensor], prefix: str) -> int:
    return len({n.removeprefix(prefix).split(".")[0] for n in state if n.startswith(prefix)})


def _vision(model: open_clip.CLIP, state: dict[str, torch.Tensor]) -> VisionConfig:
    conv, positions = state["visual.conv1.weight"], state["visual.positional_embedding"]
    visual: Any = model.visual
    return VisionConfig(
        width=len(conv),
        layers=_layers(state, "visual.transformer.resblocks."),
        heads=visual.transformer.resblocks[0].attn.num_heads,
        mlp_width=len(state["visual.transformer.resblocks.0.mlp.c_fc.weight"]),
        patch=conv.shape[-1],
        grid=int((len(positions) - 1) ** 0.5),
        embed_dim=state["visual.proj"].shape[1],
    )


def _text(model: open_clip.CLIP, state: dict[str, torch.Tensor]) -> TextConfig:
    block: Any = model.transformer.resblocks[0]
    return TextConfig(
        width=state["token_embedding.weight"].shape[1],
        layers=_layers(state, "transformer.resblocks."),
        heads=block.attn.num_heads,
        mlp_width=len(state["transformer.resblocks.0.mlp.c_fc.weight"]),
        context=len(state["positional_embedding"]),
        vocab_size=len(state["token_embedding.weight"]),
        embed_dim=state["text_projection"].shape[1],
    )


def towers(model: RetrievalModel) -> tuple[VisualTower, TextTower]:
    """Returns the visual and the text tower of a retrieval model. Raises ConfigError if it does not have both."""
    if model.visual is None or isinstance(model.text, BertText):
        raise ConfigError("this model reads features of another network instead of frames, so it has no CLIP to train")
    return model.visual, model.text


@torch.no_grad()
def whiten(vision: VisionTransformer, embeds: torch.Tensor) -> None:
    """Makes the embeddings of frames uncorrelated and of equal variance, up to what is noise.

    A contrastive loss leaves most of the variance to what tells apart most pairs, such as colours. Places then vary by
    a hundredth of that, and a temporal head does not find how they change. The linear map becomes part of `ln_post` and
    `proj`. Texts no longer match the embeddings, so that the text tower has to be trained again.

    Args:
        vision: The tower, which is changed.
        embeds: Embeddings of many frames (N,E), from `vision`.
    """
    mean = embeds.mean(0)
    deviations, axes = torch.linalg.eigh(torch.cov(embeds.T))
    deviations = deviations.clamp(min=0).sqrt()
    vision.ln_post.bias -= mean @ torch.linalg.pinv(vision.proj)
    vision.proj.copy_(vision.proj @ (axes / (deviations + NOISE * deviations.max()) @ axes.T))


def save_backbone(folder: Path, vision: VisualTower, text: TextTower, logit_scale: torch.Tensor) -> None:
    """Writes the towers, which are built as OpenAI's, as an open_clip model."""
    assert isinstance(vision, VisionTransformer) and isinstance(text, TextTransformer)  # `build_clip` makes no others
    v, t = vision.config, text.config
    model_cfg = {
        "embed_dim": v.embed_dim,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": v.image_size,
            "layers": v.layers,
            "width": v.width,
            "head_width": v.width // v.heads,
            "mlp_ratio": v.mlp_width / v.width,
            "patch_size": v.patch,
        },
        "text_cfg": {
            "context_length": t.context,
            "vocab_size": t.vocab_size,
            "width": t.width,
            "heads": t.heads,
            "layers": t.layers,
            "mlp_ratio": t.mlp_width / t.width,
        },
    }
    preprocess = {"size": v.image_size, "mean": MEAN, "std": STD, "interpolation": "bicubic"}
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
    (folder / OPEN_CLIP_CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    towers: list[tuple[str, nn.Module]] = [("visual.", vision), ("", text)]
    state = {prefix + n: p.detach().contiguous() for prefix, tower in towers for n, p in tower.named_parameters()}
    save_file({**state, "logit_scale": logit_scale.detach().clone()}, folder / "open_clip_model.safetensors")
