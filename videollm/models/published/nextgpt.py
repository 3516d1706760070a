"""NExT-GPT: ImageBind, LLaMA, and projections to the conditions of diffusion models (Wu et al. 2024; NExT-GPT).

Two forms are published. `NextGptLegacy` is that of the weights 7b_tiva_v0 (`NExT-GPT-Lagacy/code/model/
anyToImageVideoAudio.py`), `NextGpt` that of the current code (`nextgpt/model/`).

Shapes: B rows, S clips or crops, T frames, L tokens, N signal tokens, O width of ImageBind's space, H width of LLaMA,
Q embeddings of a condition, C their width.
"""

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from videollm.errors import CheckpointError
from videollm.models.output_projection import (
    OutputProjection,
    QFormerProjection,
    TransformerProjection,
    alignment_loss,
)
from videollm.models.published.imagebind import RENAMES as IMAGEBIND_RENAMES
from videollm.models.published.imagebind import build_imagebind
from videollm.models.published.key_mapping import bert_name
from videollm.models.published.llama import IGNORE_LABEL, add_official_lora, build_llama, embed, next_token_loss
from videollm.models.published.llama import IGNORED as LLAMA_IGNORED
from videollm.models.published.qformer_systems import qformer_config
from videollm.models.published.system import (
    Config,
    OfficialName,
    PublishedSystem,
    State,
    StateShapes,
    Tensors,
    setting,
)

MODALITIES: tuple[str, ...] = ("image", "video", "audio")
SHORT = ("img", "vid", "aud")  # the same in the names of settings
LEGACY_OUTPUTS = {
    "image": "gen_text_hidden_fcs",
    "video": "gen_text_hidden_fcs_video",
    "audio": "gen_text_hidden_fcs_audio",
}
FULL_LENGTH = 77  # embeddings of a condition of Stable Diffusion
PAD_ID = 2  # </s>, which is also what pads; a real one is masked, too
SENTINELS = {-200: "image", -300: "video", -400: "audio"}  # stand for media among ids
HEADS = 4  # of the transformer projection
VIDEO_SCALE = 2.0  # of the alignment loss of videos in stage 3
SHOWN_LOGITS = 6  # how many last positions the recorded logits have


class _NextGpt(PublishedSystem):
    """What both forms share. config: {"llama": {"heads", "rms_norm_eps"}, "qformer": {"heads"}} and more."""

    llama: nn.Module

    def signal_ids(self, counts: Sequence[int]) -> dict[str, torch.Tensor]:
        """Ids of the signal tokens of each modality, which are the last of the vocabulary, in the order of MODALITIES.
        counts: how many each has."""
        words = len(self.llama.get_input_embeddings().weight)  # type: ignore[operator]
        ids = torch.arange(words - sum(counts), words)
        return dict(zip(MODALITIES, ids.split(list(counts)), strict=True))

    def read(self, embeds: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """embeds (B,L,H), mask (B,L) to logits (B,L,V) and the hidden states (B,L,H) of every layer."""
        found = self.llama(inputs_embeds=embeds, attention_mask=mask, use_cache=False, output_hidden_states=True)
        return found.logits, found.hidden_states

    def at_signals(self, states: torch.Tensor, labels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """The rows of states (B,L,H) from the first to the last of the signal tokens `ids` in labels (B,L): (B,N,H)."""
        firsts, lasts = ((labels == end).nonzero().tolist() for end in (ids[0], ids[-1]))
        ends = zip(firsts, lasts, strict=True)
        return torch.stack([states[row, first : last + 1] for (row, first), (_, last) in ends])


class NextGptLegacy(_NextGpt):
    """The form of the published weights. A picture, a video or a sound is one token.

    config: {"imagebind", "n_img", "n_vid", "n_aud", "layers_img", "layers_vid", "layers_aud"} besides; "lora_r" and
    "lora_alpha" where the weights hold adapters; "full_length", "out_dims" and "num_clip_tokens" for generation.
    """

    IGNORED = (
        LLAMA_IGNORED,
        r"input_embeddings\.weight",  # another name of LLaMA's
        r".*\.Qformer\.bert\.embeddings\.position_ids",
    )

    def __init__(self, shapes: StateShapes, config: Config):
        super().__init__()
        self.config = config
        self.imagebind = build_imagebind(shapes, "visual_encoder.", config.get("imagebind", {}))
        self.input_projection = _linear(shapes, "llama_proj")
        adapted = shapes.has("llama_model.base_model.")
        prefix = "llama_model.base_model.model." if adapted else "llama_model."
        self.llama = build_llama(shapes, prefix, setting(config, "llama"))
        if adapted:
            alpha_per_rank = float(setting(config, "lora_alpha")) / float(setting(config, "lora_r"))
            self.llama = add_official_lora(self.llama, shapes, prefix, alpha_per_rank)
        self.outputs = nn.ModuleDict(
            {
                modality: nn.ModuleList(
                    _output_projection(shapes, f"{name}.{i}", "fc", "model", config) for i in range(shapes.count(name))
                )
                for modality, name in LEGACY_OUTPUTS.items()
            }
        )
        self.signals = self.signal_ids([int(setting(config, f"n_{short}")) for short in SHORT])
        layers = [tuple(setting(config, f"layers_{short}")) for short in SHORT]
        self.layers = dict(zip(MODALITIES, layers, strict=True))

    def official_names(self) -> dict[str, OfficialName]:
        return {name: self._official(name) for name in self.state_dict()}

    def _official(self, name: str) -> OfficialName:
        part, inside = name.split(".", 1)
        if part == "imagebind":
            for pattern, replacement in IMAGEBIND_RENAMES:
                inside = re.sub(f"^{pattern}", replacement, inside)
            return f"visual_encoder.{inside}"
        if part == "outputs":
            modality, number, inside = inside.split(".", 2)
            return f"{LEGACY_OUTPUTS[modality]}.{number}.{_official_output(inside, 'fc', 'model')}"
        if part == "llama":
            return f"llama_model.{inside.replace('.base_layer.', '.')}"  # of newer versions of PEFT
        return f"llama_proj.{inside}"

    def media_tokens(self, modality: str, media: torch.Tensor) -> torch.Tensor:
        """Pictures (B,3,H,W), crops of clips (B,S,3,T,H,W) or spectrograms of clips (B,S,1,M,F) to tokens (B,1,H)."""
        with torch.no_grad():  # ImageBind is frozen in every stage
            if modality == "image":
                embedded = self.imagebind.embed_pictures(media)
            else:
                tower = self.imagebind.audio if modality == "audio" else self.imagebind.vision
                clips = tower.project(tower.feature(media.flatten(0, 1)))
                embedded = clips.unflatten(0, media.shape[:2]).mean(1)
        return self.input_projection(embedded)[:, None]

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        """Besides the official inputs, "STAGE/input_ids" and "STAGE/labels" (B,L) give a training step its rows, and
        "generation/promptN_ids" (1,L) a prompt; `nextgpt_text` makes them. A sentinel stands for a medium."""
        names = {"image": "images", "video": "video_clips", "audio": "audio"}
        media = {m: self.media_tokens(m, inputs[name]) for m, name in names.items() if name in inputs}
        outputs: Tensors = {f"encode_{modality}": tokens for modality, tokens in media.items()}
        for name in inputs:
            stage, _, field = name.rpartition("/")
            if stage == "generation" and (match := re.fullmatch(r"(prompt\d+)_ids", field)):
                first = {modality: tokens[:1] for modality, tokens in media.items()}
                outputs[f"generation/{match[1]}_inputs_embeds"] = self.embed_rows(inputs[name], first)
            elif stage == "generation" and (match := re.fullmatch(r"(image|video|audio)_sequence", field)):
                outputs[f"generation/{match[1]}_prompt_embeds"] = self.condition(
                    match[1],
                    inputs["generation/hidden"],
                    inputs[name],
                    inputs[f"generation/{match[1]}_prefix_ids"],
                )
            elif field == "input_ids":
                outputs |= self.training_step(stage, inputs, media)
        return outputs

    def embed_rows(self, ids: torch.Tensor, media: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Embeddings (B,L,H) of ids (B,L), with the token (B,1,H) of its modality in the place of each sentinel."""
        embeds = embed(self.llama, ids.clamp(min=0))
        for sentinel, modality in SENTINELS.items():
            if modality in media:
                embeds = torch.where((ids == sentinel)[..., None], media[modality], embeds)
        return embeds

    def training_step(
        self, stage: str, inputs: Mapping[str, torch.Tensor], media: Mapping[str, torch.Tensor]
    ) -> Tensors:
        ids, labels = inputs[f"{stage}/input_ids"], inputs[f"{stage}/labels"]
        logits, states = self.read(self.embed_rows(ids, media), (ids != PAD_ID).long())
        loss = next_token_loss(logits, labels)
        outputs = {f"{stage}/gen_acc": _accuracy(logits, labels)}
        if match := re.search(r"TextTo(Image|Video|Audio)$", stage):
            modality = match[1].lower()
            projected = self.project(modality, states, labels)
            condition = inputs[f"caption_embs_{modality}"]
            if modality == "audio":
                condition = condition[:, None]
            mse = alignment_loss(projected, condition)
            outputs[f"{stage}/mse_loss"] = mse
            loss = loss + (VIDEO_SCALE if stage.startswith("stage3") and modality == "video" else 1.0) * mse
        return outputs | {f"{stage}/loss": loss}

    def project(self, modality: str, states: tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
        """The condition (B,Q,C) of each row. The projections of several layers are added."""
        ids = self.signals[modality]
        embeddings = embed(self.llama, ids)[None].expand(len(labels), -1, -1)
        outputs = [
            output(self.at_signals(states[layer], labels, ids), embeddings)
            for layer, output in zip(self.layers[modality], self.outputs[modality], strict=True)  # type: ignore[arg-type]
        ]
        return torch.stack(outputs).sum(0)

    def condition(
        self, modality: str, hidden: torch.Tensor, sequence: torch.Tensor, prefix_ids: torch.Tensor
    ) -> torch.Tensor:
        """What the diffusion pipeline receives. hidden (1,L,H): states of what was generated, without BOS. sequence
        (1,L'): its ids, BOS first. prefix_ids (1,N): the signal tokens. Raises ValueError where they do not stand in
        the sequence in their order.

        A condition of another length than 77 is filled up with zeros, at the width of an image's, even for a video.
        """
        wanted = self.signals[modality]
        start = int((sequence[0] == wanted[0]).nonzero()[0])
        if not torch.equal(sequence[0, start : start + len(wanted)], wanted):
            raise ValueError(f"the signal tokens {wanted.tolist()} do not follow one another in {sequence.tolist()}")
        rows = hidden[:, start - 1 : start - 1 + len(wanted)]
        output: OutputProjection = self.outputs[modality][-1]  # type: ignore[index,assignment]
        projected = output(rows, embed(self.llama, prefix_ids))
        if modality == "audio":
            return projected.flatten(1)
        length = int(self.config.get("full_length", FULL_LENGTH))
        if projected.shape[1] != length:
            image: OutputProjection = self.outputs["image"][-1]  # type: ignore[index,assignment]
            projected = projected.reshape(1, -1, image.output.out_features)  # type: ignore[union-attr,arg-type]
            projected = F.pad(projected, (0, 0, 0, length - projected.shape[1]))
        return projected


class NextGpt(_NextGpt):
    """The form of the current code. Sentinels among the ids are replaced by rows of the media.

    config: {"n": numbers of signal tokens, "layer_idx", "padding_side"} besides.
    """

    IGNORED = (LLAMA_IGNORED, r".*\.Qformer\.bert\.embeddings\.position_ids")

    def __init__(self, shapes: StateShapes, config: Config):
        super().__init__()
        self.config = config
        self.llama = build_llama(shapes, "", setting(config, "llama"))
        self.input_projection = _input_projection(shapes)
        self.outputs = nn.ModuleDict(
            {
                modality: _output_projection(shapes, f"model.mm_output_{short}_projector", "in_fc", "out_fc", config)
                for modality, short in zip(MODALITIES, SHORT, strict=True)
            }
        )
        self.signals = self.signal_ids(setting(config, "n"))

    def official_names(self) -> dict[str, OfficialName]:
        return {name: self._official(name) for name in self.state_dict()}

    def _official(self, name: str) -> OfficialName:
        part, inside = name.split(".", 1)
        if part == "llama":
            return inside
        if part == "input_projection":
            return f"model.mm_input_projector.{'layer.' * isinstance(self.input_projection, nn.Sequential)}{inside}"
        modality, inside = inside.split(".", 1)
        projector = f"model.mm_output_{SHORT[MODALITIES.index(modality)]}_projector"
        return f"{projector}.{_official_output(inside, 'in_fc', 'out_fc')}"

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        media = {
            modality: self.input_projection(inputs[f"{modality}_features"])
            for modality in MODALITIES
            if f"{modality}_features" in inputs
        }
        outputs: Tensors = {"encode_images": media["image"]} if "image" in media else {}
        for modality in MODALITIES:
            if f"{modality}/input_ids" in inputs:
                outputs |= self.training_step(modality, inputs, media)
        return outputs

    def training_step(
        self, modality: str, inputs: Mapping[str, torch.Tensor], media: Mapping[str, torch.Tensor]
    ) -> Tensors:
        given_labels = inputs[f"{modality}/labels"]
        embeds, labels, mask = self.embed_rows(
            inputs[f"{modality}/input_ids"], given_labels, inputs[f"{modality}/attention_mask"], media
        )
        logits, states = self.read(embeds, mask)
        # The official code looks signal tokens up in the labels as they were given, not as they are padded here.
        span = inputs[f"{modality}/signal_span_ids"]
        rows = self.at_signals(states[int(setting(self.config, "layer_idx"))], given_labels, span)
        projected = self.outputs[modality](rows, embed(self.llama, span)[None].expand(len(rows), -1, -1))
        condition = inputs[f"{modality}_caption_embs"]
        text_loss = next_token_loss(logits, labels)
        cap_loss = alignment_loss(projected, condition[:, None] if modality == "audio" else condition)
        found = {"text_loss": text_loss, "cap_loss": cap_loss, "loss": text_loss + cap_loss}
        found["logits_last6"] = logits[:, -SHOWN_LOGITS:]
        return {f"{modality}/{name}": value for name, value in found.items()}

    def embed_rows(
        self, ids: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor, media: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Embeddings (B,L,H), labels (B,L) and mask (B,L) without the padding of ids, padded again on the configured
        side. Media take the places of their sentinels in the order in which they are given."""
        left = self.config.get("padding_side", "right") == "left"
        used = dict.fromkeys(MODALITIES, 0)
        rows, row_labels = [], []
        for row, row_label, kept in zip(ids, labels, mask.bool(), strict=True):
            row = row[kept]
            embeds = list(embed(self.llama, row.clamp(min=0)))
            for place in (row < 0).nonzero().flatten().tolist():
                modality = SENTINELS[int(row[place])]
                embeds[place] = media[modality][used[modality]]
                used[modality] += 1
            rows.append(torch.stack(embeds))
            row_labels.append(row_label[kept])
        length = max(map(len, rows))

        def pad(row: torch.Tensor, value: float) -> torch.Tensor:
            missing = length - len(row)
            around = (missing, 0) if left else (0, missing)
            return F.pad(row, ((0, 0) if row.ndim == 2 else ()) + around, value=value)

        return (
            torch.stack([pad(row, 0.0) for row in rows]),
            torch.stack([pad(row, IGNORE_LABEL) for row in row_labels]),
            torch.stack([pad(torch.ones(len(row), dtype=torch.long), 0) for row in rows]),
        )


def load_nextgpt(state: State, config: Config) -> PublishedSystem:
    """Build NExT-GPT from its complete state dict, in the form that its names tell."""
    shapes = StateShapes(state)
    system: PublishedSystem = NextGptLegacy(shapes, config) if "llama_proj.weight" in state else NextGpt(shapes, config)
    system.load(state)
    if isinstance(system, NextGptLegacy):
        # Resizing the vocabulary made new embeddings and a new head, which are trained in every stage.
        words = r"llama_model\.(base_model\.model\.)?(model\.embed_tokens|lm_head)\."
        system.train_only(rf"llama_proj\.|gen_text_hidden_fcs|{words}|.*\.lora_")
    return system.eval()


def _linear(shapes: StateShapes, name: str) -> nn.Linear:
    out_width, in_width = shapes[f"{name}.weight"]
    return nn.Linear(in_width, out_width)


def _input_projection(shapes: StateShapes) -> nn.Module:
    """Linear, or linear layers with GELU between them."""
    name = "model.mm_input_projector"
    if f"{name}.weight" in shapes.state:
        return _linear(shapes, name)
    if not shapes.has(f"{name}.layer."):
        raise CheckpointError(f"{name} is neither linear nor an MLP; NExT-GPT's group projector is not supported")
    layers: list[nn.Module] = []
    for i in range(0, shapes.count(f"{name}.layer"), 2):
        layers += [nn.GELU()] * bool(layers) + [_linear(shapes, f"{name}.layer.{i}")]
    return nn.Sequential(*layers)


def _output_projection(shapes: StateShapes, name: str, first: str, last: str, config: Config) -> nn.Module:
    """The projection whose tensors are below `name`. first, last: official names of its outer linear layers."""
    if shapes.has(f"{name}.Qformer."):
        in_width, out_width = shapes[f"{name}.{first}.weight"][1], shapes[f"{name}.{last}.weight"][0]
        queries, heads = shapes[f"{name}.query_tokens"][1], int(setting(config, "qformer", "heads"))
        return QFormerProjection(in_width, out_width, qformer_config(shapes, f"{name}.Qformer", queries, heads, 1))
    if f"{name}.query_embs" not in shapes.state:
        raise CheckpointError(f"{name} is a linear output projection, which the official code cannot run")
    width, in_width = shapes[f"{name}.{first}.weight"]
    return TransformerProjection(
        in_width,
        shapes[f"{name}.{last}.weight"][0],
        shapes[f"{name}.query_embs"][1],
        width=width,
        layers=shapes.count(f"{name}.tfm.encoder.layers"),
        heads=HEADS,
    )


def _official_output(name: str, first: str, last: str) -> str:
    """The official name of a parameter of an output projection."""
    if name == "qformer.query_tokens":
        return "query_tokens"
    part, _, inside = name.partition(".")
    if part == "qformer":
        return f"Qformer.{bert_name(inside)}"
    named = {"input": first, "output": last, "transformer": "tfm", "queries": "query_embs"}[part]
    return f"{named}.{inside}" if inside else named


def _accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of labelled tokens that are the likeliest. The official code leaves out the first prediction, and divides
    by one more than there are."""
    chosen, wanted = logits.argmax(-1)[:, 1:-1], labels[:, 2:]
    valid = wanted != IGNORE_LABEL
    return ((chosen == wanted) & valid).sum() / (valid.sum() + 1.0)
