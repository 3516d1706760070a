"""Simulated stories as training data: drawn while a run trains, so that nothing is written to disk.

This is the one module of `train` that imports `data_gen`: the recipes of `lite` draw their stories on the fly.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import Dataset

from data_gen.simulation.questions import KINDS, QA, Questioner, Taxonomy
from data_gen.simulation.story import PosteriorEncoder, Simulator, Story
from train.tasks.losses import Pairs
from videollm.checkpoint import Model
from videollm.errors import ConfigError
from videollm.models.processor import Message, Processor, Prompt, collate

__all__ = [
    "KINDS",
    "QA",
    "ConversationCollator",
    "Questioner",
    "Simulator",
    "Stories",
    "Story",
    "StoryCollator",
    "Taxonomy",
    "simulated",
    "split_classes",
    "untagged",
]


class Stories(Dataset[Story]):
    """`count` simulated stories, each made from its own seed: the same index is always the same story."""

    def __init__(self, simulator: Simulator, count: int, seed: int):
        self.simulator, self.count, self.seed = simulator, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Story:
        return self.simulator.story(self.seed * 1_000_003 + index)


def split_classes(model: Model, held_out: int) -> tuple[list[int], list[int]]:
    """Class indices for training and for testing unseen names; the split is the same for every recipe."""
    classes = list(range(len(getattr(model.encoder, "classifier_weight", ()))))
    random.Random(20).shuffle(classes)
    return sorted(classes[held_out:]), sorted(classes[:held_out])


def simulated(model: Model, classes: list[int]) -> tuple[Simulator, Taxonomy]:
    """Raises ConfigError for an encoder whose features cannot be simulated."""
    if not isinstance(model.encoder, PosteriorEncoder):
        raise ConfigError(f"encoder {model.encoder.name!r} has no classifier to simulate; give data to train on")
    return Simulator(model.encoder, model.config, classes), Taxonomy(model.encoder.vocabulary)


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
