"""The Q-Formers of BLIP-2 and Video-LLaMA by themselves, under the official names of their inputs and outputs."""

from collections.abc import Mapping

import torch
from torch import nn

from videollm.models.published import blip2, video_llama
from videollm.models.published.blip2 import Blip2QFormer, load_blip2
from videollm.models.published.system import (
    Config,
    OfficialName,
    PublishedSystem,
    State,
    StateShapes,
    Tensors,
    setting,
)
from videollm.models.published.video_llama import VideoLlamaQFormer, load_video_llama
from videollm.models.qformer import QFormerConfig


def qformer_config(shapes: StateShapes, name: str, queries: int, heads: int, every: int) -> QFormerConfig:
    """Sizes of the Q-Former whose tensors are below `name`."""
    layers = f"{name}.bert.encoder.layer"
    ffn_width, width = shapes[f"{layers}.0.intermediate_query.dense.weight"]
    embeddings = f"{name}.bert.embeddings"
    reads_text = shapes.has(f"{embeddings}.word_embeddings.")
    return QFormerConfig(
        queries=queries,
        width=width,
        layers=shapes.count(layers),
        heads=heads,
        ffn_width=ffn_width,
        encoder_width=shapes[f"{layers}.0.crossattention.self.key.weight"][1],
        cross_attention_every=every,
        vocab_size=shapes[f"{embeddings}.word_embeddings.weight"][0] if reads_text else None,
        max_positions=shapes[f"{embeddings}.position_embeddings.weight"][0] if reads_text else 512,
    )


class Blip2Stage1(PublishedSystem):
    """BLIP-2's first stage (LAVIS `blip2_models/blip2_qformer.py`).

    config: {"heads", "bos", "cross_attention_freq"}. Negatives for matching are drawn at random, as in the official
    code, where the inputs have no "itm_neg_image_idx" and "itm_neg_text_idx".
    """

    def __init__(self, shapes: StateShapes, config: Config):
        super().__init__()
        every = int(config.get("cross_attention_freq", 2))
        sizes = qformer_config(shapes, "Qformer", shapes["query_tokens"][1], int(setting(config, "heads")), every)
        embed_dim = shapes["vision_proj.weight"][0]
        self.model = Blip2QFormer(sizes, embed_dim=embed_dim, bos_id=int(setting(config, "bos")))

    def official_names(self) -> dict[str, OfficialName]:
        return {f"model.{name}": official for name, official in blip2.official_names(self.model).items()}

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        tokens, ids, mask = inputs["image_tokens"], inputs["input_ids"], inputs["attention_mask"].bool()
        hidden, _ = self.model.encode_images(self.model.vision_norm(tokens))
        outputs = {
            "forward_image_hidden": hidden,
            # The official calls of compute_itm were given tokens without ln_vision.
            "compute_itm_pairs": self.model.match(tokens, ids, mask)[:, 1],
            "compute_itm_matrix_i2t": self.model.match_matrix(tokens, ids, mask),
        }
        for prefix, image_ids in (("", None), ("with_image_id/", inputs.get("image_id"))):
            if prefix and image_ids is None:
                continue
            names = [f"{prefix}itm_neg_{side}_idx" for side in ("image", "text")]
            given = (inputs[names[0]], inputs[names[1]]) if names[0] in inputs else None
            itc, itm, itg = self.model(tokens, ids, mask, image_ids, given)
            outputs |= {f"{prefix}loss_itc": itc, f"{prefix}loss_itm": itm, f"{prefix}loss_lm": itg}
            outputs[f"{prefix}loss"] = itc + itm + itg
        return outputs


class VideoLlamaQFormerAlone(PublishedSystem):
    """Video-LLaMA's vision branch with a convolution for a visual encoder.

    config: {"frame_qformer": {"heads", "cross_attention_freq"}}.
    """

    def __init__(self, shapes: StateShapes, config: Config):
        super().__init__()
        heads = int(setting(config, "frame_qformer", "heads"))
        every = int(setting(config, "frame_qformer", "cross_attention_freq"))
        frame = qformer_config(shapes, "Qformer", shapes["query_tokens"][1], heads, every)
        video = qformer_config(shapes, "video_Qformer", shapes["video_query_tokens"][1], heads, 1)
        width, _, patch, _ = shapes["visual_encoder.c.weight"]
        self.encoder = nn.Conv2d(3, width, patch, patch)
        positions = shapes["video_frame_position_embedding.weight"][0]
        self.temporal = VideoLlamaQFormer(shapes["llama_proj.weight"][0], frame, video, max_frames=positions)

    def official_names(self) -> dict[str, OfficialName]:
        names: dict[str, OfficialName] = {f"encoder.{part}": f"visual_encoder.c.{part}" for part in ("weight", "bias")}
        return names | {
            f"temporal.{name}": official for name, official in video_llama.official_names(self.temporal).items()
        }

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        video = inputs["video_bcthw"]
        tokens = self.encoder(video.transpose(1, 2).flatten(0, 1)).flatten(2).mT.unflatten(0, (len(video), -1))
        every = torch.ones(tokens.shape[:2], dtype=torch.bool, device=video.device)
        projected = self.temporal(tokens, every.float(), every)
        return {"inputs_llama": projected, "atts_llama": torch.ones(projected.shape[:2], dtype=torch.long)}


def load_blip2_stage1(state: State, config: Config) -> Blip2Stage1:
    system = Blip2Stage1(StateShapes(state), config).eval()
    load_blip2(system.model, state)
    return system


def load_video_llama_qformer(state: State, config: Config) -> VideoLlamaQFormerAlone:
    system = VideoLlamaQFormerAlone(StateShapes(state), config).eval()
    load_video_llama(system.temporal, state)
    parts = {name: state[f"visual_encoder.c.{name}"] for name in ("weight", "bias")}
    system.encoder.load_state_dict(parts)
    return system
