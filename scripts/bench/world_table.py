"""What `videollm eval` measures of a model on the synthetic world, in one table: python scripts/bench/world_table.py

Makes the world, evaluates every task and every probe of trust, and writes OUT/table.md: scores with their intervals,
the same scores of the controls, and chance. The same command gives the same digits on the same machine. A run that was
stopped is run again. Ten minutes on two cores with `lite`.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from data_gen.make_world import main as make_world
from videollm.cli import main as videollm
from videollm.evaluate.markdown import number, spread, table
from videollm.evaluate.question_only import QUESTION_ONLY
from videollm.evaluate.views import CONTROLS

SPLITS = ("test=60", "unseen=20", "style=20", "perturbed=20", "long_tail=20", "order=20", "long=4")
# Items asked of each task, None for all, and the metrics shown.
TASKS: dict[str, tuple[int | None, tuple[str, ...]]] = {
    "retrieval": (None, ("R1", "R5", "R1_video")),
    "classify": (None, ("top1", "top5")),
    "grounding": (100, ("mIoU", "R1@0.5", "mAP")),
    "mcqa": (40, ("accuracy", "cloze")),
    "openqa": (50, ("exact", "f1")),
    "caption": (20, ("CIDEr", "METEOR", "ROUGE_L")),
    "dense": (10, ("METEOR", "recall")),
    "summary": (10, ("ROUGE_L", "key_f1")),
}
TRUST_ITEMS = 20
TRUST: dict[str, tuple[str, ...]] = {
    "hallucination": ("accuracy", "f1_yes", "yes_rate", "unclear"),
    "abstention": ("abstained",),
    "paraphrase": ("consistent", "both_right"),
    "flip": ("both", "changed"),
    "evidence": ("gain", "hit", "any_segment"),
}
CONDITIONS = (*CONTROLS, QUESTION_ONLY)
HEAD = ("", "metric", "items", "score", *(name.replace("_", " ") for name in CONDITIONS), "chance")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--out", type=Path, default=Path("runs/world_table"))
    options = parser.parse_args()
    torch.set_num_threads(1)  # how many there are changes the order of sums, and with it last digits
    world, out = options.out / "world", options.out
    if not world.is_dir():
        run(make_world, ["--out", str(world), "--split", *SPLITS])
    for task, (limit, _) in TASKS.items():
        some = ["--limit", str(limit)] if limit else []
        run(videollm, ["eval", task, *common(options.model, world, out / task), *some])
    run(videollm, ["eval", "trust", *common(options.model, world, out / "trust"), "--limit", str(TRUST_ITEMS)])

    shown = {task: (report(out / task), metrics) for task, (_, metrics) in TASKS.items()}
    shown |= {f"trust: {probe}": (report(out / "trust")["reports"][probe], TRUST[probe]) for probe in TRUST}
    rows = [row for name, (found, metrics) in shown.items() for row in rows_of(name, found, metrics)]
    text = "\n".join(table(HEAD, rows)) + "\n"
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)


def run(command: Any, arguments: list[str]) -> None:
    if code := command(arguments):
        raise SystemExit(code)


def common(model: str, world: Path, out: Path) -> list[str]:
    return ["--model", model, "--data", str(world), "--out", str(out)]


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def rows_of(name: str, found: Mapping[str, Any], metrics: tuple[str, ...]) -> Iterator[list[str]]:
    for n, metric in enumerate(metrics):
        cell = found["scores"][metric]
        cells = [found["controls"].get(name, {}).get(metric) for name in CONDITIONS]
        controls = [number(cell["value"]) if cell else "" for cell in cells]
        chance = number(found["chance"][metric]) if metric in found["chance"] else ""
        yield [name if n == 0 else "", metric, str(cell["items"]), spread(cell), *controls, chance]


if __name__ == "__main__":
    main()
