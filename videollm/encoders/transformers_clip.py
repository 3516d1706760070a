"""CLIP and SigLIP in the directory that transformers writes, with the interface of open_clip's models.

Shapes: B images or texts, N tokens of one, D width, E width of the shared space.
"""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from videollm.errors import AssetError

KINDS = ("clip", "siglip")  # values of `model_type` in config.json


class TransformersTowers(nn.Module):
    """Both towers of a model of transformers. `preprocess_cfg` has open_clip's names for what is done to images."""

    def __init__(self, model: Any, preprocess_cfg: dict[str, Any]):
        super().__init__()
        self.model, self.preprocess_cfg = model, preprocess_cfg
        self.is_clip = model.config.model_type == "clip"

    @property
    def logit_scale(self) -> nn.Parameter:
        return self.model.logit_scale

    @property
    def text_projection(self) -> nn.Linear:
        """From hidden states of the text tower to the shared space."""
        return self.model.text_projection if self.is_clip else self.model.text_model.head

    def forward_intermediates(
        self,
        image: torch.Tensor | None = None,
        text: torch.Tensor | None = None,
        image_indices: Sequence[int] = (),
        **_: Any,
    ) -> dict[str, Any]:
        """Returns unit vectors (B,E) and hidden states, of the image tower those of its block `image_indices[0]`.

        This is the part of open_clip's `forward_intermediates` that the encoder uses. Raises IndexError if there is no
        such block.
        """
        if image is not None:
            return self._images(image, image_indices[0])
        assert text is not None
        out = self.model.text_model(input_ids=text)
        embed = self.model.text_projection(out.pooler_output) if self.is_clip else out.pooler_output
        return {"text_intermediates": [out.last_hidden_state], "text_features": F.normalize(embed, dim=-1)}

    def _images(self, images: torch.Tensor, block: int) -> dict[str, Any]:
        seen: list[torch.Tensor] = []
        hook = self.model.vision_model.encoder.layers[block].register_forward_hook(
            lambda module, inputs, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        try:
            embed = self.model.vision_model(pixel_values=images).pooler_output
        finally:
            hook.remove()
        embed, prefix = (self.model.visual_projection(embed), 1) if self.is_clip else (embed, 0)
        patches = seen[0][:, prefix:].transpose(1, 2)[..., None]  # as a picture (B,D,N,1), like open_clip's
        return {
            "image_intermediates": [patches],
            "image_intermediates_prefix": [seen[0][:, :prefix]] if prefix else [],
            "image_features": F.normalize(embed, dim=-1),
        }


class TransformersTokenizer:
    """From texts to ids (B, context length). A text that is too long loses its end."""

    def __init__(self, tokenizer: Any, length: int, end: int | None):
        self._tokenizer, self._length, self._end = tokenizer, length, end

    def __call__(self, texts: list[str]) -> torch.Tensor:
        made = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=self._length, return_tensors="pt"
        )
        ids: torch.Tensor = made["input_ids"]
        if self._end is None:
            return ids
        ended = (ids == self._end).cumsum(1) - (ids == self._end).long()
        return ids.masked_fill(ended > 0, 0)  # CLIP's own padding; the tokenizer pads with the end token

    def fits(self, text: str) -> bool:
        return len(self._tokenizer(text)["input_ids"]) <= self._length


def load_transformers(directory: Path) -> tuple[TransformersTowers, TransformersTokenizer]:
    """Returns the network on the CPU in float32, and its tokenizer.

    Raises AssetError if files or tensors are missing, or code would have to be run.
    """
    try:
        loaded: Any = AutoModel.from_pretrained(
            directory, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        images: Any = AutoImageProcessor.from_pretrained(directory, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, ImportError, UnpicklingError) as error:
        raise AssetError(f"{directory} cannot be loaded ({str(error).strip().splitlines()[0]})") from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise AssetError(f"{directory}: {len(missing)} tensors are missing, the first is {missing[0]}; copy it again")
    text = model.config.text_config
    crops = bool(getattr(images, "do_center_crop", False))
    preprocess = {
        "size": model.config.vision_config.image_size,
        "mean": tuple(images.image_mean),
        "std": tuple(images.image_std),
        "resize_mode": "shortest" if crops else "squash",
    }
    end = tokenizer.eos_token_id if model.config.model_type == "clip" else None
    return TransformersTowers(model, preprocess), TransformersTokenizer(tokenizer, text.max_position_embeddings, end)
