"""Video-LLaMA as a checkpoint directory (Zhang et al. 2023, https://github.com/DAMO-NLP-SG/Video-LLaMA)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from videollm.audio_config import AudioConfig
from videollm.config import (
    EncoderConfig,
    LanguageModelConfig,
    ModelConfig,
    PromptConfig,
    PromptLayoutName,
    SamplingConfig,
    SegmentConfig,
    TemporalConfig,
    TowerConfig,
)
from videollm.models.layouts import LAYOUTS
from videollm.models.published.imagebind_audio import ImageBindAudio
from videollm.models.published.qformer_systems import qformer_config
from videollm.models.published.system import Config, StateShapes
from videollm.models.published.transformer import read_blocks
from videollm.models.published.video_llama import official_names
from videollm.models.temporal_base import TemporalModule
from videollm.official.chat import EVIDENCE, Imported, only_blocks, read_files, write

# What the weights do not tell. EVA's file has one block more than the system uses.
SETTINGS: Config = {"vit": {"heads": 16, "blocks": 39}, "qformer": {"heads": 12}, "imagebind": {"audio_num_heads": 12}}
FRAMES = 8  # of the demo
IMAGEBIND = "audio_encoder."
IGNORED = (
    r"visual_encoder\.(norm|fc_norm|head|blocks\.\d+\.attn\.relative_position_index).*",  # of EVA's classifier
    r"(video_|audio_)?Qformer\.bert\.embeddings\.position_ids",
    r"t5_proj\..*",  # BLIP-2's own projection
    rf"{re.escape(IMAGEBIND)}.*",  # the encoder of audio, which has a folder of its own
)


def import_video_llama(
    files: Sequence[Path],
    llm: Path,
    out: Path,
    layout: PromptLayoutName = "video_llama",
    evidence: EncoderConfig = EVIDENCE,
    settings: Config = SETTINGS,
) -> Imported:
    """Writes Video-LLaMA as the checkpoint directory `out`, with the audio branch if its files are given.

    Args:
        files: eva_vit_g.pth, blip2_pretrained_flant5xxl.pth and the checkpoint of the vision branch, in this order. For
            the audio branch also imagebind_huge.pth and the checkpoint of the audio branch.
        llm: The directory of the language model that it was trained on, Vicuna or LLaMA-2-chat.
        out: The directory, new or empty.
        layout: The prompt: "video_llama" for Vicuna, "video_llama_2" for LLaMA-2.
        evidence: The encoder for evidence and search.
        settings: What the weights do not tell: numbers of heads, and of EVA's blocks that are used. "imagebind" is
            read only where there is an audio branch.

    Raises:
        CheckpointError: If tensors are missing, unknown or of another shape, or `out` is not empty.
    """
    towers = {"patch_embed.proj.weight": "visual_encoder.", "modality_preprocessors.audio.cls_token": IMAGEBIND}
    state = read_files(files, towers)
    state = only_blocks(state, "visual_encoder.blocks", settings["vit"].get("blocks"))
    config = _config(StateShapes(state), settings, llm, layout, evidence)
    source = "https://github.com/DAMO-NLP-SG/Video-LLaMA (Zhang et al. 2023)"
    audio = None
    if config.audio.kind != "none":
        imagebind = {n.removeprefix(IMAGEBIND): t for n, t in state.items() if n.startswith(IMAGEBIND)}
        audio = ImageBindAudio(imagebind, config.audio, "cpu")
    return write(config, state, _names, out, ignored=IGNORED, source=source, files=files, audio=audio)


def _names(temporal: TemporalModule) -> dict[str, str]:
    module: Any = temporal.module
    names = {f"module.{name}": official for name, official in official_names(module).items()}
    return names | {f"tower.{name}": f"visual_encoder.{name}" for name in temporal.tower.state_dict()}  # type: ignore[union-attr]


def _config(
    shapes: StateShapes, settings: Config, llm: Path, layout: PromptLayoutName, evidence: EncoderConfig
) -> ModelConfig:
    heads = settings["qformer"]["heads"]
    frame = qformer_config(shapes, "Qformer", shapes["query_tokens"][1], heads, 2)
    video = qformer_config(shapes, "video_Qformer", shapes["video_query_tokens"][1], heads, 1)
    blocks, patch = read_blocks(
        shapes, "visual_encoder.blocks", "visual_encoder.patch_embed.proj.weight", heads=settings["vit"]["heads"]
    )
    side = round((shapes["visual_encoder.pos_embed"][1] - 1) ** 0.5) * patch
    frames = shapes["video_frame_position_embedding.weight"][0]
    return ModelConfig(
        name="Video-LLaMA",
        sampling=SamplingConfig(frames=FRAMES, rule="video_llama"),
        segments=SegmentConfig(frames=frames),  # the whole video is one segment
        encoder=replace(evidence, pixels=side, resize="squash"),
        temporal=TemporalConfig(
            kind="video_llama",
            queries=video.queries,
            width=video.width,
            layers=video.layers,
            heads=heads,
            mlp_ratio=video.ffn_width / video.width,
            frame_queries=frame.queries,
            frame_layers=frame.layers,
            max_frames=frames,
            dropout=video.dropout,
            output_norm=False,
            tower=TowerConfig(
                kind="eva",
                image_size=side,
                patch=patch,
                width=blocks.width,
                layers=blocks.layers,
                heads=blocks.heads,
                mlp_width=blocks.mlp_width,
            ),
        ),
        audio=(audio := _audio(shapes, settings)),
        llm=LanguageModelConfig(source=str(llm.resolve())),
        prompt=PromptConfig(
            layout=layout,
            system=LAYOUTS[layout].system if audio.kind == "none" else "",  # as in the demo with sound
            tags=0,
            context=2048,
            max_new_tokens=300,
        ),
    )


def _audio(shapes: StateShapes, settings: Config) -> AudioConfig:
    if not shapes.has("audio_Qformer."):
        return AudioConfig()
    heads = settings["qformer"]["heads"]
    qformer = qformer_config(shapes, "audio_Qformer", shapes["audio_query_tokens"][1], heads, 1)
    return AudioConfig(
        kind="imagebind",
        clips=shapes["audio_position_embedding.weight"][0],
        token_dim=qformer.encoder_width,
        encoder_heads=settings["imagebind"]["audio_num_heads"],
        queries=qformer.queries,
        width=qformer.width,
        layers=qformer.layers,
        heads=heads,
        mlp_ratio=qformer.ffn_width / qformer.width,
        dropout=qformer.dropout,
    )
