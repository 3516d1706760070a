"""`videollm eval`: its arguments, and what they start."""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from videollm.chat.caption import QUESTION
from videollm.checkpoint import Model, load
from videollm.datasets.evaluation_folder import EvaluationData, ItemQuery
from videollm.datasets.item import Item, Prediction
from videollm.datasets.registry import ITEM_READERS, choose_item_reader
from videollm.device_arguments import add_device_arguments
from videollm.errors import DataError
from videollm.evaluate import report as reports
from videollm.evaluate import run as runs
from videollm.evaluate.compare import compare as pair
from videollm.evaluate.drift import agreement, check, read_labels
from videollm.evaluate.judge import ASPECTS, Case, EndpointJudge, LocalJudge, prompt, verdicts
from videollm.evaluate.markdown import number, section, spread
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.subject import Subject
from videollm.evaluate.tasks import TASKS, Task
from videollm.evaluate.trust import PROBES
from videollm.evaluate.views import AS_IT_IS

SEED = 0
JUDGED = ("openqa", "caption", "summary")  # whose predictions have an answer in words

Report = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="videollm eval", description="Score a model on local data, with its controls.")
    commands = top.add_subparsers(dest="command", required=True, metavar="TASK")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", type=Path, required=True, metavar="DIR", help="the dataset's folder")
    data.add_argument("--format", help=f"default: found by content; one of {', '.join(ITEM_READERS)}")
    data.add_argument("--split", nargs="+", default=[], help="default: the dataset's, or of the world all but train")
    data.add_argument("--language", nargs="+", default=["en"], help="of data that has several (default: en)")
    data.add_argument("--limit", type=int, metavar="N", help="ask N items only, evenly spread over the data")
    data.add_argument("--partial", action="store_true", help="allow for another number of items than was published")
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("--out", type=Path, required=True, metavar="DIR", help="where predictions and reports go")
    out.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", default="lite", help="a preset, a checkpoint directory or a hub id (default: lite)")
    device = argparse.ArgumentParser(add_help=False)
    add_device_arguments(device)
    judge = argparse.ArgumentParser(add_help=False)
    judge.add_argument(
        "--judge", metavar="MODEL", help="let this model judge answers: a checkpoint, or a server's model"
    )
    judge.add_argument("--judge-url", metavar="URL", help="an OpenAI-compatible server, up to and with /v1")
    judge.add_argument("--aspects", nargs="+", choices=ASPECTS, default=["accuracy"], help="default: accuracy")
    judge.add_argument(
        "--judge-baseline", type=Path, metavar="FILE", help="the judge's first verdicts on frozen answers"
    )
    judge.add_argument(
        "--labels", type=Path, metavar="FILE", help='people\'s verdicts: {"id": ..., "correct": true} a line'
    )
    for task in TASKS.values():
        parents = [model, device, data, out, *([judge] if task.name in JUDGED else [])]
        made = commands.add_parser(task.name, help=task.about.partition(".")[0], parents=parents)
        made.set_defaults(run=evaluate, task=task)
    trusted = commands.add_parser(
        "trust", help="probe whether answers can be trusted", parents=[model, device, data, out]
    )
    trusted.set_defaults(run=trust)
    scored = commands.add_parser("score", help="score predictions made elsewhere", parents=[data, out, judge, device])
    scored.add_argument("predictions", type=Path, help='JSON Lines: {"id": ..., "prediction": {...}}')
    scored.add_argument("--task", choices=list(TASKS), required=True)
    scored.set_defaults(run=score)
    compared = commands.add_parser("compare", help="paired differences of two reports: B over A")
    compared.add_argument("a", type=Path, metavar="A", help="the --out folder of an evaluation")
    compared.add_argument("b", type=Path, metavar="B")
    compared.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    compared.set_defaults(run=compare)
    return top


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_args(arguments)
    options.run(options)


def evaluate(options: argparse.Namespace) -> None:
    _print(
        options,
        _evaluate(options, options.task, options.out, lambda: load(options.model, options.device, options.device_map)),
    )


def trust(options: argparse.Namespace) -> None:
    """Every probe in a folder of its own, and one report of all."""
    model = cache(lambda: load(options.model, options.device, options.device_map))
    found = {name: _evaluate(options, probe, options.out / name, model) for name, probe in PROBES.items()}
    reports.write_together(options.out, found)
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for name, report in found.items():
        print(f"{name}: {report['data']['asked']} items")
        _print_scores(report)
    print(options.out / "report.html")


def _evaluate(options: argparse.Namespace, task: Task, out: Path, loaded: Callable[[], Model]) -> Report:
    """loaded: the model, which is not loaded where the data is bad."""
    data, everything, asked = _read(options, task)
    runs.check_videos(asked)
    model = loaded()
    subject = Subject(model, everything, asked, SEED)
    controls = [c for c in task.controls if c != "wrong_video" or subject.views.has_wrong_video]
    identity = _identity(task, runs.describe_model(options.model, model), data, everything, asked)
    cost = runs.predict(task, subject, asked, [AS_IT_IS, *controls], out, identity)
    return _report(options, task, asked, out / runs.PREDICTIONS_FILE, out, identity, asdict(cost))


def score(options: argparse.Namespace) -> None:
    task = TASKS[options.task]
    data, everything, asked = _read(options, task)
    identity = _identity(task, {"name": options.predictions.name}, data, everything, asked)
    options.out.mkdir(parents=True, exist_ok=True)
    _print(options, _report(options, task, asked, options.predictions, options.out, identity, None))


def compare(options: argparse.Namespace) -> None:
    found = pair(options.a, options.b)
    if options.json:
        values = {metric: dict(zip("ab", map(asdict, three), strict=False)) for metric, three in found.items()}
        for metric, (*_, over) in found.items():
            values[metric]["difference"] = asdict(over)
        print(json.dumps(values))
        return
    print(f"{'':12} {'A':8} {'B':8} B - A")
    for metric, (a, b, over) in found.items():
        clear = "" if over.low <= 0 <= over.high else "  *"
        print(f"{metric:12} {number(a.value):8} {number(b.value):8} {spread(asdict(over))}{clear}")
    items, videos = over.items, over.clusters
    print(f"{items} items of {videos} videos that both have; * marks intervals without 0")


def _read(options: argparse.Namespace, task: Task) -> tuple[EvaluationData, list[Item], list[Item]]:
    """The data, its items that are of the task, and those to ask."""
    reader = choose_item_reader(options.data, task.name, options.format)
    query = ItemQuery(task.name, tuple(options.split), tuple(options.language), options.partial)
    data = reader.read(options.data, query)
    fit = [item for item in data.items if task.lacks(item) is None]
    if not fit:
        raise DataError(f"none of the {len(data.items)} items of {options.data} has {task.lacks(data.items[0])}")
    return data, fit, runs.selected(fit, options.limit)


def _identity(
    task: Task, model: dict[str, Any], data: EvaluationData, everything: Sequence[Item], asked: Sequence[Item]
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
    out: Path,
    identity: dict[str, Any],
    cost: dict[str, Any] | None,
) -> Report:
    found = runs.read(predictions)
    extra, judged = _judged(options, asked, found.get(AS_IT_IS, {}))
    report, per_item = reports.build(task, asked, found, identity, extra)
    report["predictions"] = {"file": predictions.name, "sha256": hashlib.sha256(predictions.read_bytes()).hexdigest()}
    if judged:
        report |= judged
    if cost:
        report["cost"] = cost
    reports.write(out, report, per_item)
    return report


def _judged(
    options: argparse.Namespace, asked: Sequence[Item], found: Mapping[str, runs.Row]
) -> tuple[dict[str, dict[str, Rows]], Report]:
    """Rows of a judge's scores, and what the report says of it; nothing where none is asked for."""
    if getattr(options, "judge", None) is None:
        return {}, {}
    if options.judge_url:
        judge = EndpointJudge(options.judge_url, options.judge)
    else:
        judge = LocalJudge(load(options.judge, options.device, options.device_map))
    labels = read_labels(options.labels) if options.labels else {}
    drift = check(judge, options.judge_baseline)
    cases = [_case(item, row.prediction) for item in asked if (row := found.get(item.id)) and row.prediction]
    given = verdicts(judge, cases, options.aspects, options.out / "judged.jsonl")
    number_of = {item.id: n for n, item in enumerate(asked)}
    rows: dict[str, Rows] = {}
    for one in (v for v in given if v.failure is None):
        values = {f"judge_{one.aspect}": one.score}
        if one.aspect == "accuracy":
            values = {"judge_accuracy": float(bool(one.correct)), "judge_score": one.score}
        for name, value in values.items():
            rows.setdefault(name, np.full(len(asked), np.nan))[number_of[one.id]] = value
    failed = [v for v in given if v.failure is not None]
    about = {
        "name": judge.name,
        "prompts": {aspect: prompt(aspect).sha for aspect in options.aspects},
        "verdicts": len(given),
        "failures": {f"{v.id} {v.aspect}": v.failure for v in failed},
        "drift": drift,
        "labels": agreement(given, labels) if labels else None,
    }
    if failed:
        print(f"warning: {len(failed)} of {len(given)} verdicts failed and count as none", file=sys.stderr)
    if drift["drifted"]:
        print(f"warning: the judge has drifted: {drift}; its scores are not those of its baseline", file=sys.stderr)
    return {AS_IT_IS: rows}, {"judge": about, "sections": {"Judge": section(about)}}


def _case(item: Item, made: Prediction) -> Case:
    return Case(
        id=item.id,
        question=item.question or QUESTION,
        answer=" / ".join(item.references),
        prediction=made["answer"],
        paraphrase=item.paraphrase,
        second=made.get("paraphrase", ""),
    )


def _print(options: argparse.Namespace, report: dict[str, Any]) -> None:
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
