"""`videollm eval`: runs an evaluation, scores predictions, or compares two evaluations."""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from videollm.checkpoint import load
from videollm.datasets.evaluation_folder import EvaluationData, ItemQuery
from videollm.datasets.item import Item, Prediction
from videollm.datasets.registry import choose_item_reader
from videollm.device_arguments import loading_options
from videollm.errors import DataError
from videollm.evaluate import report as reports
from videollm.evaluate import run as runs
from videollm.evaluate.arguments import build_parser
from videollm.evaluate.compare import compare as compare_folders
from videollm.evaluate.judging import judge_predictions
from videollm.evaluate.markdown import number, spread
from videollm.evaluate.predictions import checked
from videollm.evaluate.report import Report
from videollm.evaluate.subject import Subject
from videollm.evaluate.tasks import TASKS, Task
from videollm.evaluate.trust import PROBES
from videollm.evaluate.views import AS_IT_IS
from videollm.inference.engines import make_engine
from videollm.model import Model

SEED = 0


def main(arguments: Sequence[str]) -> None:
    """Runs `videollm eval` with these arguments, which do not include the name of the program."""
    options = build_parser().parse_args(arguments)
    run = {"trust": trust, "score": score, "compare": compare}.get(options.command, evaluate)
    run(options)


def evaluate(options: argparse.Namespace) -> None:
    """Evaluates a model on one task."""
    report = _evaluate(options, TASKS[options.command], options.out, _model_loader(options))
    _print_report(options, report)


def trust(options: argparse.Namespace) -> None:
    """Runs every probe, each in a folder of its own, and writes one report of all of them."""
    load_model = _model_loader(options)
    probes = dict(PROBES)
    if options.engine != "local":
        del probes["flip"]
        print("note: flip is left out: it compares likelihoods, which a server does not give", file=sys.stderr)
    found = {name: _evaluate(options, probe, options.out / name, load_model) for name, probe in probes.items()}
    reports.write_together(options.out, found)
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for name, report in found.items():
        print(f"{name}: {report['data']['asked']} items")
        _print_scores(report)
    print(options.out / "report.html")


def score(options: argparse.Namespace) -> None:
    """Scores a file of predictions that another program made."""
    task = TASKS[options.task]
    data, items, asked = _read_data(options, task)
    identity = _identity(task, {"name": options.predictions.name}, data, items, asked)
    options.out.mkdir(parents=True, exist_ok=True)
    report = _write_report(options, task, items, asked, options.predictions, options.out, identity, None)
    _print_report(options, report)


def compare(options: argparse.Namespace) -> None:
    """Prints the paired differences of two evaluations."""
    found = compare_folders(options.a, options.b)
    if options.json:
        values = {
            metric: {"a": asdict(a), "b": asdict(b), "difference": asdict(over)}
            for metric, (a, b, over) in found.items()
        }
        print(json.dumps(values))
        return
    print(f"{'':12} {'A':8} {'B':8} B - A")
    for metric, (a, b, over) in found.items():
        mark = "" if over.low <= 0 <= over.high else "  *"
        print(f"{metric:12} {number(a.value):8} {number(b.value):8} {spread(asdict(over))}{mark}")
    # Every metric is compared on the same shared items, so the last one stands for all.
    print(f"{over.items} items of {over.clusters} videos are in both; * marks intervals that do not contain 0")


def _model_loader(options: argparse.Namespace) -> Callable[[], Model]:
    """Returns a function that loads the model at its first call and returns the same model afterwards."""
    return cache(lambda: load(options.model, **loading_options(options)))


def _evaluate(options: argparse.Namespace, task: Task, out: Path, load_model: Callable[[], Model]) -> Report:
    data, items, asked = _read_data(options, task)
    runs.check_videos(asked)
    model = load_model()  # after the data is checked: loading takes minutes, and bad data is found in seconds
    subject = Subject(model, items, asked, SEED, engine=make_engine(model, options.vllm_url))
    controls = [c for c in task.controls if c != "wrong_video" or subject.views.has_wrong_video]
    described = runs.describe_model(options.model, model) | {"engine": options.engine}
    identity = _identity(task, described, data, items, asked)
    cost = runs.predict(task, subject, asked, [AS_IT_IS, *controls], out, identity)
    return _write_report(options, task, items, asked, out / runs.PREDICTIONS_FILE, out, identity, asdict(cost))


def _read_data(options: argparse.Namespace, task: Task) -> tuple[EvaluationData, list[Item], list[Item]]:
    """Returns the data, its items that fit the task, and those of them that are evaluated.

    Raises DataError if no item fits the task.
    """
    reader = choose_item_reader(options.data, task.name, options.format)
    query = ItemQuery(task.name, tuple(options.split), tuple(options.language), options.partial)
    data = reader.read(options.data, query)
    items = [item for item in data.items if task.lacks(item) is None]
    if not items:
        raise DataError(
            f"none of the {len(data.items)} items of {options.data} has {task.lacks(data.items[0])}, which the task "
            f"{task.name} needs; choose another task or another --split"
        )
    return data, items, runs.selected(items, options.limit)


def _identity(
    task: Task, model: dict[str, Any], data: EvaluationData, items: Sequence[Item], asked: Sequence[Item]
) -> dict[str, Any]:
    """Returns everything that decides the predictions. A run continues only if this has not changed."""
    ids = "\n".join(item.id for item in asked)
    return {
        "task": task.name,
        "model": model,
        "data": {
            "format": data.format,
            "splits": list(data.splits),
            "files": data.files,
            "items": len(items),
            "asked": len(asked),
            "asked_sha": hashlib.sha256(ids.encode()).hexdigest()[:12],
            "notes": list(data.notes),
        },
        "seed": SEED,
    }


def _write_report(
    options: argparse.Namespace,
    task: Task,
    items: Sequence[Item],
    asked: Sequence[Item],
    predictions: Path,
    out: Path,
    identity: dict[str, Any],
    cost: dict[str, Any] | None,
) -> Report:
    """Scores a predictions file and writes the report. cost: None for predictions that were made elsewhere."""
    found = runs.read(predictions, partial(_checked, task, {item.id: item for item in asked}))
    judge_rows, judge_report = {}, {}
    if getattr(options, "judge", None) is not None:  # tasks without answers in words have no --judge
        judge_rows, judge_report = judge_predictions(options, asked, found.get(AS_IT_IS, {}))
    report, per_item = reports.build(task, asked, items, found, identity, {AS_IT_IS: judge_rows})
    # The name and not the path, so that the same run in another folder gives the same report.
    report["predictions"] = {"file": predictions.name, "sha256": hashlib.sha256(predictions.read_bytes()).hexdigest()}
    report |= judge_report
    if cost:
        report["cost"] = cost
    reports.write(out, report, per_item)
    return report


def _checked(task: Task, items: dict[str, Item], id: str, prediction: Prediction) -> Prediction:
    """Returns a prediction as the task scores it. Predictions of other items are not used."""
    return checked(task.name, items[id], prediction) if id in items else prediction


def _print_report(options: argparse.Namespace, report: Report) -> None:
    if options.json:
        print(json.dumps(report, ensure_ascii=False))
        return
    for note in report["data"]["notes"]:
        print(f"note: {note}", file=sys.stderr)
    _print_scores(report)
    print(options.out / "report.html")


def _print_scores(report: Report) -> None:
    for metric, cell in report["scores"].items():
        controls = [f"{name} {number(f[metric]['value'])}" for name, f in report["controls"].items() if metric in f]
        controls += [f"chance {number(report['chance'][metric])}"] if metric in report["chance"] else []
        print(f"{metric:12} {spread(cell):28} {', '.join(controls)}")
    for condition, failed in report["failures"].items():
        print(f"{len(failed)} failures ({condition}): {next(iter(failed.values()))}")
