"""The functions that build the encoders of a configuration."""

import pkgutil
from dataclasses import replace
from pathlib import Path

import torch

from videollm.audio_config import AudioConfig, AudioKind
from videollm.config import EncoderConfig, EncoderKind
from videollm.device import resolve_device
from videollm.encoders.audio import HearingEncoder
from videollm.encoders.base import FrameEncoder
from videollm.encoders.pixels import SquarePixels

# Classes are named by strings, so that building one does not import the libraries of the others.
ENCODERS: dict[EncoderKind, str] = {
    "lite": "videollm.encoders.lite:LiteEncoder",
    "open_clip": "videollm.encoders.open_clip:OpenClipEncoder",
    "internvideo2": "videollm.models.published.internvideo2_encoder:InternVideo2Encoder",
    "head": "videollm.retrieval.head_encoder:HeadEncoder",
    "aligner": "videollm.retrieval.aligner_encoder:AlignerEncoder",
    "debug": "videollm.encoders.debug:DebugEncoder",
}
AUDIO_ENCODERS: dict[AudioKind, str] = {
    "imagebind": "videollm.models.published.imagebind_audio:load_imagebind_audio",
    "mel": "videollm.models.mel_encoder:load_mel",
}


def build_encoder(config: EncoderConfig, device: torch.device | str | None = None) -> FrameEncoder:
    """Builds the frozen encoder that `config` describes.

    Args:
        config: The kind and the weights.
        device: The device of the weights, see `resolve_device`.

    Raises:
        ConfigError: If the configuration or the device is unknown.
        AssetError: If weights are missing.
    """
    if config.pixels:
        evidence = build_encoder(replace(config, pixels=0, resize="trained"), device)
        return SquarePixels(evidence, config.pixels, config.resize)
    return pkgutil.resolve_name(ENCODERS[config.kind])(config, resolve_device(device))


def hearing(
    frames: FrameEncoder, config: AudioConfig, folder: Path, device: torch.device | str | None = None
) -> FrameEncoder:
    """Returns the encoder of a model's frames and, if the model hears, of its audio.

    Args:
        frames: The frame encoder.
        config: The kind and the sizes of the audio encoder.
        folder: The folder of its weights.
        device: The device of its weights, see `resolve_device`.

    Raises:
        CheckpointError: If weights are missing or do not fit.
    """
    if config.kind == "none":
        return frames
    load = pkgutil.resolve_name(AUDIO_ENCODERS[config.kind])
    return HearingEncoder(frames, load(folder, config, device))
