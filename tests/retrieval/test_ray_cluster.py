"""Indexing on a Ray cluster."""

from pathlib import Path

import pytest
import ray

from tests.retrieval.library import some_colours, write_film
from videollm.errors import ConfigError
from videollm.retrieval.index import Index
from videollm.retrieval.search import search


def test_a_cluster_makes_the_same_index(tmp_path: Path):
    for n in range(5):
        write_film(tmp_path / f"clips/{n}.mp4", some_colours(n, 6))
    (tmp_path / "clips/bad.mp4").write_bytes(b"no video")
    here, spread = (Index.create(tmp_path / name, "debug") for name in ("here", "spread"))
    with pytest.raises(ConfigError, match="leave one of them out"):
        spread.update([tmp_path / "clips"], ray="local", workers=2)
    try:
        reports = [here.update([tmp_path / "clips"]), spread.update([tmp_path / "clips"], ray="local")]
    finally:
        ray.shutdown()
    assert [(r.added, r.unreadable, r.segments) for r in reports] == [(5, 1, reports[0].segments)] * 2
    assert reports[0].problems == reports[1].problems and reports[0].segments >= 10
    found = [[(m.path, m.start_s, m.end_s) for m in search(index, "a thing", k=20)] for index in (here, spread)]
    assert sorted(found[0]) == sorted(found[1])
