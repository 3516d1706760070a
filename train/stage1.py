"""Stage 1: align the temporal module's tokens with words.

    [deepspeed|torchrun|python] train/stage1.py RECIPE [--field value]

The language model is frozen; the losses (`train/losses.py`) are weighed by the recipe. Simulated videos bear two of
them, captioned videos all.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from train.command import run
from train.losses import Alignment, Pairs
from train.questions import Questioner, Taxonomy
from train.recipes import Recipe
from train.run import StageTrainer, Stories, build, parse, read_rows, simulated, split_classes
from train.samplers import Order
from train.simulate import Story
from train.videos import Captions, Conversations, Narrations, PairCollator, is_caption
from videollm.checkpoint import Model
from videollm.models.processor import Message, Processor, collate


class StoryCollator:
    """Stories to the arguments of `Alignment.forward`: segments with their scenes' names, and captions."""

    def __init__(self, model: Model, taxonomy: Taxonomy):
        self.processor = untagged(model)
        self.taxonomy = taxonomy

    def __call__(self, stories: Sequence[Story]) -> dict[str, Any]:
        names, prompts = [], []
        for story in stories:
            questioner = Questioner(story, self.taxonomy, random.Random(story.scenes[-1].end_s))
            (caption,) = questioner.ask(1, ["describe"])
            prompts.append(
                self.processor(
                    [Message("user", caption.question), Message("assistant", caption.answer)], story.segments
                )
            )
            for k in story.scene_of:
                classes = story.scenes[k].classes
                names.append(self.taxonomy.of_class(classes[0])[0] if classes else "")
        words = self.processor.tokenizer([f" {n}" for n in names], add_special_tokens=False, padding=True)
        prompt = collate(prompts, self.processor.tokenizer.pad_token_id)
        pairs = Pairs(
            scenes=prompt["visual"],  # type: ignore[arg-type]
            words=torch.tensor(words["input_ids"]),
            word_mask=torch.tensor(words["attention_mask"]).bool(),
            named=torch.tensor([bool(n) for n in names]),
            prompt=prompt,
        )
        return {"pairs": pairs, "labels": prompt["labels"]}


def untagged(model: Model) -> Processor:
    """Prompts without concept tags: the visual tokens alone shall say what is seen."""
    return Processor(model.processor.tokenizer, replace(model.config, prompt=replace(model.config.prompt, tags=0)))


def train(recipe: Recipe) -> None:
    model = build(recipe)
    alignment = Alignment(model.llm, model.processor.tokenizer, recipe.losses)
    (on_stories if not recipe.data else on_videos)(recipe, model, alignment).fit(model, alignment.aligner)


def on_stories(recipe: Recipe, model: Model, alignment: Alignment) -> StageTrainer:
    seen, _ = split_classes(model, recipe.held_out)
    simulator, taxonomy = simulated(model, seen)
    stories = Stories(simulator, recipe.videos, recipe.seed)
    return StageTrainer(alignment, recipe, stories, order(recipe, (recipe.videos,)), StoryCollator(model, taxonomy))


def on_videos(recipe: Recipe, model: Model, alignment: Alignment) -> StageTrainer:
    rows, held_out, features = read_rows(recipe, model, is_caption)
    kind = Narrations if recipe.overlapped else Captions

    def captions(some: Any, kind: type[Captions]) -> Captions:
        prompts = (
            Conversations(some, features, untagged(model), model.config.prompt.context) if recipe.caption else None
        )
        return kind(some, features, prompts)

    pairs = captions(rows, kind)
    sizes = (len(pairs),) if recipe.overlapped else tuple(rows.sizes)
    embeds = pairs.embeds() if recipe.batches == "alike" else None
    names = frozenset(name for name, weight in recipe.losses.items() if weight)
    return StageTrainer(
        alignment,
        recipe,
        pairs,
        order(recipe, sizes, weights=None if recipe.overlapped else rows.weights, embeds=embeds),
        PairCollator(model.processor.tokenizer, alignment.aligner, names),
        captions(held_out, Captions) if held_out else None,
    )


def order(recipe: Recipe, sizes: tuple[int, ...], **choices: Any) -> Order:
    return Order(sizes=sizes, epochs=recipe.epochs, batch=recipe.batch_size, seed=recipe.seed, **choices)


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(1, argv))


if __name__ == "__main__":
    main()
