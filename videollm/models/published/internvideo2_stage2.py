"""InternVideo2 stage 2: contrast and matching of videos and texts (Wang et al. 2024; OpenGVLab InternVideo
`InternVideo2/multi_modality/models/internvideo2_stage2_visual.py`, `criterions.py`).

Shapes: B pairs, T frames, L text tokens, E shared embedding width.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from videollm.models.published.internvideo2 import (
    FusionBert,
    InternVideo2Sizes,
    InternVideo2Vision,
    sincos_3d_positions,
)
from videollm.models.published.key_mapping import bert_name
from videollm.models.published.system import (
    Config,
    OfficialName,
    PublishedSystem,
    State,
    StateShapes,
    Tensors,
    setting,
)
from videollm.models.published.transformer import read_blocks
from videollm.models.qformer import QFormerConfig

COLDEST, HOTTEST = 0.001, 0.5  # the temperature's limits


class InternVideo2Stage2(PublishedSystem):
    """Embeds videos and texts for search, and tells how well a text fits a video by reading both together.

    config: {"vit": {"heads", "pool_heads", "num_frames"}, "bert": {"heads", "fusion_layer"}}.
    """

    IGNORED = (
        r"text_encoder\.bert\.embeddings\.position_ids",  # 0, 1, 2, ...
        r"text_encoder\.cls\..*",  # of masked language modelling, which stage 2's two losses do without
    )

    def __init__(self, shapes: StateShapes, config: Config):
        super().__init__()
        self.vision_encoder = _vision(shapes, setting(config, "vit"))
        self.text_encoder = _text(shapes, setting(config, "bert"))
        embed_dim, pooled = shapes["vision_proj.weight"]
        width = shapes["text_proj.weight"][1]
        self.vision_proj = nn.Linear(pooled, embed_dim)
        self.text_proj = nn.Linear(width, embed_dim)
        self.itm_head = nn.Linear(width, 2)
        self.temp = nn.Parameter(torch.tensor(0.07))

    def official_names(self) -> dict[str, OfficialName]:
        names: dict[str, OfficialName] = {}
        for name in self.state_dict():
            part, _, inside = name.partition(".")
            if part == "text_encoder":
                inside = inside.replace("token_type_embedding.", "bert.embeddings.token_type_embeddings.")
                names[name] = f"text_encoder.{bert_name(inside)}"
            else:
                pool = "vision_encoder.clip_projector."
                official = name.replace(f"{pool}norm_", f"{pool}norm1_")
                for one in "qkv":
                    official = official.replace(f"{pool}{one}.bias", f"{pool}{one}_bias")
                    official = official.replace(f"{pool}{one}", f"{pool}cross_attn.{one}")
                names[name] = official.replace(f"{pool}proj", f"{pool}cross_attn.proj")
        return names

    def similarity(self, videos: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Embeddings (V,E) and (N,E), of any length, to cosines over the temperature, (V,N)."""
        return F.normalize(videos, dim=-1) @ F.normalize(texts, dim=-1).mT / self.temp

    def match(self, videos: torch.Tensor, texts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Tokens of videos (B,S,W), and hidden states of texts (B,L,W) with their mask (B,L) bool, to logits (B,2):
        the second is of a pair that fits."""
        return self.itm_head(self.text_encoder.fuse(texts, mask, videos)[:, 0])

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        outputs: Tensors = {}
        if "video_btchw" in inputs:
            video = inputs["video_btchw"]
            tokens, pooled = self.vision_encoder(video)
            outputs["vision_proj"] = self.vision_proj(pooled)
            outputs["vision_proj_image_T1"] = self.vision_proj(self.vision_encoder(video[:, :1])[1])
            grid = video.shape[-1] // self.vision_encoder.patch
            outputs["sincos3d_pos_embed"] = sincos_3d_positions(tokens.shape[-1], video.shape[1], grid)
        if "input_ids" in inputs:
            mask = inputs["attention_mask"].bool()
            hidden = self.text_encoder.encode_text(inputs["input_ids"], mask)
            outputs["text_proj"] = self.text_proj(hidden[:, 0])
            if "video_btchw" in inputs:
                similarity = self.similarity(outputs["vision_proj"], outputs["text_proj"])
                outputs |= {"sim_v2t": similarity, "sim_t2v": similarity.mT}
                if "idx" in inputs:
                    negatives = inputs["neg_vision"], inputs["neg_text"]
                    outputs |= self._losses(similarity, inputs["idx"], tokens, hidden, mask, negatives)
        return outputs

    def _losses(
        self,
        similarity: torch.Tensor,
        idx: torch.Tensor,
        tokens: torch.Tensor,
        hidden: torch.Tensor,
        mask: torch.Tensor,
        negatives: tuple[torch.Tensor, torch.Tensor],
    ) -> Tensors:
        vtc = contrast_loss(similarity, idx)
        videos = torch.cat((tokens, tokens[negatives[0]], tokens))
        texts, masks = (torch.cat((one, one, one[negatives[1]])) for one in (hidden, mask))
        fits = (torch.arange(len(videos), device=videos.device) < len(tokens)).long()
        vtm = F.cross_entropy(self.match(videos, texts, masks), fits)
        # Distillation from teachers and masked language modelling have weight 0 in the published second stage.
        none = torch.zeros((), device=vtc.device)
        return {"loss_vtc": vtc, "loss_vtm": vtm, "loss_uta": none, "loss_mlm": none.clone(), "loss": vtc + vtm}


def contrast_loss(similarity: torch.Tensor, idx: torch.Tensor) -> torch.Tensor:
    """Both ways; pairs of equal idx (B,) share the target mass. similarity (B,B), scaled."""
    same = (idx[:, None] == idx).to(similarity)
    targets = same / same.sum(1, keepdim=True)
    both = F.cross_entropy(similarity, targets) + F.cross_entropy(similarity.mT, targets)
    return both / 2


def load_internvideo2_stage2(state: State, config: Config) -> InternVideo2Stage2:
    """Build InternVideo2 of the second stage from its complete state dict."""
    system = InternVideo2Stage2(StateShapes(state), config).eval()
    system.load(state)
    with torch.no_grad():  # the official code does so in each forward pass
        system.temp.clamp_(COLDEST, HOTTEST)
    return system


def _vision(shapes: StateShapes, config: Config) -> InternVideo2Vision:
    encoder = "vision_encoder."
    blocks, patch = read_blocks(
        shapes,
        f"{encoder}blocks",
        f"{encoder}patch_embed.proj.weight",
        heads=int(setting(config, "heads")),
        qkv_bias="none",
        rms_norm=True,
        layer_scale=True,
    )
    own_images = shapes.has(f"{encoder}img_pos_embed")
    decoders = range(shapes.count(f"{encoder}clip_decoder"))
    sizes = InternVideo2Sizes(
        patch=patch,
        frames=int(setting(config, "num_frames")),
        positions=shapes[f"{encoder}pos_embed"][1],
        image_positions=shapes[f"{encoder}img_pos_embed"][1] if own_images else None,
        pool_heads=int(setting(config, "pool_heads")),
        pool_width=shapes[f"{encoder}clip_projector.cross_attn.proj.weight"][0],
        decoders=tuple(shapes[f"{encoder}clip_decoder.{i}.head.weight"][0] for i in decoders),
        final_decoder=shapes[f"{encoder}final_clip_decoder.head.weight"][0],
    )
    return InternVideo2Vision(blocks, sizes)


def _text(shapes: StateShapes, config: Config) -> FusionBert:
    layers = "text_encoder.bert.encoder.layer"
    ffn_width, width = shapes[f"{layers}.0.intermediate.dense.weight"]
    fusion_layer = int(setting(config, "fusion_layer"))
    bert = QFormerConfig(
        width=width,
        layers=shapes.count(layers),
        heads=int(setting(config, "heads")),
        ffn_width=ffn_width,
        encoder_width=shapes[f"{layers}.{fusion_layer}.crossattention.self.key.weight"][1],
        vocab_size=shapes["text_encoder.bert.embeddings.word_embeddings.weight"][0],
        max_positions=shapes["text_encoder.bert.embeddings.position_embeddings.weight"][0],
    )
    return FusionBert(bert, fusion_layer)
