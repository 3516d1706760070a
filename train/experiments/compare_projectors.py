"""Compare projectors of the literature at one budget of tokens, on a world whose truth is known.

    python train/experiments/compare_projectors.py --out DIR [--encoder local-dir:FOLDER]

Renders clips of one or two things with captions and questions of 12 kinds, trains a CLIP on their frames unless one is
given, and a small language model on the texts alone. Then trains each projector by the same two recipes: the projector
against the words of captions, then the projector and the language model on captions and questions. Tests on new clips,
among them combinations of shapes, colours and events that training never holds; the controls are the frames of another
clip, and the clip's own frames in random order. Writes DIR/table.md, DIR/table.json and DIR/plot.png. Parts that exist
are not made again, so a run that was stopped resumes.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from train import clip, stage1, stage2
from train.configs.clip import CLIP_WORLD
from train.configs.stage1 import WORLD_STAGE1, AlignmentRecipe
from train.configs.stage2 import WORLD_STAGE2, InstructionRecipe
from train.data.conversations import Conversations
from train.data.features import VideoFeatures
from train.data.pairs import write_pairs
from train.data.rows import InstructionRows
from train.data.world import frame_pairs
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.config import TemporalKind
from videollm.datasets.schema import read
from videollm.evaluate.metrics.bootstrap import mean_interval
from videollm.export import FOLDER
from videollm.models.language import CHATML
from videollm.models.processor import IGNORE, Message, Prompt, collate
from videollm.models.temporal import TEMPORAL

ROOT = Path(__file__).parents[2]
PROJECTORS: tuple[TemporalKind, ...] = tuple(TEMPORAL)  # those that give any number of tokens
KINDS = (
    "existence", "colour", "count", "comparison", "direction", "change", "how_many_times", "order", "first_last",
    "when", "duration", "cannot_tell",
)  # fmt: skip
ALIGN = WORLD_STAGE1.changed(
    name="projectors_stage1",
    contrastive=1.0,
    caption=0.0,
    itc=0.0,
    itm=0.0,
    itg=0.0,
    epochs=3,
    batch_size=64,
    learning_rate=1e-3,
    bf16=True,
    save_every=100,
    log_every=20,
    resume="last",
)
RECIPE = WORLD_STAGE2.changed(
    name="projectors_stage2",
    tune="full",
    batches="shuffled",
    epochs=0.25,
    batch_size=32,
    bf16=True,
    learning_rate=5e-4,
    weight_decay=0.05,
    save_every=100,
    log_every=20,
    resume="last",
)
# The language model learns the language first: the gradients of an untrained one make the projector forget videos.
TEXT = RECIPE.changed(name="projectors_text", init="", epochs=0.15, learning_rate=1e-3)
TESTS = ("test", "unseen")
IN_ORDER = ("order", "first_last")  # kinds that only the order of events answers
QUESTIONS = 1200  # asked of each test, spread over its clips
REPEATS = 15


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/projectors"), metavar="DIR")
    parser.add_argument("--encoder", metavar="local-dir:FOLDER", help="an open_clip model instead of one trained here")
    parser.add_argument("--projectors", nargs="+", choices=PROJECTORS, default=PROJECTORS, metavar="KIND")
    parser.add_argument("--clips", type=int, default=4000, metavar="N", help="to train on; a tenth as many are tested")
    parser.add_argument(
        "--epochs", type=float, default=RECIPE.dataset.epochs, help=f"of stage 2 (default: {RECIPE.dataset.epochs})"
    )
    options = parser.parse_args(argv)
    out: Path = options.out.resolve()
    questions(out, "train", 1, options.clips)
    for name in TESTS:
        questions(out, name, 0, options.clips // 10)
    encoder = options.encoder or own_encoder(out)
    language_model(out, encoder)
    recipes = [both(out, kind, encoder, options.epochs) for kind in options.projectors]
    results = {second.network.temporal: accuracies(first, second, out) for first, second in recipes}
    for kind, times in timed([second for _, second in recipes], out / "test.jsonl").items():
        results[kind] |= times
    report(out, results)


def both(out: Path, kind: TemporalKind, encoder: str, epochs: float) -> tuple[AlignmentRecipe, InstructionRecipe]:
    """The two stages of one projector."""
    captions = out / "captions.jsonl"
    common: dict[str, Any] = {
        "temporal": kind,
        "encoder": encoder,
        "llm": str(out / "text" / FOLDER),
        "features": str(out / "features"),
    }
    first = ALIGN.changed(output=str(out / f"{kind}_stage1"), data=str(captions), **common)
    data = f"{captions}=1,{out / 'train.jsonl'}=1"  # captions keep the language model looking at the video
    return first, RECIPE.changed(output=str(out / kind), init=first.output, data=data, epochs=epochs, **common)


def questions(out: Path, name: str, seed: int, count: int) -> None:
    """Render clips, and write their questions to OUT/NAME.jsonl; captions of training clips to OUT/captions.jsonl."""
    annotations = out / "world" / name / name / "annotations.jsonl"
    if not annotations.exists():
        shape = ["--size", "64", "--fps", "8", "--seconds", "3", "--things", "1", "2", "--seed", str(seed)]
        _call("make_world.py", "--out", str(out / "world" / name), *shape, "--split", f"{name}={count}")
    instructions(annotations, out / f"{name}.jsonl", [f"qa/{kind}" for kind in KINDS])
    if name == "train":
        instructions(annotations, out / "captions.jsonl", ["caption/short", "caption/detailed"])


def instructions(annotations: Path, path: Path, tasks: Sequence[str]) -> None:
    if not path.exists():
        made = path.with_suffix(".part.jsonl")
        options = ["--languages", "en", "--tasks", ",".join(tasks)]
        _call("make_instructions.py", str(annotations), "--out", str(made), *options)
        made.rename(path)


def _call(script: str, *arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "data_gen" / script), *arguments], check=True)


def own_encoder(out: Path) -> str:
    folder = out / "clip"
    if not (folder / "open_clip_config.json").exists():
        frames = out / "frames.jsonl"
        write_pairs(frames, [*frame_pairs(out / "world/train/train", CLIP_WORLD.dataset.max_frames)])
        clip.train(CLIP_WORLD.changed(output=str(folder), data=str(frames), cache=str(out / "cache")))
    return f"local-dir:{folder}"


def language_model(out: Path, encoder: str) -> None:
    """Train OUT/text/language_model: a small Llama that reads the rows without their videos."""
    if (out / "text" / "config.json").exists():
        return
    files = []
    for name in ("captions", "train"):
        files.append(out / f"{name}_text.jsonl")
        files[-1].write_text(
            "".join(replace(s, video="", answer_times=()).to_json() + "\n" for s in read(out / f"{name}.jsonl"))
        )
    random_language_model(out / "llm", files)
    data = ",".join(f"{f}=1" for f in files)
    stage2.train(TEXT.changed(output=str(out / "text"), encoder=encoder, llm=str(out / "llm"), data=data))


def random_language_model(folder: Path, files: Sequence[Path]) -> None:
    """Four Llama layers with a tokenizer made from the rows' words."""
    text = [message.content for file in files for sample in read(file) for message in sample.messages]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=1024, special_tokens=specials, initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=specials[0], eos_token=specials[1], pad_token=specials[1]
    )
    fast.chat_template = CHATML
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=1024,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
            tie_word_embeddings=True,
        )
    )
    fast.save_pretrained(folder)
    model.save_pretrained(folder)


def accuracies(first: AlignmentRecipe, recipe: InstructionRecipe, out: Path) -> dict[str, Any]:
    """Train, unless that is done, and test.

    Returns the share of right answers by kind, over all with its interval, on unseen combinations, with another clip
    shown, and with the clip's frames in random order.
    """
    record = Path(recipe.output) / "accuracy.json"
    if record.exists():
        return json.loads(record.read_text())
    if not (Path(first.output) / "config.json").exists():
        stage1.train(first)
    if not (Path(recipe.output) / "config.json").exists():
        stage2.train(recipe)
    model, rows, prompts = trained(recipe, out / "test.jsonl")
    samples = list(rows)
    own = [prompts.prompt(s) for s in samples]
    right = answered(model, own)
    others = [replace(s, video=samples[(i + len(samples) // 2) % len(samples)].video) for i, s in enumerate(samples)]
    rng = np.random.default_rng(recipe.seed)
    mixed = answered(model, [shuffled(prompt, rng) for prompt in own])
    kinds = np.array([s.task.removeprefix("qa/") for s in samples])
    in_order = np.isin(kinds, IN_ORDER)
    overall = mean_interval(right, [s.video for s in samples])
    _, unseen, prompts_of_unseen = trained(recipe, out / "unseen.jsonl")
    found = {
        "questions": len(samples),
        "all": overall.value,
        "interval": (overall.low, overall.high),
        "unseen": answered(model, [prompts_of_unseen.prompt(s) for s in unseen]).mean().item(),
        "another clip": answered(model, [prompts.prompt(s) for s in others]).mean().item(),
        "in order": right[in_order].mean().item(),
        "in order, shuffled": mixed[in_order].mean().item(),
        "kinds": {kind: right[kinds == kind].mean().item() for kind in KINDS if (kinds == kind).any()},
        "tokens": model.config.temporal.queries,
        "parameters": sum(p.numel() for p in model.llm.temporal.parameters()),
    }
    record.write_text(json.dumps(found, indent=2))
    return found


def shuffled(prompt: Prompt, rng: np.random.Generator) -> Prompt:
    """The prompt with the frames of each segment in random order."""
    orders = [torch.from_numpy(rng.permutation(len(s.tokens))) for s in prompt.segments]
    segments = [replace(s, tokens=s.tokens[order]) for s, order in zip(prompt.segments, orders, strict=True)]
    return replace(prompt, segments=segments)


def trained(recipe: InstructionRecipe, test: Path) -> tuple[Model, InstructionRows, Conversations]:
    model = checkpoint.load(recipe.output)
    features = VideoFeatures.at(recipe.dataset.features, model.encoder, model.config)
    rows = InstructionRows([str(test)])
    rows.keep(np.linspace(0, len(rows) - 1, min(QUESTIONS, len(rows))).astype(int).tolist())
    features.prepare(rows, 0)
    return model, rows, Conversations(rows, features, model.processor, model.config.prompt.context)


@torch.inference_mode()
def answered(model: Model, prompts: Sequence[Prompt], batch: int = 64) -> np.ndarray:
    """Which answers are exactly what greedy decoding would write: each of their tokens is the likeliest one after those
    before it."""
    right = []
    for start in range(0, len(prompts), batch):
        made = collate(prompts[start : start + batch], model.processor.tokenizer.pad_token_id)
        targets = made["labels"][:, 1:]  # type: ignore[index]
        labelled = targets != IGNORE
        likeliest = model.llm.labelled_logits(**made).argmax(-1)
        wrong = torch.zeros_like(labelled)
        wrong[labelled] = likeliest != targets[labelled]
        right += (~wrong.any(1)).tolist()
    return np.array(right)


def timed(recipes: Sequence[InstructionRecipe], test: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of a training step without its optimizer, and from a clip's features to an answer's first token.

    Medians over repeats in which the projectors take turns, so that a busy machine slows all of them alike.
    """
    loaded = {r.network.temporal: trained(r, test) for r in recipes}
    steps, firsts = ({kind: [] for kind in loaded} for _ in range(2))
    for _ in range(REPEATS):
        for kind, (model, rows, prompts) in loaded.items():
            some = [prompts.prompt(rows[i]) for i in range(min(RECIPE.dataset.batch_size, len(rows)))]
            batch = collate(some, model.processor.tokenizer.pad_token_id)
            model.llm.requires_grad_(True).zero_grad()
            started = perf_counter()
            model.llm(**batch).loss.backward()
            steps[kind].append(perf_counter() - started)
            started = perf_counter()
            asked = prompts.prompt(rows[0], [Message("user", rows[0].messages[0].content)])
            model.llm.generate(torch.tensor([asked.ids]), asked.visual(), max_new_tokens=1, do_sample=False)
            firsts[kind].append(perf_counter() - started)
    return {
        kind: {"step_ms": 1000 * median(steps[kind][1:]), "first_token_ms": 1000 * median(firsts[kind][1:])}
        for kind in loaded
    }


def report(out: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    (out / "table.json").write_text(json.dumps(results, indent=2))
    head = ["", *(f"`{name}`" for name in results)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]

    def row(name: str, cells: Sequence[str]) -> None:
        lines.append("| " + " | ".join([name, *cells]) + " |")

    found = list(results.values())
    for kind in found[0]["kinds"]:
        row(kind.replace("_", " "), [f"{f['kinds'][kind]:.2f}" for f in found])
    row("**all**", ["**{:.3f}** ({:.3f} to {:.3f})".format(f["all"], *f["interval"]) for f in found])
    row("all, unseen combinations", [f"{f['unseen']:.3f}" for f in found])
    row("order and first/last", [f"{f['in order']:.3f}" for f in found])
    row("the same, frames in random order", [f"{f['in order, shuffled']:.3f}" for f in found])
    row("all, another clip shown", [f"{f['another clip']:.3f}" for f in found])
    row("visual tokens a clip", [str(f["tokens"]) for f in found])
    row("parameters", [f"{f['parameters'] / 1e6:.2f} M" for f in found])
    row(f"step of {RECIPE.dataset.batch_size}, ms", [f"{f['step_ms']:.0f}" for f in found])
    row("first token, ms", [f"{f['first_token_ms']:.1f}" for f in found])
    (out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    plot(out / "plot.png", results)


def plot(path: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(4, 1))
    names, width = list(results), 0.8 / len(results)
    for i, name in enumerate(names):
        kinds = {**results[name]["kinds"], "all": results[name]["all"]}
        left.bar([k + width * (i - (len(names) - 1) / 2) for k in range(len(kinds))], kinds.values(), width, label=name)
        left.set_xticks(range(len(kinds)), [k.replace("_", " ") for k in kinds], rotation=35, ha="right")
    left.set(ylabel="right answers", ylim=(0, 1))
    left.legend()
    right.bar(names, [results[n]["step_ms"] for n in names])
    right.set(ylabel=f"training step of {RECIPE.dataset.batch_size}, ms")
    right.tick_params("x", rotation=35)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
