"""Stage 2: instruction tuning.

    [deepspeed|torchrun|python] train/stage2.py RECIPE [--field value]

Trains the temporal module, and the language model's adapter or all of it, on conversations about videos, images or
nothing; only the answers bear a loss.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from train.configs.stages import Recipe
from train.core.command import run
from train.core.samplers import Order
from train.core.stages import StageTrainer, build, parse, read_rows
from train.data.rows import Conversations, Rows
from train.data.simulated import ConversationCollator, Stories, simulated, split_classes
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.errors import ConfigError
from videollm.export import FOLDER
from videollm.models.processor import Message, Processor, Prompt, collate


class PromptCollator:
    """Prompts to the arguments of `VideoLLM.forward`."""

    def __init__(self, processor: Processor):
        self.pad_id = processor.tokenizer.pad_token_id

    def __call__(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        return collate(prompts, self.pad_id)


class Examiner:
    """Answers the first question of held-out rows by generation: the share that is right, word for word but for case
    and punctuation."""

    def __init__(self, model: Model, prompts: Conversations, rows: Rows, count: int):
        self.model, self.prompts = model, prompts
        step = max(1, len(rows) // count)
        self.samples = [rows[i] for i in range(0, len(rows), step)][:count]

    def __call__(self) -> dict[str, float]:
        right = []
        for sample in self.samples:
            question, answer = next(iter(sample.turns()))
            system = [m for m in sample.messages if m.role == "system"]
            right.append(
                bare(self.answer(self.prompts.prompt(sample, [*system, Message("user", question)]))) == bare(answer)
            )
        return {"accuracy": sum(right) / len(right)}

    def answer(self, prompt: Prompt) -> str:
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


def bare(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def start(recipe: Recipe) -> Model:
    """The model of the checkpoint that the recipe starts from: its projector, and what it has of a language model.

    Raises ConfigError where the checkpoint has an adapter and the recipe trains none.
    """
    init = Path(recipe.init)
    if recipe.init and (init / FOLDER).is_dir() and not recipe.llm:
        recipe = replace(recipe, llm=str(init / FOLDER))
    model = build(recipe)
    if recipe.init:
        checkpoint.load_projector(model.llm, init / "projector.safetensors")
        adapter = init / "adapter" / "adapter_model.safetensors"
        if adapter.is_file() and recipe.tune != "adapter":
            raise ConfigError(
                f"{init} has an adapter, which tune {recipe.tune} would lose; merge it first: "
                f"videollm export {init} --out DIR, then init DIR"
            )
        if adapter.is_file():
            set_peft_model_state_dict(model.llm.language_model, load_file(adapter))
    if recipe.tune == "full":
        model.llm.language_model.requires_grad_(True)
    return model


def train(recipe: Recipe) -> None:
    model = start(recipe)
    (on_stories if not recipe.data else on_videos)(recipe, model).fit(model)


def on_stories(recipe: Recipe, model: Model) -> StageTrainer:
    seen, _ = split_classes(model, recipe.held_out)
    simulator, taxonomy = simulated(model, seen)
    stories = Stories(simulator, recipe.videos, recipe.seed + 1)
    collator = ConversationCollator(model, taxonomy, recipe.conversation_tokens)
    return StageTrainer(model.llm, recipe, stories, order(recipe, (recipe.videos,)), collator)


def on_videos(recipe: Recipe, model: Model) -> StageTrainer:
    rows, held_out, features = read_rows(recipe, model, None)
    limit = recipe.conversation_tokens or model.config.prompt.context

    def conversations(some: Rows) -> Conversations:
        return Conversations(some, features, model.processor, limit)

    prompts = conversations(rows)
    lengths = prompts.lengths() if recipe.batches == "length" else None
    examiner = None
    if held_out is not None and recipe.evaluate_rows:
        examiner = Examiner(model, conversations(held_out), held_out, recipe.evaluate_rows)
    return StageTrainer(
        model.llm,
        recipe,
        prompts,
        order(recipe, tuple(rows.sizes), weights=rows.weights, lengths=lengths),
        PromptCollator(model.processor),
        conversations(held_out) if held_out else None,
        examiner,
    )


def order(recipe: Recipe, sizes: tuple[int, ...], **choices: Any) -> Order:
    return Order(sizes=sizes, epochs=recipe.epochs, batch=recipe.batch_size, seed=recipe.seed, **choices)


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(2, argv))


if __name__ == "__main__":
    main()
