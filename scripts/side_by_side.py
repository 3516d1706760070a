"""Evaluate several models on the same data, and fill one table with their scores and controls.

    python scripts/side_by_side.py mcqa --models MODEL MODEL ... --data DIR --out OUT [options of `videollm eval`]

Each model is evaluated by `videollm eval` in a folder of its own in OUT, so the same command continues a run that was
stopped. OUT/table.md has a row for each model that was evaluated.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videollm.cli import main as videollm
from videollm.evaluate.markdown import number, spread


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if all models were evaluated, and 2 if one could not be. The others are in the table all the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="a task of `videollm eval`")
    parser.add_argument("--models", nargs="+", required=True, metavar="MODEL", help="presets, directories or hub ids")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write")
    options, rest = parser.parse_known_args(arguments)
    folders = {model: options.out / folder_name(model) for model in options.models}
    if len(set(folders.values())) < len(folders):
        parser.error(f"two of the models have the same name: {', '.join(options.models)}; rename a directory")
    reports, status = {}, 0
    for model, folder in folders.items():
        if videollm(["eval", options.task, "--model", model, "--out", str(folder), *rest]) == 0:
            reports[model] = json.loads((folder / "report.json").read_text())
        else:
            status = 2
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text(table(reports) if reports else "")
    print(options.out / "table.md", file=sys.stderr)
    return status


def folder_name(model: str) -> str:
    """Returns the name of a model's folder: that of its directory, or its hub id with dashes."""
    return Path(model).name if Path(model).is_dir() else model.replace("/", "--")


def table(reports: dict[str, dict[str, Any]]) -> str:
    """Returns a Markdown table of the first metric: score with interval, each control, chance, items and failures."""
    metric = next(iter(next(iter(reports.values()))["scores"]))
    controls = list(dict.fromkeys(name for report in reports.values() for name in report["controls"]))
    rows = [["model", metric, *controls, "chance", "items", "failures"]]
    for model, report in reports.items():
        cells = [report["controls"].get(name, {}).get(metric, {}).get("value") for name in controls]
        failures = sum(map(len, report["failures"].values()))
        chance = number(report["chance"].get(metric))
        score = spread(report["scores"][metric])
        rows.append([model, score, *map(number, cells), chance, str(report["data"]["asked"]), str(failures)])
    rows.insert(1, ["---"] * len(rows[0]))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
