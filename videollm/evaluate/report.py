"""The report of an evaluation: scores with confidence intervals, the scores of the controls, and scores by slice.

OUT/report.json                  The whole report. Only `cost` differs between identical runs.
OUT/report.md, OUT/report.html   The same report for people.
OUT/scores.jsonl                 The scores of each item, which `videollm eval compare` pairs.
"""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from videollm.datasets.item import SLICES, Item, Prediction
from videollm.errors import DataError
from videollm.evaluate.html import page
from videollm.evaluate.markdown import text
from videollm.evaluate.metrics.aggregate import Rows, interval
from videollm.evaluate.metrics.bootstrap import LEVEL, RESAMPLES
from videollm.evaluate.metrics.precision_recall import Curve, Curves
from videollm.evaluate.question_only import QUESTION_ONLY, question_only
from videollm.evaluate.run import Row
from videollm.evaluate.tasks.base import ScoredTask, Task
from videollm.evaluate.views import AS_IT_IS, CONTROLS, WHOLE_VIDEO

REPORT_FILE, SCORES_FILE = "report.json", "scores.jsonl"
CURVE_POINTS = 101  # of recall, as in COCO
Report = dict[str, Any]


def build(
    task: Task,
    items: Sequence[Item],
    known: Sequence[Item],
    predictions: Mapping[str, Mapping[str, Row]],
    identity: dict[str, Any],
    extra: Mapping[str, Mapping[str, Rows]] | None = None,
) -> tuple[Report, list[dict[str, Any]]]:
    """Scores predictions.

    Args:
        task: The task.
        items: The evaluated items, N of them.
        known: All items of the data that fit the task, from which `question_only` guesses.
        predictions: The predictions by condition, then by item id.
        identity: What decides the predictions, with the key "seed". It becomes part of the report.
        extra: Further rows by condition, then by metric, such as those of a judge. Each is (N,), with NaN for items
            without a score.

    Returns:
        The report, and the rows of `scores.jsonl`.

    Raises:
        DataError: If an item has no prediction for the unchanged video, or the model failed on all items.
    """
    seed = identity["seed"]
    missing = [item.id for item in items if item.id not in predictions.get(AS_IT_IS, {})]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(items)} items have no prediction, the first is {missing[0]!r}; add predictions "
            "for them"
        )
    scored = {
        condition: _rows(task, items, predictions[condition]) | dict((extra or {}).get(condition, {}))
        for condition in (AS_IT_IS, *CONTROLS, WHOLE_VIDEO)
        if condition in predictions
    }
    guesses = question_only(task.name, items, known)
    if guesses is not None:
        scored[QUESTION_ONLY] = dict(task.score(items, guesses))
    # Items about one video are not independent, so that the bootstrap draws whole videos.
    clusters = [str(item.video) for item in items]

    def measured(rows: Mapping[str, Rows], chosen: Sequence[int]) -> dict[str, Any]:
        names = [clusters[i] for i in chosen]
        return {metric: _plain(asdict(interval(metric, r[chosen], names, seed))) for metric, r in rows.items()}

    everything = list(range(len(items)))
    failures = {
        condition: {row.id: row.error for row in rows.values() if row.error is not None}
        for condition, rows in predictions.items()
    }
    report: Report = {
        "task": task.name,
        "about": task.about,
        **identity,
        "intervals": f"{LEVEL:.0%}, percentile bootstrap over videos, {RESAMPLES} resamples, seed {seed}",
        "scores": measured(scored[AS_IT_IS], everything),
        "chance": dict(task.chance(items)),
        "controls": {c: measured(rows, everything) for c, rows in scored.items() if c != AS_IT_IS},
        "slices": {
            name: {value: measured(scored[AS_IT_IS], chosen) for value, chosen in groups.items()}
            for name in _slice_names(items)
            if len(groups := _groups(items, name)) > 1
        },
        "failures": {condition: found for condition, found in failures.items() if found},
        "versions": {
            "python": platform.python_version(),
            **{p: version(p) for p in ("videollm", "torch", "transformers", "numpy")},
        },
    }
    if isinstance(task, ScoredTask):
        there = _there(items, predictions[AS_IT_IS])
        report["precision_recall"] = _plain(_curves(task.curves(*_answered(items, predictions[AS_IT_IS], there))))
    per_item = [
        {
            "id": item.id,
            # `compare` groups items by this name. The rest of the path differs from machine to machine.
            "video": "/".join(item.video.parts[-2:]),
            "slices": item.slices,
            "scores": {c: {m: _plain(r[i].tolist()) for m, r in rows.items()} for c, rows in scored.items()},
        }
        for i, item in enumerate(items)
    ]
    return report, per_item


def write(out: Path, report: Report, per_item: Sequence[Mapping[str, Any]]) -> None:
    """Writes what `build` returned to the folder `out`."""
    _write(out, report, [report])
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in per_item)
    (out / SCORES_FILE).write_text("".join(lines), encoding="utf-8")


def write_together(out: Path, reports: Mapping[str, Report]) -> None:
    """Writes several reports, by name, as one report without `scores.jsonl`."""
    _write(out, {"reports": reports}, list(reports.values()))


def _write(out: Path, values: Mapping[str, Any], reports: Sequence[Report]) -> None:
    (out / REPORT_FILE).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.md").write_text("\n".join(map(text, reports)), encoding="utf-8")
    title = f"{', '.join(report['task'] for report in reports)}: {reports[0]['model']['name']}"
    (out / "report.html").write_text(page(title, reports), encoding="utf-8")


def _rows(task: Task, items: Sequence[Item], rows: Mapping[str, Row]) -> dict[str, Rows]:
    """Returns the rows of all items by metric. An item on which the model failed has NaN: it is counted as a failure
    and never scored."""
    there = _there(items, rows)
    if not there:
        reasons = {row.error for row in rows.values()}
        raise DataError(f"the model failed on every item: {'; '.join(sorted(filter(None, reasons)))[:300]}")
    found = task.score(*_answered(items, rows, there))
    spread = {}
    for metric, values in found.items():
        spread[metric] = np.full((len(items), *values.shape[1:]), np.nan)
        spread[metric][there] = values
    return spread


def _there(items: Sequence[Item], rows: Mapping[str, Row]) -> list[int]:
    """Returns the positions of the items that have a prediction."""
    return [i for i, item in enumerate(items) if item.id in rows and rows[item.id].error is None]


def _answered(
    items: Sequence[Item], rows: Mapping[str, Row], there: Sequence[int]
) -> tuple[list[Item], list[Prediction]]:
    """Returns the items at these positions with their predictions."""
    return [items[i] for i in there], [rows[items[i].id].prediction or {} for i in there]


def _curves(found: Curves) -> dict[str, Any]:
    """Returns curves as the report has them: the precision that is reached at each recall of a grid."""
    grid = np.linspace(0, 1, CURVE_POINTS)

    def plain(curves: Mapping[str, Curve]) -> dict[str, Any]:
        return {
            name: {
                "positives": one.positives,
                "predictions": one.predictions,
                "average_precision": one.average_precision,
                "precision": one.at(grid).tolist(),
            }
            for name, one in curves.items()
        }

    return {
        "mAP": found.mean_average_precision,
        "recall": grid.tolist(),
        "overall": plain(found.overall),
        "classes": plain(found.classes),
    }


def _slice_names(items: Sequence[Item]) -> list[str]:
    names = {name for item in items for name in item.slices}
    return [*(n for n in SLICES if n in names), *sorted(names - set(SLICES))]


def _groups(items: Sequence[Item], name: str) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        if name in item.slices:
            groups.setdefault(item.slices[name], []).append(number)
    return groups


def _plain(value: Any) -> Any:
    """Returns the value as JSON can hold it: NaN becomes null, and numbers are rounded to 6 decimals."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value
