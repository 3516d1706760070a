"""Whether a judge still judges as it did, and as people do.

The same frozen predictions are judged before every use. The first verdicts of a judge under a prompt are kept as its
baseline; later ones are compared with them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from videollm.assets import cache_dir
from videollm.errors import DataError
from videollm.evaluate.judge import Judge, Verdict, frozen, prompt, verdict
from videollm.evaluate.metrics.agreement import cohen_kappa, pearson, spearman

MOST_FLIPPED = 0.05  # share of frozen verdicts that may change before it counts as drift
MOST_SHIFT = 0.25  # of the mean score


def check(judge: Judge, baseline: Path | None = None) -> dict[str, Any]:
    """Judge the frozen predictions again. baseline: where the first verdicts are kept; None: in the cache folder.

    {"baseline": "made" or "compared", "flipped", "shift", "failures", "drifted", "people": agreement with labels}
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
            f"under {asked.sha}; give another --judge-baseline"
        )
    before = [Verdict(**v) for v in record["verdicts"]]
    flipped = sum(a.correct != b.correct for a, b in zip(before, now, strict=True)) / len(now)
    scores = [
        (a.score, b.score) for a, b in zip(before, now, strict=True) if a.score is not None and b.score is not None
    ]
    shift = sum(b - a for a, b in scores) / len(scores) if scores else 0.0
    drifted = flipped > MOST_FLIPPED or abs(shift) > MOST_SHIFT
    return {"baseline": "compared", "flipped": flipped, "shift": shift, "drifted": drifted, **found}


def read_labels(path: Path) -> dict[str, dict[str, Any]]:
    """People's verdicts by id: JSON Lines with "id" and "correct" (true, false), "score" (0 to 5) or both."""
    labels = {}
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            row = json.loads(line)
            if not isinstance(row.get("correct", True), bool) or not isinstance(row.get("score", 0), int | float):
                raise ValueError(f"line {number}: correct is true or false, score a number")
            labels[row["id"]] = row
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} is no file of labels ({error}); write {{'id': ..., 'correct': true}} a line"
        ) from error
    return labels


def agreement(found: Sequence[Verdict], labels: Mapping[str, Mapping[str, Any]]) -> dict[str, float | int]:
    """Cohen's kappa of right and wrong, Pearson's and Spearman's correlation of scores, over what both judged."""
    both = [(v, labels[v.id]) for v in found if v.aspect == "accuracy" and v.failure is None and v.id in labels]
    verdicts = [(bool(v.correct), row["correct"]) for v, row in both if "correct" in row]
    scores = [(v.score or 0.0, float(row["score"])) for v, row in both if "score" in row]
    made: dict[str, float | int] = {"items": len(both)}
    if verdicts:
        made["kappa"] = cohen_kappa(*zip(*verdicts, strict=True))
    if len(scores) > 1:
        made |= {"pearson": pearson(*zip(*scores, strict=True)), "spearman": spearman(*zip(*scores, strict=True))}
    return made
