"""From a config to an encoder."""

import pkgutil

import torch

from videollm.config import EncoderConfig, EncoderKind
from videollm.encoders.base import FrameEncoder

# By name, so that choosing one does not import the libraries of the others.
ENCODERS: dict[EncoderKind, str] = {
    "lite": "videollm.encoders.lite:LiteEncoder",
    "open_clip": "videollm.encoders.open_clip:OpenClipEncoder",
    "debug": "videollm.encoders.debug:DebugEncoder",
}


def build_encoder(config: EncoderConfig, device: torch.device | str | None = None) -> FrameEncoder:
    """The encoder that `config` describes, frozen, on `device` (default CPU). Raises AssetError for missing weights."""
    return pkgutil.resolve_name(ENCODERS[config.kind])(config, device)
