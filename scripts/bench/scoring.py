"""Scoring all texts against all videos and ranking them, against the algorithm of the published evaluation code.

    python scripts/bench/scoring.py [--head mean|xclip] [--size 10000] [--rounds 3] [--out FILE]

The published loop (CLIP4Clip and X-CLIP, `main_task_retrieval.py`: `_run_on_single_gpu`, then `compute_metrics` in
both directions), written down here from its description: for each batch of texts, for each batch of videos, the model's
whole similarity of the two; every block goes to a list, the lists become one matrix, and every row of it is sorted.
Both sides run in processes of their own, in turns; printed are medians of seconds, of memory beyond the inputs, and
their ratios.
"""

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from report import Row, describe_machine, publish

from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.retrieval.head import RetrievalHead, unit
from videollm.retrieval.metrics import Scores, evaluate
from videollm.retrieval.model import HeadConfig, build_head

WIDTH, FRAMES, WORDS = 512, 12, 32
BATCH = 32  # of the published loop's texts and videos

Run = Callable[[RetrievalHead, TextFeatures, FrameFeatures, torch.Tensor], dict[str, float]]


def official(head: RetrievalHead, text: TextFeatures, video: FrameFeatures, mask: torch.Tensor) -> dict[str, float]:
    rows = []
    for i in range(0, len(text.embed), BATCH):
        part, row = slice(i, i + BATCH), []
        texts = TextFeatures(text.tokens[part], text.mask[part], text.embed[part])
        for j in range(0, len(video.embed), BATCH):
            some = slice(j, j + BATCH)
            frames = FrameFeatures(video.tokens[some], video.embed[some], video.concepts[some])
            row.append(head.score(texts, head.encode_video(frames, mask[some])).numpy())
        rows.append(np.concatenate(row, axis=-1))
    matrix = np.concatenate(rows, axis=0)
    return sorted_ranks(matrix, "t2v") | sorted_ranks(matrix.T, "v2t")


def sorted_ranks(matrix: np.ndarray, name: str) -> dict[str, float]:
    ordered = np.sort(-matrix, axis=1)
    own = np.diag(-matrix)[:, np.newaxis]
    place = np.where(ordered - own == 0)[1]
    return {f"{name} R1": 100 * float((place == 0).mean()), f"{name} MnR": float(place.mean()) + 1}


def ours(head: RetrievalHead, text: TextFeatures, video: FrameFeatures, mask: torch.Tensor) -> dict[str, float]:
    kept = head.encode_video(video, mask)
    scores = Scores.product(unit(text.embed), unit(kept.embed)) if head.indexable else Scores.of(head.score(text, kept))
    found = evaluate(scores, ties="official")
    names = {"t2v": "text_to_video", "v2t": "video_to_text"}
    return {f"{n} {metric}": found[whole][metric] for n, whole in names.items() for metric in ("R1", "MnR")}


RUNS: dict[str, Run] = {"ours": ours, "published": official}


@torch.inference_mode()
def measure(name: str, kind: str, size: int) -> tuple[float, float, dict[str, float]]:
    """Seconds, peak MB beyond the inputs, and metrics."""
    torch.manual_seed(0)
    head = build_head(HeadConfig(kind=kind, temporal="mean", max_words=WORDS, max_frames=FRAMES), WIDTH).eval()
    video = torch.randn(size, FRAMES, WIDTH)
    text = video[:, 0] + 3 * torch.randn(size, WIDTH)
    words = torch.randn(size, WORDS if "word" in head.needs else 0, WIDTH)
    texts = TextFeatures(words, torch.ones(words.shape[:2], dtype=torch.bool), text)
    frames = FrameFeatures(video.new_zeros(size, FRAMES, 0, 0), video, video.new_zeros(size, FRAMES, 0))
    mask = torch.ones(size, FRAMES, dtype=torch.bool)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = perf_counter()
    found = RUNS[name](head, texts, frames, mask)
    seconds = perf_counter() - started
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, found


def compare(kind: str, size: int, rounds: int) -> list[Row]:
    spent: dict[str, list[tuple[float, float, dict[str, float]]]] = {name: [] for name in RUNS}
    for _ in range(rounds):
        for name, results in spent.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results.append(pool.apply(measure, (name, kind, size)))
    (seconds, memory), theirs = ([median(r[i] for r in spent[name]) for i in (0, 1)] for name in RUNS)
    for metric, value in spent["ours"][0][2].items():
        assert abs(value - spent["published"][0][2][metric]) < 0.1, f"{metric} differs"
    what = f"{kind}, {size} x {size}"
    notes = (f"{seconds:.2f} / {theirs[0]:.2f} s", f"{memory:.0f} / {theirs[1]:.0f} MB beyond the inputs")
    return [
        Row("scoring", f"{what}: time, ours / published loop", seconds / theirs[0], note=notes[0]),
        Row("scoring", f"{what}: memory, ours / published loop", memory / theirs[1], note=notes[1]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", choices=["mean", "xclip"], default="mean")
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write JSON here")
    options = parser.parse_args()
    rows = compare(options.head, options.size, options.rounds)
    publish(rows, describe_machine(torch.float32, 2048), options.out)


if __name__ == "__main__":
    main()
