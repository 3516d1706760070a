"""The quick search against a plain float32 product."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from videollm.retrieval.vectors import Vectors


def stored(folder: Path, rows: torch.Tensor, *, graph: bool = False, batch: int = 100) -> Vectors:
    ids = np.arange(len(rows)) * 3 + 7
    batches = ((ids[i : i + batch], rows[i : i + batch].numpy()) for i in range(0, len(rows), batch))
    return Vectors.write(folder, batches, len(rows), rows.shape[1], graph=graph)


@settings(max_examples=25)
@given(
    count=st.integers(1, 400),
    spread=st.sampled_from([0.0, 1e-4, 1e-3, 0.05, 1.0]),
    k=st.integers(1, 40),
    seed=st.integers(0, 999),
    some=st.booleans(),
)
def test_equals_brute_force_however_close_the_rows_lie(
    tmp_path_factory: pytest.TempPathFactory, count: int, spread: float, k: int, seed: int, some: bool
):
    generator = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(1, 24, generator=generator) + spread * torch.randn(count, 24, generator=generator))
    queries = F.normalize(torch.randn(3, 24, generator=generator))
    allowed = torch.rand(count, generator=generator) < 0.3 if some else torch.ones(count, dtype=torch.bool)
    vectors = stored(tmp_path_factory.mktemp("v") / "vectors", rows)
    positions, scores = vectors.search(queries, k, allowed if some else None)
    truth = (queries @ rows.T).masked_fill(~allowed, -torch.inf).topk(min(k, int(allowed.sum()))).values
    torch.testing.assert_close(scores, truth, atol=1e-6, rtol=0)
    found = (queries[:, None] * rows[positions]).sum(-1)
    torch.testing.assert_close(found, scores, atol=1e-6, rtol=0)
    assert allowed[positions].all() and all(len(set(p)) == len(p) for p in positions.tolist())


def test_reopened_from_disk_and_read_only_in_effect(tmp_path: Path):
    rows = F.normalize(torch.randn(300, 16))
    stored(tmp_path / "v", rows)
    before = {file.name: file.read_bytes() for file in (tmp_path / "v").iterdir()}
    again = Vectors(tmp_path / "v")
    again.rows[0] = 0  # a private copy
    assert torch.equal(Vectors(tmp_path / "v").rows, rows)
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "v").iterdir()}
    assert again.ids[:3].tolist() == [7, 10, 13]


def test_the_graph_finds_nearly_all_and_filters_stay_exact(tmp_path: Path):
    centres = torch.randn(40, 32)
    rows = F.normalize(centres[torch.randint(40, (3000,))] + 0.7 * torch.randn(3000, 32))
    queries = F.normalize(centres[torch.randint(40, (50,))] + torch.randn(50, 32))
    vectors = stored(tmp_path / "v", rows, graph=True)
    truth = (queries @ rows.T).topk(10)
    positions, scores = vectors.search(queries, 10)
    recall = np.mean(
        [len(set(a) & set(b)) / 10 for a, b in zip(positions.tolist(), truth.indices.tolist(), strict=True)]
    )
    assert recall >= 0.95
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    few = torch.zeros(3000, dtype=torch.bool)
    few[5:9] = True
    assert sorted(vectors.search(queries[:1], 10, few)[0][0].tolist()) == [5, 6, 7, 8]


def test_a_wrong_count_leaves_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="the batches have 2 rows, but count is 3"):
        Vectors.write(tmp_path / "v", [(np.arange(2), np.eye(2, 4, dtype=np.float32))], 3, 4, graph=False)
    assert not (tmp_path / "v").exists()
