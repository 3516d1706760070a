"""NExT-GPT in the form of its current code: rows of media among the tokens of LLaMA, and projections to the conditions
of diffusion models (Wu et al. 2024; NExT-GPT `nextgpt/model/`).

Shapes: B rows, L tokens, H width of LLaMA.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from videollm.errors import CheckpointError
from videollm.models.labels import IGNORE
from videollm.models.output_projection import alignment_loss
from videollm.models.published.llama import IGNORED as LLAMA_IGNORED
from videollm.models.published.llama import build_llama, embed, next_token_loss
from videollm.models.published.nextgpt_base import (
    MODALITIES,
    SENTINELS,
    SHORT,
    NextGptBase,
    linear,
    official_output,
    output_projection,
)
from videollm.models.published.nextgpt_legacy import load_nextgpt_legacy
from videollm.models.published.system import (
    Config,
    OfficialName,
    PublishedSystem,
    State,
    StateShapes,
    Tensors,
    setting,
)

SHOWN_LOGITS = 6  # how many last positions the recorded logits have


class NextGpt(NextGptBase):
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
                modality: output_projection(shapes, f"model.mm_output_{short}_projector", "in_fc", "out_fc", config)
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
        return f"{projector}.{official_output(inside, 'in_fc', 'out_fc')}"

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
            torch.stack([pad(row, IGNORE) for row in row_labels]),
            torch.stack([pad(torch.ones(len(row), dtype=torch.long), 0) for row in rows]),
        )


def load_nextgpt(state: State, config: Config) -> PublishedSystem:
    """Build NExT-GPT from its complete state dict, in the form that the names of its tensors tell."""
    if "llama_proj.weight" in state:
        return load_nextgpt_legacy(state, config)
    system = NextGpt(StateShapes(state), config).eval()
    system.load(state)
    return system


def _input_projection(shapes: StateShapes) -> nn.Module:
    """Linear, or linear layers with GELU between them."""
    name = "model.mm_input_projector"
    if f"{name}.weight" in shapes.state:
        return linear(shapes, name)
    if not shapes.has(f"{name}.layer."):
        raise CheckpointError(f"{name} is neither linear nor an MLP; NExT-GPT's group projector is not supported")
    layers: list[nn.Module] = []
    for i in range(0, shapes.count(f"{name}.layer"), 2):
        layers += [nn.GELU()] * bool(layers) + [linear(shapes, f"{name}.layer.{i}")]
    return nn.Sequential(*layers)
