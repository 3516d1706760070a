"""`videollm eval`: its arguments, and what they start."""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from videollm.checkpoint import load
from videollm.errors import DataError
from videollm.evaluate import report as reports
from videollm.evaluate import run as runs
from videollm.evaluate.item import Item
from videollm.evaluate.markdown import number, spread
from videollm.evaluate.readers import READERS, Data, Wanted, choose
from videollm.evaluate.subject import Subject
from videollm.evaluate.tasks import TASKS, Task
from videollm.evaluate.views import AS_IT_IS

SEED = 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="videollm eval", description="Score a model on local data, with its controls.")
    commands = top.add_subparsers(dest="command", required=True, metavar="TASK")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", type=Path, required=True, metavar="DIR", help="the dataset's folder")
    data.add_argument("--format", help=f"default: found by content; one of {', '.join(READERS)}")
    data.add_argument("--split", nargs="+", default=[], help="default: the dataset's, or of the world all but train")
    data.add_argument("--language", nargs="+", default=["en"], help="of data that has several (default: en)")
    data.add_argument("--limit", type=int, metavar="N", help="ask N items only, evenly spread over the data")
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("--out", type=Path, required=True, metavar="DIR", help="where predictions and reports go")
    out.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", default="lite", help="a preset, a checkpoint directory or a hub id (default: lite)")
    for task in TASKS.values():
        made = commands.add_parser(task.name, help=task.about.partition(".")[0], parents=[model, data, out])
        made.set_defaults(run=evaluate, task=task)
    scored = commands.add_parser("score", help="score predictions made elsewhere", parents=[data, out])
    scored.add_argument("predictions", type=Path, help='JSON Lines: {"id": ..., "prediction": {...}}')
    scored.add_argument("--task", choices=list(TASKS), required=True)
    scored.set_defaults(run=score)
    return top


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_args(arguments)
    options.run(options)


def evaluate(options: argparse.Namespace) -> None:
    task: Task = options.task
    data, everything, asked = _read(options, task)
    runs.check_videos(asked)
    model = load(options.model)
    subject = Subject(model, everything, asked, SEED)
    controls = [c for c in task.controls if c != "wrong_video" or subject.views.has_wrong_video]
    identity = _identity(task, runs.describe_model(options.model, model), data, everything, asked)
    cost = runs.predict(task, subject, asked, [AS_IT_IS, *controls], options.out, identity)
    _report(options, task, asked, options.out / runs.PREDICTIONS_FILE, identity, asdict(cost))


def score(options: argparse.Namespace) -> None:
    task = TASKS[options.task]
    data, everything, asked = _read(options, task)
    content = options.predictions.read_bytes() if options.predictions.is_file() else b""
    model = {"name": options.predictions.name, "predictions_sha": hashlib.sha256(content).hexdigest()}
    identity = _identity(task, model, data, everything, asked)
    options.out.mkdir(parents=True, exist_ok=True)
    _report(options, task, asked, options.predictions, identity, None)


def _read(options: argparse.Namespace, task: Task) -> tuple[Data, list[Item], list[Item]]:
    """The data, its items that are of the task, and those to ask."""
    reader = choose(options.data, task.name, options.format)
    data = reader.read(options.data, Wanted(task.name, tuple(options.split), tuple(options.language)))
    fit = [item for item in data.items if task.lacks(item) is None]
    if not fit:
        raise DataError(f"none of the {len(data.items)} items of {options.data} has {task.lacks(data.items[0])}")
    return data, fit, runs.selected(fit, options.limit)


def _identity(
    task: Task, model: dict[str, Any], data: Data, everything: Sequence[Item], asked: Sequence[Item]
) -> dict[str, Any]:
    ids = "\n".join(item.id for item in asked)
    return {
        "task": task.name,
        "model": model,
        "data": {
            "format": data.format,
            "splits": list(data.splits),
            "files": data.files,
            "items": len(everything),
            "asked": len(asked),
            "asked_sha": hashlib.sha256(ids.encode()).hexdigest()[:12],
            "notes": list(data.notes),
        },
        "seed": SEED,
    }


def _report(
    options: argparse.Namespace,
    task: Task,
    asked: Sequence[Item],
    predictions: Path,
    identity: dict[str, Any],
    cost: dict[str, Any] | None,
) -> None:
    report, per_item = reports.build(task, asked, runs.read(predictions), identity)
    if cost:
        report["cost"] = cost
    reports.write(options.out, report, per_item)
    _print(options, report)


def _print(options: argparse.Namespace, report: dict[str, Any]) -> None:
    if options.json:
        print(json.dumps(report, ensure_ascii=False))
        return
    for note in report["data"]["notes"]:
        print(f"note: {note}", file=sys.stderr)
    for metric, cell in report["scores"].items():
        controls = [f"{name} {number(found[metric]['value'])}" for name, found in report["controls"].items()]
        controls += [f"chance {number(report['chance'][metric])}"] if metric in report["chance"] else []
        print(f"{metric:12} {spread(cell):28} {', '.join(controls)}")
    for condition, failed in report["failures"].items():
        print(f"{len(failed)} failures ({condition}): {next(iter(failed.values()))}")
    print(options.out / "report.html")
