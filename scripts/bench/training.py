"""How fast and how large a training step is: python scripts/bench/training.py [--repeats N] [--data FILE] [--out FILE]

A step trains on 4 videos of 16 frames with a question and its answer. The model is a ViT-B/32, a Q-Former of 2 layers
with 32 queries and SmolLM2-135M; the tower and the language model are frozen. It is compared with transformers'
InstructBlipVideo at the same sizes (`peer_models.py`), which turns every frame into 32 tokens. `transformers.Trainer`
takes the steps of both models.

Steps run interleaved (A B A B ...) in one process. A ratio is the median over pairs, and peak memory is measured in a
process of its own. --data takes rows of instructions and measures how much of a step is padding, with batches of 16
rows in any order and of similar length. The script prints a Markdown table; --out writes JSON.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from chat import FULL, ONE_SEGMENT, QUESTIONS, QUICK, SAMPLE, SIXTEEN, Sizes, build, build_peer, encode, peak_mb
from report import Row, Times, describe_machine, publish, timed
from transformers import Trainer, TrainingArguments

from train.core.samplers import grouped, mixture
from train.data.rows import InstructionRows
from videollm.config import Dtype
from videollm.features.encode import EncodedVideo, encode_video, stored_video
from videollm.features.shards import FeatureShards
from videollm.models.language import load_tokenizer
from videollm.models.processor import Message, Prompt, collate
from videollm.video import decode

BATCH = 4
PADDED = 16  # rows of a batch where padding is measured
ANSWER = "A cat looks past the camera, then a cup of coffee stands on its saucer, and last a rocket is on its pad."
Step = Callable[[], None]


def stepper(model: Any, batch: Callable[[], dict[str, Any]], bf16: bool) -> Step:
    """Return Trainer's step with AdamW on a batch that is made again for each step."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, use_cpu=True, bf16=bf16, report_to="none", disable_tqdm=True)
    trainer = Trainer(model, arguments)
    trainer.current_gradient_accumulation_steps = 1  # what `train` itself would set
    optimizer = trainer.create_optimizer()

    def step() -> None:
        trainer.training_step(model, batch())
        optimizer.step()
        optimizer.zero_grad()

    return step


def ours(sizes: Sizes, dtype: Dtype, cached: bool) -> Step:
    """Return our step. dtype is that of the frozen parts; the rest is trained in float32, under autocast if dtype
    differs."""
    config = replace(
        sizes.model,
        segments=ONE_SEGMENT,
        encoder=replace(sizes.model.encoder, dtype=dtype),
        llm=replace(sizes.model.llm, dtype=dtype),
    )
    model = build(config)
    model.llm.language_model.requires_grad_(False)
    messages = (Message("user", QUESTIONS[0]), Message("assistant", ANSWER))
    frames = decode(SAMPLE, SIXTEEN, short_side=model.encoder.image_size)

    def prompts(videos: Sequence[EncodedVideo]) -> dict[str, Any]:
        made = [model.processor(messages, v.segments(config, model.encoder.vocabulary, 1)) for v in videos]
        return collate(made, model.processor.tokenizer.pad_token_id)

    kept = [encode(model, frames)] * BATCH
    batch = partial(prompts, kept) if cached else lambda: prompts([encode(model, frames) for _ in range(BATCH)])
    return stepper(model.llm, batch, dtype == "bfloat16")


def theirs(sizes: Sizes, dtype: Dtype) -> Step:
    """Return the peer's step, with weights in float32 and Trainer's autocast for bfloat16."""
    config = replace(sizes.model, llm=replace(sizes.model.llm, dtype="float32"))
    peer = build_peer(replace(sizes, model=config))
    peer.parameters()  # freezes all others
    clips = decode(SAMPLE, SIXTEEN, short_side=peer.image_size).pixels.expand(BATCH, -1, -1, -1, -1)
    answer = torch.tensor([load_tokenizer(config.llm)(ANSWER, add_special_tokens=False)["input_ids"]])

    def batch() -> dict[str, Any]:
        inputs = peer.inputs(clips, torch.cat((peer.question, answer), 1).expand(BATCH, -1))
        labels = inputs["input_ids"].clone()
        labels[:, : -answer.shape[1]] = -100
        return {**inputs, "labels": labels}

    return stepper(peer.model, batch, dtype == "bfloat16")


# By name: what makes the step, and the goal of its time over the peer's.
STEPS: dict[str, tuple[Callable[[Sizes], Step], float | None]] = {
    "float32": (partial(ours, dtype="float32", cached=False), 0.40),
    "bfloat16": (partial(ours, dtype="bfloat16", cached=False), 0.25),
    "bfloat16, cached features": (partial(ours, dtype="bfloat16", cached=True), 0.12),
    "InstructBlipVideo, float32": (partial(theirs, dtype="float32"), None),
    "InstructBlipVideo, bfloat16": (partial(theirs, dtype="bfloat16"), None),
}
PEER = "InstructBlipVideo, float32"
MEMORY_GOAL = 0.6


def measure_steps(sizes: Sizes, repeats: int) -> list[Row]:
    steps, times = {name: make(sizes) for name, (make, _) in STEPS.items()}, Times()
    for name, step in steps.items():
        times.add(**{f"{name}, first": timed(step)})  # warms up
    for _ in range(repeats):
        for name, step in steps.items():
            times.add(**{name: timed(step)})
    rows = [Row("step", name, times.ms(name), "ms") for name in steps]
    for name, (_, goal) in STEPS.items():
        if goal is not None:
            rows.append(
                Row("step", f"{name} / {PEER}", times.ratio(name, PEER), note="32 / 512 visual tokens", goal=goal)
            )
    both = "bfloat16", "InstructBlipVideo, bfloat16"
    return [*rows, Row("step", " / ".join(both), times.ratio(*both), note="both in bfloat16")]


def peak(sizes: Sizes, name: str) -> float:
    step = STEPS[name][0](sizes)
    step()
    step()
    return peak_mb()


def measure_memory(sizes: Sizes) -> list[Row]:
    """Measure peak memory. Call this while the calling process is small; see `chat.measure_apart`."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        peaks = {name: pool.submit(peak, sizes, name).result() for name in STEPS}
    rows = [Row("memory", name, mb, "MB") for name, mb in peaks.items()]
    for name, (_, goal) in STEPS.items():
        if goal is not None:
            rows.append(Row("memory", f"{name} / {PEER}", peaks[name] / peaks[PEER], goal=MEMORY_GOAL))
    return rows


def measure_cache(sizes: Sizes, repeats: int) -> list[Row]:
    """Time what an epoch spends on a video before its step: decoding and encoding it, or reading its features."""
    model, times = build(replace(sizes.model, segments=ONE_SEGMENT)), Times()
    with tempfile.TemporaryDirectory() as folder:
        shards = FeatureShards(folder)
        stored_video(SAMPLE, model.encoder, SIXTEEN, shards)
        for _ in range(repeats):
            times.add(video=timed(encode_video, SAMPLE, model.encoder, SIXTEEN))
            times.add(shards=timed(lambda: stored_video(SAMPLE, model.encoder, SIXTEEN, shards).features.tokens.sum()))
    return [
        Row("cache", "16 frames, decoded and encoded", times.ms("video"), "ms"),
        Row("cache", "the same from shards", times.ms("shards"), "ms"),
        Row("cache", "decoded and encoded / from shards", times.ratio("video", "shards"), goal=20, more_is_better=True),
    ]


def padded(batch: Sequence[Prompt]) -> int:
    """The tokens that a step computes, padding included."""
    return len(batch) * max(map(len, batch))


def measure_padding(sizes: Sizes, data: Path, repeats: int) -> list[Row]:
    """Measure padding. The sample clip stands for the video of each row, in one segment. Steps are timed on `repeats`
    batches of either kind, spread from the shortest to the longest."""
    config = replace(sizes.model, segments=ONE_SEGMENT)
    model, rows, rng = build(config), InstructionRows([str(data)]), random.Random(0)
    model.llm.language_model.requires_grad_(False)
    video = encode(model, decode(SAMPLE, SIXTEEN, short_side=model.encoder.image_size))
    segments = video.segments(config, model.encoder.vocabulary, 1)
    prompts = [model.processor(row.messages, segments if row.video else []) for row in rows]
    order = mixture((len(rows),), None, rng)
    orders = {"any order": order, "like length": grouped(order, list(map(len, prompts)), PADDED, rng)}
    batches = {
        name: [[prompts[i] for i in order[at : at + PADDED]] for at in range(0, len(order) + 1 - PADDED, PADDED)]
        for name, order in orders.items()
    }
    todo, times = [], Times()
    step = stepper(model.llm, lambda: collate(todo.pop(), model.processor.tokenizer.pad_token_id), bf16=False)
    for k in range(repeats):
        for name, made in batches.items():
            todo.append(sorted(made, key=padded)[(2 * k + 1) * len(made) // (2 * repeats)])
            times.add(**{name: timed(step)})
    tokens = {name: sum(map(padded, made)) for name, made in batches.items()}
    real = {name: sum(len(prompt) for batch in made for prompt in batch) for name, made in batches.items()}
    seconds = {name: sum(times.seconds[name]) for name in batches}
    ratios = {"tokens computed": tokens, "time of steps": seconds}
    return [
        *(Row("padding", f"{name}, tokens computed / real", n / real[name]) for name, n in tokens.items()),
        *(
            Row("padding", f"{what}, any order / like length", r["any order"] / r["like length"],
                note=f"{len(prompts)} rows, {PADDED} a step", goal=1.3, more_is_better=True)
            for what, r in ratios.items()
        ),
    ]  # fmt: skip


def measure(sizes: Sizes, repeats: int, data: Path | None, memory: bool = True) -> list[Row]:
    """Return all rows: padding too if `data` is given, and peak memory too if `memory` is set."""
    rows = measure_memory(sizes) if memory else []
    rows += measure_padding(sizes, data, 4 * repeats) if data else []
    return [*measure_steps(sizes, repeats), *rows, *measure_cache(sizes, repeats)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, metavar="FILE", help="rows of instructions, to measure padding on")
    parser.add_argument("--quick", action="store_true", help="tiny models and no other processes: does all run?")
    parser.add_argument("--out", type=Path, help="write JSON here")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    rows = measure(sizes, options.repeats, options.data, memory=not options.quick)
    publish(rows, describe_machine(torch.float32, sizes.matrix), options.out)


if __name__ == "__main__":
    main()
