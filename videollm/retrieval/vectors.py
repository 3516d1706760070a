"""Exact nearest-neighbour search: candidates by a bfloat16 product over all rows, then their scores in float32.

Rows are in memory-mapped files, so that opening takes no time, processes share the memory, and an index may be larger
than memory.

Shapes: N rows, E their width, Q queries, C candidates, k results.
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

BLOCK = 1 << 27  # scores of one block of queries, 256 MB in bfloat16
FIRST_WIDTH = 4  # number of first candidates, in multiples of k
ROUNDING = 2.0**-8  # relative rounding error of bfloat16, which has 8 significant bits
# Parameters of the graph search HNSW (Malkov and Yashunin 2018, https://arxiv.org/abs/1603.09320): links per row, and
# candidates that are kept while building and while searching.
GRAPH: dict[str, Any] = {"connectivity": 32, "expansion_add": 128, "expansion_search": 128}


class Vectors:
    """The unit vectors in a folder that `write` made. `search` is exact unless the folder has a graph.

    Attributes:
        folder: The folder.
        ids: The row ids (N,) of the table, int64.
        rows: The vectors (N,E), float32.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.ids = _mapped(folder / "ids.npy")  # int64 (N,)
        self.rows = torch.from_numpy(_mapped(folder / "float32.npy"))  # (N,E)
        self._coarse = torch.from_numpy(_mapped(folder / "bfloat16.npy")).view(torch.bfloat16)  # (N,E)
        self._residual = float(np.load(folder / "residual.npy"))  # the largest ‖row - bfloat16(row)‖
        self._graph = _load_graph(folder / "graph.usearch")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def write(
        cls, folder: Path, batches: Iterable[tuple[np.ndarray, np.ndarray]], count: int, width: int, *, graph: bool
    ) -> "Vectors":
        """Writes vectors to a folder and opens them.

        The folder is complete as soon as it exists, even if the process is killed.

        Args:
            folder: The folder to create.
            batches: Batches of ids (B,) and unit vectors (B,E).
            count: N, the number of rows in all batches.
            width: E.
            graph: Whether to build the graph for approximate search too.

        Raises:
            ValueError: If the batches do not have `count` rows.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The files are written to a temporary folder, which is renamed at the end.
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".", suffix=".tmp"))
        ids = np.lib.format.open_memmap(aside / "ids.npy", "w+", np.int64, (count,))
        fine = np.lib.format.open_memmap(aside / "float32.npy", "w+", np.float32, (count, width))
        coarse = np.lib.format.open_memmap(aside / "bfloat16.npy", "w+", np.int16, (count, width))
        at, residual = 0, 0.0
        for batch_ids, batch in batches:
            rows = torch.tensor(batch)
            rounded = rows.bfloat16()
            residual = max(residual, float((rows - rounded.float()).norm(dim=1).max()))
            place = slice(at, at + len(rows))
            ids[place], fine[place], coarse[place] = batch_ids, rows.numpy(), rounded.view(torch.int16).numpy()
            at += len(rows)
        if at != count:
            raise ValueError(f"the batches have {at} rows, but count is {count}")
        np.save(aside / "residual.npy", residual)
        if graph:
            _build_graph(fine).save(str(aside / "graph.usearch"))
        for array in (ids, fine, coarse):
            array.flush()
        try:
            aside.rename(folder)
        except OSError:  # another process has just written the same folder
            shutil.rmtree(aside)
        return cls(folder)

    def search(
        self, queries: torch.Tensor, k: int, allowed: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the positions (Q,k'), int64, and cosines (Q,k') of the best rows, the best first.

        Args:
            queries: Unit vectors (Q,E).
            k: The number of results. k' is k, or the number of allowed rows if it is less.
            allowed: bool (N,), the rows that may be found. None allows all. With `allowed`, the search is exact even if
                there is a graph.
        """
        count = len(self) if allowed is None else int(allowed.sum())
        k = min(k, count)
        if k == 0:
            return torch.empty(len(queries), 0, dtype=torch.int64), torch.empty(len(queries), 0)
        queries = queries.float()
        if self._graph is not None and allowed is None:
            keys = self._graph.search(queries.numpy(), k).keys
            return self._rerank(queries, torch.from_numpy(keys.astype(np.int64)).view(len(queries), k), k)
        found = [self._exact(block, k, allowed, count) for block in queries.split(max(1, BLOCK // len(self)))]
        positions, scores = zip(*found, strict=True)
        return torch.cat(positions), torch.cat(scores)

    def _exact(
        self, queries: torch.Tensor, k: int, allowed: torch.Tensor | None, count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Selects candidates by their bfloat16 scores, more and more until no other row can be one of the best k.

        With x' and q' the rounded row and query, the bfloat16 score differs from the true score by at most
        ‖x - x'‖ + ‖q - q'‖ (Cauchy-Schwarz), and by the rounding of the score itself.
        """
        rounded = queries.bfloat16()
        coarse = rounded @ self._coarse.T
        if allowed is not None:
            coarse.masked_fill_(~allowed, -torch.inf)
        slack = self._residual + (queries - rounded.float()).norm(dim=1)  # (Q,)
        positions = torch.empty(len(queries), k, dtype=torch.int64)
        scores = torch.empty(len(queries), k)
        open_, width = torch.arange(len(queries)), max(32, FIRST_WIDTH * k)
        while len(open_):
            width = min(width, count)  # more candidates would include rows that are not allowed
            best = coarse[open_].topk(width)
            positions[open_], scores[open_] = self._rerank(queries[open_], best.indices, k)
            left_out = best.values[:, -1].float()
            # The best row that is not a candidate scores at most `left_out` plus the error bound.
            proven = scores[open_, -1] >= left_out + ROUNDING * left_out.abs() + slack[open_]
            open_ = open_[~proven] if width < count else open_[:0]
            width *= 8
        return positions, scores

    def _rerank(self, queries: torch.Tensor, candidates: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns positions and cosines (Q,k) of the best candidates (Q,C), by their float32 rows."""
        exact = torch.bmm(self.rows[candidates], queries[:, :, None])[..., 0]
        best = exact.topk(k)
        return candidates.gather(1, best.indices), best.values


def _mapped(path: Path) -> np.ndarray:
    """Maps a file to memory, copy-on-write: torch needs a writable array, but the file must not change."""
    return np.load(path, mmap_mode="c")


def _build_graph(rows: np.ndarray) -> Any:
    from usearch.index import Index

    graph = Index(ndim=rows.shape[1], metric="ip", dtype="bf16", **GRAPH)
    graph.add(np.arange(len(rows)), rows)
    return graph


def _load_graph(path: Path) -> Any | None:
    if not path.is_file():
        return None
    from usearch.index import Index

    return Index.restore(str(path), view=True)
