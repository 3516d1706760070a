"""Features of a data set's frames, in memory-mapped files: computed once, read in every epoch.

`cache.py` keeps what a person asks about, checks it and makes room; here nothing is evicted, and reading an entry maps
its bytes and copies none. Each process that writes has a shard of its own: `NAME.bin` with the tensors' bytes and
`NAME.jsonl` that says where they are. A line is written after its bytes, so a process that is killed loses at most what
it was writing.
"""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from videollm.features.cache import CacheEntry
from videollm.features.stored import StoredDtype, pack, unpack

_ALIGNMENT = 64  # bytes, of each tensor


class FeatureShards:
    """Entries by `cache_key`, of all shards of a directory. `reload` shows what other processes have written since.

    dtype: the number format that features are kept in (`videollm/features/stored.py`). Entries of another format are
    not read: a run gets the precision that it asks for.
    """

    def __init__(self, root: str | os.PathLike[str], dtype: StoredDtype = "auto"):
        self.root = Path(root)
        self.dtype: StoredDtype = dtype
        self.root.mkdir(parents=True, exist_ok=True)
        self._lines: dict[str, tuple[Path, int]] = {}
        self._contents: dict[str, str] = {}
        self._broken: dict[str, str] = {}
        self._bytes: BinaryIO | None = None
        self._name = uuid.uuid4().hex
        self.reload()

    def __len__(self) -> int:
        return len(self._lines)

    def reload(self) -> None:
        for path in sorted(self.root.glob("*.jsonl")):
            for at, line in _lines(path):
                self._learn(path, at, json.loads(line))

    def __contains__(self, key: str) -> bool:
        return self._own(key) in self._lines

    def get(self, key: str) -> CacheEntry | None:
        if key not in self:
            return None
        path, at = self._lines[self._own(key)]
        with path.open("rb") as file:
            file.seek(at)
            row = json.loads(file.readline())
        shard = path.with_suffix(".bin")
        tensors = {
            name: _view(shard, offset, getattr(torch, dtype), shape)
            for name, (dtype, shape, offset) in row["tensors"].items()
        }
        return CacheEntry(unpack(tensors), row["meta"])

    def put(self, key: str, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
        shard = self._bytes = self._bytes or (self.root / f"{self._name}.bin").open("ab")
        where = {}
        for name, tensor in pack(tensors, self.dtype).items():
            shard.write(b"\0" * (-shard.tell() % _ALIGNMENT))
            tensor = tensor.detach().cpu().contiguous()
            where[name] = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape), shard.tell()]
            shard.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
        shard.flush()
        self._write({"key": self._own(key), "tensors": where, "meta": meta})

    def _own(self, key: str) -> str:
        return key if self.dtype == "auto" else f"{key}-{self.dtype}"

    def content(self, path: str | os.PathLike[str]) -> str | None:
        """The hash of a file's content, if it was noted and the file has not changed since."""
        return self._contents.get(_stamp(path))

    def note_content(self, path: str | os.PathLike[str], content_sha: str) -> None:
        if self.content(path) != content_sha:
            self._write({"file": _stamp(path), "sha": content_sha})

    def broken(self, path: str | os.PathLike[str]) -> str | None:
        """Why the file, as it is now, cannot be used, if that was noted."""
        return self._broken.get(_stamp(path))

    def note_broken(self, path: str | os.PathLike[str], reason: str) -> None:
        self._write({"file": _stamp(path), "reason": reason})

    def _write(self, row: dict[str, Any]) -> None:
        path = self.root / f"{self._name}.jsonl"
        with path.open("ab") as file:
            at = file.tell()
            file.write(json.dumps(row).encode() + b"\n")
        self._learn(path, at, row)

    def _learn(self, path: Path, at: int, row: dict[str, Any]) -> None:
        if "key" in row:
            self._lines[row["key"]] = path, at
        elif "sha" in row:
            self._contents[row["file"]] = row["sha"]
        else:
            self._broken[row["file"]] = row["reason"]


def _stamp(path: str | os.PathLike[str]) -> str:
    """A file and its state. One that is missing has a stamp too, until it is there."""
    where = Path(path).resolve()
    if not where.exists():
        return f"{where} missing"
    stat = where.stat()
    return f"{where} {stat.st_size} {stat.st_mtime_ns}"


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Whole lines and where they begin; a last one that was cut off is left out."""
    at = 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield at, line
            at += len(line)


def _view(shard: Path, offset: int, dtype: torch.dtype, shape: list[int]) -> torch.Tensor:
    """Only this tensor's bytes are mapped, and only as long as it lives: memory does not grow with the shard."""
    size = dtype.itemsize * int(np.prod(shape))
    if not size:
        return torch.empty(shape, dtype=dtype)
    # Copy on write, because torch has no read-only tensors.
    data = np.memmap(shard, np.uint8, "c", offset, (size,))
    return torch.from_numpy(data).view(dtype).view(shape)
