"""NExT-GPT in the form of its published weights, 7b_tiva_v0: ImageBind, LLaMA, and projections to the conditions of
diffusion models (Wu et al. 2024; NExT-GPT `NExT-GPT-Lagacy/code/model/anyToImageVideoAudio.py`).

Shapes: B rows, S clips or crops, T frames, L tokens, N signal tokens, O width of ImageBind's space, H width of LLaMA,
Q embeddings of a condition, C their width.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from videollm.models.labels import IGNORE
from videollm.models.output_projection import OutputProjection, alignment_loss
from videollm.models.published.imagebind import build_imagebind, official_name
from videollm.models.published.llama import IGNORED as LLAMA_IGNORED
from videollm.models.published.llama import add_official_lora, build_llama, embed, next_token_loss
from videollm.models.published.nextgpt_base import (
    MODALITIES,
    SENTINELS,
    SHORT,
    NextGptBase,
    linear,
    official_output,
    output_projection,
)
from videollm.models.published.system import Config, OfficialName, State, StateShapes, Tensors, setting

OUTPUTS = {
    "image": "gen_text_hidden_fcs",
    "video": "gen_text_hidden_fcs_video",
    "audio": "gen_text_hidden_fcs_audio",
}
PAD_ID = 2  # </s>, which is also what pads; a real one is masked, too
FULL_LENGTH = 77  # embeddings of a condition of Stable Diffusion
VIDEO_SCALE = 2.0  # of the alignment loss of videos in stage 3


class NextGptLegacy(NextGptBase):
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
        self.input_projection = linear(shapes, "llama_proj")
        adapted = shapes.has("llama_model.base_model.")
        prefix = "llama_model.base_model.model." if adapted else "llama_model."
        self.llama = build_llama(shapes, prefix, setting(config, "llama"))
        if adapted:
            alpha_per_rank = float(setting(config, "lora_alpha")) / float(setting(config, "lora_r"))
            self.llama = add_official_lora(self.llama, shapes, prefix, alpha_per_rank)
        self.outputs = nn.ModuleDict(
            {
                modality: nn.ModuleList(
                    output_projection(shapes, f"{name}.{i}", "fc", "model", config) for i in range(shapes.count(name))
                )
                for modality, name in OUTPUTS.items()
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
            return f"visual_encoder.{official_name(inside)}"
        if part == "outputs":
            modality, number, inside = inside.split(".", 2)
            return f"{OUTPUTS[modality]}.{number}.{official_output(inside, 'fc', 'model')}"
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
                assert tower is not None
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


def load_nextgpt_legacy(state: State, config: Config) -> NextGptLegacy:
    """Build the form of the published weights from its complete state dict."""
    system = NextGptLegacy(StateShapes(state), config).eval()
    system.load(state)
    # Resizing the vocabulary made new embeddings and a new head, which are trained in every stage.
    words = r"llama_model\.(base_model\.model\.)?(model\.embed_tokens|lm_head)\."
    system.train_only(rf"llama_proj\.|gen_text_hidden_fcs|{words}|.*\.lora_")
    return system


def _accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of labelled tokens that are the likeliest. The official code leaves out the first prediction, and divides
    by one more than there are."""
    chosen, wanted = logits.argmax(-1)[:, 1:-1], labels[:, 2:]
    valid = wanted != IGNORE
    return ((chosen == wanted) & valid).sum() / (valid.sum() + 1.0)
