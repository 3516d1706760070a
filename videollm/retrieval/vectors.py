"""Nearest vectors, exactly: a bfloat16 product over all rows, and the best of them again in float32.

Shapes: N rows, E their width, Q queries, k results. The rows lie in files that are memory-mapped, so opening takes no
time, processes share them, and they may be larger than memory.
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

BLOCK = 1 << 27  # scores held at a time; 256 MB in bfloat16
FIRST_WIDTH = 4  # candidates looked at first, in multiples of k
ROUNDING = 2.0**-8  # bfloat16 keeps 8 significant bits
# Graph search, as in Malkov and Yashunin 2018, https://arxiv.org/abs/1603.09320: links of a row, candidates kept while
# building and while searching.
GRAPH: dict[str, Any] = {"connectivity": 32, "expansion_add": 128, "expansion_search": 128}


class Vectors:
    """Unit vectors with the numbers (`ids`) that a table knows them by, as `write` left them in `folder`.

    `search` is exact unless the folder holds a graph.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.ids = _mapped(folder / "ids.npy")  # int64 (N,)
        self.rows = torch.from_numpy(_mapped(folder / "float32.npy"))  # (N,E)
        self._coarse = torch.from_numpy(_mapped(folder / "bfloat16.npy")).view(torch.bfloat16)  # (N,E)
        self._residual = float(np.load(folder / "residual.npy"))  # the largest length of a row less its coarse self
        self._graph = _load_graph(folder / "graph.usearch")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def write(
        cls, folder: Path, batches: Iterable[tuple[np.ndarray, np.ndarray]], count: int, width: int, *, graph: bool
    ) -> "Vectors":
        """Write batches of ids (B,) and unit vectors (B,E), `count` rows in all, and open them.

        The folder appears whole or not at all. graph: also build the approximate index.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
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
            raise ValueError(f"{at} rows came, {count} were announced")
        np.save(aside / "residual.npy", residual)
        if graph:
            _build_graph(fine).save(str(aside / "graph.usearch"))
        for array in (ids, fine, coarse):
            array.flush()
        try:
            aside.rename(folder)
        except OSError:  # another process has just written the same
            shutil.rmtree(aside)
        return cls(folder)

    def search(
        self, queries: torch.Tensor, k: int, allowed: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Row positions (Q,k') int64 and cosines (Q,k') of the best rows for unit queries (Q,E), best first.

        allowed: bool (N,), the rows to choose from. k' is k, or the number of rows to choose from if that is less.
        With `allowed` the search is always exact.
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
        """Candidates by the coarse product, widened until no row left out can belong to the best k.

        A coarse score differs from the true one by at most |x - x'| + |q - q'|, the lengths that rounding took off row
        and query (Cauchy-Schwarz), and by the rounding of the score itself.
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
            width = min(width, count)  # no more, so that nothing barred is among them
            best = coarse[open_].topk(width)
            positions[open_], scores[open_] = self._rerank(queries[open_], best.indices, k)
            left_out = best.values[:, -1].float()
            proven = scores[open_, -1] >= left_out + ROUNDING * left_out.abs() + slack[open_]
            open_ = open_[~proven] if width < count else open_[:0]
            width *= 8
        return positions, scores

    def _rerank(self, queries: torch.Tensor, candidates: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The best k of candidates (Q,C), by their float32 rows."""
        exact = torch.bmm(self.rows[candidates], queries[:, :, None])[..., 0]
        best = exact.topk(k)
        return candidates.gather(1, best.indices), best.values


def _mapped(path: Path) -> np.ndarray:
    """Copy on write: torch wants arrays it may write to, and the file stays as it is."""
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
