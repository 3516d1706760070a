"""Diffusers pipelines, which make media from text conditions.

A pipeline is usable if its text condition is one tensor, `prompt_embeds`. Those of Stable Diffusion 1 and 2, ZeroScope
and ModelScope, AnimateDiff, AudioLDM and Stable Audio are. Weights are read from safetensors only.

Shapes: K texts, Q embeddings of a condition, C their width.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import logging

from videollm.checks import check
from videollm.decoders.media import GeneratedAudio, GeneratedImage, GeneratedMedia, GeneratedVideo
from videollm.device import resolve_device, resolve_dtype
from videollm.errors import CheckpointError, ConfigError
from videollm.output_config import Modality

# Parts that a pipeline needs to encode a text.
TEXT_PARTS = ("tokenizer", "text_encoder", "projection_model")
# Arguments of pipelines whose condition is more than `prompt_embeds`.
MORE_CONDITIONS = ("pooled_prompt_embeds", "prompt_embeds_2", "prompt_embeds_mask", "prompt_attention_mask")
MORE_CONDITIONS += ("generated_prompt_embeds", "text_ids")
RESULTS: dict[Modality, str] = {"image": "images", "video": "frames", "audio": "audios"}
VIDEO_FPS = 8.0  # at which diffusers shows the frames of its text-to-video models


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """How media are made.

    Args:
        steps: The number of denoising steps. NExT-GPT takes 40.
        size: The height and width of pictures and videos in pixels, a multiple of 8. None takes those of the pipeline.
        seed: The seed of the noise. None draws it anew.
    """

    steps: int = 40
    size: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        check(1 <= self.steps <= 1000, f"steps is {self.steps}; it must be from 1 to 1000")
        check(
            self.size is None or (8 <= self.size <= 2048 and self.size % 8 == 0),
            f"size is {self.size}; it must be a multiple of 8 from 8 to 2048",
        )


class MediaDecoder:
    """A pipeline that makes media from text conditions.

    Args:
        source: A directory of diffusers or a hub id.
        modality: What it makes.
        device: The device, see `resolve_device`.

    Raises:
        CheckpointError: If the pipeline cannot be loaded.
        ConfigError: If its condition is not `prompt_embeds` alone.
    """

    def __init__(self, source: str, modality: Modality, device: str | torch.device | None = None):
        self.source, self.device = source, resolve_device(device)
        self.modality: Modality = modality
        dtype = torch.float32 if self.device.type == "cpu" else resolve_dtype("auto", self.device)
        self._pipeline = load_pipeline(source, self.device, dtype)
        self._shape = encode_texts(self._pipeline, [""], self.device).shape
        self._takes = inspect.signature(self._pipeline.__call__).parameters

    def __call__(self, condition: torch.Tensor, config: DecodingConfig) -> GeneratedMedia:
        """Returns what the pipeline makes from a condition (1,Q,C).

        Raises ConfigError if the pipeline has conditions of another size, or makes another kind of media.
        """
        if condition.shape != self._shape:
            raise ConfigError(
                f"{self.source}: its text condition is {tuple(self._shape[1:])}, and the model's is "
                f"{tuple(condition.shape[1:])}; give the pipeline that the model was trained with, or one with the "
                "same text encoder"
            )
        generator = None if config.seed is None else torch.Generator("cpu").manual_seed(config.seed)
        embeds = condition[:, 0] if condition.shape[1] == 1 else condition
        wanted = {
            "prompt_embeds": embeds.to(self.device, self._pipeline.text_encoder.dtype),
            "num_inference_steps": config.steps,
            "generator": generator,
            "output_type": "np",
        }
        if config.size is not None:
            wanted |= {"height": config.size, "width": config.size}
        found = self._pipeline(**{name: value for name, value in wanted.items() if name in self._takes})
        result = getattr(found, RESULTS[self.modality], None)
        if result is None:
            raise ConfigError(f"{self.source}: a {type(self._pipeline).__name__} makes no {self.modality}")
        made = np.asarray(result[0], np.float32)
        if self.modality == "audio":
            return GeneratedAudio(np.atleast_2d(made), self._sampling_rate())
        pixels = (made.clip(0, 1) * 255).round().astype(np.uint8)
        return GeneratedImage(pixels) if self.modality == "image" else GeneratedVideo(pixels, VIDEO_FPS)

    def _sampling_rate(self) -> int:
        parts = self._pipeline.components
        return int((parts["vocoder"] if "vocoder" in parts else parts["vae"]).config.sampling_rate)


@torch.no_grad()
def encode_texts(pipeline: Any, texts: Sequence[str], device: torch.device) -> torch.Tensor:
    """Returns the conditions (K,Q,C) of K texts as the pipeline's own text encoder makes them."""
    encode = getattr(pipeline, "encode_prompt", None) or pipeline._encode_prompt
    wanted = {
        "prompt": list(texts),
        "device": device,
        "num_images_per_prompt": 1,
        "num_waveforms_per_prompt": 1,
        "do_classifier_free_guidance": False,
    }
    taken = inspect.signature(encode).parameters
    found = encode(**{name: value for name, value in wanted.items() if name in taken})
    condition = found if isinstance(found, torch.Tensor) else found[0]
    return condition[:, None] if condition.ndim == 2 else condition  # AudioLDM's is one vector


def load_pipeline(source: str, device: torch.device, dtype: torch.dtype, *, text_only: bool = False) -> Any:
    """Loads a pipeline, or only what encodes its texts."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # else each text that is cut off is a line of the log
    try:
        config: Any = DiffusionPipeline.load_config(source)
        left_out = [name for name, part in config.items() if isinstance(part, list) and name not in TEXT_PARTS]
        pipeline = DiffusionPipeline.from_pretrained(
            source,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            **(dict.fromkeys(left_out) if text_only else {}),
        )
    except (OSError, ValueError, AttributeError, TypeError) as error:  # of files that are missing or of another form
        raise CheckpointError(
            f"{source} cannot be loaded as a diffusers pipeline ({str(error).splitlines()[0]}); give the directory or "
            "the hub id of one whose weights are safetensors files"
        ) from error
    takes = inspect.signature(pipeline.__call__).parameters
    more = [name for name in MORE_CONDITIONS if name in takes]
    if "prompt_embeds" not in takes or more:
        wanted = f"prompt_embeds and {', '.join(more)}" if more else "no prompt_embeds"
        raise ConfigError(
            f"{source}: a {type(pipeline).__name__} takes {wanted}; give a pipeline that takes prompt_embeds alone, "
            "such as Stable Diffusion 1.5"
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
