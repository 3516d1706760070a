"""What the imports of chat systems share: reading the published files and writing the checkpoint directory."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from videollm.checkpoint import assemble, save
from videollm.config import EncoderConfig, ModelConfig
from videollm.encoders.audio import AudioEncoder, HearingEncoder
from videollm.encoders.build import build_encoder
from videollm.errors import CheckpointError
from videollm.model import Model
from videollm.models.language import add_adapter, reachable
from videollm.models.processor import Processor
from videollm.models.published.files import read
from videollm.models.published.key_mapping import load_official
from videollm.models.published.llama import IGNORED as LLAMA_IGNORED
from videollm.models.published.video_llama_system import official_audio
from videollm.models.temporal_base import TemporalModule
from videollm.models.tower import TowerModule

EVIDENCE = EncoderConfig(dtype="float32")  # the tower of these systems has no text side, so lite finds the evidence
LLAMA = "llama_model."


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The result of an import.

    Attributes:
        out: The directory that was written.
        system: The name of the system.
        parameters: The number of parameters outside the language model.
        visual_tokens: The number of tokens of one video, 0 for a system that only searches.
        audio_tokens: The number of tokens of its audio, 0 for a system that does not hear.
    """

    out: str
    system: str
    parameters: int
    visual_tokens: int
    audio_tokens: int = 0


def check_new(out: Path) -> None:
    """Raises CheckpointError if the directory to write is not empty."""
    if out.exists() and any(out.iterdir()):
        raise CheckpointError(f"{out} is not empty; give a new directory")


def read_files(files: Sequence[Path], prefixes: dict[str, str]) -> dict[str, torch.Tensor]:
    """Returns the tensors of all files. Later files replace tensors of earlier ones.

    Args:
        files: The published files.
        prefixes: For a file of a tower alone, a name that it has, and what is put before its names.
    """
    state: dict[str, torch.Tensor] = {}
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is not a file; give a published checkpoint")
        found = read(file)
        prefix = next((put for name, put in prefixes.items() if name in found), "")
        state |= {prefix + name: tensor for name, tensor in found.items()}
    return state


def only_blocks(state: dict[str, torch.Tensor], blocks: str, count: int | None) -> dict[str, torch.Tensor]:
    """Returns the tensors without the blocks of the list `blocks` beyond the first `count`, which the system does not
    use. None keeps all."""
    last = re.compile(re.escape(blocks) + r"\.(\d+)\.")
    return {n: t for n, t in state.items() if count is None or (m := last.match(n)) is None or int(m[1]) < count}


def load_llm(llm: Path) -> tuple[Any, Any]:
    """Returns the tokenizer and the language model in a directory. Raises CheckpointError if there are none."""
    with reachable(str(llm)):
        tokenizer = AutoTokenizer.from_pretrained(llm, trust_remote_code=False)
        return tokenizer, AutoModelForCausalLM.from_pretrained(llm, trust_remote_code=False)


def write(
    config: ModelConfig,
    state: dict[str, torch.Tensor],
    official_names: Callable[[TemporalModule], dict[str, str]],
    out: Path,
    *,
    ignored: Sequence[str],
    source: str,
    files: Sequence[Path],
    audio: AudioEncoder | None = None,
) -> Imported:
    """Writes the checkpoint directory of a system whose language model has only an adapter, or nothing, of its own.

    Args:
        config: The configuration of the model. Its language model's source is a directory.
        state: The published tensors.
        official_names: Maps the names of the temporal module's tensors to the published ones.
        out: The directory, new or empty.
        ignored: Patterns of published names that this model has no use for.
        source: Where the system was published, for card.md.
        files: The published files, for card.md.
        audio: The encoder of audio, for a system that hears.

    Raises:
        CheckpointError: If tensors are missing, unknown or of another shape. The message lists them.
    """
    check_new(out)
    encoder = build_encoder(config.encoder, "cpu")
    tokenizer, language_model = load_llm(Path(config.llm.source))
    if config.llm.lora is not None:
        language_model = add_adapter(language_model, config.llm.lora)
    video_llm = assemble(config, encoder, language_model)
    adapter = _load_adapter(language_model, state)
    projector = nn.ModuleDict({"temporal": video_llm.temporal})
    names = {f"temporal.{name}": official for name, official in official_names(video_llm.temporal).items()}
    if video_llm.audio is not None:
        projector["audio"] = video_llm.audio
        names |= {f"audio.{name}": official_audio(name) for name in video_llm.audio.state_dict()}
    published = {name: tensor for name, tensor in state.items() if name not in adapter}
    load_official(projector, published, names, [*ignored, LLAMA_IGNORED])
    if isinstance(video_llm.temporal, TowerModule):
        in_tower = (official for name, official in names.items() if name.startswith("temporal.tower."))
        video_llm.temporal.tower.to(state[next(in_tower)].dtype)
    if audio is not None:
        encoder = HearingEncoder(encoder, audio)
    save(Model(config, encoder, Processor(tokenizer, config), video_llm), out, card(config.name, files, source))
    return Imported(
        out=str(out),
        system=config.name,
        parameters=sum(parameter.numel() for parameter in projector.parameters()) + sum(adapter.values()),
        visual_tokens=config.temporal.queries,
        audio_tokens=0 if audio is None else config.audio.queries,
    )


@torch.no_grad()
def _load_adapter(language_model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, int]:
    """Copies the published adapter. Returns the published names of its tensors and their sizes."""
    own = {LLAMA + name: tensor for name, tensor in language_model.named_parameters() if ".lora_" in name}
    if missing := sorted(own.keys() - state.keys()):
        raise CheckpointError(f"the files have no adapter for this language model: missing {', '.join(missing[:6])}")
    for name, parameter in own.items():
        if parameter.shape != state[name].shape:
            raise CheckpointError(
                f"{name} is {tuple(state[name].shape)}, but the language model needs {tuple(parameter.shape)}; give "
                "the language model that the adapter was trained on"
            )
        parameter.copy_(state[name])
    return {name: parameter.numel() for name, parameter in own.items()}


def card(system: str, files: Sequence[Path], source: str) -> str:
    """Returns the content of card.md."""
    names = ", ".join(f"`{file.name}`" for file in files)
    return (
        f"# {system}\n\nConverted from {names} of {source}. Data, recipe, results and licence are those of the "
        "published checkpoint and of the models under it.\n"
    )
