"""Show what the objectives without labels of their own learn on new clips, and which of them helps a task.

    python train/experiments/objectives.py

Clips are those of the world. Masked pixels train the tower and the motion stem of the preset `world`; all others read
tokens that say what is true of each patch, as those of a tower without mistakes would. Prints two tables: the loss on
new clips before and after, and the score of a task with and without the objective, after equally many steps, with 95 %
intervals over clips (of losses and of what patches show: over batches of 16) and of the paired differences.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from train.data.captions import CaptionedSegment, PairCollator
from train.data.rendered import RenderedClip
from train.data.rendered_pairs import pair, true_reader, true_segment
from train.experiments.dense_objectives import masked_pixels, regions
from train.experiments.objective_runs import (
    BATCH,
    TEST_SEED,
    TRAIN_SEED,
    Collate,
    Scores,
    Sizes,
    clips,
    held_out,
    trained,
)
from train.tasks.loss_inputs import LossInputs
from train.tasks.losses import AlignmentModel
from videollm.encoders.audio import HearingEncoder
from videollm.evaluate.metrics.bootstrap import mean_interval
from videollm.model import Model
from videollm.models.processor import IGNORE, Message, Prompt, collate


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings of each kind (default: 1)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of clips and steps (default: 1)")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=[*EXPERIMENTS], help="what is tried")
    options = parser.parse_args(argv)

    def scaled(count: int) -> int:
        return max(2, round(options.scale * count))

    sizes = Sizes(
        clips=scaled(1600),
        tests=max(2 * BATCH, scaled(192)),
        few=scaled(96),
        before=scaled(300),
        after=scaled(300),
        pixel_steps=scaled(50),
    )
    losses, tasks = {}, {}
    with tempfile.TemporaryDirectory() as words:
        for name in options.only:
            runs = [EXPERIMENTS[name](sizes, Path(words), seed) for seed in range(options.seeds)]
            losses |= mean_of([loss for loss, _ in runs])
            tasks |= mean_of([task for _, task in runs])
    print(table(losses, "loss on new clips", "before", "after"), "", table(tasks, "task", "without", "with"), sep="\n")


def aligned(model: Model, *losses: str, seed: int = 0) -> tuple[AlignmentModel, PairCollator]:
    """Returns the losses of stage 1 with this model, and what makes their batches."""
    torch.manual_seed(seed)
    module = AlignmentModel(model.llm, model.processor.tokenizer, dict.fromkeys(losses, 1.0))
    return module, PairCollator(model.processor.tokenizer, module.aligner, frozenset(losses))


def ear(model: Model) -> Any:
    return model.encoder.audio if isinstance(model.encoder, HearingEncoder) else None


@torch.no_grad()
def recalled(module: AlignmentModel, collate: Collate, pairs: Sequence[CaptionedSegment]) -> np.ndarray:
    """Returns for each caption whether its clip, or one with the same caption, comes first, (N,)."""
    batch = collate(pairs)["pairs"]
    inputs = LossInputs(module.llm, module.aligner, batch)
    best = inputs.aligner.pair.similarity(inputs.images, inputs.embeds).argmax(0)
    return (batch.groups[best, 1] == batch.groups[:, 1]).double().numpy()


@torch.no_grad()
def caption_losses(module: AlignmentModel, collate: Collate, pairs: Sequence[CaptionedSegment]) -> np.ndarray:
    """Returns the mean loss of the words of each caption, written from the left, (N,)."""
    batch = collate(pairs)["pairs"]
    inputs, texts = LossInputs(module.llm, module.aligner, batch), batch.texts
    logits = inputs.aligner.pair.predict_words(texts.ids, texts.mask, inputs.queries[1])
    losses = F.cross_entropy(logits[:, :-1].mT, texts.ids[:, 1:], reduction="none")
    real = texts.mask[:, 1:]
    return ((losses * real).sum(1) / real.sum(1)).double().numpy()


def masked_features(sizes: Sizes, words: Path, seed: int) -> tuple[Scores, Scores]:
    """Masked features before contrast with few captions."""
    pool, new = [[pair(clip) for clip in clips(n, s)] for n, s in ((sizes.clips, TRAIN_SEED), (sizes.tests, TEST_SEED))]
    model, other = (true_reader(words, seed) for _ in range(2))
    first, collate = aligned(model, "mvm", seed=seed)
    start = held_out(first, collate, new)
    trained(first, collate, pool, sizes.before, seed)
    found = {"mvm, features": (start, held_out(first, collate, new))}
    scores = []
    for reader, steps in ((other, sizes.before + sizes.after), (model, sizes.after)):
        module, collate = aligned(reader, "itc", seed=seed)
        trained(module, collate, pool[: sizes.few], steps, seed)
        scores.append(100 * recalled(module, collate, new))
    return found, {f"mvm, features: R@1 after itc on {sizes.few} clips, %": (scores[0], scores[1])}


def prefixes(sizes: Sizes, words: Path, seed: int) -> tuple[Scores, Scores]:
    """Prefix language modelling beside contrast, and in place of captioning."""
    pool, new = [[pair(clip) for clip in clips(n, s)] for n, s in ((sizes.clips, TRAIN_SEED), (sizes.tests, TEST_SEED))]
    ranks, losses, found = {}, {}, {}
    for names in (("itc",), ("itc", "itg"), ("itc", "plm"), ("itg",), ("plm",)):
        module, collate = aligned(true_reader(words, seed), *names, seed=seed)
        start = held_out(module, collate, new)
        trained(module, collate, pool, sizes.after, seed)
        if names == ("plm",):
            found["plm"] = start, held_out(module, collate, new)
        if "itc" in names:
            ranks[names[-1]] = 100 * recalled(module, collate, new)
        else:
            losses[names[-1]] = caption_losses(module, collate, new)
    return found, {
        "plm beside itc: R@1, %": (ranks["itc"], ranks["plm"]),
        "plm for itg, beside itc: R@1, %": (ranks["itg"], ranks["plm"]),
        "plm for itg: loss of the whole caption": (losses["itg"], losses["plm"]),
    }


def omni_prompts(model: Model, of: Sequence[RenderedClip], heard: Sequence[RenderedClip] | None = None) -> list[Prompt]:
    """Returns clips with their captions of what is seen and heard. heard: the clips whose sound takes the place of
    theirs."""
    made = []
    for clip, source in zip(of, heard or of, strict=True):
        question, answer = clip.omni_turn()
        segment = replace(true_segment(clip), audio=ear(model).encode_audio(source.samples()).tokens)
        made.append(model.processor([Message("user", question), Message("assistant", answer)], [segment]))
    return made


def omni_collate(model: Model) -> Collate:
    return lambda prompts: collate(prompts, model.processor.tokenizer.pad_token_id)


@torch.no_grad()
def sounds_named(model: Model, of: Sequence[RenderedClip], prompts: Sequence[Prompt]) -> np.ndarray:
    """Returns for each clip whether all words about its sounds are the likeliest ones after those before, (N,)."""
    tokenizer, right = model.processor.tokenizer, []
    for clip, prompt in zip(of, prompts, strict=True):
        batch = omni_collate(model)([prompt])
        labels = batch.pop("labels")[0, 1:]  # type: ignore[index]
        real = labels != IGNORE
        is_right = model.llm(**batch).logits[0, :-1].argmax(-1)[real] == labels[real]
        about = len(tokenizer(f" {clip.heard}", add_special_tokens=False)["input_ids"]) + 1  # and the end
        right.append(float(is_right[-about:].all()))
    return np.array(right)


def sounds(sizes: Sizes, words: Path, seed: int) -> tuple[Scores, Scores]:
    """Omni captions under the controls of sound, and video-audio contrast before them."""
    pool, new = clips(sizes.clips, TRAIN_SEED), clips(sizes.tests, TEST_SEED)
    model, other = (true_reader(words, seed, hears=True) for _ in range(2))
    first, collate = aligned(model, "audio", seed=seed)
    pairs, tests = ([pair(clip, ear(model)) for clip in some] for some in (pool, new))
    start = held_out(first, collate, tests)
    trained(first, collate, pairs, sizes.before, seed)
    found = {"audio": (start, held_out(first, collate, tests))}
    captions, own = (omni_prompts(model, some) for some in (pool, new))
    silent = omni_prompts(model, new, [replace(clip, sounds=()) for clip in new])
    other_sound = omni_prompts(model, new, new[1:] + new[:1])
    scores = {}
    for name, reader, steps in (("without", other, sizes.before + sizes.after), ("with", model, sizes.after)):
        reader.llm.requires_grad_(True)
        start = held_out(reader.llm, omni_collate(reader), own)
        trained(reader.llm, omni_collate(reader), captions, steps, seed)
        if name == "without":
            found["omni captions"] = start, held_out(reader.llm, omni_collate(reader), own)
            for control, shown in (("silent", silent), ("swapped", other_sound)):
                scores[control] = 100 * sounds_named(reader, new, shown)
        scores[name] = 100 * sounds_named(reader, new, own)
    return found, {
        "omni captions: sounds named, % (without: silent)": (scores["silent"], scores["without"]),
        "omni captions: sounds named, % (without: sound of another clip)": (scores["swapped"], scores["without"]),
        "audio: sounds named in omni captions, %": (scores["without"], scores["with"]),
    }


EXPERIMENTS: dict[str, Callable[[Sizes, Path, int], tuple[Scores, Scores]]] = {
    "prefixes": prefixes,
    "features": masked_features,
    "sounds": sounds,
    "pixels": masked_pixels,
    "regions": regions,
}


def mean_of(runs: Sequence[Scores]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the mean over seeds of each score of each clip."""
    return {
        name: (np.mean([run[name][0] for run in runs], axis=0), np.mean([run[name][1] for run in runs], axis=0))
        for name in runs[0]
    }


def table(found: Scores, title: str, first: str, second: str) -> str:
    """Returns both values of each name and their paired difference, with 95 % intervals, in Markdown."""

    def cell(values: np.ndarray) -> str:
        interval = mean_interval(values, [str(i) for i in range(len(values))])
        return f"{interval.value:.3g} ({interval.low:.3g} to {interval.high:.3g})"

    lines = [f"| {title} | {first} | {second} | difference |", "|---|---|---|---|"]
    lines += [f"| {name} | {cell(a)} | {cell(b)} | {cell(b - a)} |" for name, (a, b) in found.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
