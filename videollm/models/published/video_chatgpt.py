"""Video-ChatGPT: CLIP's patches averaged over space and over time, one linear layer, LLaMA (Maaz et al. 2023;
mbzuai-oryx Video-ChatGPT `video_chatgpt/model/video_chatgpt.py`).

Shapes: B prompts, T frames, P patches, D encoder width, R = 100 + P feature rows, L tokens, H language-model width.
"""

import re
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from videollm.models.published.llama import IGNORED as LLAMA_IGNORED
from videollm.models.published.llama import build_llama, embed, logits_of, next_token_loss
from videollm.models.published.pixels import centre_crop, squash_nearest
from videollm.models.published.system import (
    Config,
    PublishedSystem,
    State,
    StateShapes,
    Tensors,
    official_compat,
    setting,
)
from videollm.models.published.transformer import BlockConfig, read_blocks, vit_blocks
from videollm.video.rules import middle_of_rounded_indices

FRAME_ROWS = 100  # the rows that frames have in the features; missing frames are rows of zeros
SHOWN_LOGITS = 6  # how many last positions the recorded logits have
CLIP_LAYER = -2  # which of CLIP's hidden states gives the patches
CLIP_EPS = 1e-5


class ClipPatches(nn.Module):
    """CLIP's visual tower up to the hidden state `layer`, without its class token and last norm (Radford et al. 2021;
    transformers `CLIPVisionModel`, hidden_states[layer])."""

    def __init__(self, blocks: BlockConfig, patch: int, positions: int, layer: int = CLIP_LAYER):
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, blocks.width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(blocks.width))
        self.position_embedding = nn.Embedding(positions, blocks.width)
        self.pre_norm = nn.LayerNorm(blocks.width, eps=blocks.eps)
        self.blocks = vit_blocks(blocks)
        self.used = len(self.blocks) + 1 + layer  # hidden_states[0] comes before the first block

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (T,3,H,W) to (T,P,D)."""
        x = self.patch_embedding(pixels).flatten(2).mT
        x = torch.cat((self.class_embedding.expand(len(x), 1, -1), x), 1)
        x = self.pre_norm(x + self.position_embedding.weight)
        for block in self.blocks[: self.used]:
            x = block(x)
        return x[:, 1:]


def spatio_temporal_features(
    patches: torch.Tensor, frame_rows: int = FRAME_ROWS, *, official_compat: bool = True
) -> torch.Tensor:
    """Each frame's mean over its patches, zero rows up to `frame_rows`, each patch's mean over the frames: (T,P,D) to
    (max(T, frame_rows) + P, D) (`inference.py`, get_spatio_temporal_features_torch). With `official_compat` they are
    rounded to float16.

    More frames than `frame_rows` give more rows than the prompt has places.
    """
    frames = F.pad(patches.mean(1), (0, 0, 0, max(0, frame_rows - len(patches))))
    features = torch.cat((frames, patches.mean(0)))
    return features.half() if official_compat else features


def spatio_temporal_features_numpy(patches: torch.Tensor, frame_rows: int = FRAME_ROWS) -> torch.Tensor:
    """The same as training prepares it: numpy's means of float16 arrays (`save_spatio_temporal_clip_features.py`)."""
    array = patches.numpy().astype(np.float16)
    frames = np.pad(array.mean(1), ((0, max(0, frame_rows - len(array))), (0, 0)))
    return torch.from_numpy(np.concatenate((frames, array.mean(0))))


class VideoChatGpt(PublishedSystem):
    """config: {"clip": {"heads"}, "llama": {"heads", "rms_norm_eps"}, "special_tokens": {"<vid_patch>": id, ...}}; the
    special tokens are the last three of the vocabulary where it has none. "load_num_frm" and "clip"."image" say how a
    recorded video is read.
    """

    RENAMES = (
        (r"^clip\.(patch|class|position)_embedding", r"clip.vision_model.embeddings.\1_embedding"),
        (r"^clip\.pre_norm", "clip.vision_model.pre_layrnorm"),  # sic
        (r"^clip\.blocks", "clip.vision_model.encoder.layers"),
        (r"^(clip\.vision_model.*)\.norm([12])", r"\1.layer_norm\2"),
        (r"^(clip\.vision_model.*)\.attn\.qkv\.", r"\1.self_attn.{q,k,v}_proj."),
        (r"^(clip\.vision_model.*)\.attn\.proj\.", r"\1.self_attn.out_proj."),
        (r"^mm_projector", "model.mm_projector"),
        (r"^llama\.", ""),
    )
    IGNORED = (
        LLAMA_IGNORED,
        r"clip\.vision_model\.embeddings\.position_ids",  # 0, 1, 2, ...
        r"clip\.vision_model\.post_layernorm\..*",  # of the class token, which is not used
    )

    def __init__(self, shapes: StateShapes, config: Config):
        super().__init__()
        self.config = config
        vision = "clip.vision_model."
        blocks, patch = read_blocks(
            shapes,
            f"{vision}encoder.layers",
            f"{vision}embeddings.patch_embedding.weight",
            heads=int(setting(config, "clip", "heads")),
            eps=CLIP_EPS,
            quick_gelu=True,
        )
        self.clip = ClipPatches(blocks, patch, shapes[f"{vision}embeddings.position_embedding.weight"][0])
        self.llama = build_llama(shapes, "", setting(config, "llama"))
        out_dim, features = shapes["model.mm_projector.weight"]
        self.mm_projector = nn.Linear(features, out_dim)
        vocabulary = self.llama.config.vocab_size
        tokens = config.get("special_tokens", {})
        names = ("<vid_patch>", "<vid_start>", "<vid_end>")
        self.patch_id, self.start_id, self.end_id = (
            int(tokens.get(name, vocabulary - 3 + i)) for i, name in enumerate(names)
        )

    def video_rows(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels of one video's frames (T,3,H,W) to its feature rows (R,D)."""
        with torch.no_grad():
            compat = official_compat(self.config)
            return spatio_temporal_features(self.clip(pixels), official_compat=compat).to(pixels.dtype)

    def embed_prompt(self, ids: torch.Tensor, rows: torch.Tensor, *, adapter_only: bool = False) -> torch.Tensor:
        """Embeddings (B,L,H) of ids (B,L) whose patch tokens are replaced by the projected rows (B,R,D); a row of zeros
        becomes the projector's bias. A prompt without patch tokens stays as it is.

        adapter_only: the released recipe, in which gradients reach the projector and the embeddings of <vid_start> and
        <vid_end> alone. Raises ValueError where a prompt's video has not R places between its start and its end.
        """
        embeds = embed(self.llama, ids)
        if adapter_only:
            learned = (ids == self.start_id) | (ids == self.end_id)
            embeds = torch.where(learned[..., None], embeds, embeds.detach())
        projected = self.mm_projector(rows)
        prompts = [
            self._replace(*prompt) if bool((prompt[0] == self.patch_id).any()) else prompt[1] + 0 * prompt[2].sum()
            for prompt in zip(ids, embeds, projected, strict=True)
        ]
        return torch.stack(prompts)

    def _replace(self, ids: torch.Tensor, embeds: torch.Tensor, projected: torch.Tensor) -> torch.Tensor:
        starts, ends = ((ids == token).nonzero().flatten().tolist() for token in (self.start_id, self.end_id))
        count = len(projected)
        if len(starts) != 1 or ends != [starts[0] + count + 1]:
            raise ValueError(
                f"a prompt has <vid_start> at {starts} and <vid_end> at {ends}; it needs one of each, with exactly "
                f"{count} <vid_patch> between them"
            )
        first = starts[0] + 1
        return torch.cat((embeds[:first], projected, embeds[first + count :]))

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        outputs = self._features(inputs) | self._token_rows(inputs)
        if "pixel_values" in inputs:
            rows = self.video_rows(inputs["pixel_values"])[None]
            for name in inputs:
                if match := re.fullmatch(r"(infer_.*/turn\d+)_ids", name):
                    with torch.no_grad():
                        embeds = self.embed_prompt(inputs[name], rows)
                        logits = logits_of(self.llama, embeds)
                    outputs[f"{match[1]}_inputs_embeds"] = embeds
                    outputs[f"{match[1]}_logits_last6"] = logits[:, -SHOWN_LOGITS:]
        if "train/input_ids" in inputs:
            outputs |= self._training(inputs)
        if "load_video/frames_thwc" in inputs:
            outputs |= self._pixels(inputs["load_video/frames_thwc"])
        return outputs

    def _features(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        outputs: Tensors = {}
        for name, patches in inputs.items():
            if match := re.fullmatch(r"frame_features_(\w+)", name):
                outputs[f"features_{match[1]}"] = spatio_temporal_features(patches)
                outputs[f"features_{match[1]}_numpy_fp16"] = spatio_temporal_features_numpy(patches)
        return outputs

    def _token_rows(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        outputs: Tensors = {}
        for table, patch in (("embed", "embed_before"), ("lm_head", "lm_head_before")):
            if f"token_init/{patch}" in inputs:
                rows = new_token_rows(inputs[f"token_init/{patch}"], inputs[f"token_init/patch_row_{table}"])
                outputs[f"token_init/start_end_rows_{table}"] = rows
        return outputs

    def _training(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        ids, labels, mask = (inputs[f"train/{name}"] for name in ("input_ids", "labels", "attention_mask"))
        rows = inputs["train/features"].to(self.mm_projector.weight.dtype)
        outputs: Tensors = {}
        for recipe in ("full", "adapter"):
            embeds = self.embed_prompt(ids, rows, adapter_only=recipe == "adapter")
            logits = logits_of(self.llama, embeds, mask)
            outputs[f"train/{recipe}_loss"] = next_token_loss(logits, labels)
            outputs["train/logits_last6"] = logits[:, -SHOWN_LOGITS:].detach()
        outputs["train/adapter_embed_rows_with_gradient"] = torch.tensor([self.start_id, self.end_id])
        return outputs

    def _pixels(self, frames: torch.Tensor) -> Tensors:
        count, size = int(setting(self.config, "load_num_frm")), int(setting(self.config, "clip", "image"))
        chosen = squash_nearest(frames[middle_of_rounded_indices(len(frames), count)])
        return {
            "load_video/num": torch.tensor(len(chosen)),
            "load_video/frames_uint8_first": chosen[0],
            "load_video/pixel_values": centre_crop(chosen, size),
        }


def new_token_rows(table: torch.Tensor, patch_row: torch.Tensor) -> torch.Tensor:
    """The rows of <vid_start> and <vid_end>, (2,H): the mean of all rows before them, the random one of <vid_patch>
    included (`initialize_vision_tokenizer`)."""
    return torch.cat((table, patch_row[None])).mean(0, keepdim=True).expand(2, -1)


def load_video_chatgpt(state: State, config: Config) -> VideoChatGpt:
    """Build Video-ChatGPT from its complete state dict: LLaMA with the three tokens, projector, CLIP below "clip."."""
    system = VideoChatGpt(StateShapes(state), config).eval()
    system.load(state)
    system.train_only(r"model\.|lm_head\.")
    return system
