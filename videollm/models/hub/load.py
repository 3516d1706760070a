"""Recognise and load a directory of transformers: a model for images, videos and text, and its processor."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from videollm.config import EncoderConfig, LanguageModelConfig, ModelConfig, PromptConfig, SegmentConfig
from videollm.encoders.transformers_clip import KINDS
from videollm.errors import CheckpointError
from videollm.models.hub.families import FAMILIES, OTHERS, Family
from videollm.models.hub.instruct import InstructBlip, InstructProcessor
from videollm.models.hub.model import HubLLM
from videollm.models.hub.processor import HubProcessor
from videollm.models.language import DeviceMap, loading_arguments

SEGMENT_FRAMES = 4  # evidence is as fine as segments, and a video is thinned by them
MAX_NEW_TOKENS = 512
ITS_OWN = "own:."  # as the source of a language model: the directory that its config.json is in
NONE = "none"  # as the source: there is no language model, but only an encoder


def recognises(record: dict[str, Any]) -> bool:
    """Returns whether the content of a config.json is transformers' and not ours."""
    return "model_type" in record and "format" not in record


def config_of(record: dict[str, Any], directory: Path, name: str) -> ModelConfig:
    """Returns the configuration for a config.json of transformers. Its content decides the hash, not where it lies.

    A CLIP or SigLIP is an encoder without a language model.

    Raises CheckpointError for a kind of model that transformers has no images or videos for.
    """
    kind = record["model_type"]
    if kind in KINDS:
        encoder = EncoderConfig(kind="open_clip", name=name, pretrained=f"local-dir:{directory.resolve()}")
        return ModelConfig(name=name, encoder=encoder, llm=LanguageModelConfig(source=NONE))
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and kind not in FAMILIES:
        raise CheckpointError(
            f"{directory}: config.json has model_type {kind!r}, which is not a model for images or videos and text in "
            "this version of transformers; use one such as qwen3_vl, or a checkpoint that videollm wrote"
        )
    text = AutoConfig.from_pretrained(directory, trust_remote_code=False).get_text_config()
    return ModelConfig(
        name=name,
        sampling=family_of(directory).sampling,
        segments=SegmentConfig(frames=SEGMENT_FRAMES),
        encoder=EncoderConfig(dtype="float32"),
        llm=LanguageModelConfig(source=ITS_OWN, revision=hashlib.sha256(json.dumps(record).encode()).hexdigest()[:12]),
        prompt=PromptConfig(system="", tags=0, context=text.max_position_embeddings, max_new_tokens=MAX_NEW_TOKENS),
    )


def family_of(directory: Path) -> Family:
    return FAMILIES.get(json.loads((directory / "config.json").read_text())["model_type"], OTHERS)


def load_processor(directory: Path, config: ModelConfig) -> HubProcessor:
    """Returns the processor. Raises CheckpointError if a file is missing or needs code that is not in transformers."""
    try:
        processor = AutoProcessor.from_pretrained(directory, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(f"{directory}: its processor cannot be loaded ({str(error).splitlines()[0]})") from error
    family = family_of(directory)
    made = (InstructProcessor if family.reads_question else HubProcessor)(processor, config, family)
    made.stop_ids |= _ends(directory)
    return made


def _ends(directory: Path) -> set[int]:
    """Returns the tokens that end an answer according to the model's generation_config.json."""
    path = directory / "generation_config.json"
    named = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
    return set(named if isinstance(named, list) else [] if named is None else [named])


def load_model(
    directory: Path, config: LanguageModelConfig, device: torch.device, device_map: DeviceMap = None
) -> HubLLM:
    """Returns the model in evaluation mode, from safetensors only. Raises CheckpointError if they are missing."""
    arguments = {"use_safetensors": True, **loading_arguments(config, device, device_map)}
    try:
        family, whole = family_of(directory), AutoConfig.from_pretrained(directory, trust_remote_code=False)
        if family.reads_question and whole.text_config.is_encoder_decoder:
            raise CheckpointError(
                f"{directory}: its language model {whole.text_config.model_type} has an encoder of its own, which is "
                "not supported; use the InstructBLIP with Vicuna"
            )
        if family.speaks:
            arguments |= {"config": whole.thinker_config, "key_mapping": {r"^thinker\.": ""}}
        auto: Any = InstructBlip if family.reads_question else AutoModelForImageTextToText
        loaded = auto.from_pretrained(directory, trust_remote_code=False, output_loading_info=True, **arguments)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory}: it cannot be loaded ({str(error).splitlines()[0]})") from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"{directory}: {len(missing)} tensors are missing, the first is {missing[0]}; copy it again"
        )
    return HubLLM(model.eval().requires_grad_(False))
