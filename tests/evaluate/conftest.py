"""A small world, and the command on it with the debug model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_gen.make_world import main as make_world
from videollm.cli import main
from videollm.datasets.evaluation_folder import ItemQuery
from videollm.datasets.item import Item
from videollm.datasets.registry import choose_item_reader
from videollm.evaluate.tasks import Task


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDEOLLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    sizes = ["--size", "64", "--seconds", "2", "3", "--processes", "1"]
    assert make_world(["--out", str(out), "--split", "test=4", "unseen=2", *sizes]) == 0
    return out


def evaluate(*arguments: object) -> int:
    return main(["eval", *map(str, arguments)])


def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def asked(world: Path, task: Task) -> list[Item]:
    """The items of the world that fit a task or a probe."""
    items = choose_item_reader(world, task.name).read(world, ItemQuery(task.name)).items
    return [item for item in items if task.lacks(item) is None]
