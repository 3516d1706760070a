"""Makes the predictions of one task, in a fixed order, and writes each to disk before it makes the next.

    OUT/run.json            What decides the predictions: task, model, weights, data and seed.
    OUT/predictions.jsonl   One line for each item and condition. A stopped run continues after the last whole line.

Scores are computed from this file alone, so that predictions of other programs are scored in the same way.
"""

import hashlib
import json
import os
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import IO, Any

from tqdm import tqdm

from videollm.datasets.item import Item, Prediction
from videollm.datasets.text_file import lines, parse_json
from videollm.errors import ConfigError, ContextOverflowError, DataError, VideoError
from videollm.evaluate.subject import Subject
from videollm.evaluate.tasks.base import Task
from videollm.evaluate.views import AS_IT_IS
from videollm.model import Model, find
from videollm.models.served import SERVED_BY

RUN_FILE, PREDICTIONS_FILE = "run.json", "predictions.jsonl"
# Predictions are rounded to so many decimals: the last bits of a float depend on the machine and would make files of
# identical runs differ.
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Row:
    """The prediction for one item in one condition. `error` is the reason if there is no prediction, else None."""

    id: str
    condition: str
    prediction: Prediction | None
    error: str | None = None

    def to_json(self) -> str:
        """Returns the line of the predictions file, without a newline."""
        made = {"prediction": self.prediction} if self.error is None else {"error": self.error}
        return json.dumps({"id": self.id, "condition": self.condition, **made}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost this process.

    Attributes:
        seconds: The time for the predictions that were made now.
        predicted: The number of predictions that were made now.
        resumed: The number of predictions that an earlier run had made.
        peak_memory_mb: The largest resident memory of the process, in MB.
    """

    seconds: float
    predicted: int
    resumed: int
    peak_memory_mb: float


def selected(items: Sequence[Item], limit: int | None) -> list[Item]:
    """Returns at most `limit` items, spread evenly over the data, in the order of their videos.

    Raises ConfigError if the limit is below 1, and DataError if two items have the same id.
    """
    # Items of one video follow each other, so that `Views` encodes each video once.
    ordered = sorted(items, key=lambda item: (item.part[0], item.part[1] or 0.0, item.part[2] or 0.0, item.id))
    if len({item.id for item in ordered}) < len(ordered):
        twice = next(a.id for a, b in pairwise(sorted(ordered, key=lambda item: item.id)) if a.id == b.id)
        raise DataError(f"two items have the id {twice!r}; ids must be unique")
    if limit is None or limit >= len(ordered):
        return ordered
    if limit < 1:
        raise ConfigError(f"--limit is {limit}; it must be at least 1")
    return [ordered[i * len(ordered) // limit] for i in range(limit)]


def check_videos(items: Sequence[Item]) -> None:
    """Raises DataError if videos are missing, with their number and the path of the first."""
    paths = sorted({item.video for item in items})
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise DataError(f"{len(missing)} of {len(paths)} videos do not exist; the first is {missing[0]}")


def describe_model(name: str, model: Model) -> dict[str, Any]:
    """Returns what identifies a model in a report: its name, the hash of its configuration, the revision of its
    encoder, the source of its language model, and the SHA-256 of every weight file of the checkpoint."""
    served = model.config.llm.source.startswith(SERVED_BY)
    directory = find(name) if name != "debug" and not served else None
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
    """Makes the predictions that `out` does not hold yet.

    A video that cannot be read, or a prompt that is too long, is recorded as the error of its item; the run continues.

    Args:
        task: The task.
        subject: The model under test.
        items: The items, in the order in which they are evaluated.
        conditions: The conditions of each item, see `views`.
        out: The folder of `run.json` and `predictions.jsonl`.
        identity: What decides the predictions.

    Raises:
        ConfigError: If `out` holds another run.
    """
    started, plan = perf_counter(), [(item, condition) for item in items for condition in conditions]
    with _Journal(out, identity, [(item.id, condition) for item, condition in plan]) as (file, done):
        bar = tqdm(total=len(plan), initial=done, desc=task.name, unit=" predictions", disable=None)
        for item, condition in plan[done:]:
            file.write(_predicted(task, subject, item, condition).to_json() + "\n")
            file.flush()
            bar.update()
        bar.close()
    # ru_maxrss is in bytes on macOS and in KiB on Linux.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1024)
    return Cost(round(perf_counter() - started, 2), len(plan) - done, done, round(memory, 1))


def read(path: Path, check: Callable[[str, Prediction], Prediction] | None = None) -> dict[str, dict[str, Row]]:
    """Reads a predictions file and returns its rows by condition, then by item id.

    A line without "condition" belongs to the unchanged video. `check` takes the id of an item and its prediction, and
    returns the prediction that is kept. Raises DataError, which names the line, if the file cannot be read, a line is
    not a prediction, `check` refuses it, or an item has two predictions in one condition.
    """
    found: dict[str, dict[str, Row]] = {}
    for number, line in lines(path):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            row = _row(parse_json(line))
            if check is not None and row.prediction is not None:
                row = replace(row, prediction=check(row.id, row.prediction))
        except DataError as error:
            raise DataError(
                f'{where} is not a prediction: {error}; write {{"id": ..., "prediction": {{...}}}}'
            ) from error
        if row.id in found.setdefault(row.condition, {}):
            raise DataError(f"{where}: an earlier line has a prediction for {row.id!r}; keep one of them")
        found[row.condition][row.id] = row
    return found


def _row(values: Any) -> Row:
    if not isinstance(values, dict):
        raise DataError(f"{values!r:.40} is not an object")
    condition, error, made = values.get("condition", AS_IT_IS), values.get("error"), values.get("prediction")
    for name, text in (("id", values.get("id")), ("condition", condition), ("error", error)):
        if not isinstance(text, str) and not (name == "error" and text is None):
            raise DataError(f"{name} is {text!r:.40}, not a text")
    if error is None and not isinstance(made, dict):
        raise DataError(f"prediction is {made!r:.40}, not an object")
    return Row(values["id"], condition, made if error is None else None, error)


def _predicted(task: Task, subject: Subject, item: Item, condition: str) -> Row:
    try:
        return Row(item.id, condition, _rounded(task.predict(subject, item, condition)))
    except (VideoError, ContextOverflowError) as error:
        return Row(item.id, condition, None, str(error))


class _Journal:
    """The predictions file as a context manager, which gives the file opened for appending and the number of rows in
    it. Raises ConfigError if the folder holds another run."""

    def __init__(self, out: Path, identity: dict[str, Any], plan: list[tuple[str, str]]):
        self.path = out / PREDICTIONS_FILE
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(identity, indent=2, ensure_ascii=False) + "\n"
        run = out / RUN_FILE
        if not run.exists():
            if self.path.exists():
                raise ConfigError(f"{self.path} exists without {RUN_FILE}; give another folder as --out")
            # Renaming is atomic: run.json is never half-written, even if the process is killed here.
            run.with_suffix(".part").write_text(text, encoding="utf-8")
            os.replace(run.with_suffix(".part"), run)
        elif run.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{out} holds another run ({_differing(run, identity)}); give another folder as --out")
        self.path.touch()
        self.done = self._count_whole_rows(plan)

    def _count_whole_rows(self, plan: list[tuple[str, str]]) -> int:
        """Cuts off the last line if it was only partly written when the run stopped, and returns the number of rows."""
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        found = [(row["id"], row["condition"]) for row in map(json.loads, whole.decode().split("\n")[:-1])]
        if found != plan[: len(found)]:
            raise ConfigError(
                f"the rows of {self.path} are not the first rows of this run; give another folder as --out"
            )
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
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
