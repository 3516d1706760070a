"""Stage 2: instruction tuning. `[deepspeed|python] train/stage2.py RECIPE [--field value]`

Trains the temporal module and a LoRA adapter on conversations about videos; only the answers bear a loss.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from train.questions import KINDS, Questioner, Taxonomy
from train.recipes import Recipe
from train.run import Stories, TrainedPartsTrainer, build, parse, simulated, split_classes, training_arguments
from train.simulate import Story
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.models.processor import Message, Prompt, collate


class ConversationCollator:
    """Stories to the arguments of `VideoLLM.forward`: each asked as many questions, in one conversation, as fit in
    `tokens`. So prompts are of like length, and little of a batch is padding."""

    def __init__(self, model: Model, taxonomy: Taxonomy, tokens: int):
        self.processor, self.taxonomy, self.tokens = model.processor, taxonomy, tokens

    def __call__(self, stories: Sequence[Story]) -> dict[str, Any]:
        return collate([self.prompt(s) for s in stories], self.processor.tokenizer.pad_token_id)

    def prompt(self, story: Story) -> Prompt:
        rng = random.Random(repr(story.scenes))
        messages = []
        for qa in Questioner(story, self.taxonomy, rng).ask(len(KINDS)):
            messages += [Message("user", qa.question), Message("assistant", qa.answer)]
        prompt = self.processor(messages, story.segments)
        while len(prompt) > self.tokens and len(messages) > 2:
            messages = messages[:-2]
            prompt = self.processor(messages, story.segments)
        return prompt


def start(recipe: Recipe) -> Model:
    """The model with the projector, and the adapter if there is one, of the checkpoint that the recipe starts from."""
    model = build(recipe, recipe.config)
    if recipe.init:
        checkpoint.load_projector(model.llm, Path(recipe.init) / "projector.safetensors")
        adapter = Path(recipe.init) / "adapter" / "adapter_model.safetensors"
        if adapter.is_file():
            set_peft_model_state_dict(model.llm.language_model, load_file(adapter))
    return model


def main(argv: Sequence[str] | None = None) -> None:
    recipe = parse(2, argv)
    model = start(recipe)
    seen, _ = split_classes(model, recipe.held_out)
    simulator, taxonomy = simulated(model, seen)
    trainer = TrainedPartsTrainer(
        model.llm,
        training_arguments(recipe),
        train_dataset=Stories(simulator, recipe.videos, recipe.seed + 1),
        data_collator=ConversationCollator(model, taxonomy, recipe.conversation_tokens),
    )
    trainer.train(resume_from_checkpoint=recipe.resume or None)
    trainer.finish(model)


if __name__ == "__main__":
    main()
