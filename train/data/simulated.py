"""Simulated stories as training data, drawn while a run trains: nothing but a seed needs to be kept.

It makes the recipes of `lite` need no files, as `train.data.rendered` does for those of the world.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import Dataset

from data_gen.simulation.questions import KINDS, VIDEO_KINDS, Questioner, StoryQuestion, Taxonomy
from data_gen.simulation.senses import NO_SENSES, Senses
from data_gen.simulation.story import PosteriorEncoder, Simulator, Story
from train.configs.stages import VideoDataConfig
from train.data.batches import PairBatch
from videollm.errors import ConfigError
from videollm.model import Model
from videollm.models.processor import Message, Processor, Prompt, collate

__all__ = [
    "KINDS",
    "NO_SENSES",
    "VIDEO_KINDS",
    "Questioner",
    "Senses",
    "Stories",
    "Story",
    "StoryCollator",
    "StoryConversationCollator",
    "StoryQuestion",
    "Taxonomy",
    "simulated",
    "split_classes",
    "training_stories",
    "untagged",
]

SPLIT_SEED = 20  # the held-out classes are the same for every recipe, so that stages never train on each other's
STRIDE = 1_000_003  # between the seeds of two runs' stories: prime and larger than any run


class Stories(Dataset[Story]):
    """`count` simulated stories. Each has a seed of its own, so an index always gives the same story."""

    def __init__(self, simulator: Simulator, count: int, seed: int):
        self.simulator, self.count, self.seed = simulator, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Story:
        return self.simulator.story(self.seed * STRIDE + index)


def split_classes(model: Model, held_out: int) -> tuple[list[int], list[int]]:
    """Class indices to train on, and those held out to test names that training never saw."""
    classes = list(range(len(getattr(model.encoder, "classifier_weight", ()))))
    random.Random(SPLIT_SEED).shuffle(classes)
    return sorted(classes[held_out:]), sorted(classes[:held_out])


def simulated(model: Model, classes: list[int], senses: Senses = NO_SENSES) -> tuple[Simulator, Taxonomy]:
    """A simulator of these classes, with what these senses find.

    Raises ConfigError for an encoder whose features cannot be simulated.
    """
    if not isinstance(model.encoder, PosteriorEncoder):
        raise ConfigError(
            f"encoder {model.encoder.name!r} has no classifier, so its features cannot be simulated; give --data"
        )
    return Simulator(model.encoder, model.config, classes, senses=senses), Taxonomy(model.encoder.vocabulary)


def training_stories(model: Model, dataset: VideoDataConfig, seed: int) -> tuple[Stories, Taxonomy]:
    """The stories that a recipe trains on, and the taxonomy of their classes."""
    seen, _ = split_classes(model, dataset.held_out)
    simulator, taxonomy = simulated(model, seen, Senses() if model.config.senses else NO_SENSES)
    return Stories(simulator, dataset.num_videos, seed), taxonomy


def untagged(model: Model) -> Processor:
    """A processor whose prompts have no concept tags, so that the visual tokens alone must say what is seen."""
    return Processor(model.processor.tokenizer, replace(model.config, prompt=replace(model.config.prompt, tags=0)))


class StoryCollator:
    """Stories to the arguments of `AlignmentModel.forward`: captions, and segments with the names of their scenes."""

    def __init__(self, model: Model, taxonomy: Taxonomy):
        self.processor, self.taxonomy = untagged(model), taxonomy

    def __call__(self, stories: Sequence[Story]) -> dict[str, Any]:
        names, prompts = [], []
        for story in stories:
            questioner = Questioner(story, self.taxonomy, random.Random(story.scenes[-1].end_s))
            (caption,) = questioner.ask(1, ["describe"])
            messages = [Message("user", caption.question), Message("assistant", caption.answer)]
            prompts.append(self.processor(messages, story.segments))
            for k in story.scene_of:
                classes = story.scenes[k].classes
                names.append(self.taxonomy.of_class(classes[0])[0] if classes else "")
        # The space makes a name the same tokens that it has inside a sentence.
        words = self.processor.tokenizer([f" {n}" for n in names], add_special_tokens=False, padding=True)
        prompt = collate(prompts, self.processor.tokenizer.pad_token_id)
        pairs = PairBatch(
            scenes=prompt["visual"],  # type: ignore[arg-type]
            words=torch.tensor(words["input_ids"]),
            word_mask=torch.tensor(words["attention_mask"]).bool(),
            named=torch.tensor([bool(n) for n in names]),
            prompt=prompt,
        )
        return {"pairs": pairs, "labels": prompt["labels"]}


class StoryConversationCollator:
    """Stories to the arguments of `VideoLLM.forward`: one conversation a story, with as many questions as fit.

    tokens: the longest prompt. Filling it makes prompts of like length, so little of a batch is padding.
    """

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
