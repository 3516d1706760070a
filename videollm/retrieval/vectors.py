"""Exact nearest-neighbour search: candidates by a bfloat16 product over all rows, then their scores in float32.

Rows are in memory-mapped files, so that opening takes no time, processes share the memory, and an index may be larger
than memory.

Shapes: N rows, E their width, Q queries, C candidates, k results.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

BLOCK = 1 << 27  # scores of one block of queries, 256 MB in bfloat16
CHECKS = "checks.json"  # sizes and hashes of the other files of a folder
HASHED_BYTES = 1 << 28  # larger files are known by their sizes alone, so that opening an index stays quick
FIRST_WIDTH = 4  # number of first candidates, in multiples of k
ROUNDING = 2.0**-8  # relative rounding error of bfloat16, which has 8 significant bits
# Parameters of the graph search HNSW (Malkov and Yashunin 2018, https://arxiv.org/abs/1603.09320): links per row, and
# candidates that are kept while building and while searching.
GRAPH: dict[str, Any] = {"connectivity": 32, "expansion_add": 128, "expansion_search": 128}


class DerivedFileError(Exception):
    """A folder of vectors lacks a file or has one that is not as it was written. It must be written again."""


class Vectors:
    """The unit vectors in a folder that `write` made. `search` is exact unless the folder has a graph.

    Attributes:
        folder: The folder.
        ids: The row ids (N,) of the table, int64.
        rows: The vectors (N,E), float32.

    Raises DerivedFileError if the folder is not as it was written.
    """

    def __init__(self, folder: Path):
        _verify(folder)
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

        The folder is complete as soon as it exists, even if the process is killed. It replaces an older one.

        Args:
            folder: The folder to create.
            batches: Batches of ids (B,) and unit vectors (B,E).
            count: N, the number of rows in all batches.
            width: E.
            graph: Whether to build the graph for approximate search too.

        Raises:
            ValueError: If the batches do not have `count` rows.
            OSError: If the disk is full, for example. Nothing is left behind then.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The files are written to a temporary folder, which is renamed at the end.
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".", suffix=".tmp"))
        try:
            _write_files(aside, batches, count, width)
            if graph:
                _build_graph(_mapped(aside / "float32.npy")).save(str(aside / "graph.usearch"))
            (aside / CHECKS).write_text(json.dumps({file.name: _check_of(file) for file in aside.iterdir()}))
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another process has just written the same folder
                aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
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


def _write_files(folder: Path, batches: Iterable[tuple[np.ndarray, np.ndarray]], count: int, width: int) -> None:
    """Writes the arrays with plain writes: on a full disk, a write into a memory map kills the process (SIGBUS)."""
    at, residual = 0, 0.0
    with ExitStack() as files:
        ids = files.enter_context(_npy(folder / "ids.npy", np.int64, (count,)))
        fine = files.enter_context(_npy(folder / "float32.npy", np.float32, (count, width)))
        coarse = files.enter_context(_npy(folder / "bfloat16.npy", np.int16, (count, width)))
        for batch_ids, batch in batches:
            rows = torch.tensor(batch)
            rounded = rows.bfloat16()
            residual = max(residual, float((rows - rounded.float()).norm(dim=1).max()))
            ids.write(batch_ids.astype(np.int64).tobytes())
            fine.write(rows.numpy().tobytes())
            coarse.write(rounded.view(torch.int16).numpy().tobytes())
            at += len(rows)
    if at != count:
        raise ValueError(f"the batches have {at} rows, but count is {count}")
    np.save(folder / "residual.npy", residual)


@contextmanager
def _npy(path: Path, dtype: type, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """Provides a file that begins as the .npy file of an array."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with open(path, "xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def _check_of(file: Path) -> dict[str, Any]:
    """Returns the size of a file in bytes, and the SHA-256 of one that is read in a moment."""
    size = file.stat().st_size
    with open(file, "rb") as content:
        sha = hashlib.file_digest(content, "sha256").hexdigest() if size <= HASHED_BYTES else None
    return {"bytes": size, "sha256": sha}


def _verify(folder: Path) -> None:
    """Raises DerivedFileError if a file of the folder is not as it was written."""
    try:
        checks = json.loads((folder / CHECKS).read_text())
        wrong = [name for name, check in checks.items() if _check_of(folder / name) != check]
    except (OSError, ValueError) as error:
        raise DerivedFileError(f"{folder}: {error}") from error
    if wrong:
        raise DerivedFileError(f"{folder}: {', '.join(wrong)} changed after it was written")


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
