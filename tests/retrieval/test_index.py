"""An index follows its folder through every change, and through being killed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.retrieval.library import BLUE, GREEN, RED, WHITE, some_colours, write_film
from videollm.errors import ConfigError, SearchIndexError, VideoNotFoundError
from videollm.retrieval.index import Index
from videollm.retrieval.table import SegmentTable

KILLS = int(os.environ.get("VIDEOLLM_KILLS", "3"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_film(tmp_path / "films/a.mp4", [RED] * 5)
    write_film(tmp_path / "films/sub dir/b's.mkv", [GREEN, BLUE])
    return tmp_path / "films"


def contents(index: Index) -> dict[tuple[str, int], tuple]:
    """Every row by path and number; fails where one is doubled."""
    index.table.refresh()
    rows = index.table._segments.to_arrow().to_pylist()
    found = {(r["path"], r["n"]): (r["start_s"], r["end_s"], r["text"], r["sha"], tuple(r["embedding"])) for r in rows}
    assert len(found) == len(rows)
    return found


def counts(report) -> dict[str, int]:
    names = ("added", "changed", "moved", "removed", "unchanged", "unreadable")
    return {name: n for name in names if (n := getattr(report, name))}


def test_follows_every_change(folder: Path, tmp_path: Path):
    index = Index.create(tmp_path / "idx", "debug")
    seen: list[tuple[int, int]] = []
    assert counts(index.update([folder], progress=lambda done, total, _: seen.append((done, total)))) == {"added": 2}
    assert seen == [(1, 2), (2, 2)]
    first = contents(index)
    assert [len([1 for path, _ in first if path.endswith(name)]) for name in ("a.mp4", "b's.mkv")] == [2, 2]
    assert counts(index.update([folder])) == {"unchanged": 2}

    os.utime(folder / "a.mp4", (1e9, 1e9))  # touched: the same content
    assert counts(index.update([folder])) == {"moved": 1, "unchanged": 1}
    (folder / "a.mp4").rename(folder / "c.mp4")
    assert counts(index.update([folder])) == {"moved": 1, "unchanged": 1, "removed": 1}
    moved = contents(index)
    assert moved[str(folder / "c.mp4"), 0][4] == first[str(folder / "a.mp4"), 0][4]

    write_film(folder / "c.mp4", [BLUE])
    assert counts(index.update([folder])) == {"changed": 1, "unchanged": 1}
    assert (str(folder / "c.mp4"), 1) not in contents(index)
    (folder / "c.mp4").write_text("broken")
    report = index.update([folder])
    assert counts(report) == {"unchanged": 1, "unreadable": 1} and "not a video" in report.problems[0][1]
    assert not any(path.endswith("c.mp4") for path, _ in contents(index))
    report = index.update([folder])  # still listed, not tried again
    assert counts(report) == {"unchanged": 2, "unreadable": 1} and len(report.problems) == 1

    shutil.rmtree(folder / "sub dir")
    (folder / "c.mp4").unlink()
    assert counts(index.update([folder], drop_missing=True)) == {"removed": 2}
    assert contents(index) == {} and index.vectors is None


def test_vectors_stay_in_step_with_the_table_for_other_processes_too(folder: Path, tmp_path: Path):
    writer = Index.create(tmp_path / "idx", "debug")
    writer.update([folder / "a.mp4"])
    reader = Index.open(tmp_path / "idx")
    assert reader.vectors is not None and len(reader.vectors) == 2
    writer.update([folder])
    assert reader.vectors is not None and len(reader.vectors) == 4
    by_id = dict(zip(reader.vectors.ids.tolist(), reader.vectors.rows.numpy(), strict=True))
    found = contents(reader)
    for row_id, row in reader.table.fetch(by_id).items():
        np.testing.assert_array_equal(by_id[row_id], np.float32(found[row.path, row.n][4]))
    assert len(list((tmp_path / "idx/local").glob("vectors-*"))) == 1


def test_subtitles_are_read_and_followed(folder: Path, tmp_path: Path):
    index = Index.create(tmp_path / "idx", "debug")
    index.update([folder])
    (folder / "a.en.srt").write_text("1\n00:00:04,200 --> 00:00:04,800\nHello <b>there</b>\n")
    assert counts(index.update([folder])) == {"moved": 1, "unchanged": 1}  # not decoded again
    assert [contents(index)[str(folder / "a.mp4"), n][2] for n in (0, 1)] == ["", "Hello there"]
    (folder / "a.en.srt").write_text("nonsense")
    report = index.update([folder])
    assert report.problems[0][0].endswith("a.mp4") and "a.en.srt: not a subtitle file" in report.problems[0][1]
    assert contents(index)[str(folder / "a.mp4"), 1][2] == "" and report.unreadable == 0


def test_lists_and_what_is_hidden(folder: Path, tmp_path: Path):
    write_film(folder / ".hidden.mp4", [RED])
    (folder / "notes.txt").write_text("a.mp4\n\nsub dir\nnowhere.mp4\n")
    index = Index.create(tmp_path / "idx", "debug")
    with pytest.raises(VideoNotFoundError, match="absent: no such file or folder"):
        index.update([folder / "notes.txt", tmp_path / "absent"])
    report = index.update([folder / "notes.txt"])
    assert counts(report) == {"added": 2, "unreadable": 1}
    assert report.problems == ((str(folder / "nowhere.mp4"), "no such file or directory"),)


def test_pictures_are_passed_over_and_told(folder: Path, tmp_path: Path):
    for name in ("one.png", "two.JPG", ".hidden.png", "sub dir/three.webp"):
        (folder / name).write_bytes(b"")
    report = Index.create(tmp_path / "idx", "debug").update([folder])
    assert counts(report) == {"added": 2}
    assert report.problems == ((str(folder), "pictures passed over: 3; an index has videos only"),)


def test_one_bad_file_never_ends_an_update(folder: Path, tmp_path: Path):
    write_film(folder / "wide.mp4", [RED], size=(1600, 64))
    Image.new("L", (8200, 8200)).save(folder / "huge.mp4", "PNG")
    os.rename(write_film(folder / "x.mp4", [BLUE]), os.fsencode(folder) + b"/caf\xe9.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "a.srt").write_bytes(b"1\n99999999999:00:00,000 --> 1\n")
    index = Index.create(tmp_path / "idx", "debug")
    report = index.update([folder])
    assert counts(report) == {"added": 2, "unreadable": 4}
    problems = {Path(path).name: reason for path, reason in report.problems}
    assert problems["wide.mp4"] == "its pictures have 1600x64 pixels; the limit is 16 to 1"
    assert problems["huge.mp4"] == "its pictures have 8200x8200 pixels; the limit is 67108864"
    assert problems["caf\\udce9.mp4"] == "its name is not UTF-8; rename it"
    assert problems["loop.mp4"] == "too many levels of symbolic links"
    assert problems["a.mp4"].startswith("a.srt: not a subtitle file")
    again = index.update([folder])
    assert (again.added, again.unchanged, set(again.problems)) == (0, 4, set(report.problems))


def test_without_permission(folder: Path, tmp_path: Path):
    """A subtitle, a video and a folder without permission are listed; what was indexed stays; all are read later."""
    for name in ("a.srt", "b.srt"):
        (folder / name).write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    write_film(folder / "b.mp4", [WHITE])
    index = Index.create(tmp_path / "idx", "debug")
    index.update([folder / "sub dir"])
    closed = [folder / "a.srt", folder / "b.mp4", folder / "sub dir"]
    for path in closed:
        path.chmod(0)
    with unprivileged(tmp_path):
        report = index.update([folder])
    assert counts(report) == {"added": 1, "unreadable": 2}
    problems = dict(report.problems)
    assert problems[str(folder / "a.mp4")] == "a.srt: permission denied"
    assert problems[str(folder / "b.mp4")] == "permission denied"
    assert problems[str(folder / "sub dir")] == "the folder cannot be read (permission denied)"
    assert any("b's.mkv" in path for path, _ in contents(index))
    for path in closed:
        path.chmod(0o755)
    report = index.update([folder])
    assert counts(report) == {"added": 1, "moved": 1, "unchanged": 1} and not report.problems


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Root may read everything. As another user, files below `folder` and its parents can be used, but no others."""
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.parents):
        if "pytest-" in str(path):  # pytest's own, which are closed to others
            path.chmod(0o755)
    subprocess.run(["chmod", "-R", "a+rwX", str(folder / "idx")], check=True)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_rows_of_a_folder_that_is_empty_now_are_kept(folder: Path, tmp_path: Path):
    index = Index.create(tmp_path / "idx", "debug")
    index.update([folder])
    before, away = contents(index), tmp_path / "away"
    shutil.move(folder / "sub dir/b's.mkv", away)  # as a drive that is mounted there and is not now
    report = index.update([folder])
    assert counts(report) == {"unchanged": 1} and contents(index) == before
    assert report.problems == ((str(folder / "sub dir"), report.problems[0][1]),)
    assert report.problems[0][1].startswith("none of its 1 indexed videos is there; their rows are kept")

    (folder / "a.mp4").unlink()
    (folder / "notes.txt").write_text("no video is left in the source")
    report = index.update([folder])
    assert counts(report) == {} and contents(index) == before
    assert sorted(path for path, _ in report.problems) == [str(folder), str(folder / "sub dir")]

    shutil.move(away, folder / "sub dir/b's.mkv")
    assert counts(index.update([folder])) == {"unchanged": 1, "removed": 1}
    (folder / "sub dir/b's.mkv").unlink()
    assert counts(index.update([folder], drop_missing=True)) == {"removed": 1}


def test_rows_of_listed_videos_on_a_drive_that_is_not_mounted_are_kept(folder: Path, tmp_path: Path):
    (tmp_path / "list.txt").write_text("films/a.mp4\nfilms/sub dir/b's.mkv\n")
    index = Index.create(tmp_path / "idx", "debug")
    assert index.update([tmp_path / "list.txt"]).added == 2
    before = contents(index)
    folder.rename(tmp_path / "away")
    for is_there in (False, True):  # the folder of the drive is gone, or there and empty
        folder.mkdir() if is_there else None
        report = index.update([tmp_path / "list.txt"])
        assert counts(report) == {"unchanged": 2} and contents(index) == before
        assert all("their rows are kept" in reason for _, reason in report.problems) and report.problems
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    (folder / "a.mp4").unlink()
    report = index.update([tmp_path / "list.txt"])  # one video is gone, its folder is not
    assert counts(report) == {"unchanged": 1, "unreadable": 1}
    assert report.problems == ((str(folder / "a.mp4"), "no such file or directory"),)
    folder.rename(tmp_path / "away")
    assert counts(index.update([tmp_path / "list.txt"], drop_missing=True)) == {"unreadable": 2}


def test_a_rescan_lists_each_folder_twice_however_many_files_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Once for videos and once for subtitles. Listing it for each video would cost the square of their number."""
    for number in range(300):
        (tmp_path / f"films/{number}.mp4").parent.mkdir(exist_ok=True)
        (tmp_path / f"films/{number}.mp4").write_bytes(b"no video")
    index = Index.create(tmp_path / "idx", "debug")
    index.update([tmp_path / "films"])
    listed: Counter[str] = Counter()
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.update([str(path)]), scandir(path))[1])
    assert index.update([tmp_path / "films"]).unchanged == 300
    assert listed[str(tmp_path / "films")] <= 2


def test_errors_say_what_to_do(folder: Path, tmp_path: Path):
    with pytest.raises(SearchIndexError, match="no index; make one with"):
        Index.open(tmp_path / "none")
    index = Index.create(tmp_path / "idx", "debug")
    with pytest.raises(ConfigError, match="workers is 0"):
        index.update([folder], workers=0)
    index.table.made_with["revision"] = "old"
    with pytest.raises(SearchIndexError, match="make the index again"):
        index.encoder  # noqa: B018


# What the first version recorded about an index of the model `debug`.
OLD_RECORD: dict[str, Any] = {
    "model": "debug",
    "revision": "1",
    "sampling": {
        "frames": None,
        "fps": 2.0,
        "times_s": None,
        "keyframes": False,
        "max_frames": None,
        "start_s": None,
        "end_s": None,
    },
    "segments": {"by": "scene", "frames": 8},
    "encoder": {"kind": "debug", "name": "debug", "pretrained": "", "dtype": "float32", "layer": -1},
    "exact_rows": 2_000_000,
}


def test_an_index_made_before_later_settings_is_read_and_extended(folder: Path, tmp_path: Path):
    SegmentTable.create(str(tmp_path / "idx"), OLD_RECORD, Index.create(tmp_path / "new", "debug").table.width)
    assert Index.create(tmp_path / "idx", "debug").update([folder]).added == 2
    reader = Index.open(tmp_path / "idx").vectors
    assert reader is not None and len(reader) == 4
    other = OLD_RECORD | {"sampling": OLD_RECORD["sampling"] | {"fps": 1.0}}
    SegmentTable.create(str(tmp_path / "other"), other, reader.rows.shape[1])
    with pytest.raises(SearchIndexError, match="made with sampling"):
        Index.create(tmp_path / "other", "debug")


def test_one_process_indexes_at_a_time(folder: Path, tmp_path: Path):
    first, second = (Index.create(tmp_path / "idx", "debug") for _ in range(2))

    def meanwhile(*_: object) -> None:
        with pytest.raises(SearchIndexError, match="another process is indexing"):
            second.update([folder])

    assert first.update([folder], progress=meanwhile).added == 2


def test_an_index_in_an_object_store(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VIDEOLLM_CACHE", str(tmp_path / "cache"))
    index = Index.create("memory://videos", "debug")
    assert index.update([folder]).segments == 4
    assert index.vectors is not None and list((tmp_path / "cache/indexes").glob("*/vectors-*"))


CHILD = """
import sys
from videollm.retrieval.index import Index
index = Index.create(sys.argv[2], "debug")
print("ready", flush=True)
index.update([sys.argv[1]], commit_videos=2)
"""


def test_killed_at_any_moment_nothing_is_lost_or_doubled(tmp_path: Path):
    """VIDEOLLM_KILLS says how often (default 3)."""
    for n in range(12):
        write_film(tmp_path / f"films/{n:02}.mp4", some_colours(n, 2 + n % 5))
    whole = Index.create(tmp_path / "whole", "debug")
    seconds = whole.update([tmp_path / "films"], commit_videos=2).seconds
    expected = contents(whole)
    rng = random.Random(0)
    for kill in range(KILLS):
        if kill % 5 == 4:  # start from nothing again, so that every stage is hit
            shutil.rmtree(tmp_path / "idx", ignore_errors=True)
        command = [sys.executable, "-c", CHILD, str(tmp_path / "films"), str(tmp_path / "idx")]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        try:
            child.wait(rng.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
        partial = contents(Index.open(tmp_path / "idx"))
        assert all(expected[key] == row for key, row in partial.items())
        whole_videos = {path: sum(p == path for p, _ in expected) for path, _ in partial}
        assert whole_videos == {path: sum(p == path for p, _ in partial) for path, _ in partial}
    index = Index.create(tmp_path / "idx", "debug")
    report = index.update([tmp_path / "films"])
    assert contents(index) == expected
    assert report.segments == len(expected) and report.added + report.unchanged + report.moved == 12
    assert index.vectors is not None and len(index.vectors) == len(expected)


MEDIA = Path(__file__).parents[3] / "shared" / "media"


@pytest.mark.skipif(not (MEDIA / "captions.json").is_file(), reason=f"no captioned clips at {MEDIA}")
def test_captions_find_their_videos_with_lite(tmp_path: Path):
    from videollm.retrieval.search import search

    index = Index.create(tmp_path / "idx", "lite")
    index.update([MEDIA])
    captions = json.loads((MEDIA / "captions.json").read_text())
    first = [Path(search(index, entry["caption"], 1)[0].path).name for entry in captions]
    assert np.mean([name == entry["video"] for name, entry in zip(first, captions, strict=True)]) >= 0.6
