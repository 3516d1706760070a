"""CLIP4Clip (Luo et al. 2021) and its forks X-CLIP (Ma et al. 2022) and TeachCLIP (Tian et al. 2024).

Official code: https://github.com/ArrowLuo/CLIP4Clip, https://github.com/xuguohai/X-CLIP and
https://github.com/ruc-aimc-lab/TeachCLIP. The three have the same code base, so that one adapter serves all.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from videollm.encoders.base import TextFeatures
from videollm.errors import ConfigError
from videollm.models.published.system import StateShapes, official_compat
from videollm.retrieval.head import VideoRepr
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel
from videollm.retrieval.published.system import (
    Inputs,
    RetrievalAdapter,
    eot_mask,
    rename,
    text_config,
    vision_config,
)

# Patterns of our names and the official names, applied in this order.
NAMES = (
    (r"^logit_scale$", "clip.logit_scale"),
    (r"^visual\.", "clip.visual."),
    (r"^text\.", "clip."),
    (r"^head\.(temporal\.)?positions$", "frame_position_embeddings.weight"),
    (r"^head\.(temporal\.)?transformer\.", "transformerClip."),
    (r"^head\.(temporal\.)?lstm\.", "lstm_visual."),
    (r"^head\.pair_positions$", "cross.embeddings.position_embeddings.weight"),
    (r"^head\.pair_transformer\.", "cross.transformer."),
    (r"^head\.(ln_pool|dense)\.", r"cross.pooler.\1."),
    (r"^head\.output\.", "similarity_dense."),
    (r"^head\.hidden\.", "frameLinear."),
    (r"^head\.weight\.", "frameLinear2."),
    (r"^head\.video_sentence$", "global_mat_weight"),
    (r"^head\.video_word$", "word_logit_weight"),
    (r"^head\.sentence_frame$", "frame_logit_weight"),
    (r"^head\.frame_word$", "local_mat_weight"),
    (r"^head\.words_first$", "word_mat_weight"),
    (r"^head\.then_frames$", "frame_mat_weight2"),
    (r"^head\.frames_first$", "frame_mat_weight"),
    (r"^head\.then_words$", "word_mat_weight2"),
)
# Official weights that the official code does not use in these variants either.
UNUSED = (
    r"clip\.(input_resolution|context_length|vocab_size)",
    r"clip\.logit_scale",  # tightTransf has no temperature
    r"clip\.visual\.conv1\.weight",  # 3D patches use conv2
    r"frame_position_embeddings\.weight",  # seqLSTM has no positions
)
TEMPORAL = {"meanP": "mean", "seqLSTM": "lstm", "seqTransf": "transformer"}


def configure(_: str, shapes: StateShapes, config: Mapping[str, Any]) -> RetrievalConfig:
    """Returns the configuration of a state dict. Raises ConfigError if `config` has an unknown sim_header."""
    compat = official_compat(config)
    patches = ("3d", "conv2") if shapes.has("clip.visual.conv2.") else ("2d", "conv1")
    vision = vision_config(shapes, "clip.visual.", patches[1], config, patches=patches[0], official_compat=compat)
    text = text_config(shapes, "clip.", config)
    header = config.get("sim_header") or _sim_header(shapes)
    if header not in (*TEMPORAL, "tightTransf"):
        raise ConfigError(f"there is no sim_header {header!r}: choose from {', '.join(TEMPORAL)}, tightTransf")
    sizes: dict[str, Any] = {"official_compat": compat}
    prefix = {"seqTransf": "transformerClip.resblocks", "tightTransf": "cross.transformer.resblocks"}.get(header)
    if prefix:
        positions = "cross.embeddings.position_embeddings" if header == "tightTransf" else "frame_position_embeddings"
        sizes |= {
            "layers": shapes.count(prefix),
            # Head counts are not in the weights: the official cross-encoder has one per 64 of its width, the sequence
            # transformer as many as the text tower.
            "heads": vision.embed_dim // 64 if header == "tightTransf" else text.heads,
            "mlp_width": shapes[f"{prefix}.0.mlp.c_fc.weight"][0],
            "context": shapes[f"{positions}.weight"][0],
        }
    temporal = TEMPORAL.get(header, "mean")
    if shapes.has("global_mat_weight", "local_mat_weight", "word_", "frame_logit", "frame_mat"):
        sizes |= {"max_words": shapes["word_logit_weight"][0], "max_frames": shapes["frame_logit_weight"][0]}
        head = HeadConfig(kind="xclip", temporal=temporal, **sizes)
    elif shapes.has("frameLinear"):
        head = HeadConfig(kind="attentive", temporal=temporal, **sizes)
    else:
        head = HeadConfig(kind="tight" if header == "tightTransf" else temporal, **sizes)
    return RetrievalConfig(vision=vision, text=text, head=head, scale="none" if head.kind == "tight" else "learned")


def _sim_header(shapes: StateShapes) -> str:
    """Returns the similarity header of CLIP4Clip that the weights belong to."""
    if shapes.has("cross.", "similarity_dense."):
        return "tightTransf"
    if shapes.has("lstm_visual."):
        return "seqLSTM"
    return "seqTransf" if shapes.has("transformerClip.", "frame_position_embeddings.") else "meanP"


def encode_texts(model: RetrievalModel, inputs: Inputs) -> TextFeatures:
    """Reads input_ids (b,pair,L) and attention_mask, which may be missing."""
    ids = inputs["input_ids"].flatten(0, -2)
    mask = inputs["attention_mask"].flatten(0, -2).bool() if "attention_mask" in inputs else eot_mask(ids)
    return model.encode_text(ids, mask)


def encode_videos(model: RetrievalModel, inputs: Inputs) -> VideoRepr:
    """Reads video (b,pair,frames,ts,3,H,W) and video_mask (b,pair,frames)."""
    video = inputs["video"].flatten(0, 1).flatten(1, 2)
    return model.encode_video(video.float(), inputs["video_mask"].flatten(0, -2).bool())


CLIP4CLIP = RetrievalAdapter(
    configure=configure,
    rename=partial(rename, NAMES),
    texts=encode_texts,
    videos=encode_videos,
    ignored=UNUSED,
    scaled=True,
)
