"""VideoChat2 as a checkpoint directory (Li et al. 2023, https://github.com/OpenGVLab/Ask-Anything, video_chat2)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from videollm.config import (
    EncoderConfig,
    LanguageModelConfig,
    LoraConfig,
    ModelConfig,
    PromptConfig,
    SamplingConfig,
    SegmentConfig,
    TemporalConfig,
    TowerConfig,
)
from videollm.models.published.qformer_systems import qformer_config
from videollm.models.published.system import Config, StateShapes
from videollm.models.published.transformer import read_blocks
from videollm.models.published.videochat2 import ALPHA_PER_RANK
from videollm.models.published.videochat2_qformer import official_name
from videollm.models.temporal_base import TemporalModule
from videollm.official.chat import EVIDENCE, LLAMA, Imported, read_files, write

TOWER = "vision_encoder.encoder."
# What the weights do not tell. The instruction is BERT's ids of "Watch the video and answer the question.", which the
# demo's Q-Former reads whatever is asked.
SETTINGS: Config = {
    "vit": {"heads": 16, "image": 224, "ckpt_num_frame": 4},
    "qformer": {"heads": 12},
    "instruction": (101, 3422, 1996, 2678, 1998, 3437, 1996, 3160, 1012, 102),
}
FRAMES = 16  # of the demo
IGNORED = (
    r"qformer\.bert\.embeddings\.position_ids",
    r"(vision|text)_proj\..*|itm_head\..*|temp|qformer\.cls\..*",  # of the first stage's losses
)


def import_videochat2(
    files: Sequence[Path],
    llm: Path,
    out: Path,
    evidence: EncoderConfig = EVIDENCE,
    settings: Config = SETTINGS,
) -> Imported:
    """Writes VideoChat2 on Vicuna, of the instruction stage, as the checkpoint directory `out`.

    Args:
        files: umt_l16_qformer.pth, videochat2_7b_stage2.pth and videochat2_7b_stage3.pth, in this order.
        llm: The directory of the language model that it was trained on, Vicuna.
        out: The directory, new or empty.
        evidence: The encoder for evidence and search.
        settings: What the weights do not tell: numbers of heads, the side of a frame, the frames that the tower's
            positions were made for, and the instruction.

    Raises:
        CheckpointError: If tensors are missing, unknown or of another shape, or `out` is not empty.
    """
    state = read_files(files, {})
    if "extra_query_tokens" in state:
        state["query_tokens"] = torch.cat((state["query_tokens"], state.pop("extra_query_tokens")), 1)
    config = _config(StateShapes(state), settings, llm, evidence)
    source = "https://github.com/OpenGVLab/Ask-Anything (Li et al. 2023)"
    return write(config, state, _names, out, ignored=IGNORED, source=source, files=files)


def _names(temporal: TemporalModule) -> dict[str, str]:
    parts = {"tower": TOWER, "module": ""}
    names = {}
    for name in temporal.state_dict():
        part, _, inside = name.partition(".")
        names[name] = parts[part] + (inside if part == "tower" else official_name(inside))
    return names


def _config(shapes: StateShapes, settings: Config, llm: Path, evidence: EncoderConfig) -> ModelConfig:
    vit, heads = settings["vit"], settings["qformer"]["heads"]
    qformer = qformer_config(shapes, "qformer", shapes["query_tokens"][1], heads, 2)
    blocks, patch = read_blocks(shapes, f"{TOWER}blocks", f"{TOWER}patch_embed.proj.weight", heads=vit["heads"])
    return ModelConfig(
        name="VideoChat2",
        sampling=SamplingConfig(frames=FRAMES, rule="videochat2"),
        segments=SegmentConfig(frames=FRAMES),  # the whole video is one segment
        encoder=replace(evidence, pixels=vit["image"]),
        temporal=TemporalConfig(
            kind="videochat2",
            queries=qformer.queries,
            width=qformer.width,
            layers=qformer.layers,
            heads=heads,
            mlp_ratio=qformer.ffn_width / qformer.width,
            cross_attention_every=2,
            dropout=qformer.dropout,
            words=qformer.vocab_size or 0,
            positions=qformer.max_positions,
            instruction=tuple(settings["instruction"]) if qformer.vocab_size else (),
            output_norm=False,
            tower=TowerConfig(
                kind="umt",
                image_size=vit["image"],
                patch=patch,
                width=blocks.width,
                layers=blocks.layers,
                heads=blocks.heads,
                mlp_width=blocks.mlp_width,
                frames=vit["ckpt_num_frame"],
            ),
        ),
        llm=LanguageModelConfig(source=str(llm.resolve()), lora=_lora(shapes)),
        prompt=PromptConfig(layout="videochat2", system="", tags=0, context=2048, max_new_tokens=300),
    )


def _lora(shapes: StateShapes) -> LoraConfig | None:
    """Returns the adapter in the files, or None if there is none."""
    layer = f"{LLAMA}base_model.model.model.layers.0.self_attn"
    targets = tuple(p for p in ("q_proj", "k_proj", "v_proj", "o_proj") if shapes.has(f"{layer}.{p}.lora_A."))
    if not targets:
        return None
    rank = shapes[f"{layer}.{targets[0]}.lora_A.default.weight"][0]
    return LoraConfig(r=rank, alpha=ALPHA_PER_RANK * rank, targets=targets)
