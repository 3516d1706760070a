"""Search and indexing against what they are compared with, interleaved in one run.

    python scripts/bench/search.py vectors [--rows 100000 1000000]   exact search against faiss Flat
    python scripts/bench/search.py text [--rows 100000]              the graph on real text queries
    python scripts/bench/search.py index FOLDER                      several workers against one

Ratios of medians are what carries from machine to machine; milliseconds are those of this one.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import faiss
import numpy as np
import torch
from report import Row, describe_machine, publish
from torch.nn import functional as F

from videollm.encoders.build import build_encoder
from videollm.encoders.concepts import imagenet_concepts
from videollm.presets import LITE
from videollm.retrieval.index import Index
from videollm.retrieval.vectors import Vectors
from videollm.retrieval.video_files import find_videos

WIDTH, K, REPEATS = 512, 10, 7
CLUSTERS = 2000
CLIPS = 32
BATCH = 10_000


def vectors(count: int) -> list[Row]:
    """Clustered random vectors; each query is a row, disturbed."""
    torch.manual_seed(0)
    centres = F.normalize(torch.randn(CLUSTERS, WIDTH), dim=1)
    matrix = torch.empty(count, WIDTH)
    for part in matrix.split(BATCH):
        part[:] = F.normalize(centres[torch.randint(CLUSTERS, (len(part),))] + 0.04 * torch.randn_like(part), dim=1)
    queries = F.normalize(matrix[torch.randint(count, (100,))] + 0.03 * torch.randn(100, WIDTH), dim=1)
    with tempfile.TemporaryDirectory() as folder:
        ours, rows = Vectors.write(Path(folder) / "v", batches(matrix), count, WIDTH, graph=False), []
        flat = faiss.IndexFlatIP(WIDTH)
        flat.add(matrix.numpy())
        for some in (queries[:1], queries):
            ms = timed(partial(ours.search, some, K), partial(flat.search, some.numpy(), K))
            recall = recall_of(ours.search(some, K)[0], (some @ matrix.T).topk(K).indices)
            note = f"{ms[0]:.1f} / {ms[1]:.1f} ms, recall@{K} {recall:.4f}"
            name = f"{len(some)} of {WIDTH} numbers among {count}, ours / faiss Flat"
            rows.append(Row("search", name, ms[0] / ms[1], note=note, goal=0.5 if len(some) == 1 else 0.2))
        return rows


def text(count: int) -> list[Row]:
    """Segments as `lite` would embed them, of random mixtures of classes; queries are WordNet's definitions."""
    torch.manual_seed(0)
    encoder = build_encoder(LITE.encoder)
    queries = torch.cat([encoder.encode_text([d]).embed for d in imagenet_concepts().definitions[::5]]).float()
    parts = []
    for _ in range(0, count, BATCH):
        logits = 2.2 * torch.randn(BATCH, 1, 1000)
        logits.scatter_add_(2, torch.randint(1000, (BATCH, 1, 2)), torch.tensor([6.0, 4.0]).expand(BATCH, 1, 2))
        parts.append(encoder.features_from_logits(logits).embed)  # type: ignore[attr-defined]
    matrix = torch.cat(parts)[:count]
    with tempfile.TemporaryDirectory() as folder:
        exact = Vectors.write(Path(folder) / "exact", batches(matrix), count, matrix.shape[1], graph=False)
        started = perf_counter()
        graph = Vectors.write(Path(folder) / "graph", batches(matrix), count, matrix.shape[1], graph=True)
        built = perf_counter() - started
        ms = timed(lambda: graph.search(queries[:1], K), lambda: exact.search(queries[:1], K))
        truth = (queries @ matrix.T).topk(K).indices
        recalls = [recall_of(v.search(queries, K)[0], truth) for v in (graph, exact)]
        size = disk(Path(folder) / "graph") / 1e6
        found = f"recall@{K} {recalls[0]:.4f} (exact {recalls[1]:.4f}), built in {built:.0f} s, {size:.0f} MB"
        note = f"{ms[1]:.2f} / {ms[0]:.2f} ms, {found}"
        return [Row("search", f"text among {count}, exact / graph", ms[1] / ms[0], "", note, 50, True)]


def index(folder: str) -> list[Row]:
    """32 clips, copied so that none is known by its content, with one worker and with the default number."""
    with tempfile.TemporaryDirectory() as work:
        clips = [*find_videos([folder]).files]
        for n in range(CLIPS):
            copy = Path(work) / "clips" / f"{n:02}{Path(clips[n % len(clips)]).suffix}"
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(Path(clips[n % len(clips)]).read_bytes() + bytes([n]))

        def run(workers: int | None) -> None:
            shutil.rmtree(Path(work) / "index", ignore_errors=True)
            Index.create(Path(work) / "index", "lite").update([Path(work) / "clips"], workers=workers)

        ms = timed(lambda: run(None), lambda: run(1), repeats=3)
        note = f"{ms[0] / 1e3:.1f} / {ms[1] / 1e3:.1f} s"
        return [Row("search", f"indexing {CLIPS} clips, workers / one", ms[0] / ms[1], note=note)]


def batches(matrix: torch.Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for at in range(0, len(matrix), BATCH):
        rows = matrix[at : at + BATCH].numpy()
        yield np.arange(at, at + len(rows)), rows


def timed(*calls: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Median milliseconds of each, taken in turns, after a first round that does not count."""
    spent: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats + 1):
        for times, call in zip(spent, calls, strict=True):
            started = perf_counter()
            call()
            times += [1e3 * (perf_counter() - started)] if turn else []
    return [median(times) for times in spent]


def recall_of(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found.tolist(), truth.tolist(), strict=True)]))


def disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["vectors", "text", "index"])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--out", type=Path, help="write JSON here")
    options = parser.parse_args()
    if options.what == "index":
        found = index(options.folder or parser.error("say which folder of clips to index"))
    else:
        found = [row for count in options.rows for row in {"vectors": vectors, "text": text}[options.what](count)]
    publish(found, describe_machine(torch.float32, 2048), options.out)


if __name__ == "__main__":
    main()
