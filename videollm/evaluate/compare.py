"""Compares two evaluations of the same items, by paired differences with confidence intervals."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from videollm.datasets.text_file import split_lines
from videollm.errors import DataError
from videollm.evaluate.metrics.aggregate import difference, interval
from videollm.evaluate.metrics.bootstrap import Interval
from videollm.evaluate.report import REPORT_FILE, SCORES_FILE
from videollm.evaluate.views import AS_IT_IS


def compare(a: Path, b: Path) -> dict[str, tuple[Interval, Interval, Interval]]:
    """Compares the reports in two `--out` folders on the items that both have.

    Returns:
        For each metric that both have: the value of a, the value of b, and the difference b - a.

    Raises:
        DataError: If a folder has no report, the tasks or the annotation files differ, or there is no shared item.
    """
    first, second = _read(a), _read(b)
    if first["report"]["task"] != second["report"]["task"]:
        raise DataError(
            f"{a} evaluates the task {first['report']['task']} and {b} the task {second['report']['task']}; "
            "compare two evaluations of the same task"
        )
    files = [side["report"]["data"]["files"] for side in (first, second)]
    differ = [name for name in files[0] if name in files[1] and files[0][name] != files[1][name]]
    if differ:
        raise DataError(
            f"{a} and {b} evaluate different data: the contents of {', '.join(differ)} differ; evaluate both on the "
            "same files"
        )
    shared = [i for i in first["rows"] if i in second["rows"]]
    if not shared:
        raise DataError(f"{a} and {b} have no item in common; evaluate both on the same --split")
    seed, found = first["report"]["seed"], {}
    clusters = [first["rows"][i]["video"] for i in shared]
    for metric in first["report"]["scores"]:
        if metric in second["report"]["scores"]:
            x, y = (_values(side["rows"], shared, metric) for side in (first, second))
            found[metric] = (
                interval(metric, x, clusters, seed),
                interval(metric, y, clusters, seed),
                difference(metric, x, y, clusters, seed),
            )
    return found


def _read(folder: Path) -> dict[str, Any]:
    try:
        report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
        lines = split_lines((folder / SCORES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} holds no report of `videollm eval` ({error}); give the --out folder of an evaluation"
        ) from error
    return {"report": report, "rows": {row["id"]: row for row in map(json.loads, lines)}}


def _values(rows: dict[str, Any], ids: list[str], metric: str) -> np.ndarray:
    """Returns the rows (n,) or (n,s) of a metric. A failed item is null in the file and becomes NaN."""
    values = [rows[i]["scores"][AS_IT_IS][metric] for i in ids]
    width = max((len(v) for v in values if isinstance(v, list)), default=0)
    missing = [float("nan")] * width if width else float("nan")
    return np.array([missing if v is None else v for v in values], float)
