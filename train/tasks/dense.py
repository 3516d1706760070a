"""Training of a tower, a motion stem and a temporal module with the truth of rendered clips."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from train.configs.dense import DenseRecipe
from train.core.report import loss_curve
from train.core.samplers import Draws, Order
from train.core.task import TrainingTask
from train.core.trainer import TaskTrainer
from train.data.areas import TextAreas, text_areas
from train.data.dense_truth import EventTruth, FrameTruth, event_truth, frame_truth, stack
from train.data.rendered import RenderedClip, RenderedClips
from train.tasks.dense_heads import EventHeads, Measures, MomentHeads, ReadoutHeads, frame_loss
from train.tasks.masked_pixels import MaskedPixels
from train.tasks.region_contrast import RegionContrast
from train.tasks.stages import stage_card
from train.tasks.video_llm import fresh_model, save_checkpoint
from videollm.model import Model, load_projector
from videollm.models.motion import WIDTH, StemModule
from videollm.models.temporal_base import clean
from videollm.models.tower import TowerModule
from videollm.models.visual_prompting import VisualBatch

HEADS_FILE = "heads.safetensors"


@dataclass(frozen=True, kw_only=True)
class DenseBatch:
    """Clips with their truth, of which parts that no loss reads are None."""

    visual: VisualBatch
    frames: FrameTruth | None
    events: EventTruth | None
    areas: TextAreas | None

    @property
    def has_truth(self) -> bool:
        return any(part is not None for part in (self.frames, self.events, self.areas))

    def to(self, *args: Any) -> "DenseBatch":
        """Returns a copy on another device."""

        def moved(truth: Any) -> Any:
            return truth and type(truth)(**{name: x.to(*args) for name, x in vars(truth).items()})

        return DenseBatch(
            visual=self.visual.to(*args),
            frames=moved(self.frames),
            events=moved(self.events),
            areas=moved(self.areas),
        )


class DenseModel(nn.Module):
    """A temporal module and the heads that read the truth, hidden pixels and words from it.

    Args:
        temporal: A module with a tower, and with a motion stem if there is a loss of events, `mvm` or `regions`.
        width: H, the width of its tokens.
        weights: The weights of the losses, as in `DenseLossWeights`.
    """

    def __init__(self, temporal: TowerModule, width: int, weights: dict[str, float]):
        super().__init__()
        self.temporal, self.weights = temporal, weights
        self.heads = nn.ModuleDict(
            {
                "events": EventHeads(WIDTH),
                "moments": MomentHeads(width),
                "readout": ReadoutHeads(width),
            }
        )
        if weights["mvm"]:
            self.heads["mvm"] = MaskedPixels(WIDTH, temporal.tower.patch)  # type: ignore[arg-type]
        if weights["regions"]:
            self.heads["regions"] = RegionContrast(WIDTH, width)
        self.requires_grad_(False)
        learns_module = weights["moments"] > 0 or weights["readout"] > 0
        learns_both = weights["mvm"] > 0 or weights["regions"] > 0
        temporal.tower.requires_grad_(learns_both or weights["frames"] > 0)
        temporal.module.requires_grad_(learns_module)
        if isinstance(temporal.module, StemModule):
            temporal.module.stem.requires_grad_(learns_both or learns_module or weights["events"] > 0)
        for name, heads in self.heads.items():
            heads.requires_grad_(weights[name] > 0)

    def forward(self, batch: DenseBatch, labels: torch.Tensor | None = None) -> dict[str, Any]:
        """Returns the weighted sum of the losses, and under `measures` how much is right."""
        losses, measures = [], {}

        def add(name: str, *arguments: Any) -> None:
            loss, found = frame_loss(*arguments) if name == "frames" else self.heads[name](*arguments)
            losses.append(self.weights[name] * loss)
            measures.update(found)

        visual = batch.visual
        if self.weights["mvm"]:
            add("mvm", self.stem_tokens, visual)
        if not batch.has_truth:
            return {"loss": torch.stack(losses).sum(), "measures": measures}
        seen = self.temporal.see(visual.tokens.float(), visual.mask)
        if batch.frames is not None:
            add("frames", seen, visual.tokens, batch.frames)
        module: Any = self.temporal.module
        inputs = (*clean(seen, visual.times_s, visual.mask), visual.mask)
        if isinstance(module, StemModule) and (batch.events is not None or batch.areas is not None):
            inputs, module = module.stem(*inputs), module.module
            if batch.areas is not None:
                add("regions", inputs[0], batch.areas)
            if batch.events is not None:
                add("events", inputs[0], batch.events)
        if batch.events is not None:
            tokens = module.compress(*inputs)
            for name in ("moments", "readout"):
                if self.weights[name]:
                    add(name, tokens, batch.events)
        return {"loss": torch.stack(losses).sum(), "measures": measures}

    def stem_tokens(self, visual: VisualBatch) -> torch.Tensor:
        """Returns the tokens of the motion stem (B,M,P,W) of pixels (B,T,3,S*S)."""
        module: Any = self.temporal.module
        seen = self.temporal.see(visual.tokens.float(), visual.mask)
        return module.stem(*clean(seen, visual.times_s, visual.mask), visual.mask)[0]


class DenseCollator:
    """Rendered clips to the arguments of `DenseModel.forward`. model: that of the run, which embeds words."""

    def __init__(self, recipe: DenseRecipe, model: Model):
        self.model, self.wants_areas = model, recipe.losses.regions > 0
        tower = recipe.model_config.temporal.tower
        assert tower is not None  # the recipe checks it
        self.grid = tower.image_size // tower.patch
        self.few = recipe.dataset.frames_of_clip
        self.wants_frames = recipe.losses.frames > 0
        self.wants_events = recipe.losses.sees_events

    def __call__(self, clips: Sequence[RenderedClip]) -> dict[str, Any]:
        chosen = [self._chosen(clip) for clip in clips]
        tokens = [clip.pixels(numbers).flatten(2) for clip, numbers in zip(clips, chosen, strict=True)]
        times = [clip.times_s()[numbers] for clip, numbers in zip(clips, chosen, strict=True)]
        frames = [frame_truth(c.clip, n, self.grid) for c, n in zip(clips, chosen, strict=True)]
        events = [event_truth(c.clip, self.grid // 2) for c in clips] if self.wants_events else None
        batch = DenseBatch(
            visual=VisualBatch.pad(tokens, times),
            frames=stack(frames) if self.wants_frames else None,
            events=stack(events) if events else None,
            areas=text_areas(clips, self.grid // 2, self.model) if self.wants_areas else None,
        )
        return {"batch": batch, "labels": torch.zeros(len(clips), 1)}

    def _chosen(self, clip: RenderedClip) -> np.ndarray:
        count = clip.clip.frame_count
        if not self.few:
            return np.arange(count)
        return np.arange(self.few) + int(clip.rng().integers(count - self.few + 1))


class DenseTask(TrainingTask):
    """Training with dense truth. Each clip is seen once, so that what is measured while training is held out too."""

    recipe: DenseRecipe
    module: DenseModel

    def __init__(self, recipe: DenseRecipe):
        self.recipe, self.model = recipe, dense_model(recipe)
        width = self.model.llm.get_input_embeddings().weight.shape[1]  # type: ignore[union-attr]
        temporal: Any = self.model.llm.temporal
        self.module = DenseModel(temporal, width, vars(recipe.losses))  # type: ignore[arg-type]
        heads = Path(recipe.init) / HEADS_FILE
        if recipe.init and heads.is_file():
            own = self.module.heads.state_dict()
            known = {name: tensor for name, tensor in load_file(heads).items() if name in own}
            self.module.heads.load_state_dict({**own, **known})
        dataset = recipe.dataset
        self.rows = RenderedClips(dataset.num_videos, recipe.seed + 1)
        self.sampler = Draws(Order(sizes=(dataset.num_videos,), epochs=1, batch=dataset.batch_size, seed=recipe.seed))
        self.collate = DenseCollator(recipe, self.model)
        self._measured: dict[str, list[torch.Tensor]] = defaultdict(list)
        self.module.register_forward_hook(self._note)

    def _note(self, module: nn.Module, arguments: Any, output: dict[str, Any]) -> None:
        measures: Measures = output["measures"]
        for name, value in measures.items():
            self._measured[name].append(value.detach())

    def measures(self) -> dict[str, float]:
        found = {name: float(torch.stack(values).nanmean()) for name, values in self._measured.items()}
        self._measured.clear()
        return found

    def finish(self, trainer: TaskTrainer) -> None:
        """Writes the checkpoint directory, the heads, the card and the loss curve."""
        state = trainer.trained_state()
        if trainer.is_world_process_zero():
            output = Path(self.recipe.output)
            card = stage_card(trainer, self.recipe, self.model, "train/dense.py")
            save_checkpoint(self.model, output, outside_heads(state), card, full=False)
            save_file(self.module.heads.state_dict(), output / HEADS_FILE)
            loss_curve(output / "loss.png", trainer.state.log_history)


def outside_heads(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the tensors of the temporal module."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("heads.")}


def dense_model(recipe: DenseRecipe) -> Model:
    """Returns the preset's model, with the weights of the checkpoint that the recipe starts from."""
    model = fresh_model(recipe)
    if recipe.init:
        load_projector(model.llm, Path(recipe.init) / "projector.safetensors")
    return model
