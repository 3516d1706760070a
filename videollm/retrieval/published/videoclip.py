"""VideoCLIP (Xu et al. 2021): one BERT over words and one over the features of another network.

Official code: https://github.com/facebookresearch/fairseq/tree/main/examples/MMPT.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch

from videollm.encoders.base import TextFeatures
from videollm.models.published.key_mapping import bert_name
from videollm.models.published.system import StateShapes, official_compat
from videollm.retrieval.head import VideoRepr
from videollm.retrieval.heads.videoclip import BertConfig, VideoCLIP
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel
from videollm.retrieval.published.system import Inputs, RetrievalAdapter, attention_heads


def _bert(shapes: StateShapes, prefix: str, config: Mapping[str, Any]) -> BertConfig:
    vocab_size, width = shapes[f"{prefix}embeddings.word_embeddings.weight"]
    return BertConfig(
        width=width,
        layers=shapes.count(f"{prefix}encoder.layer"),
        heads=attention_heads(config, "bert", width),
        ffn_width=shapes[f"{prefix}encoder.layer.0.intermediate.dense.weight"][0],
        vocab_size=vocab_size,
        max_positions=shapes[f"{prefix}embeddings.position_embeddings.weight"][0],
    )


def configure(_: str, shapes: StateShapes, config: Mapping[str, Any]) -> RetrievalConfig:
    """Returns the configuration of a state dict."""
    return RetrievalConfig(
        vision=None,
        text=_bert(shapes, "text_encoder.", config),
        head=HeadConfig(
            kind="videoclip",
            bert=_bert(shapes, "video_encoder.bert.", config),
            feature_dim=shapes["video_encoder.videomlp.linear1.weight"][1],
            official_compat=official_compat(config),
        ),
        scale="none",
    )


def official_name(name: str) -> str:
    """Returns the official name of a name of ours."""
    tower, _, rest = name.partition(".")
    if tower == "head" and not rest.startswith("bert."):
        return "video_encoder.videomlp." + rest.replace("norm.", "LayerNorm.")
    official = bert_name(rest.removeprefix("bert.")).replace(
        "type_embedding.", "bert.embeddings.token_type_embeddings."
    )
    return f"video_encoder.{official}" if tower == "head" else f"text_encoder.{official.removeprefix('bert.')}"


def encode_texts(model: RetrievalModel, inputs: Inputs) -> TextFeatures:
    """Reads caps (B,L) = [CLS] [SEP] words [SEP] padding, and cmasks (B,L). The first [SEP] belongs to the video."""
    ids, mask = (torch.cat((x[:, :1], x[:, 2:]), 1) for x in (inputs["caps"], inputs["cmasks"].bool()))
    return model.encode_text(ids, mask)


def encode_videos(model: RetrievalModel, inputs: Inputs) -> VideoRepr:
    """Reads vfeats (B,T,F) and vmasks (B,T), and the ids of [CLS] and [SEP] from caps if they are given."""
    mask = inputs["vmasks"].bool()
    frames = model.encode_frames(inputs["vfeats"].float(), mask)
    head = cast(VideoCLIP, model.head)
    if "caps" not in inputs:
        return head.encode_video(frames, mask)
    cls, sep = inputs["caps"][0, :2].tolist()
    return head.encode_video(frames, mask, (cls, sep))


VIDEOCLIP = RetrievalAdapter(
    configure=configure,
    rename=official_name,
    texts=encode_texts,
    videos=encode_videos,
    ignored=(r".*\.position_ids", r".*pooler\.dense\.(weight|bias)"),
    prefix="mmmodel.",
)
