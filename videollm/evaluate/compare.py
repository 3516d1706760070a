"""Two reports on the same items: paired differences with intervals."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from videollm.errors import DataError
from videollm.evaluate.metrics.aggregate import difference, interval
from videollm.evaluate.metrics.bootstrap import Interval
from videollm.evaluate.report import REPORT_FILE, SCORES_FILE
from videollm.evaluate.views import AS_IT_IS


def compare(a: Path, b: Path) -> dict[str, tuple[Interval, Interval, Interval]]:
    """For each metric that both have: a's value, b's value, and b's over a's, on the items that both have.

    Raises DataError where a folder holds no report, the annotations differ, or they share no item.
    """
    first, second = _read(a), _read(b)
    if first["report"]["task"] != second["report"]["task"]:
        raise DataError(f"{a} is of the task {first['report']['task']}, {b} of {second['report']['task']}")
    files = [side["report"]["data"]["files"] for side in (first, second)]
    differ = [name for name in files[0] if name in files[1] and files[0][name] != files[1][name]]
    if differ:
        raise DataError(f"{a} and {b} are of other data: {', '.join(differ)} differ")
    shared = [i for i in first["rows"] if i in second["rows"]]
    if not shared:
        raise DataError(f"{a} and {b} have no item in common")
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
        lines = (folder / SCORES_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no report of videollm eval ({error})") from error
    return {"report": report, "rows": {row["id"]: row for row in map(json.loads, lines)}}


def _values(rows: dict[str, Any], ids: list[str], metric: str) -> np.ndarray:
    values = [rows[i]["scores"][AS_IT_IS][metric] for i in ids]
    width = max((len(v) for v in values if isinstance(v, list)), default=0)
    missing = [float("nan")] * width if width else float("nan")
    return np.array([missing if v is None else v for v in values], float)
