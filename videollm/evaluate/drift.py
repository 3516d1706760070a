"""Checks whether a judge still gives the verdicts that it gave before, and whether it agrees with people.

The judge grades the same frozen predictions before every use. Its first verdicts under a prompt are stored as its
baseline, and later verdicts are compared with them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from videollm.assets import cache_dir
from videollm.datasets.text_file import lines, parse_json
from videollm.errors import DataError
from videollm.evaluate.judge import Judge, Verdict, frozen, prompt, verdict
from videollm.evaluate.metrics.agreement import cohen_kappa, pearson, spearman

# A judge has drifted if it exceeds one of these. A server may give slightly different replies at temperature 0, so that
# a single changed verdict of the 20 frozen ones is tolerated.
MAX_FLIPPED = 0.05  # share of frozen verdicts that change between right and wrong
MAX_SHIFT = 0.25  # change of the mean score, which is 0 to 5


def check(judge: Judge, baseline: Path | None = None) -> dict[str, Any]:
    """Judges the frozen predictions and compares the verdicts with the baseline, or stores them as the baseline.

    Args:
        judge: The judge.
        baseline: The file of the first verdicts. None selects a file in the cache folder.

    Returns:
        "baseline" ("made" or "compared"), "flipped" (the share of changed verdicts), "shift" (the change of the mean
        score), "drifted", "failures" (the number of failed verdicts), and "people" (the agreement with people's
        verdicts, see `agreement`). "flipped" and "shift" are None if the baseline was made now.

    Raises:
        DataError: If the file is the baseline of another judge or another prompt.
    """
    asked = prompt("accuracy")
    name = "".join(c if c.isalnum() or c in ".-" else "-" for c in judge.name)
    path = baseline or cache_dir() / "judges" / f"{name}-{asked.sha}.json"
    cases, labels = frozen()
    now = [verdict(judge, case, "accuracy") for case in cases]
    found = {"failures": sum(v.failure is not None for v in now), "people": agreement(now, labels)}
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"judge": judge.name, "prompt_sha": asked.sha, "verdicts": [asdict(v) for v in now]}
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return {"baseline": "made", "flipped": None, "shift": None, "drifted": False, **found}
    record = json.loads(path.read_text(encoding="utf-8"))
    if (record["judge"], record["prompt_sha"]) != (judge.name, asked.sha):
        raise DataError(
            f"{path} is the baseline of {record['judge']} under prompt {record['prompt_sha']}, this is {judge.name} "
            f"under prompt {asked.sha}; give another --judge-baseline"
        )
    before = [Verdict(**v) for v in record["verdicts"]]
    flipped = sum(a.correct != b.correct for a, b in zip(before, now, strict=True)) / len(now)
    scores = [
        (a.score, b.score) for a, b in zip(before, now, strict=True) if a.score is not None and b.score is not None
    ]
    shift = sum(b - a for a, b in scores) / len(scores) if scores else 0.0
    drifted = flipped > MAX_FLIPPED or abs(shift) > MAX_SHIFT
    return {"baseline": "compared", "flipped": flipped, "shift": shift, "drifted": drifted, **found}


def read_labels(path: Path) -> dict[str, dict[str, Any]]:
    """Reads people's verdicts, by the id of the item.

    The file is JSON Lines. Each line has "id" and at least one of "correct" (true or false) and "score" (0 to 5).
    Raises DataError if the file cannot be read or has another format.
    """
    labels = {}
    try:
        for number, line in lines(path):
            row = parse_json(line)
            if not isinstance(row.get("correct", True), bool) or not isinstance(row.get("score", 0), int | float):
                raise ValueError(f"line {number}: correct must be true or false, and score a number")
            labels[row["id"]] = row
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f'{path} is no file of labels ({error}); write one {{"id": ..., "correct": true}} per line'
        ) from error
    return labels


def agreement(found: Sequence[Verdict], labels: Mapping[str, Mapping[str, Any]]) -> dict[str, float | int]:
    """Measures the agreement of a judge with people, over the items that both judged for the aspect `accuracy`.

    Returns:
        "items" (their number), "kappa" (Cohen's kappa of right and wrong), and "pearson" and "spearman" (correlations
        of the scores). Measures without data are left out.
    """
    both = [(v, labels[v.id]) for v in found if v.aspect == "accuracy" and v.failure is None and v.id in labels]
    verdicts = [(bool(v.correct), row["correct"]) for v, row in both if "correct" in row]
    scores = [(v.score or 0.0, float(row["score"])) for v, row in both if "score" in row]
    made: dict[str, float | int] = {"items": len(both)}
    if verdicts:
        made["kappa"] = cohen_kappa(*zip(*verdicts, strict=True))
    if len(scores) > 1:
        made |= {"pearson": pearson(*zip(*scores, strict=True)), "spearman": spearman(*zip(*scores, strict=True))}
    return made
