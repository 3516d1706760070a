"""The models that contrastive training starts from: a retrieval head on a CLIP, and a small CLIP from scratch."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file
from torch import nn

from train.configs.clip import ClipRecipe
from train.configs.retrieval import RetrievalRecipe, Tower
from train.tasks.backbone import TextTower, VisualTower, load_backbone, towers
from videollm.errors import ConfigError
from videollm.models.published.key_mapping import load_official
from videollm.retrieval import model as directory
from videollm.retrieval import recogniser
from videollm.retrieval.clip import TextConfig, TextTransformer, VisionConfig, VisionTransformer
from videollm.retrieval.heads.tight import TightTransformer
from videollm.retrieval.heads.transformer import TemporalTransformer
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel
from videollm.retrieval.world_clip import WorldVisionTransformer


def build_retrieval_model(recipe: RetrievalRecipe) -> RetrievalModel:
    """Returns the recipe's head on its backbone, or the model of the directory that the recipe starts from.

    New modules start as published: from the first blocks of the text tower if these fit, and otherwise at random.
    Raises ConfigError if the recipe has no backbone.
    """
    network, dataset = recipe.network, recipe.dataset
    if network.init:
        trained = directory.load(Path(network.init))
        return _compared_anew(trained, recipe) if recogniser.is_there(Path(network.init)) else trained
    if not network.backbone:
        raise ConfigError("backbone is empty; give local-dir:FOLDER (train/clip.py writes one) or ARCHITECTURE:WEIGHTS")
    vision, text = load_backbone(network.backbone)
    torch.manual_seed(recipe.seed)
    seen, read, sizes = vision.config, text.config, HeadConfig()
    if isinstance(seen, VisionConfig) and isinstance(read, TextConfig):
        prompts = {how: network.prompts if how == "prompt" else 0 for how in get_args(Tower)}
        sizes = HeadConfig(heads=read.heads, mlp_width=read.mlp_width, context=read.context)
        seen = replace(seen, prompts=prompts[network.visual])
        read = replace(read, prompts=prompts[network.text])
    elif network.head in ("xclip", "mug") or {network.visual, network.text} - {"train", "freeze"}:
        raise ConfigError(
            f"{network.backbone} is not built as OpenAI's CLIP with a ViT: its towers can be trained or frozen, with "
            "no LoRA or prompts, and give no features of words, which xclip and mug read; choose another head"
        )
    config = RetrievalConfig(
        vision=seen,
        text=read,
        head=replace(
            sizes,
            kind=network.head,
            temporal=network.temporal,
            layers=network.layers,
            depth=network.depth,
            across=network.across,
            max_words=dataset.max_words,
            max_frames=dataset.max_frames,
            official_compat=network.official_compat,
        ),
        **_comparison(recipe),
    )
    model = assemble(config, vision, text)
    for module in model.head.modules():
        if network.positions and isinstance(module, TemporalTransformer):
            nn.init.normal_(module.positions, std=network.positions)
    return model


def _comparison(recipe: RetrievalRecipe) -> dict[str, Any]:
    """How scores become logits."""
    network = recipe.network
    bias = network.bias if recipe.objective.objective == "sigmoid" else None
    return {"scale": network.scale, "temperature": network.temperature, "bias": bias}


def _compared_anew(trained: RetrievalModel, recipe: RetrievalRecipe) -> RetrievalModel:
    """Returns a copy of a model that learned to recognise, whose temperature no text has trained."""
    model = RetrievalModel(replace(trained.config, **_comparison(recipe)))
    towers_and_head = {n: x for n, x in trained.state_dict().items() if n.startswith(("text.", "visual.", "head."))}
    model.load_state_dict({**model.state_dict(), **towers_and_head})
    return model


def assemble(config: RetrievalConfig, vision: VisualTower, text: TextTower) -> RetrievalModel:
    """Returns a retrieval model on trained towers. The towers are loaded before the head is built, because it copies
    from them."""
    model = RetrievalModel(config)
    for tower, trained in zip(towers(model), (vision, text), strict=True):
        tower.load_state_dict({**tower.state_dict(), **trained.state_dict()})  # prompts are new
    model.head = directory.build_head(config.head, vision.config.embed_dim, model.visual)
    if not isinstance(text, TextTransformer):
        return model
    if text.config.width == vision.config.embed_dim and config.head.layers <= text.config.layers:
        for module in model.head.modules():
            if isinstance(module, TemporalTransformer | TightTransformer):
                module.init_from(text)
    return model


def build_clip(recipe: ClipRecipe) -> RetrievalModel:
    """Returns a CLIP with random weights, whose visual position embeddings start as waves."""
    torch.manual_seed(recipe.seed)
    own = recipe.architecture
    model = RetrievalModel(
        RetrievalConfig(
            vision=VisionConfig(
                width=own.width,
                layers=own.layers,
                heads=own.heads,
                mlp_width=4 * own.width,
                patch=own.patch,
                grid=own.image // own.patch,
                embed_dim=own.embed_dim,
                patches="world" if own.tower else "2d",
            ),
            text=TextConfig(
                width=own.width,
                layers=own.text_layers,
                heads=own.heads,
                mlp_width=4 * own.width,
                context=own.max_positions,
                embed_dim=own.embed_dim,
            ),
            head=HeadConfig(kind="plain_mean"),
            temperature=own.temperature,
        )
    )
    visual = towers(model)[0]
    assert isinstance(visual, VisionTransformer)
    with torch.no_grad():
        # Row 0 belongs to the class token.
        visual.positional_embedding[1:] = 0.5 * waves(own.image // own.patch, own.width)
    if isinstance(visual, WorldVisionTransformer):
        trained = load_file(Path(own.tower) / "projector.safetensors")
        load_official(visual.tower, trained, {n: f"temporal.tower.{n}" for n in visual.tower.state_dict()}, (".*",))
    return model


def waves(grid: int, width: int) -> torch.Tensor:
    """Returns sines and cosines of columns and rows, (grid * grid, width), as in MAE (He et al. 2021). They are trained
    further.

    From CLIP's small random start a tower of this size does not learn positions: after 550 batches of 64 it names the
    column of a single thing at the level of chance (0.18 of six). From waves it reaches 0.73.
    """
    wave = 10000 ** -(torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    angles = [axis.flatten()[:, None] * wave for axis in (columns, rows)]
    return torch.cat([turned(angle) for angle in angles for turned in (torch.sin, torch.cos)], 1)
