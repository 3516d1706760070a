"""Train a retrieval head on a CLIP. `[deepspeed|torchrun|python] train/retrieval.py RECIPE [--field value]`

The loss is symmetric InfoNCE over the batch of all ranks, or TeachCLIP's with teachers. What comes out is a directory
that `videollm.retrieval.model.load` reads, with its metrics in `card.md`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
import torch.distributed as dist
from torch import nn

from train.configs.contrastive import RETRIEVAL, RetrievalRecipe, Tower
from train.core.command import parse, run
from train.core.contrastive import ContrastTrainer, training_arguments
from train.data.frames import frame_store
from train.data.hard_negatives import mined_order
from train.data.pairs import GroupedSampler, Pair, read_pairs
from train.data.tower_features import FeatureStore, feature_store
from train.tasks.adapters import add_lora, merge_lora
from train.tasks.backbone import load_trunk, towers
from train.tasks.contrastive import Contrast, frame_features
from train.tasks.distillation import DistilledContrast
from train.tasks.recall import RecallReward
from videollm.errors import ConfigError
from videollm.retrieval import metrics
from videollm.retrieval import model as directory
from videollm.retrieval.clip import TextTransformer, VisionTransformer
from videollm.retrieval.head import unit
from videollm.retrieval.heads.teachclip import AttentiveAggregation
from videollm.retrieval.heads.tight import TightTransformer
from videollm.retrieval.heads.transformer import TemporalTransformer
from videollm.retrieval.inputs import Words
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel

Batch = dict[str, torch.Tensor]


def build(recipe: RetrievalRecipe) -> RetrievalModel:
    """The recipe's head on its backbone, new modules started as published: from the first blocks of the text tower
    where those fit, otherwise at random."""
    if recipe.init:
        return directory.load(Path(recipe.init))
    if not recipe.backbone:
        raise ConfigError("backbone is empty: give local-dir:FOLDER (train/clip.py writes one) or ARCHITECTURE:WEIGHTS")
    vision, text = load_trunk(recipe.backbone)
    torch.manual_seed(recipe.seed)
    prompts = {how: recipe.prompts if how == "prompt" else 0 for how in get_args(Tower)}
    config = RetrievalConfig(
        vision=replace(vision.config, prompts=prompts[recipe.visual]),
        text=replace(text.config, prompts=prompts[recipe.text]),
        head=HeadConfig(
            kind=recipe.head,
            temporal=recipe.temporal,
            layers=recipe.layers,
            heads=text.config.heads,
            mlp_width=text.config.mlp_width,
            context=text.config.context,
            depth=recipe.depth,
            across=recipe.across,
            max_words=recipe.max_words,
            max_frames=recipe.max_frames,
            official_compat=recipe.official_compat,
        ),
        scale=recipe.scale,
        temperature=recipe.temperature,
    )
    model = assemble(config, vision, text)
    for module in model.head.modules():
        if recipe.positions and isinstance(module, TemporalTransformer):
            nn.init.normal_(module.positions, std=recipe.positions)
    return model


def assemble(config: RetrievalConfig, vision: VisionTransformer, text: TextTransformer) -> RetrievalModel:
    """Trained towers first, then the head, because heads copy from towers."""
    model = RetrievalModel(config)
    for tower, trained in zip(towers(model), (vision, text), strict=True):
        tower.load_state_dict({**tower.state_dict(), **trained.state_dict()})  # prompts are new
    model.head = directory.build_head(config.head, vision.config.embed_dim, model.visual)
    if text.config.width == vision.config.embed_dim and config.head.layers <= text.config.layers:
        for module in model.head.modules():
            if isinstance(module, TemporalTransformer | TightTransformer):
                module.init_from(text)
    return model


class PairBatches:
    """Rows' numbers to batches: tokens, and frames or what a frozen tower made of them."""

    def __init__(self, pairs: Sequence[Pair], recipe: RetrievalRecipe, model: RetrievalModel, layers: int):
        self.pairs, self.recipe = pairs, recipe
        self.words = Words(recipe.max_words)
        tower, _ = towers(model)
        self.frames = frame_store(
            [p.part for p in pairs],
            fps=recipe.fps or None,
            max_frames=recipe.max_frames,
            size=tower.config.image_size,
            cache=Path(recipe.cache),
        )
        row = {part: i for i, part in enumerate(self.frames.parts)}
        self.video_of = torch.tensor([row[p.part] for p in pairs])
        self.features: FeatureStore | None = None
        if recipe.visual == "freeze":
            self.features = feature_store(self.frames, tower, layers, Path(recipe.cache))

    def videos(self, rows: list[int]) -> Batch:
        pixels, mask = self.frames.batch(rows)
        return {"mask": mask} | ({"pixels": pixels} if self.features is None else self.features.batch(rows))

    def texts(self, texts: Sequence[str], prefix: str = "") -> Batch:
        ids, mask = self.words(texts)
        return {f"{prefix}ids": ids, f"{prefix or 'text_'}mask": mask}

    def __call__(self, rows: list[int]) -> dict[str, Batch]:
        batch = self.videos(self.video_of[rows].tolist()) | self.texts([self.pairs[i].caption for i in rows])
        if self.recipe.false_captions:
            batch |= self.texts([self._false(i) for i in rows], "false_")
        return {"batch": batch}

    def _false(self, row: int) -> str:
        false = self.pairs[row].false
        if not false:
            raise ConfigError(f"{self.pairs[row].part.video} has no false caption: set false_captions to false")
        return false[int(torch.randint(len(false), ()))]


@torch.no_grad()
def encode_pairs(model: RetrievalModel, batches: PairBatches, size: int = 64) -> tuple[Any, Any]:
    """TextFeatures of all pairs and VideoRepr of all videos, on CPU."""
    device = next(model.parameters()).device
    texts, videos = [], []
    for start in range(0, len(batches.pairs), size):
        batch = batches.texts([p.caption for p in batches.pairs[start : start + size]])
        texts.append(model.encode_text(batch["ids"].to(device), batch["text_mask"].to(device)))
    for start in range(0, len(batches.frames.parts), size):
        rows = list(range(start, min(start + size, len(batches.frames.parts))))
        batch = {k: v.to(device) for k, v in batches.videos(rows).items()}
        videos.append(model.head.encode_video(frame_features(model, batch), batch["mask"]))
    return tuple(
        type(parts[0])(*(torch.cat([getattr(p, name) for p in parts]).cpu() for name in names))
        for parts, names in ((texts, ("tokens", "mask", "embed")), (videos, ("embed", "frames", "mask")))
    )


def evaluate(model: RetrievalModel, batches: PairBatches) -> dict[str, float]:
    """videollm.retrieval.metrics, both directions, names flat."""
    model.eval()
    text, video = encode_pairs(model, batches)
    with torch.no_grad():
        scores = model.head.score(text, video)
    found = metrics.evaluate(metrics.Scores.of(scores), batches.video_of)
    return {f"{way}_{name}": value for way, values in found.items() for name, value in values.items()}


def parameter_groups(model: RetrievalModel, recipe: RetrievalRecipe) -> list[dict[str, Any]]:
    """Towers and the temperature, the head, and the weights of attentive aggregation, each at its learning rate;
    biases are not decayed."""
    attention = (
        {id(p) for layer in (model.head.hidden, model.head.weight) for p in layer.parameters()}
        if isinstance(model.head, AttentiveAggregation)
        else set()
    )
    in_towers = {id(p) for tower in towers(model) for p in tower.parameters()}
    rates: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            backbone = id(parameter) in in_towers or name in ("logit_scale", "temperature")
            fine = recipe.attention_learning_rate if id(parameter) in attention else 0.0
            rate = recipe.backbone_learning_rate if backbone else fine or recipe.learning_rate
            rates.setdefault((rate, name.endswith("bias")), []).append(parameter)
    return [
        {"params": parameters, "lr": rate} | ({"weight_decay": 0.0} if bias else {})
        for (rate, bias), parameters in rates.items()
    ]


def set_trained(model: RetrievalModel, recipe: RetrievalRecipe) -> None:
    """Freeze, adapt or train each tower; prompts are there already, see `build`."""
    for tower, how in zip(towers(model), (recipe.visual, recipe.text), strict=True):
        if how == "lora":
            add_lora(tower, recipe.lora_rank)
        else:
            for name, parameter in tower.named_parameters():
                parameter.requires_grad_(how == "train" or (how == "prompt" and name == "prompts"))


def mined(model: RetrievalModel, batches: PairBatches, order: GroupedSampler, epoch: int) -> list[int]:
    """Groups of pairs that the model finds alike follow one another, from the second epoch on."""
    if epoch == 0:
        return order.shuffled(epoch)
    was_training = model.training
    model.eval()
    text, video = encode_pairs(model, batches)
    model.train(was_training)
    vectors = unit(text.embed) + unit(video.embed)[batches.video_of]
    firsts = vectors[torch.tensor([group[0] for group in order.groups])]
    size = max(1, batches.recipe.batch_size * len(order.groups) // order.count)
    chosen = [mined_order(firsts, size, batches.recipe.seed + epoch)]
    if dist.is_initialized():
        dist.broadcast_object_list(chosen)  # ranks round differently
    return [row for g in chosen[0] for row in order.groups[g]]


def objective(model: RetrievalModel, recipe: RetrievalRecipe, teachers: Sequence[RetrievalModel]) -> Contrast:
    if recipe.objective == "recall":
        return RecallReward(model, recall_at=recipe.recall_at, samples=recipe.samples)
    return DistilledContrast(model, teachers) if teachers else Contrast(model, sums=recipe.sums)


def teacher(folder: Path, recipe: RetrievalRecipe, student: RetrievalModel) -> RetrievalModel:
    """Where features are kept, they are of one tower: the teacher's must be the student's."""
    loaded = directory.load(folder)
    own, theirs = (towers(m)[0].state_dict() for m in (student, loaded))
    if recipe.visual == "freeze" and any(n not in theirs or not torch.equal(p, theirs[n]) for n, p in own.items()):
        raise ConfigError(f"{folder} has another visual tower than the frozen one: set visual to train")
    return loaded


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(RETRIEVAL, "Train a retrieval head on a CLIP.", argv))


def train(recipe: RetrievalRecipe) -> dict[str, float]:
    """Metrics of the test file, if there is one."""
    arguments = training_arguments(recipe)
    model = build(recipe)
    set_trained(model, recipe)
    teachers = [teacher(Path(folder), recipe, model) for folder in recipe.teachers.split(",") if folder]
    layers = max(m.head.hidden_layers for m in (model, *teachers))
    pairs = read_pairs(Path(recipe.data))
    with arguments.main_process_first():
        batches = PairBatches(pairs, recipe, model, layers)
    order = GroupedSampler(pairs, recipe.seed)
    if recipe.mine:
        order.mined = partial(mined, model, batches, order)
    trainer = ContrastTrainer(
        objective(model, recipe, teachers),
        arguments,
        recipe,
        rows=len(pairs),
        collate=batches,
        order=order,
        groups=parameter_groups(model, recipe),
        chunk=recipe.chunk,
    )
    if recipe.test:
        with arguments.main_process_first():
            tested = PairBatches(read_pairs(Path(recipe.test)), recipe, model, layers)
        trainer.score = partial(evaluate, model, tested)
    trainer.train_from(recipe.resume)
    for tower in towers(model):
        merge_lora(tower)
    found = trainer.score() if trainer.score else {}
    if trainer.is_world_process_zero():
        directory.save(model, Path(recipe.output), card(recipe, found))
    return found


def card(recipe: RetrievalRecipe, found: Mapping[str, float]) -> str:
    rows = "".join(f"| {name} | {value:.4g} |\n" for name, value in found.items())
    settings = "".join(f"- {name}: {value}\n" for name, value in asdict(recipe).items())
    table = f"\n| {recipe.test} | |\n|---|---|\n{rows}" if found else ""
    return f"# {recipe.name}\n\nHead `{recipe.head}`, trained by `train/retrieval.py`.\n{table}\n{settings}"


if __name__ == "__main__":
    main()
