"""STAN (Liu et al. 2023) and Mug-STAN (Liu et al. 2023). Official code: https://github.com/farewellthree/STAN.

The names of their towers are those of CLIPModel in the library transformers.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from videollm.encoders.base import TextFeatures
from videollm.models.published.system import StateShapes, official_compat
from videollm.retrieval.clip import TextConfig, VisionConfig
from videollm.retrieval.head import VideoRepr
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel
from videollm.retrieval.published.system import (
    Inputs,
    RetrievalAdapter,
    attention_heads,
    frames_first,
    rename,
)

# Patterns of our names and the official names, applied in this order.
NAMES = (
    (r"^head\.(stan\.)?(class_embedding|ln_post|proj)", r"visual.\2"),
    (r"^head\.(stan\.)?positions$", "visual.positional_embedding"),
    (r"^head\.(stan\.)?time_embedding\.", "backbone.STAN_time_embed."),
    (r"^head\.(stan\.)?across\.", "backbone.STAN_T_layers."),
    (r"^head\.(stan\.)?within\.(\d+)\.block\.", r"backbone.STAN_S_layers.\2."),
    (r"(STAN_T_layers\.\d+)\.norm\.", r"\1.layer_norm1."),
    (r"(STAN_T_layers\.\d+)\.fc\.", r"\1.temporal_fc."),
    (r"(STAN_T_layers\.\d+)\.conv\.", r"\1.layers."),
    (r"^visual\.transformer\.resblocks\.", "backbone.layers."),
    (r"^visual\.class_embedding$", "backbone.class_embedding"),
    (r"^visual\.positional_embedding$", "backbone.position_embedding.weight"),
    (r"^visual\.conv1\.", "backbone.patch_embedding."),
    (r"^visual\.ln_pre\.", "backbone.pre_layrnorm."),
    (r"^visual\.ln_post\.", "backbone.post_layernorm."),
    (r"^visual\.proj$", "backbone.visual_projection.weight"),
    (r"^text\.transformer\.resblocks\.", "text_backbone.text_model.encoder.layers."),
    (r"^text\.token_embedding\.", "text_backbone.text_model.embeddings.token_embedding."),
    (r"^text\.positional_embedding$", "text_backbone.text_model.embeddings.position_embedding.weight"),
    (r"^text\.ln_final\.", "text_backbone.text_model.final_layer_norm."),
    (r"^text\.text_projection$", "text_backbone.text_projection.weight"),
    (r"\.attn\.in_proj_", ".self_attn.{qkv}_proj."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.ln_(1|2)\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
# These are linear layers in the official code, which store the transpose of our matrices.
TRANSPOSED = ("backbone.visual_projection.weight", "text_backbone.text_projection.weight")
TEMPERATURES = {32: 0.01, 16: 0.02, 14: 0.01}  # by patch size; the published runs on DiDeMo used 0.05


def configure(variant: str, shapes: StateShapes, config: Mapping[str, Any]) -> RetrievalConfig:
    """Returns the configuration of a state dict. STAN and Mug-STAN have the same weights, so that `variant` or the
    setting `return_mean` selects the head."""
    kernel, places = shapes["backbone.patch_embedding.weight"], shapes["backbone.position_embedding.weight"][0]
    texts = "text_backbone.text_model."
    vocab_size, text_width = shapes[f"{texts}embeddings.token_embedding.weight"]
    conv = shapes.has("backbone.STAN_T_layers.0.layers.") or config.get("time_module") == "conv"
    mug = config.get("return_mean") is False or "mug" in variant.lower()
    heads = attention_heads(config, "vision", kernel[0])
    return RetrievalConfig(
        vision=VisionConfig(
            width=kernel[0],
            layers=shapes.count("backbone.layers"),
            heads=heads,
            mlp_width=shapes["backbone.layers.0.mlp.fc1.weight"][0],
            patch=kernel[-1],
            grid=round((places - 1) ** 0.5),
            embed_dim=shapes["backbone.visual_projection.weight"][1],
        ),
        text=TextConfig(
            width=text_width,
            layers=shapes.count(f"{texts}encoder.layers"),
            heads=attention_heads(config, "text", text_width),
            mlp_width=shapes[f"{texts}encoder.layers.0.mlp.fc1.weight"][0],
            context=shapes[f"{texts}embeddings.position_embedding.weight"][0],
            vocab_size=vocab_size,
            embed_dim=shapes["text_backbone.text_projection.weight"][1],
        ),
        head=HeadConfig(
            kind="mug" if mug else "stan",
            depth=shapes.count("backbone.STAN_T_layers"),
            across="conv3d" if conv else "attention",
            official_compat=official_compat(config),
        ),
        scale="fixed",
        temperature=config.get("tau") or TEMPERATURES.get(kernel[-1], 0.01),
    )


def encode_texts(model: RetrievalModel, inputs: Inputs) -> TextFeatures:
    """Reads text (...,L)."""
    ids = inputs["text"].flatten(0, -2)
    # This is the official mask. It leaves out the word "!" too, whose id is 0 like that of padding.
    return model.encode_text(ids, ids != 0)


def encode_videos(model: RetrievalModel, inputs: Inputs) -> VideoRepr:
    """Reads imgs (B,T,3,H,W) or (B,3,T,H,W). The official code has no mask of frames."""
    video = frames_first(inputs["imgs"].float())
    return model.encode_video(video, torch.ones(video.shape[:2], dtype=torch.bool, device=video.device))


STAN = RetrievalAdapter(
    configure=configure,
    rename=partial(rename, NAMES),
    texts=encode_texts,
    videos=encode_videos,
    ignored=(r".*\.position_ids", r"data_preprocessor\..*"),
    transposed=TRANSPOSED,
)
