"""A model's parts, and what is said of them in its checkpoint directory, read without importing what computes them.

`videollm.checkpoint` describes the directory.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from videollm.checkpoint_files import check_tensors, count_tensors, read_object, read_tensors
from videollm.config import LanguageModelConfig, ModelConfig
from videollm.device import resolve_device
from videollm.encoders.base import FrameEncoder
from videollm.encoders.build import build_encoder
from videollm.encoders.pixels import PixelEncoder
from videollm.errors import CheckpointError, ConfigError
from videollm.models.audio import build_audio
from videollm.models.outputs import MediaOutputs
from videollm.models.processor import Processor
from videollm.models.served import SHORT_SIDE, ServedLLM, ServedProcessor, served_config
from videollm.models.temporal import build_temporal
from videollm.models.visual_prompting import VisualPrompting
from videollm.presets import PRESETS, preset

if TYPE_CHECKING:
    from videollm.models.video_llm import VideoLLM

SHIPPED = Path(__file__).parent / "weights"
FORMAT = 1
OWN = "own:"  # marks a language model's source as a folder of the checkpoint directory
INSIDE = "language_model."  # what the names of the language model's tensors begin with
VIRTUAL = "virtual_tokens."  # and those of prompt tuning, which are saved as an adapter
AUDIO = "audio_encoder"  # the folder of a checkpoint directory with the weights that hear
_AUDIO_BRANCH = ("audio.", "audio_norm.")  # what the names of its tensors begin with
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Model:
    """All parts of a model, on one device. `ChatSession` and training take it."""

    config: ModelConfig
    encoder: FrameEncoder
    processor: Processor
    # Models that only answer, `HubLLM` and `ChatLLM`, have the methods of `VideoLLM` that inference uses.
    llm: "VideoLLM"

    @property
    def device(self) -> torch.device:
        """The device where prompts are embedded. A language model that is spread over several GPUs takes its input
        there."""
        return self.llm.device


def find(name: str, files: str | None = None) -> Path | None:
    """Returns the checkpoint directory that `name` stands for, or None for a preset without one. A hub id is
    downloaded.

    files: the pattern of the files that are downloaded. None stands for all.

    Raises CheckpointError if there is no such directory and no such model on the hub.
    """
    for directory in (SHIPPED / name, Path(name).expanduser()):
        if any((directory / file).is_file() for file in ("config.json", "adapter_config.json")):
            return directory
    if name in PRESETS:
        return None
    if Path(name).expanduser().is_dir():
        raise CheckpointError(f"{name}: no config.json; this is not a checkpoint directory")
    if HUB_ID.fullmatch(name):
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(name, allow_patterns=files))
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


def served_model(
    name: str,
    device: str | torch.device | None,
    *,
    server_url: str,
    evidence_encoder: str | None = None,
    **local: Any,
) -> Model:
    """Returns a model that an OpenAI-compatible server runs. The arguments are those of `videollm.load`.

    Raises ConfigError for options of a model that runs here.
    """
    refuse_local(name, server_url, local)
    device, encoder = resolve_device(device), config_of(evidence_encoder or "lite").encoder
    config = served_config(name, server_url, encoder)
    llm: Any = ServedLLM(server_url, device)  # has nothing that is computed here
    return Model(config, PixelEncoder(build_encoder(encoder, device), SHORT_SIDE), ServedProcessor(config), llm)


def refuse_local(name: str, server_url: str, local: dict[str, Any]) -> None:
    """Raises ConfigError for options of a model that runs here, given for one that a server runs."""
    if given := [option for option, value in local.items() if value]:
        raise ConfigError(
            f"{given[0]} is for a model that runs here, and the server at {server_url} runs {name}; leave it out"
        )


def base(config: LanguageModelConfig, directory: Path) -> LanguageModelConfig:
    """Returns the configuration of the checkpoint's language model, with `source` as the place to load it from."""
    if not config.source.startswith(OWN):
        return config
    return replace(config, source=str(directory / config.source.removeprefix(OWN)))


def read_config(directory: Path, name: str | None = None) -> tuple[ModelConfig, dict[str, str]]:
    """Returns the configuration in a checkpoint directory, and the revisions of its frozen parts.

    name: that of a video model of transformers, see `videollm.load`; None is that of its directory.
    """
    path = directory / "config.json"
    if not path.is_file() and (directory / "adapter_config.json").is_file():
        from videollm.models.hub import adapter  # imports transformers, which takes seconds

        config = adapter.adapted(read_config(adapted_model(directory))[0], directory)
        return replace(config, name=_shown(directory, name)), {}
    if not path.is_file():
        raise CheckpointError(f"{directory}: no config.json; this is not a checkpoint directory")
    record = read_object(path)
    if record.get("format") != FORMAT:
        from videollm.models.hub import load as hub  # imports transformers, which takes seconds

        if hub.recognises(record):
            return hub.config_of(record, directory, _shown(directory, name)), {}
        raise CheckpointError(f"{path}: its format is {record.get('format')}, and this version reads format {FORMAT}")
    try:
        config = ModelConfig.from_dict(record["model"])
        if config.encoder.pretrained.startswith(OWN):
            folder = directory.resolve() / config.encoder.pretrained.removeprefix(OWN)
            config = replace(config, encoder=replace(config.encoder, pretrained=f"local-dir:{folder}"))
        return config, {"encoder": record["towers"]["encoder"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: a field is missing or of another type ({error!r})") from error
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def base_name(adapter: Path) -> str:
    """Returns the hub id or the directory of the model that an adapter of PEFT was trained on.

    Raises CheckpointError if the adapter does not say.
    """
    file = adapter / "adapter_config.json"
    base = read_object(file).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise CheckpointError(f"{file}: it names no base model; give --model BASE --adapter {adapter}")
    return base


def adapted_model(adapter: Path) -> Path:
    """Returns the directory of the video model of transformers that a directory of PEFT is an adapter for.

    Raises CheckpointError if there is no such model.
    """
    from videollm.models.hub.load import recognises

    base = base_name(adapter)
    directory = find(base)
    if directory is None or not recognises(read_object(directory / "config.json")):
        raise CheckpointError(f"{adapter}: an adapter for {base}, which is not a video model of transformers")
    return directory


def _shown(directory: Path, name: str | None) -> str:
    return name if name and HUB_ID.fullmatch(name) else directory.resolve().name


def projector_state(llm: VisualPrompting) -> dict[str, torch.Tensor]:
    """Returns all tensors of the model outside the language model."""
    return outside_language_model(llm.state_dict())


def outside_language_model(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the tensors of a model's state dict that belong into projector.safetensors."""
    return {k: v.contiguous() for k, v in state.items() if not k.startswith((INSIDE, VIRTUAL))}


def check_revision(directory: Path, config: ModelConfig, towers: dict[str, str], encoder: FrameEncoder) -> None:
    """Raises CheckpointError for an encoder of another revision than the checkpoint was trained with."""
    if encoder.revision != towers["encoder"]:
        raise CheckpointError(
            f"{directory}: trained on encoder {config.encoder.name} revision {towers['encoder']}, but the encoder here "
            f"is revision {encoder.revision}, with which answers would be wrong; install the revision it was trained on"
        )


def check_sizes(config: ModelConfig, encoder: FrameEncoder, embeddings: torch.Tensor, path: Path) -> None:
    """Compares the sizes in the config with a projector's file, before they take memory. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing; it has the weights of the projector. A directory with an encoder alone is for "
            "videollm index and search"
        )
    temporal, tensors = config.temporal, count_tensors(path)
    frame_layers = temporal.frame_layers if temporal.kind == "video_llama" else 0
    layers = max(temporal.layers, frame_layers, temporal.tower.layers if temporal.tower else 0)
    layers = max(layers, config.audio.layers if config.audio.kind != "none" else 0)
    layers = max(layers, config.outputs.layers if config.outputs.modalities else 0)
    if layers > tensors:
        raise CheckpointError(f"{path}: {tensors} tensors cannot be those of {layers} layers in config.json")
    width = embeddings.shape[1]
    try:
        with torch.device("meta"):
            module = build_temporal(temporal, encoder.token_dim, width, encoder.tokens_per_frame)
            audio = build_audio(config.audio, width)
            outputs = MediaOutputs(config.outputs, width, 0)
    except RuntimeError as error:  # sizes that no tensor can have
        raise CheckpointError(
            f"{path}: does not have the sizes of {temporal}, {config.audio} and {config.outputs} in config.json "
            f"({error})"
        ) from error
    expected = {f"temporal.{name}": tensor.shape for name, tensor in module.state_dict().items()}
    if audio is not None:
        expected |= {f"audio.{name}": tensor.shape for name, tensor in audio.state_dict().items()}
    if config.outputs.modalities:
        expected |= {f"outputs.{name}": tensor.shape for name, tensor in outputs.state_dict().items()}
    if temporal.output_norm:
        norms = ("visual_norm",) if audio is None else ("visual_norm", "audio_norm")
        expected |= {f"{norm}.{name}": torch.Size((width,)) for norm in norms for name in ("weight", "bias")}
    check_tensors(path, expected, _AUDIO_BRANCH if audio is None else ())


def load_projector(llm: VisualPrompting, path: Path, *, has_audio: bool = True) -> None:
    """Loads everything outside the language model from `path`. Raises CheckpointError if tensors do not fit.

    has_audio: whether the file has the audio branch of a model that hears.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; it has the weights of the projector")
    expected = {name: tensor.shape for name, tensor in projector_state(llm).items()}
    if not has_audio:
        expected = {name: shape for name, shape in expected.items() if not name.startswith(_AUDIO_BRANCH)}
    state = read_tensors(path, expected, _AUDIO_BRANCH if llm.audio is None else ())
    llm.load_state_dict(state, strict=False)  # the language model's own weights are already there
