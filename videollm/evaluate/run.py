"""Predictions of one task, one after another in a fixed order, each written down before the next is made.

    OUT/run.json            what decides the predictions: task, model, weights, data, seed
    OUT/predictions.jsonl   a line for each item and condition; a stopped run goes on after the last whole line

Scores are computed from that file alone, so that a file made elsewhere is scored in the same way.
"""

import hashlib
import json
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import IO, Any

from tqdm import tqdm

from videollm.checkpoint import Model, find
from videollm.datasets.item import Item, Prediction
from videollm.errors import ConfigError, ContextOverflowError, DataError, VideoError
from videollm.evaluate.subject import Subject
from videollm.evaluate.tasks.base import Task
from videollm.evaluate.views import AS_IT_IS

RUN_FILE, PREDICTIONS_FILE = "run.json", "predictions.jsonl"
DIGITS = 6  # of numbers in predictions


@dataclass(frozen=True, slots=True)
class Row:
    """What is predicted of one item in one condition. error: why there is no prediction."""

    id: str
    condition: str
    prediction: Prediction | None
    error: str | None = None

    def to_json(self) -> str:
        made = {"prediction": self.prediction} if self.error is None else {"error": self.error}
        return json.dumps({"id": self.id, "condition": self.condition, **made}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of this process: seconds, predictions made in them, those found from an earlier run, and the most memory it ever
    held."""

    seconds: float
    predicted: int
    resumed: int
    peak_memory_mb: float


def selected(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` items, evenly spread over the data, in the order in which they are asked: video by video."""
    ordered = sorted(items, key=lambda item: (item.part[0], item.part[1] or 0.0, item.part[2] or 0.0, item.id))
    if len({item.id for item in ordered}) < len(ordered):
        twice = next(a.id for a, b in pairwise(sorted(ordered, key=lambda item: item.id)) if a.id == b.id)
        raise DataError(f"two items have the id {twice!r}")
    if limit is None or limit >= len(ordered):
        return ordered
    if limit < 1:
        raise ConfigError(f"--limit is {limit}; it must be at least 1")
    return [ordered[i * len(ordered) // limit] for i in range(limit)]


def check_videos(items: Sequence[Item]) -> None:
    """Raises DataError that says how many are missing and where the first was looked for."""
    paths = sorted({item.video for item in items})
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(paths)} videos are not there; the first is {missing[0]}")


def describe_model(name: str, model: Model) -> dict[str, Any]:
    """What a score belongs to: name, configuration hash, revision of the encoder, source of the language model, and the
    sha256 of every weight file of the checkpoint."""
    directory = find(name) if name != "debug" else None
    files = sorted(directory.rglob("*.safetensors")) if directory else []
    return {
        "name": model.config.name,
        "config_sha": model.config.sha,
        "encoder": f"{model.encoder.name} {model.encoder.revision}",
        "language_model": model.config.llm.source,
        "weights": {str(file.relative_to(directory)): _sha256(file) for file in files if directory},
    }


def predict(
    task: Task, subject: Subject, items: Sequence[Item], conditions: Sequence[str], out: Path, identity: dict[str, Any]
) -> Cost:
    """Write what is not yet written of OUT/predictions.jsonl. Raises ConfigError where OUT holds another run."""
    started, plan = perf_counter(), [(item, condition) for item in items for condition in conditions]
    with _Journal(out, identity, [(item.id, condition) for item, condition in plan]) as (file, done):
        bar = tqdm(total=len(plan), initial=done, desc=task.name, unit=" predictions", disable=None)
        for item, condition in plan[done:]:
            file.write(_predicted(task, subject, item, condition).to_json() + "\n")
            file.flush()
            bar.update()
        bar.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1024)
    return Cost(round(perf_counter() - started, 2), len(plan) - done, done, round(memory, 1))


def read(path: Path) -> dict[str, dict[str, Row]]:
    """The rows of a predictions file by condition, then by item. A row without a condition is of the video as it is.
    Raises DataError."""
    found: dict[str, dict[str, Row]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = _row(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{path} line {number} is no prediction ({error}); write {{"id": ..., "prediction": {{...}}}}'
            ) from error
        if row.id in found.setdefault(row.condition, {}):
            raise DataError(f"{path} line {number}: there is a prediction of {row.id!r} already")
        found[row.condition][row.id] = row
    return found


def _row(values: Any) -> Row:
    if not isinstance(values, dict):
        raise TypeError(f"{values!r} is no object")
    error = values.get("error")
    made = None if error is not None else values["prediction"]
    if error is None and not isinstance(made, dict):
        raise TypeError(f"prediction is {made!r}")
    return Row(values["id"], values.get("condition", AS_IT_IS), made, error)


def _predicted(task: Task, subject: Subject, item: Item, condition: str) -> Row:
    try:
        return Row(item.id, condition, _rounded(task.predict(subject, item, condition)))
    except (VideoError, ContextOverflowError) as error:
        return Row(item.id, condition, None, str(error))


class _Journal:
    """The predictions file, open at its end, and how many of the planned rows it holds."""

    def __init__(self, out: Path, identity: dict[str, Any], plan: list[tuple[str, str]]):
        self.path = out / PREDICTIONS_FILE
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(identity, indent=2, ensure_ascii=False) + "\n"
        run = out / RUN_FILE
        if not run.exists():
            if self.path.exists():
                raise ConfigError(f"{self.path} exists without {RUN_FILE}; give another --out")
            run.with_suffix(".part").write_text(text, encoding="utf-8")
            os.replace(run.with_suffix(".part"), run)
        elif run.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{out} holds another run ({_differing(run, identity)}); give another --out")
        self.path.touch()
        self.done = self._whole(plan)

    def _whole(self, plan: list[tuple[str, str]]) -> int:
        """Cut off what was being written when the run was stopped; the number of whole rows."""
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        found = [(row["id"], row["condition"]) for row in map(json.loads, whole.splitlines())]
        if found != plan[: len(found)]:
            raise ConfigError(f"{self.path} is not the beginning of this run; give another --out")
        return len(found)

    def __enter__(self) -> tuple[IO[str], int]:
        self.file = self.path.open("a", encoding="utf-8")
        return self.file, self.done

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _differing(run: Path, identity: dict[str, Any]) -> str:
    before = json.loads(run.read_text(encoding="utf-8"))
    names = [name for name in {**before, **identity} if before.get(name) != identity.get(name)]
    return f"other {', '.join(names)}" if names else "written by another version"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
