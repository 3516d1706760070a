"""Stage 1, which aligns the tokens of the temporal module with words. The language model is frozen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from train.configs.stage1 import AlignmentRecipe
from train.core.report import loss_curve
from train.core.samplers import Draws, Order
from train.core.task import TrainingTask
from train.core.trainer import TaskTrainer
from train.data.captions import Captions, MixedCaptions, Narrations, PairCollator
from train.data.conversations import Conversations
from train.data.rows import InstructionRows, is_caption
from train.data.simulated import StoryCollator, training_stories, untagged
from train.tasks.losses import AlignmentModel
from train.tasks.stages import read_rows, stage_card
from train.tasks.video_llm import save_checkpoint, starting_model


class AlignmentTask(TrainingTask):
    """A weighted sum of losses on captioned videos, or on simulated ones."""

    recipe: AlignmentRecipe
    module: AlignmentModel

    def __init__(self, recipe: AlignmentRecipe):
        self.recipe, self.model = recipe, starting_model(recipe)
        self.module = AlignmentModel(self.model.llm, self.model.processor.tokenizer, recipe.loss_weights)
        (self._read if recipe.dataset.data else self._simulate)()

    def _simulate(self) -> None:
        dataset = self.recipe.dataset
        self.rows, taxonomy = training_stories(self.model, dataset, self.recipe.seed)
        self.sampler = Draws(self._order((dataset.num_videos,)))
        self.collate = StoryCollator(self.model, taxonomy)

    def _read(self) -> None:
        dataset = self.recipe.dataset
        rows, held_out, features = read_rows(self.recipe, self.model, is_caption)

        def captions(some: InstructionRows, kind: type[Captions], changes: tuple[str, ...]) -> Captions:
            context, seen = self.model.config.prompt.context, replace(features, changes=changes)
            prompts = Conversations(some, seen, untagged(self.model), context)
            return kind(some, seen, prompts if self.recipe.losses.caption else None)

        if dataset.overlapped:
            pairs = captions(rows, Narrations, dataset.frame_changes)
            order = self._order((len(pairs),))
        else:
            pairs = captions(rows, MixedCaptions if dataset.mixes else Captions, dataset.frame_changes)
            embeds = pairs.embeds() if dataset.batches == "alike" else None
            order = self._order(tuple(rows.sizes), weights=rows.weights, embeds=embeds)
        self.rows, self.sampler = pairs, Draws(order)
        self.held_out = captions(held_out, Captions, ()) if held_out else None
        losses = frozenset(self.recipe.loss_weights)
        self.collate = PairCollator(self.model.processor.tokenizer, self.module.aligner, losses)

    def _order(self, sizes: tuple[int, ...], **choices: Any) -> Order:
        dataset = self.recipe.dataset
        return Order(sizes=sizes, epochs=dataset.epochs, batch=dataset.batch_size, seed=self.recipe.seed, **choices)

    def finish(self, trainer: TaskTrainer) -> None:
        """Writes the checkpoint directory, with the text path beside the projector if a loss trained it."""
        state = trainer.trained_state()
        if not trainer.is_world_process_zero():
            return
        output, aligner = Path(self.recipe.output), self.module.aligner
        inside = {k.removeprefix("llm."): v for k, v in state.items() if k.startswith("llm.")}
        card = stage_card(trainer, self.recipe, self.model, "train/stage1.py")
        save_checkpoint(self.model, output, inside, card, full=False)
        if aligner is not None:
            names = {f"aligner.{name}": name for name in aligner.own_state()}
            aligner.save(output, {names[k]: v for k, v in state.items() if k in names})
        loss_curve(output / "loss.png", trainer.state.log_history)
