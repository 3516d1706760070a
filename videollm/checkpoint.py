"""Building a model from a configuration, and saving and loading it as one directory:

    config.json            ModelConfig, and the revision of the frame encoder it was trained with
    projector.safetensors  the temporal module and everything else that was trained outside the language model
    adapter/               LoRA weights of the language model (PEFT), if it has any
    language_model/        the language model itself, in an exported checkpoint, whose config says "own:language_model"
    tokenizer/             the tokenizer, unless it comes with an asset or is inside language_model/
    card.md                data, recipe, metrics and licence

Frozen encoders and language models are named in config.json and not copied.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import save_file

from videollm.checkpoint_files import (
    ADAPTER,
    check_adapter,
    check_objects,
    check_tensors,
    count_tensors,
    read_object,
    read_tensors,
)
from videollm.config import LanguageModelConfig, ModelConfig
from videollm.device import resolve_device
from videollm.encoders.base import FrameEncoder
from videollm.encoders.build import build_encoder
from videollm.encoders.pixels import PixelEncoder
from videollm.errors import CheckpointError, ConfigError
from videollm.models.hub import load as hub
from videollm.models.hub.model import HubLLM
from videollm.models.language import DeviceMap, add_lora, load_language_model, load_tokenizer
from videollm.models.processor import Processor
from videollm.models.temporal import build_temporal
from videollm.models.video_llm import VideoLLM, VideoLLMConfig
from videollm.presets import DEBUG, PRESETS, preset

SHIPPED = Path(__file__).parent / "weights"
FORMAT = 1
OWN = "own:"  # marks a language model's source as a folder of the checkpoint directory
_INSIDE = "language_model."
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Model:
    """All parts of a model, on one device. `ChatSession` and training take it."""

    config: ModelConfig
    encoder: FrameEncoder
    processor: Processor
    llm: VideoLLM | HubLLM

    @property
    def device(self) -> torch.device:
        """The device where prompts are embedded. A language model that is spread over several GPUs takes its input
        there."""
        return self.llm.get_input_embeddings().weight.device


def build(config: ModelConfig, device: str | torch.device | None = None, seed: int = 0) -> Model:
    """Returns the model that training starts from. Its projector is untrained, and so is its adapter if the
    configuration has one.

    Args:
        config: The configuration.
        device: The device, see `resolve_device`.
        seed: The seed of the untrained parts.
    """
    device = resolve_device(device)
    encoder = build_encoder(config.encoder, device)
    language_model = load_language_model(config.llm, device)
    with torch.random.fork_rng(devices=[]):  # modules are initialised on the CPU; the state of GPUs stays as it is
        torch.default_generator.manual_seed(seed)
        if config.llm.lora is not None:
            language_model = add_lora(language_model, config.llm.lora)
        llm = assemble(config, encoder, language_model)
    return Model(config, encoder, Processor(load_tokenizer(config.llm), config), llm)


def load(
    name: str = "lite",
    device: str | torch.device | None = None,
    device_map: DeviceMap = None,
    *,
    load_in_4bit: bool = False,
    adapter: str | Path | None = None,
    evidence_encoder: str | None = None,
) -> Model:
    """Loads a trained model, ready to answer.

    The adapter is merged into the language model, which then runs at the speed of the base model.

    Args:
        name: A preset that ships with weights, a checkpoint directory or a hub id.
        device: The device, see `resolve_device`.
        device_map: "auto" spreads the language model over all GPUs.

    Raises:
        CheckpointError: If weights are missing, or the preset has no trained weights. The answers of untrained weights
            would be noise, as those of `debug` are on purpose.
        ConfigError: If the machine does not have the device.
    """
    if name == DEBUG.name:
        model = build(DEBUG, device)
        model.llm.eval()
        return model
    directory = find(name)
    if directory is None:
        raise CheckpointError(
            f"preset {name!r} has no trained weights; train it and give the directory that training wrote"
        )
    device, (config, _) = resolve_device(device), read_config(directory, name)
    if config.llm.source == hub.ITS_OWN:
        if evidence_encoder is not None:
            config = replace(config, encoder=config_of(evidence_encoder).encoder)
        config = replace(config, llm=replace(config.llm, load_in_4bit=load_in_4bit))
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
    llm = hub.load_model(directory, config.llm, device, device_map)
    if adapter is not None:
        llm, config = hub.with_adapter(llm, config, adapter)
    return Model(config, encoder, hub.load_processor(directory, config), llm)


def find(name: str) -> Path | None:
    """Returns the checkpoint directory that `name` stands for, or None for a preset without one. A hub id is
    downloaded.

    Raises CheckpointError if there is no such directory and no such model on the hub.
    """
    for directory in (SHIPPED / name, Path(name).expanduser()):
        if (directory / "config.json").is_file():
            return directory
    if name in PRESETS:
        return None
    if Path(name).expanduser().is_dir():
        raise CheckpointError(f"{name}: no config.json; this is not a checkpoint directory")
    if _HUB_ID.fullmatch(name):
        try:
            return Path(snapshot_download(name))
        except OSError as error:
            raise CheckpointError(
                f"{name}: there is no such directory, and the model hub cannot be reached or does not have it "
                f"({str(error).splitlines()[0]}); download it elsewhere and give its directory"
            ) from error
    raise CheckpointError(f"{name!r} is neither a checkpoint directory, nor a hub id, nor one of {', '.join(PRESETS)}")


def config_of(name: str) -> ModelConfig:
    """Returns the configuration of a preset or a checkpoint directory, without loading weights."""
    directory = find(name)
    return preset(name) if directory is None else read_config(directory, name)[0]


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
            f"{directory}: a video model of transformers, which answers, serves and is evaluated here, but is neither "
            "trained nor exported; train it elsewhere with PEFT and give its adapter with --adapter"
        )
    encoder = build_encoder(config.encoder, device)
    if encoder.revision != towers["encoder"]:
        raise CheckpointError(
            f"{directory}: trained on encoder {config.encoder.name} revision {towers['encoder']}, but the encoder here "
            f"is revision {encoder.revision}, with which answers would be wrong; install the revision it was trained on"
        )
    source = base(config.llm, directory)
    if load_in_4bit:
        source = replace(source, load_in_4bit=True)
    language_model = load_language_model(source, device, device_map)
    if source.lora is not None:
        language_model = load_adapter(language_model, directory, trainable=trainable)
        if not trainable and not source.load_in_4bit:
            language_model = language_model.merge_and_unload()
    _check_sizes(config, encoder, language_model, directory / "projector.safetensors")
    llm = assemble(config, encoder, language_model)
    load_projector(llm, directory / "projector.safetensors")
    own = directory / "tokenizer"
    tokenizer = load_tokenizer(replace(source, source=str(own)) if own.is_dir() else source)
    llm.train(trainable)
    return Model(config, encoder, Processor(tokenizer, config), llm)


def base(config: LanguageModelConfig, directory: Path) -> LanguageModelConfig:
    """Returns the configuration of the checkpoint's language model, with `source` as the place to load it from."""
    if not config.source.startswith(OWN):
        return config
    return replace(config, source=str(directory / config.source.removeprefix(OWN)))


def load_adapter(language_model: torch.nn.Module, directory: Path, *, trainable: bool = False) -> Any:
    """Returns the language model with the checkpoint's adapter beside its weights."""
    from peft import PeftModel

    adapter = directory / "adapter"
    if not (directory / ADAPTER).is_file():
        raise CheckpointError(
            f"{directory}: config.json has a LoRA adapter, but adapter/ is missing; copy it from where it was trained"
        )
    config = read_config(directory)[0].llm.lora
    if config is None:
        raise CheckpointError(f"{directory}: config.json has no LoRA adapter")
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
        state: The state dict of `model.llm`, which the caller gathers if ZeRO-3 divides it among ranks. None takes
            `model.llm.state_dict()`.
    """
    state = model.llm.state_dict() if state is None else state
    directory.mkdir(parents=True, exist_ok=True)
    record = {
        "format": FORMAT,
        "model": model.config.to_dict(),
        "towers": {"encoder": model.encoder.revision},
    }
    (directory / "config.json").write_text(json.dumps(record, indent=2) + "\n")
    save_file(_outside_language_model(state), directory / "projector.safetensors")
    if model.config.llm.lora is not None:
        inside = {k.removeprefix(_INSIDE): v for k, v in state.items() if k.startswith(_INSIDE)}
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


def read_config(directory: Path, name: str | None = None) -> tuple[ModelConfig, dict[str, str]]:
    """Returns the configuration in a checkpoint directory, and the revisions of its frozen parts. For `name` see
    `load_directory`."""
    path = directory / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{directory}: no config.json; this is not a checkpoint directory")
    record = read_object(path)
    if hub.recognises(record):
        named = name if name and _HUB_ID.fullmatch(name) else directory.resolve().name
        return hub.config_of(record, directory, named), {}
    if record.get("format") != FORMAT:
        raise CheckpointError(f"{path}: its format is {record.get('format')}, and this version reads format {FORMAT}")
    try:
        return ModelConfig.from_dict(record["model"]), {"encoder": record["towers"]["encoder"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: a field is missing or of another type ({error!r})") from error
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def projector_state(llm: VideoLLM) -> dict[str, torch.Tensor]:
    """Returns all tensors of the model outside the language model."""
    return _outside_language_model(llm.state_dict())


def _outside_language_model(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v.contiguous() for k, v in state.items() if not k.startswith(_INSIDE)}


def assemble(config: ModelConfig, encoder: FrameEncoder, language_model: Any) -> VideoLLM:
    """Returns a model with an untrained projector between the encoder's features and the language model."""
    wrapped = VideoLLMConfig(
        model=config.to_dict(), token_dim=encoder.token_dim, tokens_per_frame=encoder.tokens_per_frame
    )
    llm = VideoLLM(wrapped, language_model)
    # The projector's output joins the word embeddings, wherever a device map has put those. `llm.to` would also move
    # the language model, which is where it belongs already and may be spread over several devices.
    device = language_model.get_input_embeddings().weight.device
    llm.temporal.to(device)
    llm.visual_norm.to(device)
    return llm


def _check_sizes(config: ModelConfig, encoder: FrameEncoder, language_model: Any, path: Path) -> None:
    """Compares the sizes in the config with a projector's file, before they take memory. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; it has the weights of the projector")
    temporal, tensors = config.temporal, count_tensors(path)
    if max(temporal.layers, temporal.frame_layers if temporal.kind == "video_llama" else 0) > tensors:
        raise CheckpointError(f"{path}: {tensors} tensors cannot be those of {temporal.layers} layers in config.json")
    width = language_model.get_input_embeddings().weight.shape[1]
    try:
        with torch.device("meta"):
            module = build_temporal(temporal, encoder.token_dim, width, encoder.tokens_per_frame)
    except RuntimeError as error:  # sizes that no tensor can have
        raise CheckpointError(f"{path}: does not have the sizes of {temporal} in config.json ({error})") from error
    expected = {f"temporal.{name}": tensor.shape for name, tensor in module.state_dict().items()}
    if temporal.output_norm:
        expected |= {f"visual_norm.{name}": torch.Size((width,)) for name in ("weight", "bias")}
    check_tensors(path, expected)


def load_projector(llm: VideoLLM, path: Path) -> None:
    """Loads everything outside the language model from `path`. Raises CheckpointError if tensors do not fit."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; it has the weights of the projector")
    state = read_tensors(path, {name: tensor.shape for name, tensor in projector_state(llm).items()})
    llm.load_state_dict(state, strict=False)  # the language model's own weights are already there
