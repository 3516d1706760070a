"""Building a model from a configuration, and saving and loading it as one directory:

    config.json            ModelConfig, and the revision of the frame encoder it was trained with
    projector.safetensors  the temporal module and everything else that was trained outside the language model
    audio_encoder/         the encoder of audio, in a model that hears
    adapter/               an adapter of the language model (PEFT), if it has one
    language_model/        the language model itself, in an exported checkpoint, whose config says "own:language_model"
    tokenizer/             the tokenizer, unless it comes with an asset or is inside language_model/
    card.md                data, recipe, metrics and licence

Frozen encoders of frames and language models are named in config.json and not copied.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from videollm.checkpoint_files import ADAPTER, check_adapter, check_objects
from videollm.config import ModelConfig
from videollm.device import resolve_device
from videollm.encoders.audio import HearingEncoder
from videollm.encoders.base import FrameEncoder
from videollm.encoders.build import build_encoder, hearing
from videollm.encoders.pixels import PixelEncoder
from videollm.errors import CheckpointError, ConfigError
from videollm.model import (
    AUDIO,
    FORMAT,
    INSIDE,
    OWN,
    VIRTUAL,
    Model,
    adapted_model,
    base,
    check_revision,
    check_sizes,
    config_of,
    find,
    load_projector,
    outside_language_model,
    read_config,
    served_model,
)
from videollm.models.hub import load as hub
from videollm.models.hub.adapter import adapted, is_adapter, with_adapter
from videollm.models.hub.model import HubLLM
from videollm.models.language import DeviceMap, add_adapter, load_language_model, load_tokenizer
from videollm.models.processor import Processor
from videollm.models.video_llm import VideoLLM, VideoLLMConfig
from videollm.models.virtual_tokens import load_virtual_tokens, save_virtual_tokens
from videollm.presets import DEBUG
from videollm.vllm_model import config_directory, vllm_model


def build(config: ModelConfig, device: str | torch.device | None = None, seed: int = 0) -> Model:
    """Returns the model that training starts from. Its projector is untrained, and so is its adapter if the
    configuration has one.

    Args:
        config: The configuration.
        device: The device, see `resolve_device`.
        seed: The seed of the untrained parts.
    """
    device = resolve_device(device)
    if config.audio.kind == "imagebind":
        raise ConfigError(
            f"{config.name} hears, and what hears comes with a checkpoint: start from a directory that `videollm "
            "import-official` wrote, or set the kind of audio to none"
        )
    encoder = hearing(build_encoder(config.encoder, device), config.audio, Path(), device)
    language_model = load_language_model(config.llm, device)
    with torch.random.fork_rng(devices=[]):  # modules are initialised on the CPU; the state of GPUs stays as it is
        torch.default_generator.manual_seed(seed)
        if config.llm.layer_adapter is not None:
            language_model = add_adapter(language_model, config.llm.layer_adapter)
        processor = Processor(load_tokenizer(config.llm), config)
        llm = assemble(config, encoder, language_model, processor.first_signal)
    return Model(config, encoder, processor, llm)


def load(
    name: str = "lite",
    device: str | torch.device | None = None,
    device_map: DeviceMap = None,
    *,
    load_in_4bit: bool = False,
    adapter: str | Path | None = None,
    evidence_encoder: str | None = None,
    server_url: str | None = None,
    vllm_url: str | None = None,
) -> Model:
    """Loads a trained model, ready to answer.

    The adapter is merged into the language model, which then runs at the speed of the base model.

    Args:
        name: A preset that ships with weights, a checkpoint directory or a hub id.
        device: The device, see `resolve_device`.
        device_map: "auto" spreads the language model over all GPUs.
        load_in_4bit: Whether to hold the language model's weights in 4 bits.
        adapter: The directory of a PEFT adapter, for a video model of transformers.
        evidence_encoder: The model whose frame encoder finds evidence for a model that has none. None takes `lite`.
        server_url: The OpenAI-compatible server that runs the model, up to and including /v1. `name` is then the
            model's name there.
        vllm_url: The vLLM server that runs the model, if that is a video model of transformers.

    Raises:
        CheckpointError: If weights are missing, or the preset has no trained weights. The answers of untrained weights
            would be noise, as those of `debug` are on purpose.
        ConfigError: If the machine does not have the device.
    """
    local = {"device_map": device_map, "load_in_4bit": load_in_4bit, "adapter": adapter}
    if vllm_url is not None and (found := config_directory(name)) is not None:
        return vllm_model(name, found, device, vllm_url=vllm_url, evidence_encoder=evidence_encoder, **local)
    if server_url is not None:
        return served_model(name, device, server_url=server_url, evidence_encoder=evidence_encoder, **local)
    if name == DEBUG.name:
        model = build(DEBUG, device)
        model.llm.eval()
        return model
    directory, config = find(name), config_of(name)
    if config.llm.source == hub.NONE:
        raise CheckpointError(
            f"{directory or name}: it encodes pictures and texts and does not answer; give it to videollm index or "
            "search, or as --evidence-encoder"
        )
    if directory is None:
        raise CheckpointError(
            f"preset {name!r} has no trained weights; train it and give the directory that training wrote"
        )
    device = resolve_device(device)
    if config.llm.source == hub.ITS_OWN:
        if evidence_encoder is not None:
            config = replace(config, encoder=config_of(evidence_encoder).encoder)
        config = replace(config, llm=replace(config.llm, load_in_4bit=load_in_4bit))
        if is_adapter(directory):
            if adapter is not None:
                raise ConfigError(f"{name} is an adapter itself; leave the adapter {adapter} out")
            return _load_hub(adapted_model(directory), config, device, device_map, directory)
        if adapter is not None:
            config = adapted(config, Path(adapter))
        return _load_hub(directory, config, device, device_map, None if adapter is None else Path(adapter))
    for option, value in (("adapter", adapter), ("evidence encoder", evidence_encoder)):
        if value is not None:
            raise ConfigError(
                f"{name} has its own {option}; leave {value} out, or give a video model of transformers as the model"
            )
    return load_directory(directory, device, device_map=device_map, load_in_4bit=load_in_4bit)


def _load_hub(
    directory: Path, config: ModelConfig, device: torch.device, device_map: DeviceMap, adapter: Path | None
) -> Model:
    encoder = PixelEncoder(build_encoder(config.encoder, device), hub.family_of(directory).short_side)
    llm: Any = hub.load_model(directory, config.llm, device, device_map)
    if adapter is not None:
        llm = with_adapter(llm, config.name, adapter)
        if not config.llm.load_in_4bit:
            llm = HubLLM(llm.language_model.merge_and_unload())
        llm.eval().requires_grad_(False)
    return Model(config, encoder, hub.load_processor(directory, config), llm)


def load_directory(
    directory: Path,
    device: str | torch.device | None = None,
    *,
    trainable: bool = False,
    device_map: DeviceMap = None,
    load_in_4bit: bool = False,
) -> Model:
    """Loads what `save` wrote, or a video model of transformers.

    Args:
        directory: The directory.
        device: The device, see `resolve_device`.
        trainable: Whether to keep the adapter beside the language model, to train it further.
        device_map: "auto" spreads the language model over all GPUs.
        name: The name of a model of transformers. None takes that of the directory.

    Raises:
        CheckpointError: If tensors are missing or unknown, or the encoder has another revision.
    """
    device = resolve_device(device)
    check_objects(directory)
    config, towers = read_config(directory)
    if config.llm.source == hub.ITS_OWN:
        raise CheckpointError(
            f"{directory}: a video model of transformers; load it to answer, or tune it with train/stage2.py hub_stage2"
        )
    encoder = build_encoder(config.encoder, device)
    check_revision(directory, config, towers, encoder)
    source = base(config.llm, directory)
    if load_in_4bit:
        source = replace(source, load_in_4bit=True)
    language_model: Any = load_language_model(source, device, device_map)
    if source.layer_adapter is not None:
        language_model = load_adapter(language_model, directory, trainable=trainable)
        if not trainable and not source.load_in_4bit:
            language_model = language_model.merge_and_unload()
    embeddings: Any = language_model.get_input_embeddings()
    check_sizes(config, encoder, embeddings.weight, directory / "projector.safetensors")
    own = directory / "tokenizer"
    processor = Processor(load_tokenizer(replace(source, source=str(own)) if own.is_dir() else source), config)
    llm = assemble(config, encoder, language_model, processor.first_signal)
    load_projector(llm, directory / "projector.safetensors")
    if llm.virtual_tokens is not None:
        load_virtual_tokens(llm.virtual_tokens, directory)
    llm.train(trainable)
    encoder = hearing(encoder, config.audio, directory / AUDIO, device)
    return Model(config, encoder, processor, llm)


def load_adapter(language_model: torch.nn.Module, directory: Path, *, trainable: bool = False) -> Any:
    """Returns the language model with the checkpoint's adapter beside its weights."""
    from peft import PeftModel

    adapter = directory / "adapter"
    if not (directory / ADAPTER).is_file():
        raise CheckpointError(
            f"{directory}: config.json has an adapter, but adapter/ is missing; copy it from where it was trained"
        )
    config = read_config(directory)[0].llm.lora
    if config is None:
        raise CheckpointError(f"{directory}: config.json has no adapter")
    check_adapter(directory, config, language_model)
    # torch_device is where the file is read to. By default PEFT reads to a GPU if there is one, wherever the model is.
    return PeftModel.from_pretrained(
        language_model,  # type: ignore[arg-type]
        str(adapter),
        is_trainable=trainable,
        torch_device="cpu",
    )


def save(model: Model, directory: Path, card: str = "", state: dict[str, torch.Tensor] | None = None) -> None:
    """Writes the directory that `load` reads.

    Args:
        model: The model.
        directory: The directory.
        card: The content of card.md.
        state: The state dict of `model.llm`, which the caller gathers if ZeRO-3 divides it among ranks. It need not
            have what is frozen. None takes `model.llm.state_dict()`.
    """
    own = model.llm.state_dict()
    state = own if state is None else outside_language_model(own) | state
    directory.mkdir(parents=True, exist_ok=True)
    record = {
        "format": FORMAT,
        "model": model.config.to_dict(),
        "towers": {"encoder": model.encoder.revision},
    }
    (directory / "config.json").write_text(json.dumps(record, indent=2) + "\n")
    save_file(outside_language_model(state), directory / "projector.safetensors")
    if isinstance(model.encoder, HearingEncoder):
        model.encoder.audio.save(directory / AUDIO)
    if model.config.llm.virtual_tokens:
        save_virtual_tokens((own | state)[f"{VIRTUAL}weight"], model.config.llm.source, directory)
    elif model.config.llm.lora is not None:
        inside = {k.removeprefix(INSIDE): v for k, v in state.items() if k.startswith(INSIDE)}
        adapter = model.llm.language_model
        adapter.peft_config[
            "default"
        ].base_model_name_or_path = model.config.llm.source  # the name and not a path of this machine
        adapter.save_pretrained(str(directory / "adapter"), state_dict=inside, save_embedding_layers=False)
        (directory / "adapter" / "README.md").unlink()  # PEFT's empty template; card.md takes its place
    if not model.config.llm.source.startswith(("asset:", OWN)):
        model.processor.tokenizer.save_pretrained(str(directory / "tokenizer"))
    if card:
        (directory / "card.md").write_text(card)


def assemble(config: ModelConfig, encoder: FrameEncoder, language_model: Any, first_signal: int = 0) -> VideoLLM:
    """Returns a model with an untrained projector between the encoder's features and the language model.

    first_signal: `Processor.first_signal` of a model with outputs.
    """
    wrapped = VideoLLMConfig(
        model=config.to_dict(),
        token_dim=encoder.token_dim,
        tokens_per_frame=encoder.tokens_per_frame,
        first_signal=first_signal,
    )
    llm = VideoLLM(wrapped, language_model)
    # The projector's output joins the word embeddings, wherever a device map has put those. `llm.to` would also move
    # the language model, which is where it belongs already and may be spread over several devices.
    device = language_model.get_input_embeddings().weight.device
    llm.temporal.to(device)
    llm.visual_norm.to(device)
    if llm.audio is not None:
        llm.audio.to(device)
        llm.audio_norm.to(device)
    if llm.outputs is not None:
        llm.outputs.to(device)
    return llm
