"""An encoder for all dual encoders of open_clip: CLIP, SigLIP, EVA, CoCa, ...
(https://github.com/mlfoundations/open_clip), also where their weights are a directory of transformers or a state dict.
"""

import difflib
import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NoReturn, cast

import open_clip
import torch
from open_clip import CLIP, CustomTextCLIP
from open_clip.hf_model import HFTextEncoder
from torch import nn
from torch.nn import functional as F
from transformers import dynamic_module_utils

from videollm.config import EncoderConfig
from videollm.device import resolve_dtype, upload
from videollm.encoders.base import FrameFeatures, TextFeatures, Vocabulary, batch_size
from videollm.encoders.concepts import imagenet_concepts, membership
from videollm.encoders.images import RESIZE
from videollm.encoders.tags import concept_probabilities
from videollm.encoders.transformers_clip import (
    KINDS,
    TransformersTokenizer,
    TransformersTowers,
    load_transformers,
)
from videollm.encoders.zero_shot import class_text, fingerprint
from videollm.errors import AssetError, ConfigError

LOCAL = "local-dir:"


class OpenClipEncoder:
    """The FrameEncoder of an open_clip model. `model` is the whole frozen network.

    The tokens are the outputs of block `config.layer` at the patches, without the final norm, as LLaVA takes them, in
    the dtype of the weights. embed and concepts are float32. Concepts are the zero-shot probabilities of "a photo of a
    WORD", summed along `vocabulary`.

    `config.pretrained` is a tag of open_clip, `local-dir:` and a folder of open_clip's
    layout or of transformers (CLIP or SigLIP), or the path of a state dict of the architecture `config.name`. An empty
    one gives random weights, for tests.

    Raises:
        ConfigError: If the name, the tag or the layer does not exist.
        AssetError: If the weights are neither cached nor reachable.
    """

    english_only = False  # several of open_clip's models are multilingual, and nothing records which

    def __init__(
        self,
        config: EncoderConfig,
        device: torch.device | str | None = None,
        vocabulary: Vocabulary | None = None,
    ):
        self.device = torch.device(device or "cpu")
        self.dtype = resolve_dtype(config.dtype, self.device)
        self.layer, self.class_token = config.layer, config.class_token
        self.vocabulary = vocabulary or imagenet_concepts().vocabulary
        self.model, self.tokenizer = _load(config)
        self.model.eval().requires_grad_(False)
        self.name = f"open_clip/{config.name}"
        self.revision = fingerprint(self.model.state_dict().items(), _extra(config))
        self.model.to(self.device, self.dtype)

        preprocess = open_clip.get_model_preprocess_cfg(self.model)
        size = preprocess["size"]
        self.image_size: int = size if isinstance(size, int) else size[0]
        square = isinstance(size, int) or size[0] == size[1]
        if not square or preprocess["resize_mode"] not in RESIZE:
            raise ConfigError(
                f"{config.name} needs the preprocessing {preprocess}, but only square input with resize_mode shortest "
                "or squash is supported; choose another model"
            )
        self.scale = float(self.model.logit_scale.float().exp())
        self._resize = RESIZE[preprocess["resize_mode"] if config.resize == "trained" else config.resize]
        self._mean = 255 * torch.tensor(preprocess["mean"], device=self.device).view(3, 1, 1)
        self._std = 255 * torch.tensor(preprocess["std"], device=self.device).view(3, 1, 1)
        self._membership = membership(self.vocabulary).to(self.device)
        self._cached = bool(config.pretrained) or _has_schema(config.name)

        try:
            tokens, embed = self._frames(torch.zeros(1, 3, self.image_size, self.image_size, dtype=torch.uint8))
        except (AssertionError, IndexError) as error:
            raise ConfigError(f"{config.name} has no layer {config.layer}: {error}") from None
        self.tokens_per_frame, self.token_dim = tokens.shape[1:]
        self.embed_dim = embed.shape[-1]

    # no_grad and not inference_mode, because modules that are trained read the result
    @torch.no_grad()
    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        """Returns tokens (T,N,D), embed (T,E) and concepts (T,C) of uint8 pixels (T,3,H,W)."""
        parts = [self._frames(part) for part in pixels.split(batch_size(self.device))]
        tokens, embed = (torch.cat(column) for column in zip(*parts, strict=True))
        concepts = concept_probabilities(embed, self._class_text, self.scale) @ self._membership
        return FrameFeatures(tokens, embed, concepts)

    @torch.no_grad()
    def _frames(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = (self._resize(upload(pixels, self.device), self.image_size) - self._mean) / self._std
        # The last layer is requested too, because open_clip's ResNets stop at the highest one named.
        out: dict[str, Any] = self.model.forward_intermediates(
            image=images.to(self.dtype), image_indices=[self.layer, -1], image_output_extra_tokens=self.class_token
        )
        tokens = out["image_intermediates"][0].flatten(2).transpose(1, 2)
        if self.class_token:
            if not out.get("image_intermediates_prefix"):
                raise ConfigError(f"{self.name} has no class token; set class_token to False")
            tokens = torch.cat((out["image_intermediates_prefix"][0][:, :1], tokens), 1)
        return tokens.contiguous(), out["image_features"].float()

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Returns the features of texts. tokens (B,L,E) end with the longest text, and mask is True at the start and
        end tokens too."""
        ids = self.tokenizer(texts).to(self.device)
        parts = [self._texts(part) for part in ids.split(batch_size(self.device))]
        tokens, embed = (torch.cat(column) for column in zip(*parts, strict=True))
        mask = self._word_mask(ids)[:, -tokens.shape[1] :]  # towers that pool a first token do not return it
        longest = int(mask.sum(1).max())
        return TextFeatures(tokens[:, :longest], mask[:, :longest], embed)

    def reads_whole(self, text: str) -> bool:
        if isinstance(self.tokenizer, TransformersTokenizer):
            return self.tokenizer.fits(text)
        return bool(self.tokenizer([text])[0, -1] == self._padding)

    def _texts(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tower = getattr(self.model, "text", self.model)
        if isinstance(tower, HFTextEncoder):
            tower.output_tokens = True
            embed, hidden = tower(ids)
            tower.output_tokens = False  # open_clip's own encode_text expects it
            tokens, embed = tower.proj(hidden), F.normalize(embed, dim=-1)
        else:
            out: dict[str, Any] = self.model.forward_intermediates(
                text=ids, text_indices=[-1], normalize_intermediates=True
            )
            tokens, embed = _project(out["text_intermediates"][0], tower.text_projection), out["text_features"]
        return tokens.float(), embed.float()

    def _word_mask(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns a mask (B,L) that is True up to the last token that is not padding."""
        steps = torch.arange(1, ids.shape[1] + 1, device=self.device)
        return steps <= (steps * (ids != self._padding)).amax(1, keepdim=True)

    @functools.cached_property
    def _padding(self) -> int:
        return int(self.tokenizer([""])[0, -1])  # the empty text ends in padding

    @functools.cached_property
    def _class_text(self) -> torch.Tensor:
        return class_text(self, "open_clip", self.device, keep=self._cached)


def _load(
    config: EncoderConfig,
) -> tuple[CLIP | CustomTextCLIP | TransformersTowers, Callable[[list[str]], torch.Tensor]]:
    """Returns the network on the CPU in float32, and its tokenizer, from texts to ids (B, context length)."""
    source, tag = _source(config), config.pretrained
    if directory := _of_transformers(source):
        return load_transformers(directory)
    if _has_schema(source):
        tag = ""
    elif source not in open_clip.list_models():
        close = ", ".join(difflib.get_close_matches(source, open_clip.list_models(), n=5))
        raise ConfigError(f"open_clip has no architecture {source!r}; close are {close or 'none'}")
    elif tag and not Path(tag).is_file() and tag not in (tags := open_clip.list_pretrained_tags_by_model(source)):
        raise ConfigError(f"{source} has no weights {tag!r}; choose one of {', '.join(tags)}, {LOCAL}FOLDER or a file")
    recorded = open_clip.get_pretrained_cfg(source, tag)
    try:
        with refusing_code():  # a text tower or a tokenizer may be one of transformers
            model = open_clip.create_model(
                source,
                pretrained=tag or None,
                force_quick_gelu=recorded.get("quick_gelu", False),  # some tags were trained with this activation
                require_pretrained=bool(tag) or _has_schema(source),
            )
            return cast(CLIP | CustomTextCLIP, model), open_clip.get_tokenizer(source)
    except (RuntimeError, ValueError, OSError, UnpicklingError) as error:
        missing = recorded.get("hf_hub") or recorded.get("url") or source
        raise AssetError(
            f"{missing} cannot be loaded ({str(error).strip().splitlines()[0]}); put "
            f"open_clip_config.json, open_clip_model.safetensors and the tokenizer files, if the model has its own, "
            f"into a folder and set the encoder's pretrained to {LOCAL}FOLDER; the folder of a CLIP or SigLIP of "
            "transformers, or the file of a state dict, will do too"
        ) from error


@contextmanager
def refusing_code() -> Iterator[None]:
    """Makes transformers raise ValueError where it would run code that comes with model files, or ask whether to.

    It is for libraries that call transformers themselves and do not pass `trust_remote_code=False`, or that pass what a
    file of the model says.
    """
    refused: dict[str, Any] = {"get_class_in_module": _refuse, "TIME_OUT_REMOTE_CODE": 0}
    before = {name: getattr(dynamic_module_utils, name) for name in refused}
    try:
        for name, value in refused.items():
            setattr(dynamic_module_utils, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(dynamic_module_utils, name, value)


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise ValueError("its files name Python code of their own (auto_map), which is never run")


def _source(config: EncoderConfig) -> str:
    """Returns what open_clip takes as the name of the model: a folder, a hub id or an architecture."""
    return config.pretrained if config.pretrained.startswith(LOCAL) else config.name


def _of_transformers(source: str) -> Path | None:
    """Returns the folder in `source` if it has a CLIP or SigLIP of transformers and not of open_clip."""
    folder = Path(source.removeprefix(LOCAL))
    config = folder / "config.json"
    if not source.startswith(LOCAL) or (folder / "open_clip_config.json").is_file() or not config.is_file():
        return None
    return folder if json.loads(config.read_text()).get("model_type") in KINDS else None


def _has_schema(source: str) -> bool:
    return source.startswith((LOCAL, "hf-hub:"))


def _project(hidden: torch.Tensor, projection: nn.Module | torch.Tensor | None) -> torch.Tensor:
    if projection is None:
        return hidden
    return projection(hidden) if isinstance(projection, nn.Module) else hidden @ projection


def _extra(config: EncoderConfig) -> str:
    """Returns what changes the features besides the weights.

    Defaults add nothing, so that caches made before there was a choice stay valid.
    """
    resize = f" {config.resize}" if config.resize != "trained" else ""
    return f"{config.layer}{resize}{' class token' if config.class_token else ''}"
