"""Build the frame encoder that a config names."""

import pkgutil

import torch

from videollm.config import EncoderConfig, EncoderKind
from videollm.device import resolve_device
from videollm.encoders.base import FrameEncoder

# Named by text, so that building one does not import the libraries of the others.
ENCODERS: dict[EncoderKind, str] = {
    "lite": "videollm.encoders.lite:LiteEncoder",
    "open_clip": "videollm.encoders.open_clip:OpenClipEncoder",
    "debug": "videollm.encoders.debug:DebugEncoder",
}


def build_encoder(config: EncoderConfig, device: torch.device | str | None = None) -> FrameEncoder:
    """The frozen encoder that `config` describes.

    device: see `resolve_device`. Raises ConfigError for a device that is not there, AssetError for missing weights.
    """
    return pkgutil.resolve_name(ENCODERS[config.kind])(config, resolve_device(device))
