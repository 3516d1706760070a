"""ViCLIP (Wang et al. 2023, "InternVid"), which has OpenAI's names and joint attention over space and time.

Official code: https://github.com/OpenGVLab/InternVideo/tree/main/Data/InternVid.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from videollm.encoders.base import TextFeatures
from videollm.errors import ConfigError
from videollm.models.published.system import StateShapes
from videollm.retrieval.head import VideoRepr
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel
from videollm.retrieval.published.system import (
    Inputs,
    RetrievalAdapter,
    eot_mask,
    frames_first,
    rename,
    text_config,
    vision_config,
)


def configure(_: str, shapes: StateShapes, config: Mapping[str, Any]) -> RetrievalConfig:
    """Returns the configuration of a state dict."""
    frames = shapes["vision_encoder.temporal_positional_embedding"][1]
    tubelet = shapes["vision_encoder.conv1.weight"][2]
    shape = {"patches": "joint", "frames": frames, "tubelet": tubelet}
    vision = vision_config(shapes, "vision_encoder.", "conv1", config, **shape)
    return RetrievalConfig(
        vision=vision,
        text=text_config(shapes, "text_encoder.", config),
        head=HeadConfig(kind="plain_mean"),
        scale="divisor",
    )


def _first(inputs: Inputs, names: tuple[str, ...]) -> torch.Tensor:
    """Returns the first of several inputs that is given. Raises ConfigError if there is none."""
    found = next((inputs[name] for name in names if name in inputs), None)
    if found is None:
        raise ConfigError(f"the inputs are {', '.join(inputs)}; one of {', '.join(names)} is needed")
    return found


def encode_texts(model: RetrievalModel, inputs: Inputs) -> TextFeatures:
    """Reads text or input_ids, (B,L)."""
    ids = _first(inputs, ("text", "input_ids"))
    return model.encode_text(ids, eot_mask(ids))


def encode_videos(model: RetrievalModel, inputs: Inputs) -> VideoRepr:
    """Reads image or video, (B,T,3,H,W) or (B,3,T,H,W)."""
    video = frames_first(_first(inputs, ("image", "video")).float())
    return model.encode_video(video, torch.ones(video.shape[:2], dtype=torch.bool, device=video.device))


VICLIP = RetrievalAdapter(
    configure=configure,
    rename=partial(
        rename, ((r"^visual\.", "vision_encoder."), (r"^text\.", "text_encoder."), (r"^temperature$", "temp"))
    ),
    texts=encode_texts,
    videos=encode_videos,
)
