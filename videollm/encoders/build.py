"""The function that builds the frame encoder of a configuration."""

import pkgutil
from dataclasses import replace

import torch

from videollm.config import EncoderConfig, EncoderKind
from videollm.device import resolve_device
from videollm.encoders.base import FrameEncoder
from videollm.encoders.pixels import SquarePixels

# Classes are named by strings, so that building one does not import the libraries of the others.
ENCODERS: dict[EncoderKind, str] = {
    "lite": "videollm.encoders.lite:LiteEncoder",
    "open_clip": "videollm.encoders.open_clip:OpenClipEncoder",
    "internvideo2": "videollm.models.published.internvideo2_encoder:InternVideo2Encoder",
    "debug": "videollm.encoders.debug:DebugEncoder",
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
