"""Frame features on disk, so that a video is decoded and encoded once.

Each entry is one safetensors file with CPU tensors. It is written under another name and then renamed, so any number of
processes may share a directory. A checksum is verified when an entry is read; an entry that fails is removed and counts
as absent.
"""

import dataclasses
import hashlib
import json
import logging
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

from videollm.assets import cache_dir
from videollm.config import SamplingConfig

logger = logging.getLogger(__name__)

_ABANDONED_S = 3600  # seconds; an older temporary file belongs to a process that died


_ADDED = ("rule", "decoder", "near_keyframes")  # fields of SamplingConfig that the first caches did not know


def cache_key(content_sha: str, encoder: str, revision: str, sampling: SamplingConfig, short_side: int | None) -> str:
    """A file name that identifies the content of a video, the weights of an encoder and the sampled frames.

    Fields that were added later are left out where they have their default, so that older caches keep their keys.
    """
    added = {
        f.name for f in dataclasses.fields(sampling) if f.name in _ADDED and getattr(sampling, f.name) == f.default
    }
    chosen = {name: value for name, value in dataclasses.asdict(sampling).items() if name not in added}
    parts = [content_sha, encoder, revision, chosen, short_side]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Tensors by name, and JSON values that describe them."""

    tensors: dict[str, torch.Tensor]
    meta: dict[str, Any]


class FeatureCache:
    """A directory of entries by key. It holds at most `max_bytes`: the least recently used entries are removed.

    root: The directory. None takes the one that the user's commands share.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, max_bytes: int = 4 << 30):
        self.root = cache_dir() / "features" if root is None else Path(root)
        self.max_bytes = max_bytes
        self._has_warned = False

    def get(self, key: str) -> CacheEntry | None:
        path = self._path(key)
        try:
            data = path.read_bytes()  # in one go, because another process may replace or evict the entry at any time
        except OSError:
            return None
        try:
            tensors = load(data)
            header_size = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + header_size])["__metadata__"]
            if header["sha256"] != _checksum(tensors, header["meta"]):
                raise ValueError("checksum differs")
        except (SafetensorError, KeyError, ValueError):
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # another process has evicted it since, or the directory is read-only
            os.utime(path)  # the time of last use, by which `_evict` orders entries
        return CacheEntry(tensors, json.loads(header["meta"]))

    def put(self, key: str, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
        """Store an entry in place of any with that key. One that is larger than `max_bytes` is not stored.

        A disk that is full or read-only is no error: nothing is stored then, which is said once.
        """
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps(meta)
        data = save(tensors, {"meta": text, "sha256": _checksum(tensors, text)})
        if len(data) > self.max_bytes:
            return
        try:
            self._write(key, data)
            self._evict()
        except OSError as error:
            if not self._has_warned:
                logger.warning("features are not kept: %s", error)
            self._has_warned = True

    def _write(self, key: str, data: bytes) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self.root, suffix=".tmp")
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(name, self._path(key))
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

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
