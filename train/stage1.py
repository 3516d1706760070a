"""Stage 1: align the temporal module's tokens with words.

    [deepspeed|torchrun|python] train/stage1.py RECIPE [--field value]

The language model is frozen; the losses (`train/tasks/losses.py`) are weighed by the recipe. Simulated videos bear two
of them, captioned videos all.
"""

from collections.abc import Sequence
from typing import Any

from train.configs.stages import Recipe
from train.core.command import run
from train.core.samplers import Order
from train.core.stages import StageTrainer, build, parse, read_rows
from train.data.rows import Captions, Conversations, Narrations, PairCollator, is_caption
from train.data.simulated import Stories, StoryCollator, simulated, split_classes, untagged
from train.tasks.losses import Alignment
from videollm.checkpoint import Model


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
