"""Load a model to chat with. On a CPU this takes a fraction of the time of `videollm.load`, for equal answers."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from videollm import assets
from videollm.checkpoint_files import check_objects
from videollm.config import ModelConfig
from videollm.cpu.llama_weights import LlamaWeights
from videollm.device import resolve_device, resolve_dtype
from videollm.encoders.build import build_encoder, hearing
from videollm.model import AUDIO, Model, check_revision, check_sizes, find, load_projector, read_config, served_model
from videollm.models.chat_llm import ChatLLM
from videollm.models.processor import Processor
from videollm.models.tokenizer import read_tokenizer
from videollm.models.virtual_tokens import load_virtual_tokens

FILE = "model.safetensors"
LLAMAS = ("smollm2-135m-instruct",)  # assets that `LlamaRunner` can run


def load_to_chat(name: str, device: str | torch.device | None = None, **options: Any) -> Model:
    """Returns a trained model that answers, but computes no losses. Arguments and errors are those of `videollm.load`.

    For a Llama from an asset on a CPU that answers with text alone, the adapter is merged once and the result kept
    beside the assets, whence it is memory-mapped: neither transformers' models nor PEFT are imported. Other models are
    loaded by `videollm.load`.
    """
    if options.get("server_url") is not None:
        return served_model(name, device, **options)
    device = resolve_device(device)
    is_plain = device.type == "cpu" and not any(options.values())  # else a hub id may need no download of weights
    if is_plain and (directory := find(name)) is not None:
        config, towers = read_config(directory, name)
        asset = config.llm.source.removeprefix("asset:")
        if asset in LLAMAS and not config.llm.load_in_4bit and not config.outputs.modalities:
            check_objects(directory)
            encoder = build_encoder(config.encoder, device)
            check_revision(directory, config, towers, encoder)
            weights = _merged(directory, config, asset, resolve_dtype(config.llm.dtype, device))
            check_sizes(config, encoder, weights.tensors["words"], directory / "projector.safetensors")
            # Model's type is that of a model which can also be trained.
            llm: Any = ChatLLM(config, encoder.token_dim, encoder.tokens_per_frame, weights)
            load_projector(llm, directory / "projector.safetensors")
            if llm.virtual_tokens is not None:
                load_virtual_tokens(llm.virtual_tokens, directory)
            llm.eval().requires_grad_(False)
            encoder = hearing(encoder, config.audio, directory / AUDIO, device)
            return Model(config, encoder, Processor(read_tokenizer(assets.fetch(asset)), config), llm)
    from videollm.checkpoint import load  # imports transformers and all model families, which takes seconds

    return load(name, device, **options)


def _merged(directory: Path, config: ModelConfig, asset: str, dtype: torch.dtype) -> LlamaWeights:
    """Returns the checkpoint's language model with its adapter merged, from the cache if it is there."""

    def merge(target: Path) -> None:
        from videollm.checkpoint import load_directory
        from videollm.cpu.transformers_llama import weights_of

        weights_of(load_directory(directory, "cpu").llm.language_model).save(target / FILE)

    files = sorted(directory.glob("adapter/*")) if config.llm.layer_adapter else ()
    adapter = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    inputs = {"base": assets.ASSETS[asset].key, "adapter": adapter, "dtype": str(dtype), "layout": 1}
    return LlamaWeights.load(assets.derived("merged-llama", inputs, merge) / FILE)
