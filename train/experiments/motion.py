"""Show that a model sees motion and order, on new clips whose truth is known.

    python train/experiments/motion.py --out DIR

Trains, from nothing and on clips that are rendered while it trains, a tower on what each patch shows and how it moves,
then a motion stem and a temporal module on what happens at each place and moment, and then a small language model on
captions and questions, once without the clips and once with them. Tests on files of new clips: which events the
module's tokens name, and which questions the model answers, beside what the words alone tell, with the frames in random
order, backwards, and with another clip shown. Writes DIR/table.md, DIR/table.json, DIR/plot.png and DIR/costs.json.
Parts that exist are not made again, so a run that was stopped resumes.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from train import dense, stage2
from train.configs.base import Recipe
from train.configs.dense import WORLD_EVENTS, WORLD_FRAMES
from train.configs.stage2 import WORLD_STAGE2, WORLD_TEXT
from train.core.report import plot
from train.core.resume import newest_checkpoint
from train.data.rendered import RenderedClips
from train.experiments import world_answers
from train.experiments.costs import timed
from train.tasks.dense import HEADS_FILE
from train.tasks.dense_heads import ReadoutHeads
from train.tasks.small_language_model import write_language_model
from videollm import checkpoint
from videollm.evaluate.metrics.bootstrap import mean_interval
from videollm.model import Model
from videollm.presets import preset

ROOT = Path(__file__).parents[2]
KINDS = (
    "existence", "colour", "count", "comparison", "direction", "change", "how_many_times", "order", "first_last",
    "when", "duration", "cannot_tell",
)  # fmt: skip
TESTS = ("test", "unseen")
WORDS_SEED = 100  # of the clips whose words make the tokenizer
WIDTH, LAYERS = 192, 2  # of the language model


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/motion"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="of weights and of training clips (default: 0)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of all clips, for a quick look (default: 1)")
    options = parser.parse_args(argv)
    out: Path = options.out.resolve()
    clips = max(2, round(200 * options.scale))
    for name in TESTS:
        questions(out, name, clips)
    if not (out / "words" / "config.json").exists():
        with timed(out, "words"):
            words(out / "words", round(2000 * options.scale), options.seed)
    recipes = phases(out, options.seed, options.scale)
    for name, recipe in recipes.items():
        if not (Path(recipe.output) / "config.json").exists():
            with timed(out, name):
                (dense if name in ("frames", "events") else stage2).train(recipe)  # type: ignore[arg-type]
    if not (out / "table.json").exists():
        with timed(out, "tests"):
            found = {name: tested(out, out, name) for name in TESTS}
        (out / "table.json").write_text(json.dumps(found, indent=2))
    report(out, json.loads((out / "table.json").read_text()))
    curves(out / "plot.png", Path(recipes["events"].output))


def questions(out: Path, split: str, count: int) -> None:
    """Renders the files of a test split, and writes the questions about them to OUT/SPLIT.jsonl."""
    annotations = out / "world" / split / "annotations.jsonl"
    if not annotations.exists():
        shape = ["--size", "64", "--fps", "8", "--seconds", "3", "--things", "1", "2", "--processes", "1"]
        _call("make_world.py", "--out", str(out / "world"), *shape, "--split", f"{split}={count}")
    file = out / f"{split}.jsonl"
    if not file.exists():
        unfinished = out / f"{split}.part.jsonl"
        tasks = ",".join(f"qa/{kind}" for kind in KINDS)
        _call("make_instructions.py", str(annotations), "--out", str(unfinished), "--languages", "en", "--tasks", tasks)
        unfinished.rename(file)


def _call(script: str, *arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "data_gen" / script), *arguments], check=True)


def words(folder: Path, count: int, seed: int) -> None:
    """Writes an untrained language model whose tokenizer knows the words of `count` clips."""
    clips = RenderedClips(count, WORDS_SEED)
    texts = [text for i in range(count) for turn in clips[i].turns(99) for text in turn]
    write_language_model(folder, texts, width=WIDTH, layers=LAYERS, seed=seed)


def phases(out: Path, seed: int, scale: float) -> dict[str, Recipe]:
    """Returns the recipe of each phase, in order."""

    def placed(name: str, recipe: Any, init: str) -> Any:
        return recipe.changed(
            output=str(out / name),
            init=str(out / init) if init else "",
            llm=str(out / "words"),
            seed=recipe.seed + 1000 * seed,
            num_videos=max(recipe.dataset.batch_size, round(recipe.dataset.num_videos * scale)),
            resume="last",
        )

    return {
        "frames": placed("frames", WORLD_FRAMES, ""),
        "events": placed("events", WORLD_EVENTS, "frames"),
        "text": placed("text", WORLD_TEXT, ""),
        "answers": placed("answers", WORLD_STAGE2, "events"),
    }


def tested(out: Path, files: Path, split: str) -> dict[str, Any]:
    """Returns what the readout names, what the model answers, and what the words alone tell.

    The clips are shown under each control if the split is the first of `TESTS`.

    Args:
        out: The directory of the trained models.
        files: The directory with the clips and questions of the splits, and with the model of words alone.
        split: One of `TESTS`.
    """
    config = preset(WORLD_STAGE2.network.model)
    clips = world_answers.test_clips(files / "world" / split, files / f"{split}.jsonl", config)
    kind = world_answers.kinds(clips)
    shown = world_answers.controls(clips)
    if split != TESTS[0]:
        shown = {"own": shown["own"]}
    right = world_answers.answers(checkpoint.load(str(out / "answers")), clips, shown)
    own = right["own"]
    blind = world_answers.answered(checkpoint.load(str(files / "text")), clips, None)
    videos = [str(number) for number, clip in enumerate(clips) for _ in clip.questions]
    intervals = {}
    for name in ("all", *KINDS):
        chosen = np.flatnonzero(np.full(len(kind), True) if name == "all" else kind == name)
        if len(chosen):
            interval = mean_interval(own[chosen], [videos[i] for i in chosen])
            intervals[name] = (interval.low, interval.high)
    found = {**right, "words alone": blind}
    return {
        "questions": len(kind),
        "clips": len(clips),
        "readout": named(out, clips, shown),
        "kinds": world_answers.by_kind(found, kind),
        "all": {name: float(values.mean()) for name, values in found.items()},
        "intervals": intervals,
    }


def named(
    out: Path, clips: Sequence[world_answers.TestClip], shown: world_answers.Showings
) -> dict[str, dict[str, float]]:
    model = checkpoint.load(str(out / "events"))
    heads = ReadoutHeads(_width(model))
    state = load_file(out / "events" / HEADS_FILE)
    heads.load_state_dict({k.removeprefix("readout."): v for k, v in state.items() if k.startswith("readout.")})
    return world_answers.readout(model, heads, clips, shown)


def _width(model: Model) -> int:
    embeddings: Any = model.llm.get_input_embeddings()
    return embeddings.weight.shape[1]


def report(out: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    test, unseen = (found[name] for name in TESTS)
    head = ("", "new clips", "words alone", "shuffled", "reversed", "other clip", "unseen", "its words alone")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]

    def shown(split: Mapping[str, Any], kind: str, control: str) -> str:
        table = split["all"] if kind == "all" else {name: kinds.get(kind) for name, kinds in split["kinds"].items()}
        if table[control] is None:
            return "-"
        if control != "own":
            return f"{table[control]:.2f}"
        low, high = split["intervals"][kind]
        return f"**{table[control]:.2f}** ({low:.2f} to {high:.2f})"

    for kind in (*KINDS, "all"):
        cells = [shown(test, kind, c) for c in ("own", "words alone", "shuffled", "reversed", "other clip")]
        cells += [shown(unseen, kind, c) for c in ("own", "words alone")]
        lines.append("| " + " | ".join([kind.replace("_", " "), *cells]) + " |")
    lines += [
        "",
        "| both events named by the tokens | new clips | shuffled | reversed | unseen |",
        "|---|---|---|---|---|",
    ]
    for what in ("kind", "event", "both events"):
        cells = [f"{test['readout'][c][what]:.2f}" for c in ("own", "shuffled", "reversed")]
        lines.append("| " + " | ".join([what, *cells, f"{unseen['readout']['own'][what]:.2f}"]) + " |")
    costs = json.loads((out / "costs.json").read_text())
    lines += ["", "| phase | seconds | processor seconds |", "|---|---|---|"]
    lines += [f"| {name} | {cost['seconds']} | {cost['cpu_seconds']} |" for name, cost in costs.items()]
    (out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def curves(path: Path, events: Path) -> None:
    """Draws what the stem and the readout had learnt after each step, on clips that they had not seen before."""
    newest = newest_checkpoint(events)
    if newest is None:
        return
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    names = ("kind", "camera", "moment shape", "event now", "things now", "start now", "length now", "both events")
    plot(path, {n: [(h["step"], h[n]) for h in history if n in h] for n in names}, "share of right answers")


if __name__ == "__main__":
    main()
