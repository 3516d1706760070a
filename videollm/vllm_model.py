"""A video model of transformers that a vLLM server runs. Only its config.json is read here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from videollm.checkpoint_files import read_object
from videollm.device import resolve_device
from videollm.encoders.build import build_encoder
from videollm.encoders.pixels import PixelEncoder
from videollm.model import Model, config_of, find, read_config, refuse_local
from videollm.models.hub.load import family_of, recognises
from videollm.models.hub.served import VLLMProcessor
from videollm.models.served import ServedLLM, served_config

CONFIGS = "*config.json"


def config_directory(name: str) -> Path | None:
    """Returns the directory with the config.json of a video model of transformers, or None if `name` is another
    model. Of a hub id, only configurations are downloaded.

    Raises CheckpointError if there is no such model.
    """
    directory = find(name, CONFIGS)
    if directory is None or not (directory / "config.json").is_file():
        return None
    return directory if recognises(read_object(directory / "config.json")) else None


def vllm_model(
    name: str,
    directory: Path,
    device: str | torch.device | None,
    *,
    vllm_url: str,
    evidence_encoder: str | None = None,
    **local: Any,
) -> Model:
    """Returns a model that vLLM runs under its own name. The arguments are those of `videollm.load`.

    Args:
        name: The hub id, or the directory of the model.
        directory: The directory with its config.json.
        device: The device of the frame encoder that finds evidence.
        vllm_url: The URL of the vLLM server.
        evidence_encoder: See `videollm.load`.
        local: Options of a model that runs here, which must not be given.

    Raises:
        CheckpointError: If the model is of a kind that is not for videos.
        ConfigError: If an option is for a model that runs here.
    """
    refuse_local(name, vllm_url, local)
    own = read_config(directory, name)[0]
    url, device = f"{vllm_url.rstrip('/')}/v1", resolve_device(device)
    encoder = config_of(evidence_encoder or "lite").encoder
    config = replace(served_config(own.name, url, encoder), sampling=own.sampling, segments=own.segments)
    llm: Any = ServedLLM(url, device, is_vllm=True)  # has nothing that is computed here
    family = family_of(directory)
    pixels = PixelEncoder(build_encoder(encoder, device), family.short_side)
    return Model(config, pixels, VLLMProcessor(config, family), llm)
