"""All retrieval heads on one tiny CLIP, on a world whose truth is known. `python train/prove_retrieval.py --out DIR`

Makes the world, pre-trains the CLIP on its frames, trains each head on the frozen CLIP with the text tower, and writes
DIR/table.md, DIR/table.json and DIR/plot.png. What is there already is not made again, so a stopped run goes on.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from train import clip, retrieval
from train.pairs import write_pairs
from train.retrieval import PairBatches, encode_pairs
from train.retrieval_recipes import CLIP_WORLD, WORLD, RetrievalRecipe
from train.world import annotations, clip_pairs, flip_direction, frame_pairs
from videollm.encoders.base import TextFeatures
from videollm.retrieval import metrics
from videollm.retrieval.head import VideoRepr
from videollm.retrieval.model import RetrievalModel, load

ROOT = Path(__file__).parents[1]
FRAMES = 8
TESTS = ("order", "test", "unseen", "style", "perturbed", "long_tail")
TIE = 1e-5  # cosines nearer than this are equal but for the order of additions

HEADS: dict[str, dict[str, Any]] = {
    "mean": {"head": "mean"},
    "max": {"head": "max"},
    "attentive": {"head": "attentive", "temporal": "mean"},
    "lstm": {"head": "lstm"},
    "transformer": {"head": "transformer"},
    "tcn": {"head": "tcn"},
    "tight": {"head": "tight", "batch_size": 32, "epochs": 2, "scale": "none"},
    "xclip_mean": {"head": "xclip", "temporal": "mean"},
    "xclip": {"head": "xclip"},
    "teachclip": {"head": "attentive", "teachers": "xclip"},
    "stan": {"head": "stan", "bf16": True},
    "stan_conv": {"head": "stan", "across": "conv3d", "bf16": True},
    "mug": {"head": "mug", "bf16": True},
}
BAGS = ("mean", "max", "attentive", "xclip_mean")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/proof"), metavar="DIR")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS), metavar="HEAD", help=", ".join(HEADS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the clips, for a quick look")
    options = parser.parse_args(argv)
    out: Path = options.out.resolve()
    began = time.perf_counter()
    world(out / "world", options.scale)
    pairs(out)
    if not (out / "clip/zero_shot.json").exists():
        found = clip.train(_recipe(CLIP_WORLD, out, output="clip", data="frames", test="frames_test"))
        (out / "clip/zero_shot.json").write_text(json.dumps(found))
    results = {name: head(out, name) for name in options.heads}
    report(out, results)
    print(f"{time.perf_counter() - began:.0f} s")


def world(folder: Path, scale: float) -> None:
    """Training clips from one seed, tests from another."""

    def count(clips: int) -> int:
        return 2 * round(clips * scale / 2)

    for name, seed, splits in (
        ("train", 1, {"order": count(6000), "train": count(2000)}),
        ("test", 0, dict.fromkeys(TESTS, count(400))),
    ):
        if missing := [f"{s}={n}" for s, n in splits.items() if not (folder / name / s / "annotations.jsonl").exists()]:
            command = [sys.executable, str(ROOT / "data_gen/make_world.py"), "--out", str(folder / name)]
            shape = ["--size", "64", "--fps", "8", "--seconds", "3", "--seed", str(seed)]
            subprocess.run([*command, *shape, "--split", *missing], check=True)


def pairs(out: Path) -> None:
    train, test = (
        [out / "world" / name / s for s in splits] for name, splits in (("train", ("order", "train")), ("test", TESTS))
    )
    write_pairs(out / "frames.jsonl", [p for split in train for p in frame_pairs(split, FRAMES)])
    write_pairs(out / "frames_test.jsonl", [*frame_pairs(out / "world/test/test", FRAMES)])
    write_pairs(out / "train.jsonl", [p for split in train for p in clip_pairs(split)])
    for split in test:
        write_pairs(out / f"{split.name}.jsonl", clip_pairs(split))


def _recipe(recipe: Any, out: Path, *, output: str, data: str, test: str, **changes: Any) -> Any:
    files = {"data": str(out / f"{data}.jsonl"), "test": str(out / f"{test}.jsonl")}
    return replace(recipe, output=str(out / output), cache=str(out / "cache"), **files, **changes)


def head(out: Path, name: str) -> dict[str, Any]:
    """Train it, unless that is done, and ask it everything."""
    folder = out / "heads" / name
    if (folder / "proof.json").exists():
        return json.loads((folder / "proof.json").read_text())
    changes = dict(HEADS[name])
    if "teachers" in changes:
        changes["teachers"] = str(out / "heads" / changes["teachers"])
    recipe: RetrievalRecipe = _recipe(
        WORLD, out, output=f"heads/{name}", data="train", test="test", trunk=f"local-dir:{out / 'clip'}", **changes
    )
    began = time.perf_counter()
    retrieval.train(recipe)
    found = {"seconds": time.perf_counter() - began} | ask(load(folder), recipe, out)
    (folder / "proof.json").write_text(json.dumps(found, indent=2))
    print(name, json.dumps(found), flush=True)
    return found


def ask(model: RetrievalModel, recipe: RetrievalRecipe, out: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for split in TESTS:
        known = annotations(out / "world/test" / split)
        batches = PairBatches(clip_pairs(out / "world/test" / split), recipe, model, model.head.hidden_layers)
        text, video = encode_pairs(model, batches)
        began = time.perf_counter()
        scores = _score(model, text, video)
        found[f"{split}_R1"] = metrics.evaluate(metrics.Scores.of(scores))["text_to_video"]["R1"]
        if split == "order":
            found |= order_accuracy(scores, known)
        if split == "test":
            found["score_ms"] = 1000 * (time.perf_counter() - began)
            captions = [p.caption for p in batches.pairs]
            swapped = [p.false[0] for p in batches.pairs]
            found["attribute"] = told_apart(model, batches, video, captions, swapped)
            moving = [i for i, caption in enumerate(captions) if flip_direction(caption)]
            found["direction"] = told_apart(
                model,
                batches,
                video[torch.tensor(moving)],
                [captions[i] for i in moving],
                [flip_direction(captions[i]) or "" for i in moving],
            )
            found["directions"] = len(moving)
    return found


def order_accuracy(scores: torch.Tensor, known: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How often a text prefers its clip to the one of the same frames in another order; equal scores count half.
    Pairs lie beside each other; "exchanged" ones have two scenes in either order, "reversed" ones run backwards."""
    own = scores.diagonal()
    other = scores[torch.arange(len(scores)), torch.arange(len(scores)) ^ 1]
    right = torch.where((own - other).abs() < TIE, 0.5, (own > other).double())
    exchanged = torch.tensor([int(a["id"].split("-")[1]) // 2 % 2 == 1 for a in known])
    return {
        "order": float(right.mean()),
        "reversed": float(right[~exchanged].mean()),
        "exchanged": float(right[exchanged].mean()),
    }


def told_apart(
    model: RetrievalModel, batches: PairBatches, video: VideoRepr, captions: Sequence[str], false: Sequence[str]
) -> float:
    """How often a clip prefers its caption to a false one."""
    right, wrong = (_diagonal(model, _texts(model, batches, texts), video) for texts in (captions, false))
    return float(torch.where((right - wrong).abs() < TIE, 0.5, (right > wrong).double()).mean())


@torch.no_grad()
def _texts(model: RetrievalModel, batches: PairBatches, texts: Sequence[str]) -> TextFeatures:
    batch = batches.texts(texts)
    return model.encode_text(batch["ids"], batch["text_mask"])


def _diagonal(model: RetrievalModel, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
    return _score(model, text, video).diagonal()


@torch.no_grad()
def _score(model: RetrievalModel, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
    return model.head.score(text, video)


COLUMNS = {
    "order": "order pairs",
    "reversed": "reversed",
    "exchanged": "exchanged",
    "direction": "motion direction",
    "attribute": "attribute swaps",
    **{f"{split}_R1": f"R@1 {split}" for split in TESTS[1:]},
    "score_ms": "scoring, ms",
}


def report(out: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    (out / "table.json").write_text(json.dumps(results, indent=2))
    lines = ["| head | " + " | ".join(COLUMNS.values()) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for name, found in results.items():
        cells = (f"{found[c]:.2f}" if found[c] <= 1 and "R1" not in c else f"{found[c]:.0f}" for c in COLUMNS)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    (out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    plot(out / "plot.png", results)


def plot(path: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5), layout="constrained")
    names = list(results)
    for k, column in enumerate(("order", "direction", "attribute")):
        places = [i + 0.27 * (k - 1) for i in range(len(names))]
        left.bar(places, [results[n][column] for n in names], 0.27, label=COLUMNS[column])
    left.axhline(0.5, color="grey", linestyle=":", label="chance")
    left.set_ylim(0.4, 1)
    left.set_ylabel("right choice of two")
    for k, split in enumerate(TESTS[1:]):
        places = [i + 0.16 * (k - 2) for i in range(len(names))]
        right.bar(places, [results[n][f"{split}_R1"] for n in names], 0.16, label=split)
    right.set_ylabel("text to video R@1, %")
    for axes in (left, right):
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
