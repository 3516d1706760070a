"""One directory, one model.

    config.json            ModelConfig, and which frozen towers it was trained with
    projector.safetensors  the temporal module and everything else that was trained outside the language model
    adapter/               the language model's LoRA weights (PEFT), where there are any
    language_model/        the language model itself, in an exported checkpoint, whose config says "own:language_model"
    card.md                data, recipe, metrics, licence

    tokenizer/             unless it comes with an asset or lies beside the language model

Frozen towers are named, not copied.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file, save_file

from videollm.config import LanguageModelConfig, ModelConfig
from videollm.encoders.base import FrameEncoder
from videollm.encoders.build import build_encoder
from videollm.errors import CheckpointError
from videollm.models.language import add_lora, load_language_model, load_tokenizer
from videollm.models.processor import Processor
from videollm.models.video_llm import VideoLLM, VideoLLMConfig
from videollm.presets import DEBUG, PRESETS, preset

SHIPPED = Path(__file__).parent / "weights"
FORMAT = 1
OWN = "own:"  # a language model's source: a folder of the checkpoint directory
_INSIDE = "language_model."
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Model:
    """A model ready for use: what `ChatSession` and training take."""

    config: ModelConfig
    encoder: FrameEncoder
    processor: Processor
    llm: VideoLLM

    @property
    def device(self) -> torch.device:
        return self.llm.visual_norm.weight.device


def build(config: ModelConfig, device: str | torch.device = "cpu", seed: int = 0) -> Model:
    """The model with an untrained projector (and adapter, where the config has one), as training starts from."""
    encoder = build_encoder(config.encoder, device)
    language_model = load_language_model(config.llm, device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if config.llm.lora is not None:
            language_model = add_lora(language_model, config.llm.lora)
        llm = _assemble(config, encoder, language_model)
    return Model(config, encoder, Processor(load_tokenizer(config.llm), config), llm.to(device))  # type: ignore[arg-type]


def load(name: str = "lite", device: str | torch.device = "cpu") -> Model:
    """A trained model, ready to answer: a preset that ships with weights, or a checkpoint directory.

    The adapter is merged into the language model, which then runs at the base model's speed. Raises CheckpointError
    for a preset without trained weights: its answers would be noise. (`debug` is meant to be noise.)
    """
    if name == DEBUG.name:
        model = build(DEBUG, device)
        model.llm.eval()
        return model
    directory = find(name)
    if directory is None:
        raise CheckpointError(f"preset {name!r} ships no trained weights; train it, then give the directory it wrote")
    return load_directory(directory, device)


def find(name: str) -> Path | None:
    """The checkpoint directory that `name` stands for, None for a preset without one. A hub id is downloaded."""
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
                f"{name}: not on disk and not to be had from the model hub ({str(error).splitlines()[0]}); "
                "download it elsewhere and give its directory"
            ) from error
    raise CheckpointError(f"{name!r} is neither a checkpoint directory, nor a hub id, nor one of {', '.join(PRESETS)}")


def config_of(name: str) -> ModelConfig:
    """The configuration of a preset or a checkpoint directory, without loading weights."""
    directory = find(name)
    return preset(name) if directory is None else read_config(directory)[0]


def load_directory(directory: Path, device: str | torch.device = "cpu", *, trainable: bool = False) -> Model:
    """Load strictly what `save` wrote; `trainable` keeps the adapter apart, to be trained on."""
    config, towers = read_config(directory)
    encoder = build_encoder(config.encoder, device)
    if encoder.revision != towers["encoder"]:
        raise CheckpointError(
            f"{directory}: trained on encoder {config.encoder.name} revision {towers['encoder']}, "
            f"this one is {encoder.revision}; its answers would be wrong"
        )
    source = base(config.llm, directory)
    language_model = load_language_model(source, device)
    if source.lora is not None:
        language_model = load_adapter(language_model, directory, trainable=trainable)
        if not trainable and not source.load_in_4bit:
            language_model = language_model.merge_and_unload()
    llm = _assemble(config, encoder, language_model)
    load_projector(llm, directory / "projector.safetensors")
    own = directory / "tokenizer"
    tokenizer = load_tokenizer(replace(source, source=str(own)) if own.is_dir() else source)
    llm.to(device)  # type: ignore[arg-type]
    llm.train(trainable)
    return Model(config, encoder, Processor(tokenizer, config), llm)


def base(config: LanguageModelConfig, directory: Path) -> LanguageModelConfig:
    """The language model of the checkpoint directory, its adapter aside, to be loaded from where it is."""
    if not config.source.startswith(OWN):
        return config
    return replace(config, source=str(directory / config.source.removeprefix(OWN)))


def load_adapter(language_model: torch.nn.Module, directory: Path, *, trainable: bool = False) -> Any:
    """The language model with the checkpoint's adapter beside its weights."""
    from peft import PeftModel

    adapter = directory / "adapter"
    if not (adapter / "adapter_model.safetensors").is_file():
        raise CheckpointError(f"{directory}: config.json has a LoRA adapter, but adapter/ is missing")
    return PeftModel.from_pretrained(language_model, str(adapter), is_trainable=trainable)  # type: ignore[arg-type]


def save(model: Model, directory: Path, card: str = "", state: dict[str, torch.Tensor] | None = None) -> None:
    """Write the directory that `load` reads. state: that of `model.llm`, where ZeRO-3 holds it in shards."""
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
        adapter.peft_config["default"].base_model_name_or_path = model.config.llm.source  # not where it lay on disk
        adapter.save_pretrained(str(directory / "adapter"), state_dict=inside, save_embedding_layers=False)
        (directory / "adapter" / "README.md").unlink()  # PEFT's form to fill in; card.md is ours
    if not model.config.llm.source.startswith(("asset:", OWN)):
        model.processor.tokenizer.save_pretrained(str(directory / "tokenizer"))
    if card:
        (directory / "card.md").write_text(card)


def read_config(directory: Path) -> tuple[ModelConfig, dict[str, str]]:
    """The configuration and the towers' revisions that a checkpoint directory states."""
    path = directory / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{directory}: no config.json; this is not a checkpoint directory")
    record = json.loads(path.read_text())
    if record.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {record.get('format')}, this version reads {FORMAT}")
    return ModelConfig.from_dict(record["model"]), record["towers"]


def projector_state(llm: VideoLLM) -> dict[str, torch.Tensor]:
    """Every tensor outside the language model."""
    return _outside_language_model(llm.state_dict())


def _outside_language_model(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v.contiguous() for k, v in state.items() if not k.startswith(_INSIDE)}


def _assemble(config: ModelConfig, encoder: FrameEncoder, language_model: torch.nn.Module) -> VideoLLM:
    wrapped = VideoLLMConfig(
        model=config.to_dict(), token_dim=encoder.token_dim, tokens_per_frame=encoder.tokens_per_frame
    )
    return VideoLLM(wrapped, language_model)  # type: ignore[arg-type]


def load_projector(llm: VideoLLM, path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing")
    state, expected = load_file(path), projector_state(llm)
    missing, unknown = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    wrong = [k for k in expected if k in state and state[k].shape != expected[k].shape]
    if missing or unknown or wrong:
        raise CheckpointError(f"{path}: missing {missing}, unknown {unknown}, wrong shape {wrong}")
    llm.load_state_dict(state, strict=False)  # the language model's own weights are already there
