"""VideoChat2 with Vicuna: UMT-L, a Q-Former with extra queries that reads the instruction, LoRA (Li et al. 2024;
OpenGVLab Ask-Anything `video_chat2/models/videochat_vicuna/videochat2_it_vicuna.py` and `videochat2_pt_vicuna.py`).

Shapes: B videos, T frames, P patches, D encoder width, Q query tokens, the extra ones included, L tokens,
H language-model width.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from videollm.models.labels import IGNORE
from videollm.models.published.llama import (
    BOS_ID,
    add_official_lora,
    build_llama,
    caption_prompt,
    embed,
    join,
    logits_of,
    next_token_loss,
)
from videollm.models.published.llama import IGNORED as LLAMA_IGNORED
from videollm.models.published.pixels import centre_crop
from videollm.models.published.qformer_systems import qformer_config
from videollm.models.published.system import (
    Config,
    OfficialName,
    PublishedSystem,
    State,
    StateShapes,
    Tensors,
    official_compat,
    setting,
)
from videollm.models.published.transformer import read_blocks
from videollm.models.published.umt import TRAINED_GRID, UmtEncoder, position_table
from videollm.models.published.videochat2_qformer import VideoChat2QFormer, official_name

Media = Literal["video", "image"]
PAD_ID = 2  # </s>, where the tokenizer has no padding token
ALPHA_PER_RANK = 2  # of the published adapters: rank 16, alpha 32
SHOWN_LOGITS = 6  # how many last positions the recorded demo logits have


class VideoChat2(PublishedSystem):
    """config: {"vit": {"heads", "image", "ckpt_num_frame"}, "qformer": {"heads"}, "llama": {"heads", "rms_norm_eps"},
    "max_txt_len"}.

    The Q-Former reads instructions where the checkpoint has its word embeddings (instruction stage), else not (caption
    stage).

    In the instruction stage's training the first embedding of a sequence is the number 1, BOS's id, in every channel,
    as the published model was trained; without `official_compat` it is BOS's embedding, as at inference.
    """

    IGNORED = (LLAMA_IGNORED, r"qformer\.bert\.embeddings\.position_ids")

    def __init__(self, shapes: StateShapes, config: Config):
        super().__init__()
        self.config = config
        self.official_compat = official_compat(config)
        self.vision_encoder = _umt(shapes, setting(config, "vit"))
        heads = int(setting(config, "qformer", "heads"))
        sizes = qformer_config(shapes, "qformer", shapes["query_tokens"][1], heads, every=2)
        self.temporal = VideoChat2QFormer(sizes, shapes["llama_proj.weight"][0])
        extra = shapes["extra_query_tokens"] if shapes.has("extra_query_tokens") else None
        self.extra_query_tokens = None if extra is None else nn.Parameter(torch.zeros(extra))
        self.reads_instruction = sizes.vocab_size is not None and config.get("qformer_text_input", True)
        lora = shapes.has("llama_model.base_model.")
        prefix = "llama_model.base_model.model." if lora else "llama_model."
        llama = build_llama(shapes, prefix, setting(config, "llama"))
        if lora:
            self.llama: nn.Module = add_official_lora(llama, shapes, prefix, ALPHA_PER_RANK)
        else:
            self.llama = llama

    def official_names(self) -> dict[str, OfficialName]:
        return {name: self._official(name) for name in self.state_dict()}

    def _official(self, name: str) -> OfficialName:
        part, _, inside = name.partition(".")
        if part == "vision_encoder":
            return f"vision_encoder.encoder.{inside}"
        if part == "temporal":
            return official_name(inside)
        if part == "llama":
            return f"llama_model.{inside.replace('.base_layer.', '.')}"  # of newer versions of PEFT
        return name

    def visual_tokens(
        self, video: torch.Tensor, ids: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Normalised pixels (B,T,3,H,W), and the instruction's ids (B,L) and mask (B,L) for a Q-Former that reads it,
        to (B,Q,H). One frame is an image."""
        queries = self.temporal.qformer.query_tokens
        if self.extra_query_tokens is not None:
            queries = torch.cat((queries, self.extra_query_tokens), 1)
        if not self.reads_instruction:
            ids = mask = None
        tokens = self.vision_encoder(video).flatten(1, 2)
        return self.temporal.read(tokens, None, ids, None if mask is None else mask.bool(), queries)

    def conversation(
        self, before: Sequence[torch.Tensor], visual: torch.Tensor, after: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A batch of training sequences: embeddings (B,L,H), attention mask (B,L) and labels (B,L).

        before, after: one (1,*) of ids a row, the text around its visual tokens (B,Q,H). Sequences are cut after
        `max_txt_len` + Q positions and right padded with the embedding of </s>.
        """
        rows = [join(self.llama, text, (tokens[None],))[0] for *text, tokens in zip(before, after, visual, strict=True)]
        targets = [
            F.pad(labels, (len(row) - len(labels), 0), value=IGNORE)
            for row, labels in zip(rows, answer_labels(before, after), strict=True)
        ]
        length = min(max(map(len, rows)) + 1, int(setting(self.config, "max_txt_len")) + visual.shape[1])
        pad = embed(self.llama, torch.tensor([PAD_ID], device=visual.device))
        first = embed(self.llama, torch.tensor([BOS_ID], device=visual.device))
        if self.official_compat:
            first = torch.full_like(pad, float(BOS_ID))
        embeds, masks, labels = [], [], []
        for row, target in zip(rows, targets, strict=True):
            used = min(len(row), length - 1)
            empty = length - 1 - used
            embeds.append(torch.cat((first, row[:used], pad.expand(empty, -1))))
            masks.append(F.pad(torch.ones(1 + used, dtype=torch.long, device=visual.device), (0, empty)))
            labels.append(F.pad(target[:used], (1, empty), value=IGNORE))
        return torch.stack(embeds), torch.stack(masks), torch.stack(labels)

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        outputs: Tensors = {}
        video = inputs.get("video_btchw")
        if video is not None and ("instruction_ids" in inputs or not self.reads_instruction):
            instruction = inputs.get("instruction_ids"), inputs.get("instruction_mask")
            outputs["video_inputs_llama"] = self.visual_tokens(video, *instruction)
            outputs["image_inputs_llama"] = self.visual_tokens(video[:, :1], *instruction)
        for media in ("video", "image"):
            pixels = None if video is None else video[:, :1] if media == "image" else video
            if pixels is not None and f"{media}/caption_ids" in inputs:
                outputs |= self._captions(inputs, media, pixels)
            if pixels is not None and f"train_{media}/before_ids_0" in inputs:
                outputs |= self._instructions(inputs, f"train_{media}", pixels)
        if "demo_pixels/frames_thwc" in inputs:
            size = int(setting(self.config, "demo_size"))
            outputs["demo_pixels/video_tchw"] = centre_crop(inputs["demo_pixels/frames_thwc"], size)
        return outputs | self._demo(inputs) | self._tables()

    def _captions(self, inputs: Mapping[str, torch.Tensor], media: str, pixels: torch.Tensor) -> Tensors:
        visual = self.visual_tokens(pixels)
        ids, mask, *around = (
            inputs[f"{media}/{name}"] for name in ("caption_ids", "caption_mask", "before_ids", "after_ids")
        )
        embeds, mask, labels = caption_prompt(
            self.llama, visual, ids, mask, PAD_ID, (around[0], around[1]), official_compat=self.official_compat
        )
        loss = next_token_loss(logits_of(self.llama, embeds, mask), labels)
        return {f"{media}/inputs_llama": visual, f"{media}/loss": loss}

    def _instructions(self, inputs: Mapping[str, torch.Tensor], stage: str, pixels: torch.Tensor) -> Tensors:
        visual = self.visual_tokens(
            pixels, inputs.get(f"{stage}/instruction_ids"), inputs.get(f"{stage}/instruction_mask")
        )
        before, after = (
            [inputs[f"{stage}/{side}_ids_{i}"] for i in range(len(pixels))] for side in ("before", "after")
        )
        embeds, mask, labels = self.conversation(before, visual, after)
        return {f"{stage}/loss": next_token_loss(logits_of(self.llama, embeds, mask), labels)}

    @torch.no_grad()
    def _demo(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        outputs: Tensors = {}
        for name in inputs:
            if not (match := re.fullmatch(r"(demo/turn\d+_)segment0_ids", name)):
                continue
            turn, instruction = match[1], inputs.get("demo/instruction_ids")
            mask = None if instruction is None else torch.ones_like(instruction)
            visual = self.visual_tokens(inputs["video_btchw"][:1], instruction, mask)
            embeds = join(self.llama, (inputs[name], inputs[f"{turn}segment1_ids"]), (visual,))
            outputs[f"{turn}inputs_embeds"] = embeds
            outputs[f"{turn}logits_last6"] = logits_of(self.llama, embeds)[:, -SHOWN_LOGITS:]
        return outputs

    def _tables(self) -> Tensors:
        outputs: Tensors = {}
        for kind, options in self.config.get("pos_tables", ()):
            name = f"pos_table{kind}_" + "_".join(f"{key}{value}" for key, value in options.items())
            frames, trained = options.get("cur_frame", 1), options.get("ckpt_num_frame", 1)
            grid = TRAINED_GRID if kind == 2 else None
            outputs[name] = position_table(options["n_position"], options["d_hid"], frames, trained, grid)
        return outputs


def answer_labels(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Labels of the text after the visual tokens, one (L,) a row: "###Assistant:" and what follows it up to the end of
    the next "###Human:", and a "###Human:" right after the frames' times; the rest is -100.

    The separators are found in the ids alone, whatever the tokenizer: every text ends with "###", the text before the
    visual tokens ends with "###Human: <Video>", and Human and Assistant speak in turn.
    """
    rows = [ids.flatten().tolist() for ids in after]
    contexts = [ids.flatten().tolist() for ids in before] + rows
    mark = rows[0][-1]  # the last piece of "###"
    ends = [[i for i, token in enumerate(row) if token == mark] for row in contexts]
    length = _common(
        [row[: end + 1][::-1] for row, found in zip(contexts, ends, strict=True) for end in found]
    )  # of all pieces of " ###"
    first = [row[found[-1] + 1 :] for row, found in zip(contexts, ends, strict=True)][: len(before)]
    labels = []
    for ids, row, found in zip(after, rows, ends[len(before) :], strict=True):
        separators = found[:-1]  # the last one ends the text
        speakers = [(end_of, (len(separators) - i) % 2 == 1) for i, end_of in enumerate(separators)]
        human = [row[end_of + 1 :] for end_of, assistant in speakers if not assistant]
        role = _common([*human, *first]) if human else 0  # pieces of "Human:"
        target = torch.full_like(ids.flatten(), IGNORE)
        for i, (end_of, assistant) in enumerate(speakers):
            start = end_of + 1 - length
            stop = found[i + 1] + 1 if assistant else end_of + 1 + role
            target[start:stop] = ids.flatten()[start:stop]
        labels.append(target)
    return labels


def _common(rows: Sequence[Sequence[int]]) -> int:
    """The number of first items that all rows share."""
    return next((i for i, items in enumerate(zip(*rows, strict=False)) if len(set(items)) > 1), min(map(len, rows)))


def load_videochat2(state: State, config: Config) -> VideoChat2:
    """Build VideoChat2 from its complete state dict."""
    system = VideoChat2(StateShapes(state), config).eval()
    system.load(state)
    system.train_only(r"(?!llama_model\.)|.*\.lora_[AB]\.")
    return system


def _umt(shapes: StateShapes, config: Config) -> UmtEncoder:
    encoder = "vision_encoder.encoder."
    blocks, patch = read_blocks(
        shapes,
        f"{encoder}blocks",
        f"{encoder}patch_embed.proj.weight",
        heads=int(setting(config, "heads")),
        qkv_bias="query_value",
    )
    return UmtEncoder(blocks, patch, int(setting(config, "image")), int(config.get("ckpt_num_frame", 4)))
