"""Frame features on disk, so that a video is decoded and encoded once.

One safetensors file an entry. Entries appear whole (written aside, then renamed), so any number of processes may share
a directory. What is read back is checked against a checksum; an entry that fails is removed and counts as absent.
"""

import dataclasses
import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from videollm.config import SamplingConfig

_ABANDONED_S = 3600  # a temporary file this old belongs to a process that died


def cache_key(content_sha: str, encoder: str, revision: str, sampling: SamplingConfig, short_side: int | None) -> str:
    """A file name for the features of one video (by content), encoder (by weights) and choice of frames."""
    parts = [content_sha, encoder, revision, dataclasses.asdict(sampling), short_side]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """tensors by name, and whatever plain (JSON) values describe them."""

    tensors: dict[str, torch.Tensor]
    meta: dict[str, Any]


class FeatureCache:
    """A directory of entries by key, at most max_bytes large; those not used for longest make room."""

    def __init__(self, root: str | os.PathLike[str], max_bytes: int = 4 << 30):
        self.root = Path(root)
        self.max_bytes = max_bytes
        self.root.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> CacheEntry | None:
        path = self._path(key)
        try:
            data = path.read_bytes()  # at once: another process may replace or evict the entry at any time
        except FileNotFoundError:
            return None
        try:
            tensors = load(data)
            header_size = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + header_size])["__metadata__"]
            if header["sha256"] != _checksum(tensors, header["meta"]):
                raise ValueError("checksum differs")
        except (SafetensorError, KeyError, ValueError):
            path.unlink(missing_ok=True)
            return None
        with suppress(FileNotFoundError):  # evicted since
            os.utime(path)
        return CacheEntry(tensors, json.loads(header["meta"]))

    def put(self, key: str, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
        """Store an entry, replacing any of that key. One larger than max_bytes is not stored."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps(meta)
        data = save(tensors, {"meta": text, "sha256": _checksum(tensors, text)})
        if len(data) > self.max_bytes:
            return
        with tempfile.NamedTemporaryFile(dir=self.root, suffix=".tmp", delete=False) as file:
            file.write(data)
        os.replace(file.name, self._path(key))
        self._evict()

    def _path(self, key: str) -> Path:
        return self.root / f"{key}.safetensors"

    def _evict(self) -> None:
        found = []
        for path in self.root.iterdir():
            try:
                stat = path.stat()
            except FileNotFoundError:  # another process evicts too
                continue
            if path.suffix == ".safetensors":
                found.append((stat.st_mtime_ns, stat.st_size, path))
            elif path.suffix == ".tmp" and time.time() - stat.st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size


def _checksum(tensors: dict[str, torch.Tensor], meta: str) -> str:
    digest = hashlib.sha256(meta.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
