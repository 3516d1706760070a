"""What an index derives from its tables is never believed where it does not belong to them, and is made again."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.retrieval.library import BLUE, GREEN, RED, write_film
from videollm.retrieval.index import Index
from videollm.retrieval.search import search
from videollm.retrieval.vectors import DerivedFileError, Vectors


def paths(index: Index) -> set[str]:
    vectors = index.vectors
    assert vectors is not None
    return {Path(row.path).name for row in index.table.fetch(vectors.ids).values()}


@pytest.mark.parametrize("kept", [True, False], ids=["local kept", "all deleted"])
def test_an_index_made_again_in_its_place_answers_from_its_own_vectors(tmp_path: Path, kept: bool):
    uri = tmp_path / "index"
    first = Index.create(uri, "debug")
    first.update([write_film(tmp_path / "a.mp4", [RED] * 3)])
    assert paths(first) == {"a.mp4"}
    (old,) = search(first, "red", 1)
    for table in uri.glob("*.lance") if kept else [uri]:
        shutil.rmtree(table)
    again = Index.create(uri, "debug")
    again.update([write_film(tmp_path / "b.mp4", [GREEN] * 3)])
    assert again.table.id != "" and paths(again) == {"b.mp4"}
    (new,) = search(again, "red", 1)
    assert new.path.endswith("b.mp4") and new.score != old.score
    # A server that had the old one open looks at the place again too.
    (seen,) = search(first, "red", 1)
    assert (seen.path, seen.score) == (new.path, new.score)


@pytest.mark.parametrize("damage", ["cut", "missing", "changed", "unchecked"])
def test_damaged_files_are_made_again(tmp_path: Path, damage: str):
    index = Index.create(tmp_path / "index", "debug")
    index.update([write_film(tmp_path / "a.mp4", [RED, BLUE])])
    found = search(index, "red", 3)
    (folder,) = (tmp_path / "index/local").glob("vectors-*")
    rows = folder / "float32.npy"
    match damage:
        case "cut":
            rows.write_bytes(rows.read_bytes()[:-8])
        case "missing":
            rows.unlink()
        case "changed":
            rows.write_bytes(rows.read_bytes()[:-8] + b"changed!")
        case "unchecked":
            (folder / "checks.json").unlink()
    with pytest.raises(DerivedFileError):
        Vectors(folder)
    assert search(Index.open(tmp_path / "index"), "red", 3) == found


@pytest.mark.parametrize("lost", ["segments", "videos"])
def test_videos_whose_rows_were_lost_are_indexed_again(tmp_path: Path, lost: str):
    film = write_film(tmp_path / "a.mp4", [RED])
    Index.create(tmp_path / "index", "debug").update([film])
    shutil.rmtree(tmp_path / f"index/{lost}.lance")
    report = Index.create(tmp_path / "index", "debug").update([film])
    assert report.unchanged == 0 and report.segments == 1
    assert Index.create(tmp_path / "index", "debug").update([film]).unchanged == 1


def test_two_creations_at_once(tmp_path: Path):
    code = "import sys; from videollm.retrieval.index import Index; print(Index.create(sys.argv[1], 'debug').table.id)"
    command = [sys.executable, "-c", code, str(tmp_path / "index")]
    made = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in made]
    assert [process.returncode for process in made] == [0, 0] and said[0] == said[1] != "\n"


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path):
    """A process may not write files beyond a size, as on a full disk. Into a memory map, that would kill it."""
    batch = np.arange(1000), np.zeros((1000, 512), np.float32)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            Vectors.write(tmp_path / "vectors", [batch], 1000, 512, graph=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
