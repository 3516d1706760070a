"""Exact-match accuracy on fresh simulated videos.

    python train/experiments/lite_accuracy.py CHECKPOINT [--num-videos N]

Each story is asked some questions of different kinds, each in a prompt of its own. The control asks the same questions
with the evidence (tokens, tags and what the senses found) of another story. `evidence` measures the encoder itself: of
recognisable scenes, the share whose most probable tag is true, false, or absent. `senses` has stories of seen classes
whose prompts have notes of senses, and questions about these too. Wrong answers are written to stderr (question,
expected, given), and the report to stdout as JSON.
"""

import argparse
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from train.data.simulated import (
    KINDS,
    NO_SENSES,
    VIDEO_KINDS,
    Questioner,
    Senses,
    Stories,
    Story,
    StoryQuestion,
    Taxonomy,
    simulated,
    split_classes,
)
from videollm.checkpoint import load
from videollm.features.encode import SegmentFeatures
from videollm.model import Model
from videollm.models.processor import Message, Prompt
from videollm.models.visual_prompting import VisualBatch

SEED = 777  # no training recipe uses it


@dataclass(frozen=True)
class AskedStory:
    """A question about a story, and the story's segments."""

    qa: StoryQuestion
    segments: tuple[SegmentFeatures, ...]


def normalise(text: str) -> str:
    return re.sub(r"[^a-z0-9: ]", "", text.lower()).strip()


def questions(
    stories: Sequence[Story], taxonomy: Taxonomy, per_story: int, kinds: Sequence[str] = tuple(VIDEO_KINDS)
) -> list[AskedStory]:
    return [
        AskedStory(qa, story.segments)
        for i, story in enumerate(stories)
        for qa in Questioner(story, taxonomy, random.Random(SEED + i)).ask(per_story, kinds)
    ]


def shuffled(items: Sequence[AskedStory]) -> list[AskedStory]:
    """Each question with the segments of the item half the list away, which is about another story."""
    half = len(items) // 2
    return [replace(item, segments=items[(i + half) % len(items)].segments) for i, item in enumerate(items)]


def answers(model: Model, items: Sequence[AskedStory], batch_size: int = 16) -> list[str]:
    """Greedy answers, in order. Prompts of like length are batched and padded on the left."""
    prompts = [model.processor([Message("user", item.qa.question)], item.segments) for item in items]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    made: dict[int, str] = {}
    for at in range(0, len(order), batch_size):
        rows = order[at : at + batch_size]
        for row, text in zip(rows, generate(model, [prompts[i] for i in rows]), strict=True):
            made[row] = text
    return [made[i] for i in range(len(prompts))]


def generate(model: Model, prompts: Sequence[Prompt]) -> list[str]:
    pad = model.processor.tokenizer.pad_token_id
    longest = max(len(p) for p in prompts)
    ids = torch.tensor([[pad] * (longest - len(p)) + p.ids for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    segments = [s for p in prompts for s in p.segments]
    out = model.llm.generate(
        ids,
        VisualBatch.pad([s.tokens for s in segments], [s.times_s for s in segments]),
        attention_mask=mask,
        max_new_tokens=64,
        do_sample=False,
        eos_token_id=sorted(model.processor.stop_ids),
        pad_token_id=pad,
    )
    return [model.processor.decode(row) for row in out.tolist()]


def score(items: Sequence[AskedStory], given: Sequence[str]) -> dict[str, float]:
    """The share of exact matches, over all questions and by kind of question."""
    right: dict[str, list[bool]] = defaultdict(list)
    for item, text in zip(items, given, strict=True):
        right[item.qa.kind].append(normalise(text) == normalise(item.qa.answer))
    every = [r for rows in right.values() for r in rows]
    shares = {kind: sum(rows) / len(rows) for kind, rows in sorted(right.items())}
    return {"all": sum(every) / len(every), **shares}


def evidence(stories: Sequence[Story], taxonomy: Taxonomy) -> dict[str, float]:
    """Of recognisable scenes, the shares whose most probable tag is true, false, or absent."""
    counts = {"true": 0, "false": 0, "absent": 0}
    for story in stories:
        for i, scene in enumerate(story.scenes):
            if not scene.classes:
                continue
            tags = [t for s, k in zip(story.segments, story.scene_of, strict=True) if k == i for t in s.tags]
            best = max(tags, key=lambda t: t.prob, default=None)
            true = {word for c in scene.classes for word in taxonomy.of_class(c)}
            counts["absent" if best is None else "true" if best.word in true else "false"] += 1
    return {k: v / sum(counts.values()) for k, v in counts.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Exact match on fresh simulated videos.")
    parser.add_argument("checkpoint", help="checkpoint directory, or a preset that ships with weights")
    parser.add_argument("--num-videos", type=int, default=60, help="number of stories of each split")
    parser.add_argument("--questions", type=int, default=6, help="number of questions about each story")
    parser.add_argument("--held-out", type=int, default=100, help="held_out of the recipe that trained it")
    options = parser.parse_args(argv)
    model = load(options.checkpoint)
    seen, unseen = split_classes(model, options.held_out)
    report: dict[str, dict[str, float]] = {}
    splits = [("seen", seen, NO_SENSES, VIDEO_KINDS), ("held_out", unseen, NO_SENSES, VIDEO_KINDS)]
    if model.config.senses:
        splits.append(("senses", seen, Senses(used=1.0), KINDS))
    for name, classes, senses, kinds in splits:
        simulator, taxonomy = simulated(model, classes, senses)
        dataset = Stories(simulator, options.num_videos, SEED)
        stories = [dataset[i] for i in range(len(dataset))]
        items = questions(stories, taxonomy, options.questions, tuple(kinds))
        given = answers(model, items)
        report[name] = {"questions": len(items), **score(items, given)}
        report[f"{name}_evidence"] = evidence(stories, taxonomy)
        for item, text in zip(items, given, strict=True):
            if normalise(text) != normalise(item.qa.answer):
                print(f"{item.qa.kind}: {item.qa.question} | {item.qa.answer} | {text}", file=sys.stderr, flush=True)
        control = shuffled(items)
        report[f"{name}_shuffled"] = {"questions": len(items), "all": score(control, answers(model, control))["all"]}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
