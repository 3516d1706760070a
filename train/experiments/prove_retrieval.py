"""All retrieval heads on one tiny CLIP, on a world whose truth is known.

    python train/experiments/prove_retrieval.py --out DIR

Renders the world, trains a tower on what each patch of a frame shows, and a CLIP on the tower's tokens and captions of
frames, whose embeddings are then whitened. From there on the visual side stays as it is. Temporal heads first learn to
recognise the first and the last event of a clip, from labels. Then the text tower learns together with the light heads,
and each heavy head learns with a text tower of its own, which starts from that one (`teachclip` leaves it as it is).
Writes DIR/table.md, DIR/table.json, DIR/costs.json and DIR/plot.png. Parts that exist are not made again, so a run that
was stopped resumes.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from train import clip, dense, retrieval
from train.configs.clip import CLIP_WORLD
from train.configs.dense import WORLD_FRAMES
from train.configs.recognition import WORLD as RECOGNIZE
from train.configs.retrieval import WORLD, RetrievalRecipe
from train.data.labels import write_labels
from train.data.pair_batches import PairBatches
from train.data.pairs import read_pairs, write_pairs
from train.data.world import annotations, clip_pairs, event_labels, flip_direction, frame_pairs
from train.experiments.costs import timed
from train.experiments.joint_heads import train_jointly
from train.experiments.motion import words
from train.experiments.world_recognition import is_recognised, recognise, recognition_table, whitened
from train.tasks.backbone import towers
from train.tasks.retrieval import encode_pairs
from videollm.encoders.base import TextFeatures
from videollm.retrieval import metrics
from videollm.retrieval.head import VideoRepr
from videollm.retrieval.model import RetrievalModel, load

ROOT = Path(__file__).parents[2]
FRAMES = 8
TESTS = ("order", "test", "unseen", "style", "perturbed", "long_tail")
LEARNED = "heads/transformer"  # has the text tower that learnt with the light temporal heads
TIE = 1e-5  # cosines that differ by less are equal up to rounding

# Heads that see a bag of frames, and temporal ones. Each group has a text tower, because bags teach a text no order.
BAGS: dict[str, dict[str, Any]] = {
    "mean": {"head": "mean"},
    "max": {"head": "max"},
    "attentive": {"head": "attentive", "temporal": "mean"},
}
TEMPORAL: dict[str, dict[str, Any]] = {
    "lstm": {"head": "lstm"},
    "transformer": {"head": "transformer"},
    "tcn": {"head": "tcn"},
    "xclip": {"head": "xclip"},
}
ALONE: dict[str, dict[str, Any]] = {
    "teachclip": {"head": "attentive", "teachers": "xclip", "text": "freeze", "false_captions": False},
    "stan": {"head": "stan", "data": "half", "epochs": 2},
    "stan_conv": {"head": "stan", "across": "conv3d", "data": "half", "epochs": 2},
    "mug": {"head": "mug", "data": "half", "epochs": 1},
    "tight": {"head": "tight", "batch_size": 32, "scale": "none", "data": "half", "epochs": 1},
}
RECOGNISED = (*TEMPORAL, "teachclip", "stan", "stan_conv", "mug")  # learn labels first
LABELS_OF_STAN = {"data": "half", "batch_size": 16, "epochs": 3}  # of the heads that read all patches
ONLY_RECOGNISED: dict[str, tuple[str, dict[str, Any]]] = {  # for comparison: the backbone, and what changes
    "mean": ("white", {"head": "mean"}),
    "transformer, not whitened": ("clip", {"head": "transformer", "data": "half", "epochs": 30}),
    "transformer, as stan": ("white", {"head": "transformer", **LABELS_OF_STAN}),
}
WHITENED = 4  # the frames of every fourth clip say how embeddings vary
CLIPS, TESTED = 20_000, 400  # of training, and of each test split


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/proof"), metavar="DIR")
    parser.add_argument("--heads", nargs="*", choices=ALONE, default=list(ALONE), metavar="HEAD", help=", ".join(ALONE))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the training clips, for a quick look")
    options = parser.parse_args(argv)
    out: Path = options.out.resolve()
    world(out, options.scale)
    pairs(out)
    if not (out / "words/config.json").exists():
        words(out / "words", 100, 0)  # every model has a language model, which the tower does not use
    if not (out / "tower/config.json").exists():
        places = {"output": str(out / "tower"), "llm": str(out / "words"), "resume": "last"}
        with timed(out, "tower"):
            count = max(16, round(WORLD_FRAMES.dataset.num_videos * options.scale))
            dense.train(WORLD_FRAMES.changed(num_videos=count, **places))
    if not (out / "clip/zero_shot.json").exists():
        with timed(out, "clip"):
            recipe = CLIP_WORLD.changed(tower=str(out / "tower"), layers=2, epochs=1)
            found = clip.train(_recipe(recipe, out, output="clip", data="frames", test="frames_test"))
        (out / "clip/zero_shot.json").write_text(json.dumps(found))
    if not (out / "white/config.json").exists():
        with timed(out, "white"):
            some = read_pairs(out / "train.jsonl")[::WHITENED]
            whitened(out / "clip", out / "white", some, head_recipe(out, "mean", "clip", {}))
    for name, (backbone, changes) in ONLY_RECOGNISED.items():
        recognised(out, name, backbone, changes)
    for name, changes in TEMPORAL.items():
        recognised(out, name, "white", changes)
    for group in (BAGS, TEMPORAL):
        *_, last = group
        if not (out / "heads" / last / "config.json").exists():
            with timed(out, f"together with {last}"):
                train_jointly({name: head_recipe(out, name, "white", changes) for name, changes in group.items()})
    for name in options.heads:
        if name in RECOGNISED:
            kept = {k: v for k, v in ALONE[name].items() if k in ("head", "across")}
            recognised(out, name, LEARNED, kept | (LABELS_OF_STAN if kept["head"] in ("stan", "mug") else {}))
        if not (out / "heads" / name / "config.json").exists():
            with timed(out, name):
                retrieval.train(head_recipe(out, name, LEARNED, ALONE[name]))
    report(out, {name: asked(out, name) for name in (*BAGS, *TEMPORAL, *options.heads)})


def world(out: Path, scale: float) -> None:
    """Render training clips from one seed and test clips from another."""
    folder = out / "world"

    for name, seed, splits in (
        ("train", 1, {"order": 2 * round(CLIPS * scale / 2)}),
        ("test", 0, dict.fromkeys(TESTS, TESTED)),
    ):
        if missing := [f"{s}={n}" for s, n in splits.items() if not (folder / name / s / "annotations.jsonl").exists()]:
            command = [sys.executable, str(ROOT / "data_gen/make_world.py"), "--out", str(folder / name)]
            shape = ["--size", "64", "--fps", "8", "--seconds", "3", "--things", "1", "2", "--seed", str(seed)]
            with timed(out, f"world/{name}"):
                subprocess.run([*command, *shape, "--split", *missing], check=True)


def pairs(out: Path) -> None:
    train, test = out / "world/train/order", out / "world/test/test"
    write_pairs(out / "frames.jsonl", [*frame_pairs(train, FRAMES)])
    write_pairs(out / "frames_test.jsonl", [*frame_pairs(test, FRAMES)])
    clips = clip_pairs(train)
    write_pairs(out / "train.jsonl", clips)
    write_pairs(out / "half.jsonl", clips[: len(clips) // 4 * 2])
    labels = event_labels(train)
    write_labels(out / "labels_train.jsonl", labels)
    write_labels(out / "labels_half.jsonl", labels[: len(labels) // 4 * 2])


def recognised(out: Path, name: str, backbone: str, changes: Mapping[str, Any]) -> None:
    """Trains a head on the labels of clips, where it was not done before."""
    changes = {"data": "train", **changes}
    data = f"labels_{changes.pop('data')}"
    recipe = _recipe(RECOGNIZE, out, output=f"recognised/{name}", data=data, test="")
    if not is_recognised(Path(recipe.output)):
        with timed(out, f"recognise/{name}"):
            recognise(recipe.changed(backbone=f"local-dir:{out / backbone}", **changes), out / "world/test/test")


def _recipe(recipe: Any, out: Path, *, output: str, data: str, test: str, **changes: Any) -> Any:
    files = {"data": str(out / f"{data}.jsonl"), "eval_data": str(out / f"{test}.jsonl") if test else ""}
    places = {"output": str(out / output), "resume": "last", "cache": str(out / "cache")}
    return recipe.changed(**places, **files, **changes)


def head_recipe(out: Path, name: str, backbone: str, changes: Mapping[str, Any]) -> RetrievalRecipe:
    changes = dict(changes)
    recipe = _recipe(WORLD, out, output=f"heads/{name}", data=changes.pop("data", "train"), test="")
    if "teachers" in changes:
        changes["teachers"] = str(out / "heads" / changes["teachers"])
    if name in RECOGNISED:
        return recipe.changed(init=str(out / "recognised" / name), **changes)
    return recipe.changed(backbone=f"local-dir:{out / backbone}", **changes)


def asked(out: Path, name: str) -> dict[str, Any]:
    """What `ask` finds, from its file where it was asked before."""
    folder = out / "heads" / name
    if not (folder / "proof.json").exists():
        recipe = head_recipe(out, name, LEARNED, (BAGS | TEMPORAL | ALONE)[name])
        with timed(out, f"questions/{name}"):
            found = ask(load(folder), recipe, out)
        (folder / "proof.json").write_text(json.dumps(found, indent=2))
        print(name, json.dumps(found), flush=True)
    return json.loads((folder / "proof.json").read_text())


def ask(model: RetrievalModel, recipe: RetrievalRecipe, out: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for split in TESTS:
        known = annotations(out / "world/test" / split)
        batches = PairBatches(
            clip_pairs(out / "world/test" / split), recipe, towers(model)[0], model.head.hidden_layers
        )
        text, video = encode_pairs(model, batches)
        scores = _score(model, text, video)
        found[f"{split}_R1"] = metrics.evaluate(metrics.Scores.of(scores))["text_to_video"]["R1"]
        if split == "order":
            found |= order_accuracy(scores, known)
        if split == "test":
            found["score_ms"] = 1000 * min(_seconds(partial(_score, model, text, video)) for _ in range(3))
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
    """How often a text prefers its clip to the clip of the same frames in another order; ties count half.

    The clips of a pair are neighbours. "exchanged" pairs have two scenes in either order, "reversed" ones run
    backwards.
    """
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
    """How often a clip prefers its caption to a false one; ties count half."""
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


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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
    lines += ["", *recognition_table(out / "recognised")]
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
