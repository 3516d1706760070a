"""Stage 2, instruction tuning. The temporal module and the language model, or an adapter of it, learn to answer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from train.configs.stage2 import InstructionRecipe, TuningRecipe
from train.core.report import loss_curve
from train.core.samplers import Draws, Order
from train.core.task import TrainingTask
from train.core.trainer import TaskTrainer
from train.data.conversations import Conversations, PromptCollator
from train.data.rendered import RenderedClips
from train.data.rendered_conversations import RenderedConversationCollator
from train.data.rows import InstructionRows
from train.data.simulated import StoryConversationCollator, training_stories
from train.tasks.stages import read_rows, stage_card
from train.tasks.video_llm import save_checkpoint, starting_model
from videollm.errors import ConfigError
from videollm.model import Model
from videollm.models.processor import Message, Prompt


class InstructionTask(TrainingTask):
    """Training on conversations about videos, about images or about neither. Only the answers contribute to the
    loss."""

    recipe: TuningRecipe

    def __init__(self, recipe: TuningRecipe):
        self.recipe = recipe
        self.model = self.start()
        self.module: nn.Module = self.model.llm
        self.examiner: Examiner | None = None
        (self._read if recipe.dataset.data else self._simulate)()

    def start(self) -> Model:
        """Returns the model to train."""
        assert isinstance(self.recipe, InstructionRecipe)
        return starting_model(self.recipe)

    def collator(self) -> Callable[[Any], dict[str, Any]]:
        """Returns what turns prompts into the arguments of the model."""
        outputs = self.model.config.outputs
        if not outputs.modalities:
            return PromptCollator(self.model.processor)
        if self.recipe.parallelism.zero_stage == 3:
            raise ConfigError(
                "zero_stage 3 would divide the rows of the signal tokens, which the language model reads; "
                "use zero_stage 2"
            )
        if self.recipe.dataset.workers:
            raise ConfigError(
                f"workers is {self.recipe.dataset.workers}, but the training process itself encodes what answers show; "
                "set workers 0"
            )
        from train.data.conditions import ConditionCollator, text_encoders  # imports diffusers

        return ConditionCollator(self.model.processor, text_encoders(outputs))

    def save(self, output: Path, state: dict[str, torch.Tensor], card: str) -> None:
        """Writes what `videollm.load` reads. `state` has the trained tensors by the names of `module`."""
        save_checkpoint(self.model, output, state, card, full=self.recipe.tuning.trains_language_model)

    def _simulate(self) -> None:
        dataset = self.recipe.dataset
        if self.model.config.outputs.modalities:
            raise ConfigError("data is empty; a model that shows learns it from rows, so give the file of such rows")
        if self.model.config.encoder.pixels:
            sound = self.model.config.audio.kind != "none"
            self.rows = RenderedClips(dataset.num_videos, self.recipe.seed + 1, sound=sound)
            self.sampler = Draws(self._order((dataset.num_videos,)))
            self.collate = RenderedConversationCollator(
                self.model, dataset.questions, dataset.hide_videos, dataset.checked
            )
            return
        # Another seed than that of stage 1 makes stage 2 see other stories.
        self.rows, taxonomy = training_stories(self.model, dataset, self.recipe.seed + 1)
        self.sampler = Draws(self._order((dataset.num_videos,)))
        self.collate = StoryConversationCollator(self.model, taxonomy, dataset.conversation_tokens)

    def _read(self) -> None:
        dataset = self.recipe.dataset
        rows, held_out, features = read_rows(self.recipe, self.model, None)
        limit = dataset.conversation_tokens or self.model.config.prompt.context
        changed = replace(features, changes=dataset.frame_changes)
        prompts = Conversations(rows, changed, self.model.processor, limit)
        lengths = prompts.lengths() if dataset.batches == "length" else None
        self.rows = prompts
        self.sampler = Draws(self._order(tuple(rows.sizes), weights=rows.weights, lengths=lengths))
        self.collate = self.collator()
        if held_out is not None:
            self.held_out = Conversations(held_out, features, self.model.processor, limit)
            if dataset.evaluate_rows:
                self.examiner = Examiner(self.answer, self.held_out, held_out, dataset.evaluate_rows)

    def _order(self, sizes: tuple[int, ...], **choices: Any) -> Order:
        dataset = self.recipe.dataset
        return Order(sizes=sizes, epochs=dataset.epochs, batch=dataset.batch_size, seed=self.recipe.seed, **choices)

    def evaluate(self) -> dict[str, float]:
        return self.examiner() if self.examiner else {}

    def answer(self, prompt: Prompt) -> str:
        """Returns the model's answer, greedily chosen."""
        llm, processor = self.model.llm, self.model.processor
        was, device = llm.training, self.model.device
        llm.eval()
        visual = prompt.visual()
        ids = llm.generate(
            torch.tensor([prompt.ids], device=device),
            visual.to(device) if visual else None,
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long, device=device),
            max_new_tokens=self.model.config.prompt.max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(processor.stop_ids),
            pad_token_id=processor.tokenizer.pad_token_id,
        )
        llm.train(was)
        return processor.decode(ids[0].tolist())

    def finish(self, trainer: TaskTrainer) -> None:
        """Writes the checkpoint directory, its card and the loss curve."""
        state = trainer.trained_state()
        if trainer.is_world_process_zero():
            output = Path(self.recipe.output)
            card = stage_card(trainer, self.recipe, self.model, "train/stage2.py")
            self.save(output, state, card)
            loss_curve(output / "loss.png", trainer.state.log_history)


class Examiner:
    """Answers the first question of held-out rows by generation, and measures the share of exact answers.

    Case and punctuation do not count. Rows are answered one at a time.
    """

    def __init__(self, answer: Callable[[Prompt], str], prompts: Conversations, rows: InstructionRows, count: int):
        self.answer, self.prompts = answer, prompts
        step = max(1, len(rows) // count)
        self.samples = [rows[i] for i in range(0, len(rows), step)][:count]

    def __call__(self) -> dict[str, float]:
        right = []
        for sample in self.samples:
            question, answer = next(iter(sample.turns()))
            system = [m for m in sample.messages if m.role == "system"]
            given = self.answer(self.prompts.prompt(sample, [*system, Message("user", question)]))
            right.append(bare_words(given) == bare_words(answer))
        return {"accuracy": sum(right) / len(right)}


def bare_words(text: str) -> str:
    """Returns the words of a text in lower case, without punctuation."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
